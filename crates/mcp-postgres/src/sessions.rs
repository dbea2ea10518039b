//! Connections: one for each request that an environment serves at once, opened once, replaced when lost.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use mcp_server::BoxError;
use sqlx::{Connection, PgConnection, migrate::Migrator, postgres::PgConnectOptions};
use tokio::{
    sync::{Mutex as AsyncMutex, OnceCell, OwnedSemaphorePermit, Semaphore},
    time::{timeout, timeout_at},
};
use tracing::{Instrument, Span, field::Empty};

use crate::{
    DatabaseConfig, DatabaseError,
    config::Password,
    credentials::Aws,
    error::{Failure, busy, refuses_settings},
    migrate::{Schema, ensure_current},
    pooler::nest_transactions,
};

/// A connection that does not answer a ping in this time is as good as lost.
pub(crate) const PING_TIME: Duration = Duration::from_millis(500);
/// Settings of each session, in the startup message: the server gives up a statement after 15 s, and one of a client that is
/// gone after a second, since its session would go on holding a connection. Not by `SET`, which would pin a session of RDS
/// Proxy and outlive a transaction behind PgBouncer. Poolers reject them, or ignore them: the last one is how to tell.
const SETTINGS: [(&str, &str); 3] =
    [("statement_timeout", "15s"), ("client_connection_check_interval", "1s"), (SESSION_SETTING, OWN_SESSION)];
/// A setting that no server knows and every server keeps.
pub(crate) const SESSION_SETTING: &str = "mcp.session";
pub(crate) const OWN_SESSION: &str = "own";
/// A secret whose password is refused is not fetched again more often than this.
const SECRET_COOLDOWN: Duration = Duration::from_secs(10);

/// The connections of an environment.
pub(crate) struct Sessions {
    pub(crate) config: DatabaseConfig,
    migrator: Option<&'static Migrator>,
    /// One for each connection that may exist.
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    /// How to connect, with the password as it was last known.
    options: AsyncMutex<CachedOptions>,
    /// What listens there is a pooler, which rejects or ignores settings in the startup message.
    has_pooler: AtomicBool,
    is_current: OnceCell<()>,
    aws: Aws,
}

/// A connection, and what it leads to.
pub(crate) struct Session {
    pub(crate) connection: PgConnection,
    /// To a pooler, which hands each transaction to any of its sessions; otherwise to a session of its own.
    pub(crate) is_pooled: bool,
}

struct Idle {
    session: Session,
    /// By both clocks: while an environment is frozen one of them may stand still.
    since: (Instant, SystemTime),
}

#[derive(Default)]
struct CachedOptions {
    options: Option<PgConnectOptions>,
    /// When the password was given up last, by both clocks.
    forgotten: Option<(Instant, SystemTime)>,
}

/// A connection in use. One that is not [given back](Self::give_back) is closed when this is dropped: a statement or a
/// transaction may be under way on it, and nothing can be awaited then.
pub(crate) struct Lease {
    pub(crate) session: Session,
    /// Of the attempt, which lasts as long as the connection is in use.
    pub(crate) span: Span,
    pub(crate) place: Place,
}

/// The right to one connection.
pub(crate) struct Place {
    sessions: Arc<Sessions>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// Leaves the connection to the next operation. Nothing is under way on it.
    pub(crate) fn give_back(self) {
        self.place.give_back(self.session);
    }
}

impl Place {
    pub(crate) fn give_back(self, session: Session) {
        self.sessions.put(session);
    }
}

/// Notes a failure in the span of its attempt.
pub(crate) fn note<T>(span: &Span, result: Result<T, Failure>) -> Result<T, Failure> {
    result.inspect_err(|failure| {
        span.record("error.type", failure.error.kind());
        span.record("otel.status_code", "ERROR");
    })
}

