//! [`Database`]: operations with deadlines and retries.

use std::{fmt, sync::Arc, time::Duration};

use mcp_server::{ManagedResource, RequestContext, error_chain};
use sqlx::migrate::Migrator;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use crate::{
    Acquired, Attempt, DatabaseConfig, DatabaseError, Retry, Transaction,
    attempt::in_autocommit,
    error::{Failure, access_denied},
    hold::{Hold, Holds},
    pooler::in_transaction,
    retry::{Budget, Retries},
    sessions::{Lease, Session, Sessions, record_failure},
    transaction::begin,
};

/// Time limit for the database in the init phase, of the ten seconds that Lambda grants: enough to wait for another
/// environment that applies migrations.
const INIT_TIME: Duration = Duration::from_secs(5);

/// A function's database. Cheap to clone.
///
/// There is no background task, since an environment is frozen between requests: maintenance is done by the request
/// that needs it. (sqlx's own pool pings each connection in a spawned task when it is returned.)
///
/// | Operation | Retried after a lost connection |
/// | --- | --- |
/// | [`begin`](Self::begin), a transaction | connecting and `BEGIN` |
/// | [`acquire`](Self::acquire), for single statements | connecting |
/// | [`read`](Self::read) | the whole closure |
/// | [`write`](Self::write) | the closure, if its [`Retry`] permits |
///
/// Each takes the context of its call, and ends early enough for a response before [its
/// deadline](RequestContext::deadline). Once connected, each statement of a guard may take ten seconds, and so may
/// the whole closure of `read` and `write`. A call has one connection at a time: a second operation within another
/// fails with [`DatabaseError::AlreadyHeld`].
///
/// ```no_run
/// # mod mcp_lambda { pub use mcp_server::*; pub use mcp_postgres as postgres; }
/// use mcp_lambda::{ToolContext, postgres::{Database, DatabaseError}};
///
/// struct State {
///     database: Database,
/// }
///
/// async fn transfer(context: &ToolContext<State>, amount: i64) -> Result<(), DatabaseError> {
///     let mut transaction = context.state().database.begin(context).await?;
///     sqlx::query("UPDATE accounts SET balance = balance - $1 WHERE id = 1")
///         .bind(amount)
///         .execute(&mut *transaction)
///         .await?;
///     sqlx::query("UPDATE accounts SET balance = balance + $1 WHERE id = 2")
///         .bind(amount)
///         .execute(&mut *transaction)
///         .await?;
///     transaction.commit().await
/// }
///
/// async fn balance(context: &ToolContext<State>, id: i64) -> Result<i64, DatabaseError> {
///     let read = context.state().database.read(context, async |mut connection| {
///         let query = sqlx::query_scalar("SELECT balance FROM accounts WHERE id = $1").bind(id);
///         Ok(query.fetch_one(&mut *connection).await?)
///     });
///     read.await
/// }
/// ```
#[derive(Clone)]
pub struct Database {
    sessions: Arc<Sessions>,
}

impl Database {
    /// Opens the database in the init phase: connects and applies migrations if the database responds within five
    /// seconds. Otherwise the first request that needs the database does so, and all other requests are served. A
    /// database that rejects the connection is tried once, so that a cold start does not wait for it. With
    /// [`DatabaseConfig::warm`] off, no connection is made before the first request that needs the database, so that
    /// no other request wakes it.
    pub async fn open(config: DatabaseConfig, migrator: &'static Migrator) -> Self {
        let own = Self { sessions: Arc::new(Sessions::new(config, migrator)) };
        own.warm().await;
        own
    }

    /// Creates a database without connecting.
    #[cfg(feature = "store")]
    pub(crate) fn unconnected(config: DatabaseConfig, migrator: &'static Migrator) -> Self {
        Self { sessions: Arc::new(Sessions::new(config, migrator)) }
    }

    /// Connects if the database responds in time: in the init phase, and after a snapshot was restored. Does nothing
    /// with [`DatabaseConfig::warm`] off.
    pub async fn warm(&self) {
        if !self.sessions.config.warm {
            return;
        }
        match self.sessions.lease(Instant::now() + INIT_TIME).await {
            Ok(lease) => lease.release(),
            Err(failure) => tracing::warn!(
                error = error_chain(&failure.error),
                "could not open the database: the next request that needs it retries"
            ),
        }
    }

    /// Begins a transaction. Connecting and `BEGIN` are retried until the deadline; later statements are not.
    ///
    /// # Errors
    ///
    /// When no connection is available in time, or the call already holds one.
    pub async fn begin<S>(&self, context: &RequestContext<S>) -> Result<Transaction, DatabaseError> {
        let (hold, budget) = (self.hold(context)?, Budget::new(context.deadline()));
        let mut retries = Retries::new(budget);
        loop {
            match self.lease(retries.end, budget, true).await {
                Ok(lease) => return Ok(Transaction::new(lease, budget, hold)),
                Err(failure) => self.wait(&mut retries, failure, true).await?,
            }
        }
    }

    /// Takes a connection for single statements, each of which commits by itself. Connecting is retried until the
    /// deadline; statements are not. For read-only statements use [`read`](Self::read), which is retried.
    ///
    /// ```no_run
    /// # use mcp_postgres::{Database, DatabaseError};
    /// # use mcp_server::ToolContext;
    /// async fn save(context: &ToolContext<Database>, text: &str) -> Result<(), DatabaseError> {
    ///     let mut connection = context.state().acquire(context).await?;
    ///     sqlx::query("INSERT INTO notes VALUES ($1)").bind(text).execute(&mut *connection).await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// When no connection is available in time, or the call already holds one.
    pub async fn acquire<S>(&self, context: &RequestContext<S>) -> Result<Acquired, DatabaseError> {
        let (hold, budget) = (self.hold(context)?, Budget::new(context.deadline()));
        let mut retries = Retries::new(budget);
        loop {
            match self.sessions.lease(retries.end).await {
                Ok(lease) => return Ok(Acquired::new(lease, budget, hold)),
                Err(failure) => self.wait(&mut retries, failure, true).await?,
            }
        }
    }

