//! The guard of a transaction.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use futures_util::{future::BoxFuture, stream::BoxStream};
use sqlx::{
    Describe, Execute, Executor, PgConnection, Postgres, SqlStr,
    postgres::{PgRow, PgStatement, PgTransactionManager, PgTypeInfo},
};
use sqlx_core::transaction::TransactionManager;
use tokio::time::{timeout, timeout_at};

use crate::{
    DatabaseError,
    bounded::{Step, bounded, first_row},
    error::{Failure, busy, convert_guard_error, is_lost, through_sqlx},
    hold::Hold,
    pooler::end_transaction,
    retry::Budget,
    sessions::{Lease, PING_TIME, Session, record_failure},
};

/// A transaction, from [`Database::begin`](crate::Database::begin).
///
/// `&mut *transaction` executes statements, each of which ends at the call's deadline, and after ten seconds at the latest. `?` on
/// their errors in a handler has the same meaning as for those of [`Acquired`](crate::Acquired).
///
/// It also dereferences to [`PgConnection`], for functions that take one and for savepoints. Those statements end with the
/// handler, at its deadline, and their errors are sqlx's own: return [`DatabaseError`] from such a function, since a bare
/// [`sqlx::Error`] of an outage would be an internal fault.
///
/// A transaction that is dropped is rolled back: its connection is closed, since a destructor cannot await.
/// [`rollback`](Self::rollback) keeps the connection.
#[derive(Debug)]
#[must_use = "a transaction that is not committed is rolled back"]
pub struct Transaction(TransactionConnection);

/// The connection of a [`Transaction`], which executes statements.
pub struct TransactionConnection {
    lease: Lease,
    budget: Budget,
    /// A statement has failed, or may have failed unseen: `COMMIT` would roll back, and report success.
    may_have_failed: bool,
    /// The connection was lost during a statement, or a statement timed out.
    is_lost: bool,
    _hold: Hold,
}

/// Begins a transaction on a connection.
pub(crate) async fn begin(session: &mut Session) -> Result<(), sqlx::Error> {
    match session.is_pooled {
        // sqlx considers these connections to be within a transaction already.
        true => session.connection.execute("BEGIN").await.map(|_| ()),
        false => PgTransactionManager::begin(&mut session.connection, None).await,
    }
}

impl Transaction {
    pub(crate) fn new(lease: Lease, budget: Budget, hold: Hold) -> Self {
        Self(TransactionConnection { lease, budget, may_have_failed: false, is_lost: false, _hold: hold })
    }

    /// Commits the transaction.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::OutcomeUnknown`] if the connection is lost or the deadline passes while the server commits. After any other error
    /// the transaction is rolled back: a statement has failed, or a deferred constraint does not hold.
    pub async fn commit(self) -> Result<(), DatabaseError> {
        let TransactionConnection { mut lease, budget, may_have_failed, is_lost, _hold } = self.0;
        if is_lost {
            return Err(DatabaseError::Unavailable(busy("the connection was lost before the commit")));
        }
        let Session { connection, is_pooled, .. } = &mut lease.session;
        let (end, span) = (budget.done_by(), lease.span.clone());
        let mut is_commit_sent = false;
        let committed = timeout_at(end, async {
            if *is_pooled {
                is_commit_sent = true;
                return end_transaction(connection, true).await;
            }
            // A savepoint was cancelled while it was created: sqlx has rolled back the whole transaction.
            if PgTransactionManager::get_transaction_depth(connection) != 1 {
                return Err(through_sqlx(DatabaseError::Other("the transaction has ended already".into())));
            }
            if may_have_failed {
                connection.execute("SELECT 1").await?;
            }
            is_commit_sent = true;
            PgTransactionManager::commit(connection).await
        });
        let committed = committed.await.map_or_else(|_| Err(Failure::timed_out()), |done| done.map_err(Failure::from));
        let committed =
            committed.map_err(|failure| if is_commit_sent { failure.into_write_failure() } else { failure });
        match record_failure(&span, committed) {
            Ok(()) => {
                lease.release();
                Ok(())
            }
            Err(Failure { error, class }) => {
                // The server has responded, such as with a conflict: a new connection would count against the limit of their rate.
                if !class.is_connection_lost {
                    let _ = timeout(PING_TIME, roll_back(lease, budget)).await;
                }
                Err(error)
            }
        }
    }

    /// Rolls the transaction back, and keeps the connection for the next operation.
    ///
    /// # Errors
    ///
    /// When the connection is lost, or the database does not respond in time. The transaction is rolled back anyway.
    pub async fn rollback(self) -> Result<(), DatabaseError> {
        let TransactionConnection { lease, budget, is_lost, _hold, .. } = self.0;
        if is_lost {
            return Ok(());
        }
        roll_back(lease, budget).await
    }
}

/// Rolls a transaction back, and returns its connection for the next operation.
async fn roll_back(mut lease: Lease, budget: Budget) -> Result<(), DatabaseError> {
    let Session { connection, is_pooled, .. } = &mut lease.session;
    let rolled_back = timeout_at(budget.done_by(), async {
        match *is_pooled {
            true => end_transaction(connection, false).await,
            false => PgTransactionManager::rollback(connection).await,
        }
    });
    rolled_back.await.map_err(|_| DatabaseError::TimedOut)??;
    if lease.session.is_pooled || PgTransactionManager::get_transaction_depth(&lease.session.connection) == 0 {
        lease.release();
    }
    Ok(())
}

impl Deref for Transaction {
    type Target = TransactionConnection;

    fn deref(&self) -> &TransactionConnection {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut TransactionConnection {
        &mut self.0
    }
}

impl Deref for TransactionConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.lease.session.connection
    }
}

impl DerefMut for TransactionConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.may_have_failed = true;
        &mut self.lease.session.connection
    }
}

impl fmt::Debug for TransactionConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionConnection").field("is_lost", &self.is_lost).finish_non_exhaustive()
    }
}

impl<'c> Executor<'c> for &'c mut TransactionConnection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let end = self.budget.done_by();
        let TransactionConnection { lease, may_have_failed, is_lost: is_over, .. } = self;
        bounded(lease.session.connection.fetch_many(query), end, |error| {
            if let Some(error) = &error {
                *may_have_failed = true;
                *is_over |= is_lost(error);
            }
            error.map(convert_guard_error)
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(first_row(self.fetch_many(query)))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        (&mut **self).prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        (&mut **self).describe(sql)
    }
}
