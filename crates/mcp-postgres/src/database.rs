//! One connection for each request that an environment serves at once: opened once, replaced when lost.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use mcp_server::{BoxError, error_chain};
use sqlx::{Connection, Executor, PgConnection, migrate::Migrator, postgres::PgConnectOptions};
use tokio::{
    sync::{Mutex as AsyncMutex, OnceCell, Semaphore},
    time::{sleep, timeout, timeout_at},
};
use tracing::{Instrument, field::Empty};

use crate::{
    DatabaseConfig, DatabaseError,
    config::Password,
    credentials::Aws,
    error::Failure,
    migrate::{ensure_current, is_current_after},
};

/// The time that the init phase spends on the database, of the ten seconds that Lambda grants: enough to wait for another
/// environment that brings the schema up to date.
const INIT_TIME: Duration = Duration::from_secs(5);
/// The longest that one operation may take.
const LONGEST: Duration = Duration::from_secs(10);
/// The time that is left to a handler for saying that an operation took too long.
const ANSWER_TIME: Duration = Duration::from_millis(300);
/// A connection that does not answer a ping in this time is as good as lost.
const PING_TIME: Duration = Duration::from_millis(500);
/// Said once for each connection. The server gives up a statement after this time, and one that nobody waits for any more
/// after a second: its session would go on holding a place. (Both by `SET`, since proxies refuse them at the start.)
const SESSION: &str = "SET statement_timeout = '15s'; SET client_connection_check_interval = '1s'";
/// A secret whose password is refused is not fetched again more often than this.
const SECRET_COOLDOWN: Duration = Duration::from_secs(10);
/// The first pause before something is tried again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The database of a function. Cheap to clone.
///
/// There is no task in the background, since an environment is frozen between requests: what has to be done is done by
/// the request that needs it. (sqlx's own pool pings each connection in a spawned task when it is given back.)
///
/// ```no_run
/// use mcp_postgres::{Database, Effect};
/// use mcp_server::{NoArguments, ToolContext, ToolError};
///
/// struct State {
///     database: Database,
/// }
///
/// async fn count(context: ToolContext<State>, _: NoArguments) -> Result<String, ToolError> {
///     let count = |mut connection| async {
///         let count = sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut connection).await;
///         (connection, count)
///     };
///     let count: i64 = context.state().database.run(context.remaining(), Effect::None, count).await?;
///     Ok(count.to_string())
/// }
/// ```
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    config: DatabaseConfig,
    migrator: Option<&'static Migrator>,
    /// One for each connection that may exist.
    permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
    /// How to connect, with the password as it was last known.
    options: AsyncMutex<Known>,
    is_current: OnceCell<()>,
    aws: Aws,
}

struct Idle {
    connection: PgConnection,
    /// By both clocks: while an environment is frozen one of them may stand still.
    since: (Instant, SystemTime),
}

#[derive(Default)]
struct Known {
    options: Option<PgConnectOptions>,
    /// When the password was given up last, by both clocks.
    forgotten: Option<(Instant, SystemTime)>,
}

/// What an operation does, and so what it means to do it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It reads.
    None,
    /// It writes under a key that makes the second time do nothing.
    Idempotent,
    /// It writes, and twice would be once too often.
    Once,
}

impl Database {
    /// Opens the database, in the init phase: connects and brings the schema up to date if the database answers in time.
    /// If it does not, the first request that needs it does; until then everything else is served. A database that refuses
    /// is tried once: a cold start does not wait for it.
    pub async fn open(config: DatabaseConfig, migrator: &'static Migrator) -> Self {
        let migrator = Some(migrator).filter(|_| config.migrate);
        let inner = Inner {
            permits: Semaphore::new(config.connections.max(1)),
            config,
            migrator,
            idle: Mutex::default(),
            options: AsyncMutex::default(),
            is_current: OnceCell::new(),
            aws: Aws::default(),
        };
        let own = Self { inner: Arc::new(inner) };
        own.warm().await;
        own
    }

    /// Connects, if the database answers at once: in the init phase, and after a snapshot was restored.
    pub async fn warm(&self) {
        let deadline = tokio::time::Instant::now() + INIT_TIME;
        if let Err(failure) = self.attempt(deadline, &|connection| async { (connection, Ok(())) }).await {
            tracing::error!(
                error = error_chain(&failure.error),
                "the database cannot be used yet; the next request that needs it tries again"
            );
        }
    }

