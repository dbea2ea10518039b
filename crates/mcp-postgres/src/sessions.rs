//! Connections: one for each concurrent request of an environment, opened once, replaced when lost.

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
    credentials,
    error::{Failure, busy, rejects_settings},
    migrate::{SchemaState, ensure_current},
    pooler::nest_transactions,
};

/// Timeout of a ping, after which a connection is considered lost.
pub(crate) const PING_TIME: Duration = Duration::from_millis(500);
/// Settings of each session, in the startup message. The server cancels a statement after 15 s, and after a second
/// that of a disconnected client, whose session would otherwise keep its connection. `SET` is not used: it would pin
/// a session of RDS Proxy, and outlive a transaction behind PgBouncer. Poolers reject or ignore the settings, which
/// the last one detects.
const SETTINGS: [(&str, &str); 3] =
    [("statement_timeout", "15s"), ("client_connection_check_interval", "1s"), (SESSION_SETTING, OWN_SESSION)];
/// A custom setting. Every server accepts it; a pooler does not apply it.
pub(crate) const SESSION_SETTING: &str = "mcp.session";
pub(crate) const OWN_SESSION: &str = "own";
/// Cooldown after a secret was fetched because its password was rejected.
const SECRET_COOLDOWN: Duration = Duration::from_secs(10);

/// Connections of an environment.
pub(crate) struct Sessions {
    pub(crate) config: DatabaseConfig,
    migrator: Option<&'static Migrator>,
    /// One permit for each connection.
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    /// Connection options, with the last known password.
    options: AsyncMutex<CachedOptions>,
    /// The endpoint is a pooler, which rejects or ignores settings in the startup message.
    has_pooler: AtomicBool,
    is_current: OnceCell<()>,
}

/// A connection and its kind of session.
pub(crate) struct Session {
    pub(crate) connection: PgConnection,
    /// Whether the connection is to a pooler, which assigns each transaction to any of its sessions. Otherwise it has its own
    /// session.
    pub(crate) is_pooled: bool,
    /// Time at which it was opened, by both clocks.
    pub(crate) opened: (Instant, SystemTime),
}

struct Idle {
    session: Session,
    /// By both clocks: one of them may stop while an environment is frozen.
    since: (Instant, SystemTime),
}

#[derive(Default)]
struct CachedOptions {
    options: Option<PgConnectOptions>,
    /// When a rejected password was last discarded, by both clocks.
    discarded: Option<(Instant, SystemTime)>,
}

/// A connection in use. Unless it is [released](Self::release), it is closed on drop: a statement or a transaction
/// may be running on it, and a destructor cannot await.
pub(crate) struct Lease {
    pub(crate) session: Session,
    /// Span of the attempt, which lasts as long as the connection is in use.
    pub(crate) span: Span,
    pub(crate) permit: Permit,
}

/// The permit for one connection.
pub(crate) struct Permit {
    sessions: Arc<Sessions>,
    _permit: OwnedSemaphorePermit,
}

impl Session {
    fn new(connection: PgConnection, is_pooled: bool) -> Self {
        Self { connection, is_pooled, opened: (Instant::now(), SystemTime::now()) }
    }
}

impl Lease {
    /// Returns the connection for the next operation. No statement may be running on it.
    pub(crate) fn release(self) {
        self.permit.release(self.session);
    }
}

impl Permit {
    pub(crate) fn release(self, session: Session) {
        self.sessions.put(session);
    }
}

