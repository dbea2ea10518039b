//! One connection for each request that an environment serves at once: opened once, replaced when lost.

use std::{
    fmt,
    mem::ManuallyDrop,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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
    error::{Failure, busy, refuses_settings},
    migrate::{Schema, ensure_current},
};

/// The time that the init phase spends on the database, of the ten seconds that Lambda grants: enough to wait for another
/// environment that brings the schema up to date.
const INIT_TIME: Duration = Duration::from_secs(5);
/// The longest that one operation may take once it has its connection. Connecting may take what the deadline leaves: a
/// database that has slept takes half a minute.
const LONGEST: Duration = Duration::from_secs(10);
/// The time that is left to a handler for saying that an operation took too long.
const ANSWER_TIME: Duration = Duration::from_millis(300);
/// A connection that does not answer a ping in this time is as good as lost.
const PING_TIME: Duration = Duration::from_millis(500);
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
/// The first pause before something is tried again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The database of a function. Cheap to clone.
///
/// There is no task in the background, since an environment is frozen between requests: what has to be done is done by
/// the request that needs it. (sqlx's own pool pings each connection in a spawned task when it is given back.)
///
/// ```no_run
/// use mcp_postgres::{Database, Effect};
/// use mcp_server::{NoArguments, ToolContext, HandlerError};
///
/// struct State {
///     database: Database,
/// }
///
/// async fn count(context: ToolContext<State>, _: NoArguments) -> Result<String, HandlerError> {
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
    /// What listens there is a pooler, which rejects or ignores settings in the startup message.
    has_pooler: AtomicBool,
    is_current: OnceCell<()>,
    aws: Aws,
}

/// A connection, and what it leads to.
struct Session {
    connection: PgConnection,
    /// To a pooler, which hands each transaction to any of its sessions; otherwise to a session of its own.
    is_pooled: bool,
}

struct Idle {
    session: Session,
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
    /// is tried once: a cold start does not wait for it. With [`DatabaseConfig::warm`] off nothing is done before the first
    /// request that needs the database, so that no other request wakes it.
    pub async fn open(config: DatabaseConfig, migrator: &'static Migrator) -> Self {
        let migrator = Some(migrator).filter(|_| config.migrate);
        let inner = Inner {
            permits: Semaphore::new(config.connections.max(1)),
            config,
            migrator,
            idle: Mutex::default(),
            options: AsyncMutex::default(),
            has_pooler: AtomicBool::new(false),
            is_current: OnceCell::new(),
            aws: Aws::default(),
        };
        let own = Self { inner: Arc::new(inner) };
        own.warm().await;
        own
    }

    /// Connects, if the database answers at once: in the init phase, and after a snapshot was restored. Does nothing with
    /// [`DatabaseConfig::warm`] off.
    pub async fn warm(&self) {
        if !self.inner.config.warm {
            return;
        }
        let deadline = tokio::time::Instant::now() + INIT_TIME;
        if let Err(failure) = self.attempt(deadline, &|connection| async { (connection, Ok(())) }).await {
            tracing::warn!(
                error = error_chain(&failure.error),
                "the database cannot be used yet; the next request that needs it tries again"
            );
        }
    }

