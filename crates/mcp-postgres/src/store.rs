//! [`PostgresStore`]: state that outlives a request, in tables of the schema `mcp`.
//!
//! Every operation is one statement on a primary key, except those that delete or list. All of them are valid on Postgres 14 and
//! newer, on Aurora DSQL, and behind a pooler. The tables have no column of a type that Aurora DSQL cannot index: keys are text.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mcp_server::{
    ManagedResource,
    store::{
        Content, DueRow, Granted, Increment, Kind, MAX_LIMIT, RowKey, RowTag, Store, StoreClock, StoreError,
        StoreFuture, StoredValue, SubjectDeletion, SubjectKey, Version, validate_limit, validate_within,
    },
};
use sqlx::{Row, migrate::Migrator, postgres::PgRow};
use tokio::{sync::OnceCell, time::timeout};

use crate::{
    Attempt, Database, DatabaseConfig, DatabaseError,
    database::attempt,
    retry::{Budget, Retries},
};

pub(crate) mod schema;
mod statements;

/// Maximum number of expired rows, and of expired counters, that are deleted after a write.
const PURGE_ROWS: i64 = 50;
/// Time between two deletions of expired rows by one environment, unless the last deletion reached its maximum.
const PURGE_INTERVAL: Duration = Duration::from_secs(10);
/// Time limit of the deletion after a write, which may wait for the lock of another deletion.
const PURGE_TIME: Duration = Duration::from_millis(300);
/// Rows that one statement deletes for a subject: fewer than the limit of Aurora DSQL for a transaction.
const SUBJECT_ROWS: usize = 100;
/// Maximum number of attempts to read a counter, which may expire between two statements.
const COUNTER_ATTEMPTS: u32 = 3;

/// The store of a server in Postgres or Aurora DSQL. It has its own connections, which are opened at first use: allow for one more
/// connection per concurrent request of an environment.
///
/// Its tables are in the schema `mcp`, with a separate table of migrations. With [`DatabaseConfig::migrate`] the first operation
/// creates them. Otherwise, and on Aurora DSQL, [`migrate`](crate::migrate()) creates them with the tables of the function.
///
/// ```no_run
/// # mod mcp_lambda { pub use mcp_server::*; pub use mcp_postgres as postgres; }
/// use mcp_lambda::{
///     Server,
///     postgres::{DatabaseConfig, PostgresStore},
/// };
///
/// fn server(config: DatabaseConfig) -> Server<()> {
///     Server::new("notes", "1.0.0", ()).store(PostgresStore::new(config))
/// }
/// ```
pub struct PostgresStore {
    database: Database,
    migrates: bool,
    is_dsql: bool,
    clock: Option<StoreClock>,
    has_tables: OnceCell<()>,
    /// Time of the last deletion of expired rows, by the wall clock, which advances while the environment is frozen.
    purged: Mutex<Option<SystemTime>>,
}

/// Retry policy of an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RetryPolicy {
    /// A read, which may be repeated.
    Read,
    /// A write that may be repeated.
    Idempotent,
    /// A write that may be repeated only if the attempt had no effect.
    IfWithoutEffect,
}

/// The result of an operation that succeeded.
struct Completed<T> {
    value: T,
    /// The outcome of an earlier attempt is unknown.
    is_repeated: bool,
}

impl PostgresStore {
    /// Creates a store without connecting.
    pub fn new(mut config: DatabaseConfig) -> Self {
        static NONE: Migrator = Migrator::DEFAULT;

        let (migrates, is_dsql) = (config.migrate, config.is_dsql());
        // The store has a separate table of migrations.
        (config.migrate, config.warm) = (false, false);
        let database = Database::unconnected(config, &NONE);
        let (has_tables, purged) = (OnceCell::new(), Mutex::default());
        Self { database, migrates, is_dsql, clock: None, has_tables, purged }
    }

    /// Replaces the database's clock, for tests.
    #[must_use]
    pub fn with_clock(self, clock: StoreClock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Creates or updates the tables. Concurrent calls are safe.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached, or the role may not change the schema.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.apply_migrations().await.map_err(store_error)
    }

    /// Closes idle connections. Later operations open new ones.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// Runs an operation with retries, once the tables exist.
    async fn run<T, F, Fut>(&self, policy: RetryPolicy, work: F) -> Result<Completed<T>, StoreError>
    where
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, DatabaseError>>,
    {
        // Boxed, since it runs once.
        let checked = self.has_tables.get_or_try_init(|| Box::pin(self.ensure_tables())).await;
        checked.map_err(store_error)?;
        self.execute(policy, work).await.map_err(store_error)
    }