impl Sessions {
    pub(crate) fn new(config: DatabaseConfig, migrator: &'static Migrator) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(config.connections.max(1))),
            migrator: Some(migrator).filter(|_| config.migrate),
            config,
            idle: Mutex::default(),
            options: AsyncMutex::default(),
            has_pooler: AtomicBool::new(false),
            is_current: OnceCell::new(),
            aws: Aws::default(),
        }
    }

    /// Takes a connection, an idle one or a new one, whose schema is up to date. Others wait for a free place until `end`.
    pub(crate) async fn lease(self: &Arc<Self>, end: tokio::time::Instant) -> Result<Lease, Failure> {
        let span = tracing::info_span!(
            "postgresql",
            otel.kind = "client",
            db.system.name = "postgresql",
            error.type = Empty,
            otel.status_code = Empty
        );
        let taken = async {
            let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Failure::timed_out())?;
            Ok((permit, self.ready_session().await?))
        };
        let taken = timeout_at(end, taken.instrument(span.clone())).await;
        // Nothing was asked yet.
        let taken = taken.unwrap_or_else(|_| Err(Failure::timed_out())).map_err(Failure::without_effect);
        let (permit, session) = note(&span, taken)?;
        Ok(Lease { session, span, place: Place { sessions: Arc::clone(self), _permit: permit } })
    }

    /// Closes what is idle, and forgets a password that was fetched.
    pub(crate) async fn close(&self) {
        *self.options.lock().await = CachedOptions::default();
        for idle in self.take_idle() {
            if let Err(error) = idle.session.connection.close().await {
                tracing::debug!(%error, "a connection did not close in order");
            }
        }
    }

    pub(crate) fn count_idle(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A session that is known to live, or was opened just now, with a schema that is up to date.
    async fn ready_session(&self) -> Result<Session, Failure> {
        let mut session = match self.living_session().await {
            Some(session) => session,
            // In a box: the SDK's future is 200 KB, which each operation would move although hardly any connects.
            None => Box::pin(self.connect()).await?,
        };
        if let Some(migrator) = self.migrator {
            let Session { connection, is_pooled } = &mut session;
            let current = self.is_current.get_or_try_init(|| ensure_current(connection, migrator, *is_pooled)).await;
            if let Err(error) = current {
                return Err(match error {
                    sqlx::migrate::MigrateError::Execute(error)
                    | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => Failure::from(error),
                    error => Failure::from(sqlx::Error::Migrate(Box::new(error))),
                });
            }
        }
        Ok(session)
    }

    async fn living_session(&self) -> Option<Session> {
        loop {
            let Idle { mut session, since } = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            let idle_for = elapsed(since);
            if idle_for <= self.config.trusted_for {
                return Some(session);
            }
            match timeout(PING_TIME, session.connection.ping()).await {
                Ok(Ok(())) => return Some(session),
                _ => tracing::info!("a connection was lost while it was idle"),
            }
        }
    }

    async fn connect(&self) -> Result<Session, Failure> {
        let options = self.options().await.map_err(|error| {
            // The SDK has tried again already.
            Failure::permanent(DatabaseError::Unavailable(busy(error)))
        })?;
        // PgBouncer rejects it, and servers since PostgreSQL 12 write floats with all their digits by themselves.
        let options = options.extra_float_digits(None);
        if !self.has_pooler.load(Ordering::Relaxed) {
            match PgConnection::connect_with(&options.clone().options(SETTINGS)).await {
                Ok(connection) => return self.session(connection).await,
                Err(error) if refuses_settings(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let connection = PgConnection::connect_with(&options).await?;
        self.pooled(connection).await
    }

    /// The session of a connection to a pooler.
    async fn pooled(&self, mut connection: PgConnection) -> Result<Session, Failure> {
        if !self.has_pooler.swap(true, Ordering::Relaxed) {
            tracing::info!("the database is behind a pooler: each operation is one transaction");
        }
        nest_transactions(&mut connection).await?;
        Ok(Session { connection, is_pooled: true })
    }

    /// What a connection leads to whose settings were not rejected, and whether the schema is up to date: in one round trip,
    /// since almost always nothing is to be done.
    async fn session(&self, mut connection: PgConnection) -> Result<Session, Failure> {
        let migrator = self.migrator.filter(|_| !self.is_current.initialized());
        let schema = Schema::read(&mut connection, migrator).await?;
        if schema.is_current {
            // A concurrent request may have set it: to the same.
            let _ = self.is_current.set(());
        }
        match schema.is_own_session {
            true => Ok(Session { connection, is_pooled: false }),
            false => self.pooled(connection).await,
        }
    }

    /// How to connect, with a password that is good now. Single-flight: others wait for the one that fetches.
    async fn options(&self) -> Result<PgConnectOptions, BoxError> {
        let config = &self.config;
        match &config.password {
            Password::Fixed => Ok(config.options.clone()),
            Password::Iam { region } => self.aws.with_token(&config.options, region).await,
            Password::Secret { arn, overrides } => {
                let mut cached = self.options.lock().await;
                if let Some(options) = &cached.options {
                    return Ok(options.clone());
                }
                let options = self.aws.with_secret(config, arn, overrides).await?;
                cached.options = Some(options.clone());
                Ok(options)
            }
        }
    }

    /// The password was refused. Whether another may come in its place: one that is fetched anew, unless it just was.
    pub(crate) async fn forget_password(&self) -> bool {
        if !matches!(self.config.password, Password::Secret { .. }) {
            return false;
        }
        let mut cached = self.options.lock().await;
        let may_fetch = cached.forgotten.is_none_or(|forgotten| elapsed(forgotten) >= SECRET_COOLDOWN);
        if may_fetch {
            *cached = CachedOptions { options: None, forgotten: Some((Instant::now(), SystemTime::now())) };
        }
        // Another request may be fetching it.
        may_fetch || cached.options.is_none()
    }

    fn put(&self, session: Session) {
        let since = (Instant::now(), SystemTime::now());
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(Idle { session, since });
    }

    fn take_idle(&self) -> Vec<Idle> {
        std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// By the clock that has moved on further: while an environment is frozen one of them may stand still.
fn elapsed(since: (Instant, SystemTime)) -> Duration {
    since.0.elapsed().max(since.1.elapsed().unwrap_or(Duration::MAX))
}