    /// Does something with a connection in the time that `remaining` leaves, less what the answer takes; in ten seconds
    /// at most. A handler passes [`RequestContext::remaining`](mcp_server::RequestContext::remaining).
    ///
    /// `work` gets the connection and hands it back beside its result; one that never comes back, since time was over, is
    /// closed. A connection that is lost is replaced, and what could not begin, or was rolled back, or is safe to
    /// [repeat](Effect), is tried again while there is time.
    ///
    /// # Errors
    ///
    /// When time is over, or it cannot succeed.
    pub async fn run<T, F, Fut>(&self, remaining: Option<Duration>, effect: Effect, work: F) -> Result<T, DatabaseError>
    where
        F: Fn(PgConnection) -> Fut,
        Fut: Future<Output = (PgConnection, Result<T, sqlx::Error>)>,
    {
        let limit = remaining.map_or(LONGEST, |remaining| remaining.saturating_sub(ANSWER_TIME).min(LONGEST));
        let deadline = tokio::time::Instant::now() + limit;
        let mut pause = PAUSES.0;
        let mut last = None;
        loop {
            let span = tracing::info_span!(
                "postgresql",
                otel.kind = "client",
                db.system.name = "postgresql",
                error.type = Empty,
                otel.status_code = Empty
            );
            let attempt = self.attempt(deadline, &work).instrument(span.clone()).await;
            if let Err(failure) = &attempt {
                span.record("error.type", failure.error.kind());
                span.record("otel.status_code", "ERROR");
            }
            drop(span);
            let failure = match attempt {
                Ok(value) => return Ok(value),
                // Time was over during a second try: the reason for it says more.
                Err(Failure { error: DatabaseError::TimedOut, is_without_effect: true, .. }) if last.is_some() => {
                    return Err(last.unwrap_or(DatabaseError::TimedOut));
                }
                Err(failure) => failure,
            };
            if failure.is_authentication && !self.inner.forget_password().await {
                // It will not be taken the next time either.
                return Err(DatabaseError::Other(failure.error.into()));
            }
            let may_repeat = failure.is_transient && (failure.is_without_effect || effect != Effect::Once);
            let wait = jitter(pause);
            let error = failure.into_error(effect);
            if !may_repeat || tokio::time::Instant::now() + wait >= deadline {
                return Err(error);
            }
            tracing::info!(error = error_chain(&error), monotonic_counter.database_retries = 1, "trying again");
            last = Some(error);
            sleep(wait).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn attempt<T, F, Fut>(&self, deadline: tokio::time::Instant, work: &F) -> Result<T, Failure>
    where
        F: Fn(PgConnection) -> Fut,
        Fut: Future<Output = (PgConnection, Result<T, sqlx::Error>)>,
    {
        let inner = &self.inner;
        let timed_out = || Failure { is_without_effect: true, ..Failure::lost(DatabaseError::TimedOut) };
        let Ok(Ok(_permit)) = timeout_at(deadline, inner.permits.acquire()).await else {
            return Err(timed_out());
        };
        let connection = match timeout_at(deadline, inner.ready_connection()).await {
            // Nothing was asked yet.
            Ok(connection) => connection.map_err(|failure| Failure { is_without_effect: true, ..failure })?,
            Err(_) => return Err(timed_out()),
        };
        match timeout_at(deadline, work(connection)).await {
            Ok((connection, Ok(value))) => {
                inner.give_back(connection);
                Ok(value)
            }
            Ok((connection, Err(error))) => {
                let failure = Failure::from(error);
                if !failure.is_connection_lost {
                    inner.give_back(connection);
                }
                Err(failure)
            }
            // The connection went with the work: one with a statement under way is of no use to the next.
            Err(_) => Err(Failure { is_without_effect: false, ..timed_out() }),
        }
    }

    /// Closes what is open, and forgets a password that was fetched: before the process ends, or before a snapshot is taken
    /// of it. What comes later opens anew.
    pub async fn close(&self) {
        *self.inner.options.lock().await = Known::default();
        for idle in self.inner.take_idle() {
            if let Err(error) = idle.connection.close().await {
                tracing::debug!(%error, "a connection did not close in order");
            }
        }
    }

    /// The number of connections that are open and idle.
    pub fn idle_connections(&self) -> usize {
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Inner {
    /// A connection that is known to live, or was opened just now, to a schema that is up to date.
    async fn ready_connection(&self) -> Result<PgConnection, Failure> {
        let mut connection = match self.living_connection().await {
            Some(connection) => connection,
            // In a box: the SDK's future is 200 KB, which each operation would move although hardly any connects.
            None => Box::pin(self.connect()).await?,
        };
        if let Some(migrator) = self.migrator {
            let current = self.is_current.get_or_try_init(|| ensure_current(&mut connection, migrator)).await;
            if let Err(error) = current {
                return Err(match error {
                    sqlx::migrate::MigrateError::Execute(error)
                    | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => Failure::from(error),
                    error => Failure::from(sqlx::Error::Migrate(Box::new(error))),
                });
            }
        }
        Ok(connection)
    }

    async fn living_connection(&self) -> Option<PgConnection> {
        loop {
            let Idle { mut connection, since } = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            let idle_for = elapsed(since);
            if idle_for <= self.config.trusted_for {
                return Some(connection);
            }
            match timeout(PING_TIME, connection.ping()).await {
                Ok(Ok(())) => return Some(connection),
                _ => tracing::info!("a connection was lost while it was idle"),
            }
        }
    }

    async fn connect(&self) -> Result<PgConnection, Failure> {
        let options = self.options().await.map_err(|error| {
            // The SDK has tried again already.
            Failure { is_transient: false, ..Failure::lost(DatabaseError::Unavailable(error)) }
        })?;
        let mut connection = PgConnection::connect_with(&options).await?;
        // Both in one round trip, since almost always nothing is to be done.
        if let Some(migrator) = self.migrator.filter(|_| !self.is_current.initialized())
            && is_current_after(SESSION, &mut connection, migrator).await?
        {
            // Whoever was faster has said the same.
            let _ = self.is_current.set(());
            return Ok(connection);
        }
        connection.execute(sqlx::raw_sql(SESSION)).await?;
        Ok(connection)
    }

    /// How to connect, with a password that is good now. Single-flight: others wait for the one that fetches.
    async fn options(&self) -> Result<PgConnectOptions, BoxError> {
        let config = &self.config;
        match &config.password {
            Password::Fixed => Ok(config.options.clone()),
            Password::Iam { region } => self.aws.with_token(&config.options, region).await,
            Password::Secret { arn, overrides } => {
                let mut known = self.options.lock().await;
                if let Some(options) = &known.options {
                    return Ok(options.clone());
                }
                let options = self.aws.with_secret(config, arn, overrides).await?;
                known.options = Some(options.clone());
                Ok(options)
            }
        }
    }

    /// The password was refused. Whether another may come in its place: one that is fetched anew, unless it just was.
    async fn forget_password(&self) -> bool {
        if !matches!(self.config.password, Password::Secret { .. }) {
            return false;
        }
        let mut known = self.options.lock().await;
        let may_fetch = known.forgotten.is_none_or(|forgotten| elapsed(forgotten) >= SECRET_COOLDOWN);
        if may_fetch {
            *known = Known { options: None, forgotten: Some((Instant::now(), SystemTime::now())) };
        }
        // Somebody else may be fetching it just now.
        may_fetch || known.options.is_none()
    }

    fn give_back(&self, connection: PgConnection) {
        let since = (Instant::now(), SystemTime::now());
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(Idle { connection, since });
    }

    fn take_idle(&self) -> Vec<Idle> {
        std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// By the clock that has moved on further: while an environment is frozen one of them may stand still.
fn elapsed(since: (Instant, SystemTime)) -> Duration {
    since.0.elapsed().max(since.1.elapsed().unwrap_or(Duration::MAX))
}

/// Between half of a pause and all of it, so that environments that failed together do not come back together. After a
/// snapshot is restored the clock alone differs between them.
fn jitter(pause: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    pause / 2 + pause / 2 * (nanos % 1000) / 1000
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("config", &self.inner.config).finish_non_exhaustive()
    }
}