    async fn execute<T, F, Fut>(&self, policy: RetryPolicy, work: F) -> Result<Completed<T>, DatabaseError>
    where
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, DatabaseError>>,
    {
        let budget = Budget::new(None);
        let mut retries = Retries::new(budget);
        // An atomic, because the future of a trait object is `Send`.
        let is_repeated = AtomicBool::new(false);
        loop {
            let failure = match self.database.lease(retries.end, budget, false).await {
                Ok(lease) => match attempt(lease, budget, &work).await {
                    Ok(value) => return Ok(Completed { value, is_repeated: is_repeated.into_inner() }),
                    Err(failure) if policy == RetryPolicy::Read => failure,
                    Err(failure) => failure.into_write_failure(),
                },
                Err(failure) => failure,
            };
            let is_unknown = matches!(failure.error, DatabaseError::OutcomeUnknown(_));
            is_repeated.fetch_or(is_unknown, Ordering::Relaxed);
            let may_repeat = policy != RetryPolicy::IfWithoutEffect || !is_unknown;
            self.database.wait(&mut retries, failure, may_repeat).await?;
        }
    }

    /// The injected time in microseconds since 1970; `None` for the database's clock.
    fn now(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| micros(clock().duration_since(UNIX_EPOCH).unwrap_or_default()))
    }

    /// Returns the version of a row, also of an expired one.
    async fn version_of(&self, key: &str) -> Result<Option<Version>, StoreError> {
        let read = self.run(RetryPolicy::Read, async |mut connection| {
            let row = sqlx::query(statements::VERSION).bind(key).fetch_optional(&mut *connection).await?;
            Ok(row.map(|row| version(&row)).transpose()?)
        });
        Ok(read.await?.value)
    }

    /// Determines whether a write was stored, if a repeated attempt changed no row and the outcome of the first is unknown: the row then has
    /// the version of the write.
    async fn resolve(&self, key: &str, own: Version) -> Result<Option<Version>, StoreError> {
        match self.version_of(key).await? {
            Some(current) if current == own => Ok(Some(own)),
            // Another write may have replaced it.
            _ => Err(StoreError::OutcomeUnknown("the row was changed after the connection was lost".into())),
        }
    }

    async fn put(&self, key: RowKey, tag: RowTag, content: Content<'_>) -> Result<Option<Version>, StoreError> {
        content.validate()?;
        let (key, own) = (key.encode(), Version::random()?);
        let subject = tag.subject.map(|subject| subject.encode());
        let stored = self.run(RetryPolicy::Idempotent, async |mut connection| {
            let query = sqlx::query(statements::PUT)
                .bind(self.now())
                .bind(&key)
                .bind(tag.kind.name())
                .bind(&subject)
                .bind(&own.as_bytes()[..])
                .bind(content.value)
                .bind(micros(content.expires_in))
                .bind(content.due_in.map(micros));
            Ok(query.execute(&mut *connection).await?.rows_affected() == 1)
        });
        self.finish_write(stored.await?, &key, own).await
    }

    /// Returns the version of a row that was written, or `None` if its condition did not hold.
    async fn finish_write(
        &self,
        stored: Completed<bool>,
        key: &str,
        own: Version,
    ) -> Result<Option<Version>, StoreError> {
        let result = match stored {
            Completed { value: true, .. } => Some(own),
            Completed { is_repeated: true, .. } => self.resolve(key, own).await?,
            Completed { .. } => None,
        };
        self.purge_after_write().await;
        Ok(result)
    }

    async fn read(&self, key: RowKey) -> Result<Option<StoredValue>, StoreError> {
        let key = key.encode();
        let read = self.run(RetryPolicy::Read, async |mut connection| {
            let query = sqlx::query(statements::GET).bind(self.now()).bind(&key);
            let row = query.fetch_optional(&mut *connection).await?;
            let stored = |row: PgRow| {
                Ok::<_, sqlx::Error>(StoredValue { value: row.try_get("value")?, version: version(&row)? })
            };
            Ok(row.map(stored).transpose()?)
        });
        Ok(read.await?.value)
    }

    async fn set(&self, key: RowKey, current: Version, content: Content<'_>) -> Result<Option<Version>, StoreError> {
        content.validate()?;
        let (key, own) = (key.encode(), Version::random()?);
        let stored = self.run(RetryPolicy::Idempotent, async |mut connection| {
            let query = sqlx::query(statements::SET)
                .bind(self.now())
                .bind(&key)
                .bind(&current.as_bytes()[..])
                .bind(&own.as_bytes()[..])
                .bind(content.value)
                .bind(micros(content.expires_in))
                .bind(content.due_in.map(micros));
            Ok(query.execute(&mut *connection).await?.rows_affected() == 1)
        });
        self.finish_write(stored.await?, &key, own).await
    }

    async fn count(&self, key: RowKey, tag: RowTag, increment: Increment) -> Result<Granted, StoreError> {
        increment.validate()?;
        let (key, subject) = (key.encode(), tag.subject.map(|subject| subject.encode()));
        let (amount, ceiling) = (increment.amount.cast_signed(), increment.ceiling.cast_signed());
        for _ in 0..COUNTER_ATTEMPTS {
            let counted = self.run(RetryPolicy::IfWithoutEffect, async |mut connection| {
                let query = sqlx::query(statements::INCREMENT)
                    .bind(self.now())
                    .bind(&key)
                    .bind(tag.kind.name())
                    .bind(&subject)
                    .bind(amount)
                    .bind(ceiling)
                    .bind(micros(increment.window));
                let row = query.fetch_optional(&mut *connection).await?;
                Ok(row.map(|row| granted(&row)).transpose()?)
            });
            if let Some(counted) = counted.await?.value {
                self.purge_after_write().await;
                return Ok(counted);
            }
            // The ceiling is reached, and nothing was written.
            let read = self.run(RetryPolicy::Read, async |mut connection| {
                let query = sqlx::query(statements::COUNTER).bind(self.now()).bind(&key);
                let row = query.fetch_optional(&mut *connection).await?;
                Ok(row.map(|row| granted(&row)).transpose()?)
            });
            if let Some(counted) = read.await?.value {
                return Ok(counted);
            }
        }
        Err(StoreError::Unavailable("the counter expired at each attempt".into()))
    }

    async fn remove(&self, key: RowKey) -> Result<(), StoreError> {
        let key = key.encode();
        let removed = self.run(RetryPolicy::Idempotent, async |mut connection| {
            for statement in [statements::DELETE, statements::DELETE_COUNTER] {
                sqlx::query(statement).bind(&key).execute(&mut *connection).await?;
            }
            Ok(())
        });
        removed.await.map(|_| ())
    }

    async fn list_due(&self, kind: Kind, within: Duration, limit: usize) -> Result<Vec<DueRow>, StoreError> {
        validate_limit(limit)?;
        validate_within(within)?;
        let limit = i64::try_from(limit).unwrap_or(1);
        let listed = self.run(RetryPolicy::Read, async |mut connection| {
            let query =
                sqlx::query(statements::DUE).bind(self.now()).bind(kind.name()).bind(micros(within)).bind(limit);
            let rows = query.fetch_all(&mut *connection).await?;
            let due = |row: &PgRow| {
                let key = RowKey::decode(row.try_get("row_key")?).ok_or_else(|| invalid("row_key"))?;
                Ok::<_, sqlx::Error>(DueRow { key, version: version(row)? })
            };
            Ok(rows.iter().map(due).collect::<Result<Vec<_>, _>>()?)
        });
        Ok(listed.await?.value)
    }

    async fn remove_subject(&self, subject: SubjectKey, limit: usize) -> Result<SubjectDeletion, StoreError> {
        validate_limit(limit)?;
        let subject = subject.encode();
        let mut deletion = SubjectDeletion::default();
        for (delete, count) in [
            (statements::DELETE_SUBJECT, statements::COUNT_SUBJECT),
            (statements::DELETE_SUBJECT_COUNTERS, statements::COUNT_SUBJECT_COUNTERS),
        ] {
            for batch in (0..limit).step_by(SUBJECT_ROWS).map(|done| SUBJECT_ROWS.min(limit - done)) {
                let removed = self.run(RetryPolicy::Idempotent, async |mut connection| {
                    let query = sqlx::query(delete).bind(&subject).bind(batch as i64);
                    Ok(query.execute(&mut *connection).await?.rows_affected())
                });
                let removed = removed.await?.value;
                deletion.deleted += removed;
                if removed < batch as u64 {
                    break;
                }
            }
            let left = self.run(RetryPolicy::Read, async |mut connection| {
                let query = sqlx::query(count).bind(&subject).bind(MAX_LIMIT as i64);
                Ok(query.fetch_one(&mut *connection).await?.try_get::<i64, _>(0)?)
            });
            deletion.left += left.await?.value.cast_unsigned();
        }
        Ok(deletion)
    }

    async fn remove_expired(&self, limit: i64) -> Result<u64, StoreError> {
        let mut removed = 0;
        for statement in [statements::PURGE, statements::PURGE_COUNTERS] {
            let batch = self.run(RetryPolicy::Idempotent, async |mut connection| {
                let query = sqlx::query(statement).bind(self.now()).bind(limit);
                Ok(query.execute(&mut *connection).await?.rows_affected())
            });
            removed += batch.await?.value;
        }
        Ok(removed)
    }

    /// Deletes up to [`PURGE_ROWS`] expired rows after a write. If it fails, a later write tries again.
    async fn purge_after_write(&self) {
        let now = SystemTime::now();
        {
            let mut purged = self.purged.lock().unwrap_or_else(PoisonError::into_inner);
            let is_recent = |last: &SystemTime| now.duration_since(*last).is_ok_and(|age| age < PURGE_INTERVAL);
            if purged.as_ref().is_some_and(is_recent) {
                return;
            }
            *purged = Some(now);
        }
        match timeout(PURGE_TIME, Box::pin(self.remove_expired(PURGE_ROWS))).await {
            // Further rows may have expired: the next write deletes them.
            Ok(Ok(count)) if count >= PURGE_ROWS.cast_unsigned() => {
                *self.purged.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "could not delete expired rows of the store"),
            Err(_) => tracing::debug!("the deletion of expired rows of the store timed out"),
        }
    }
}