/// Records a failure in the span of its attempt.
pub(crate) fn record_failure<T>(span: &Span, result: Result<T, Failure>) -> Result<T, Failure> {
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
        }
    }

    /// Takes an idle connection or opens one, with an up-to-date schema. Waits for a permit until `end`.
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
        // No statement was sent yet.
        let taken = taken.unwrap_or_else(|_| Err(Failure::timed_out())).map_err(Failure::without_effect);
        let (permit, session) = record_failure(&span, taken)?;
        Ok(Lease { session, span, permit: Permit { sessions: Arc::clone(self), _permit: permit } })
    }

    /// Closes idle connections, and discards a fetched password.
    pub(crate) async fn close(&self) {
        *self.options.lock().await = CachedOptions::default();
        for idle in self.take_idle() {
            if let Err(error) = idle.session.connection.close().await {
                tracing::debug!(%error, "could not close a connection");
            }
        }
    }

    pub(crate) fn count_idle(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Returns a session that responds to a ping or is new, with an up-to-date schema.
    async fn ready_session(&self) -> Result<Session, Failure> {
        let mut session = match self.idle_session().await {
            Some(session) => session,
            // Boxed, because its state is large, and few operations connect.
            None => Box::pin(self.connect()).await?,
        };
        if let Some(migrator) = self.migrator {
            let Session { connection, is_pooled, .. } = &mut session;
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

    async fn idle_session(&self) -> Option<Session> {
        loop {
            let Idle { mut session, since } = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if self.config.max_connection_age.is_some_and(|age| elapsed(session.opened) >= age) {
                tracing::debug!("an old connection is replaced");
                let _ = timeout(PING_TIME, session.connection.close()).await;
                continue;
            }
            let idle_for = elapsed(since);
            if idle_for <= self.config.ping_after {
                return Some(session);
            }
            match timeout(PING_TIME, session.connection.ping()).await {
                Ok(Ok(())) => return Some(session),
                _ => tracing::info!("an idle connection was lost"),
            }
        }
    }

    pub(crate) async fn connect(&self) -> Result<Session, Failure> {
        let options = self.options().await.map_err(|error| {
            // The fetch of the secret was retried already.
            Failure::permanent(DatabaseError::Unavailable(busy(error)))
        })?;
        // PgBouncer rejects it, and servers since PostgreSQL 12 send floats with full precision by default.
        let options = options.extra_float_digits(None);
        if self.config.is_dsql() {
            // No settings: Aurora DSQL would reject the connection. There is no pooler to detect.
            return Ok(Session::new(PgConnection::connect_with(&options).await?, false));
        }
        if !self.has_pooler.load(Ordering::Relaxed) {
            match PgConnection::connect_with(&options.clone().options(SETTINGS)).await {
                Ok(connection) => return self.session(connection).await,
                Err(error) if rejects_settings(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let connection = PgConnection::connect_with(&options).await?;
        self.pooled(connection).await
    }

    /// Returns the session of a connection to a pooler.
    async fn pooled(&self, mut connection: PgConnection) -> Result<Session, Failure> {
        if !self.has_pooler.swap(true, Ordering::Relaxed) {
            tracing::info!("pooler detected: each database operation is one transaction");
        }
        nest_transactions(&mut connection).await?;
        Ok(Session::new(connection, true))
    }

    /// Detects the kind of session, and whether migrations are pending, in one round trip: usually there is nothing
    /// to do.
    async fn session(&self, mut connection: PgConnection) -> Result<Session, Failure> {
        let migrator = self.migrator.filter(|_| !self.is_current.initialized());
        let schema = SchemaState::read(&mut connection, migrator).await?;
        if schema.is_current {
            // A concurrent request may have set it, to the same value.
            let _ = self.is_current.set(());
        }
        match schema.is_own_session {
            true => Ok(Session::new(connection, false)),
            false => self.pooled(connection).await,
        }
    }

    /// Returns connection options with a valid password. Single-flight: concurrent requests wait for one fetch.
    async fn options(&self) -> Result<PgConnectOptions, BoxError> {
        let config = &self.config;
        match &config.password {
            Password::Fixed => Ok(config.options.clone()),
            Password::Iam { region, kind, credentials } => {
                credentials::with_token(&config.options, region, *kind, credentials).await
            }
            Password::Secret { stored, overrides } => {
                let mut cached = self.options.lock().await;
                if let Some(options) = &cached.options {
                    return Ok(options.clone());
                }
                let options = credentials::with_secret(config, stored, overrides).await?;
                cached.options = Some(options.clone());
                Ok(options)
            }
        }
    }

    /// Discards a rejected password. Returns whether another may be available: a secret that is fetched again, unless
    /// it just was.
    pub(crate) async fn discard_password(&self) -> bool {
        if !matches!(self.config.password, Password::Secret { .. }) {
            return false;
        }
        let mut cached = self.options.lock().await;
        let may_fetch = cached.discarded.is_none_or(|discarded| elapsed(discarded) >= SECRET_COOLDOWN);
        if may_fetch {
            *cached = CachedOptions { options: None, discarded: Some((Instant::now(), SystemTime::now())) };
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

/// Returns the longer time of both clocks: one of them may stop while an environment is frozen.
fn elapsed(since: (Instant, SystemTime)) -> Duration {
    since.0.elapsed().max(since.1.elapsed().unwrap_or(Duration::MAX))
}