    /// Runs a read-only closure, with retries until the deadline.
    ///
    /// Behind a pooler the closure is one transaction, so that all its statements reach one session.
    ///
    /// # Errors
    ///
    /// The error of the closure; when there is no response in time; when the call already holds a connection.
    pub async fn read<S, T, F, Fut>(&self, context: &RequestContext<S>, work: F) -> Result<T, DatabaseError>
    where
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, DatabaseError>>,
    {
        self.run(context, None, work).await
    }

    /// Runs a closure that writes, with retries until the deadline if `retry` permits.
    ///
    /// Each statement commits by itself; use [`begin`](Self::begin) for several that belong together. Behind a pooler
    /// the closure is one transaction, so that all its statements reach one session: it is rolled back when the
    /// closure fails, and one failed statement fails it as a whole.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::OutcomeUnknown`] if the connection is lost or the deadline passes after the closure has
    /// begun. Otherwise as [`read`](Self::read).
    pub async fn write<S, T, F, Fut>(
        &self,
        context: &RequestContext<S>,
        retry: Retry,
        work: F,
    ) -> Result<T, DatabaseError>
    where
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, DatabaseError>>,
    {
        self.run(context, Some(retry), work).await
    }

    /// `retry` is `None` for a read-only closure.
    async fn run<S, T, F, Fut>(
        &self,
        context: &RequestContext<S>,
        retry: Option<Retry>,
        work: F,
    ) -> Result<T, DatabaseError>
    where
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, DatabaseError>>,
    {
        let (_hold, budget) = (self.hold(context)?, Budget::new(context.deadline()));
        let mut retries = Retries::new(budget);
        loop {
            let failure = match self.lease(retries.end, budget, false).await {
                Ok(lease) => match attempt(lease, budget, &work).await {
                    Ok(value) => return Ok(value),
                    Err(failure) => failure,
                },
                Err(failure) => {
                    self.wait(&mut retries, failure, true).await?;
                    continue;
                }
            };
            let failure = if retry.is_some() { failure.into_write_failure() } else { failure };
            self.wait(&mut retries, failure, retry != Some(Retry::Never)).await?;
        }
    }

    /// Takes a connection; with a transaction begun if the caller wants one or a pooler needs one.
    pub(crate) async fn lease(&self, end: Instant, budget: Budget, is_transaction: bool) -> Result<Lease, Failure> {
        let mut lease = self.sessions.lease(end).await?;
        if !is_transaction && !lease.session.is_pooled {
            return Ok(lease);
        }
        let span = lease.span.clone();
        let begun = timeout_at(budget.done_by(), begin(&mut lease.session).instrument(span.clone())).await;
        let begun = begun.map_or_else(|_| Err(Failure::timed_out()), |begun| begun.map_err(Failure::from));
        record_failure(&span, begun.map_err(Failure::without_effect))?;
        Ok(lease)
    }

    pub(crate) async fn wait(
        &self,
        retries: &mut Retries,
        failure: Failure,
        may_repeat: bool,
    ) -> Result<(), DatabaseError> {
        if failure.class.is_authentication && !self.sessions.discard_password().await {
            // The next attempt would be rejected too.
            return Err(retries.overall(access_denied(failure.error)));
        }
        retries.wait(failure, may_repeat).await
    }

    fn hold<S>(&self, context: &RequestContext<S>) -> Result<Hold, DatabaseError> {
        Hold::take(context.extension::<Holds>(), Arc::as_ptr(&self.sessions).addr())
    }

    /// Closes all idle connections and discards a fetched password: before the process ends, or before a snapshot is
    /// taken of it. Later operations open new connections.
    pub async fn close(&self) {
        self.sessions.close().await;
    }

    /// Returns the number of open idle connections.
    pub fn idle_connections(&self) -> usize {
        self.sessions.count_idle()
    }
}

pub(crate) async fn attempt<T, F, Fut>(lease: Lease, budget: Budget, work: &F) -> Result<T, Failure>
where
    F: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<T, DatabaseError>>,
{
    let Lease { session: Session { connection, is_pooled, opened }, span, permit } = lease;
    let worked = async {
        match is_pooled {
            // Boxed: rarely needed, and larger than the closure's future.
            true => Box::pin(in_transaction(connection, work)).await,
            false => in_autocommit(connection, work).await,
        }
    };
    let result = match timeout_at(budget.done_by(), worked.instrument(span.clone())).await {
        Ok((connection, result)) => {
            if let Some(connection) = connection {
                permit.release(Session { connection, is_pooled, opened });
            }
            result
        }
        // The connection was dropped with the closure: a statement may be running on it.
        Err(_) => Err(Failure::timed_out()),
    };
    record_failure(&span, result)
}

/// Closed before the process ends and before a snapshot; [warmed](Database::warm) after a snapshot was restored.
impl ManagedResource for Database {
    async fn close(&self) {
        self.close().await;
    }

    async fn after_restore(&self) {
        self.warm().await;
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("config", &self.sessions.config).finish_non_exhaustive()
    }
}