fn version(row: &PgRow) -> Result<Version, sqlx::Error> {
    let bytes: &[u8] = row.try_get("version")?;
    Ok(Version::from_bytes(bytes.try_into().map_err(|_| invalid("version"))?))
}

fn granted(row: &PgRow) -> Result<Granted, sqlx::Error> {
    let number = |name: &str| row.try_get::<i64, _>(name).map(|number| u64::try_from(number).unwrap_or_default());
    let ends_in = Duration::from_micros(number("ends_in")?);
    Ok(Granted { granted: number("granted")?, total: number("count")?, ends_in })
}

fn invalid(column: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("the column `{column}` of the store has an invalid value").into())
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn store_error(error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::Unavailable(_) | DatabaseError::TimedOut | DatabaseError::ReadOnly(_) => {
            StoreError::Unavailable(error.into())
        }
        DatabaseError::OutcomeUnknown(_) => StoreError::OutcomeUnknown(error.into()),
        error => StoreError::Other(error.into()),
    }
}

impl Store for PostgresStore {
    fn put_if_absent<'a>(&'a self, key: RowKey, tag: RowTag, content: Content<'a>) -> StoreFuture<'a, Option<Version>> {
        Box::pin(self.put(key, tag, content))
    }

    fn get(&self, key: RowKey) -> StoreFuture<'_, Option<StoredValue>> {
        Box::pin(self.read(key))
    }

    fn compare_and_set<'a>(
        &'a self,
        key: RowKey,
        version: Version,
        content: Content<'a>,
    ) -> StoreFuture<'a, Option<Version>> {
        Box::pin(self.set(key, version, content))
    }

    fn increment(&self, key: RowKey, tag: RowTag, increment: Increment) -> StoreFuture<'_, Granted> {
        Box::pin(self.count(key, tag, increment))
    }

    fn delete(&self, key: RowKey) -> StoreFuture<'_, ()> {
        Box::pin(self.remove(key))
    }

    fn due(&self, kind: Kind, within: Duration, limit: usize) -> StoreFuture<'_, Vec<DueRow>> {
        Box::pin(self.list_due(kind, within, limit))
    }

    fn delete_subject(&self, subject: SubjectKey, limit: usize) -> StoreFuture<'_, SubjectDeletion> {
        Box::pin(self.remove_subject(subject, limit))
    }

    fn purge(&self, limit: usize) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            validate_limit(limit)?;
            self.remove_expired(i64::try_from(limit).unwrap_or(1)).await
        })
    }
}

/// Closed before the process ends and before a snapshot; the next operation connects.
impl ManagedResource for PostgresStore {
    async fn close(&self) {
        self.close().await;
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("database", &self.database).finish_non_exhaustive()
    }
}