    /// Does something with a connection in the time that `remaining` leaves, less what the answer takes. A handler passes
    /// [`RequestContext::remaining`](mcp_server::RequestContext::remaining). `work` itself may take ten seconds; without
    /// `remaining` connecting counts towards them.
    ///
    /// Behind a pooler `work` is one transaction, so that its statements reach one session: it is rolled back when `work`
    /// fails, and a statement that failed fails it as a whole.
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
        let started = tokio::time::Instant::now();
        let limit = remaining.map_or(LONGEST, |remaining| remaining.saturating_sub(ANSWER_TIME));
        let deadline = started + limit;
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
            // A full database is no database that wakes up.
            let end = if failure.is_full { deadline.min(started + LONGEST) } else { deadline };
            let wait = jitter(pause);
            let error = failure.into_error(effect);
            if !may_repeat || tokio::time::Instant::now() + wait >= end {
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
        let Session { connection, is_pooled } = match timeout_at(deadline, inner.ready_session()).await {
            // Nothing was asked yet.
            Ok(session) => session.map_err(|failure| Failure { is_without_effect: true, ..failure })?,
            Err(_) => return Err(timed_out()),
        };
        let deadline = deadline.min(tokio::time::Instant::now() + LONGEST);
        let worked = async {
            match is_pooled {
                // In a box: it is rare, and larger than the work alone.
                true => Box::pin(in_transaction(connection, work)).await,
                false => work(connection).await,
            }
        };
        match timeout_at(deadline, worked).await {
            Ok((connection, Ok(value))) => {
                inner.give_back(Session { connection, is_pooled });
                Ok(value)
            }
            Ok((connection, Err(error))) => {
                let failure = Failure::from(error);
                if !failure.is_connection_lost {
                    inner.give_back(Session { connection, is_pooled });
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
            if let Err(error) = idle.session.connection.close().await {
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
            Failure { is_transient: false, ..Failure::lost(DatabaseError::Unavailable(busy(error))) }
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

    fn give_back(&self, session: Session) {
        let since = (Instant::now(), SystemTime::now());
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(Idle { session, since });
    }

    fn take_idle(&self) -> Vec<Idle> {
        std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes what a handler begins a savepoint. sqlx counts on the connection how deep transactions are nested; from here on it
/// takes the connection to be within one, as each operation is.
async fn nest_transactions(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let _ = ManuallyDrop::new(connection.begin().await?);
    connection.execute("ROLLBACK").await.map(|_| ())
}

/// Does all of the work in one session of a pooler, and leaves nothing in it: names of prepared statements are those of a
/// session, which serves another client next.
async fn in_transaction<T, F, Fut>(mut connection: PgConnection, work: &F) -> (PgConnection, Result<T, sqlx::Error>)
where
    F: Fn(PgConnection) -> Fut,
    Fut: Future<Output = (PgConnection, Result<T, sqlx::Error>)>,
{
    if let Err(error) = connection.execute("BEGIN").await {
        return (connection, Err(error));
    }
    let (mut connection, result) = work(connection).await;
    let ended = end_transaction(&mut connection, result.is_ok()).await;
    (connection, ended.and(result))
}

/// Ends a transaction in a session of a pooler, and takes back what was prepared in it.
pub(crate) async fn end_transaction(connection: &mut PgConnection, is_commit: bool) -> Result<(), sqlx::Error> {
    connection.clear_cached_statements().await?;
    // `COMMIT` rolls a transaction back in which a statement failed, and reports success all the same. `SELECT` does not.
    let checked = if is_commit { connection.execute("SELECT 1").await.map(|_| ()) } else { Ok(()) };
    let end = if is_commit && checked.is_ok() { "COMMIT" } else { "ROLLBACK" };
    connection.execute(end).await?;
    checked
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

    use mcp_testing::TestDatabase;
    use sqlx::Row;

    use super::*;

    /// 6.1: behind a pooler an operation is one transaction, which the server rolls back without an error after a statement in
    /// it has failed.
    #[tokio::test]
    async fn an_operation_behind_a_pooler_is_done_as_a_whole_or_reported() {
        let test = TestDatabase::create().await;
        let mut connection = test.connect().await;
        nest_transactions(&mut connection).await.unwrap();
        connection.execute("CREATE TABLE notes (text text PRIMARY KEY)").await.unwrap();
        let insert = async |mut connection: PgConnection, ignores_errors: bool| {
            let mut inserted = Ok(());
            for text in ["one", "two", "two"] {
                let query = sqlx::query("INSERT INTO notes VALUES ($1)").bind(text);
                inserted = inserted.and(query.execute(&mut connection).await.map(|_| ()));
            }
            (connection, if ignores_errors { Ok(()) } else { inserted })
        };
        for (ignores_errors, code) in [(true, "25P02"), (false, "23505")] {
            let (after, result) = in_transaction(connection, &|connection| insert(connection, ignores_errors)).await;
            connection = after;

            let error = result.unwrap_err();
            assert_eq!(error.as_database_error().unwrap().code().unwrap(), code);
        }

        // The handler's own transactions: one that it drops, and one that it commits.
        let insert = async |connection: &mut PgConnection, text: &str, is_commit: bool| {
            let mut own = connection.begin().await?;
            sqlx::query("INSERT INTO notes VALUES ($1)").bind(text).execute(&mut *own).await?;
            if is_commit { own.commit().await } else { Ok(()) }
        };
        let work = async |mut connection: PgConnection| {
            let dropped = insert(&mut connection, "three", false).await;
            let kept = insert(&mut connection, "four", true).await;
            (connection, dropped.and(kept))
        };
        let (mut connection, done) = in_transaction(connection, &work).await;

        done.unwrap();
        let left = "SELECT (SELECT count(*) FROM notes), (SELECT count(*) FROM pg_prepared_statements)";
        let left = connection.fetch_one(left).await.unwrap();
        assert_eq!((left.get::<i64, _>(0), left.get::<i64, _>(1)), (1, 0));
        let outside = test.connect().await.fetch_one("SELECT text FROM notes").await.unwrap();
        assert_eq!(outside.get::<String, _>(0), "four", "it is committed");
    }
}
