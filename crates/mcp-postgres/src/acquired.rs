//! The guard of a connection for single statements.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use futures_util::{
    TryStreamExt,
    future::{self, BoxFuture},
    stream::{self, BoxStream},
};
use sqlx::{
    Describe, Execute, Executor, PgConnection, Postgres, SqlStr,
    postgres::{PgRow, PgStatement, PgTypeInfo},
};
use tokio::time::timeout_at;

use crate::{
    DatabaseError,
    bounded::{Step, bounded, first_row},
    error::{busy, convert_autocommit_error, convert_guard_error, is_lost, through_sqlx},
    hold::Hold,
    pooler::end_transaction,
    retry::Budget,
    sessions::Lease,
};

/// A connection for single statements, from [`Database::acquire`](crate::Database::acquire).
///
/// `&mut *connection` executes statements. Each commits by itself, and ends at the call's deadline, and after ten seconds at the
/// latest. None is retried. An error is [`sqlx::Error`], and `?` in a handler keeps its meaning: a database that is not available is
/// [`HandlerError::unavailable`](mcp_server::HandlerError::unavailable), anything else a fault. State that a
/// statement leaves in the session (`SET`, `BEGIN`) would affect other calls: use [`begin`](crate::Database::begin).
#[derive(Debug)]
pub struct Acquired(AutocommitConnection);

/// The connection of [`Acquired`], which executes statements. Behind a pooler each statement is a transaction, whose results
/// are buffered.
pub struct AutocommitConnection {
    /// `None` after it was returned.
    lease: Option<Lease>,
    budget: Budget,
    /// A statement is running, or was not read to its end.
    is_busy: bool,
    _hold: Hold,
}

impl Acquired {
    pub(crate) fn new(lease: Lease, budget: Budget, hold: Hold) -> Self {
        Self(AutocommitConnection { lease: Some(lease), budget, is_busy: false, _hold: hold })
    }
}

impl Deref for Acquired {
    type Target = AutocommitConnection;

    fn deref(&self) -> &AutocommitConnection {
        &self.0
    }
}

impl DerefMut for Acquired {
    fn deref_mut(&mut self) -> &mut AutocommitConnection {
        &mut self.0
    }
}

impl Drop for AutocommitConnection {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take().filter(|_| !self.is_busy) {
            lease.release();
        }
    }
}

impl fmt::Debug for AutocommitConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AutocommitConnection").field("is_busy", &self.is_busy).finish_non_exhaustive()
    }
}

impl<'c> Executor<'c> for &'c mut AutocommitConnection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let end = self.budget.done_by();
        let AutocommitConnection { lease: Some(lease), is_busy, .. } = self else {
            return Box::pin(stream::once(future::ready(Err(sqlx::Error::PoolClosed))));
        };
        if *is_busy {
            let source = "an earlier statement of this connection was not read to its end";
            return Box::pin(stream::once(future::ready(Err(through_sqlx(DatabaseError::Unavailable(busy(source)))))));
        }
        *is_busy = true;
        let connection = &mut lease.session.connection;
        if !lease.session.is_pooled {
            return bounded(connection.fetch_many(query), end, |error| {
                *is_busy = error.as_ref().is_some_and(is_lost);
                error.map(convert_autocommit_error)
            });
        }
        let executed = async move {
            let unknown = || through_sqlx(DatabaseError::OutcomeUnknown(DatabaseError::TimedOut.into()));
            let steps = timeout_at(end, in_transaction(connection, query)).await.unwrap_or_else(|_| Err(unknown()));
            *is_busy = steps.as_ref().is_err_and(is_lost);
            Ok::<_, sqlx::Error>(stream::iter(steps.map_err(convert_guard_error)?.into_iter().map(Ok)))
        };
        Box::pin(stream::once(executed).try_flatten())
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(first_row(self.fetch_many(query)))
    }

    fn prepare_with<'e>(self, _: SqlStr, _: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(future::ready(Err(needs_transaction())))
    }

    fn describe<'e>(self, _: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(future::ready(Err(needs_transaction())))
    }
}

fn needs_transaction() -> sqlx::Error {
    through_sqlx(DatabaseError::Other("could not prepare a statement outside of a transaction: use `begin`".into()))
}

/// Executes one statement of a connection to a pooler.
async fn in_transaction<'q>(
    connection: &mut PgConnection,
    query: impl Execute<'q, Postgres> + 'q,
) -> Result<Vec<Step>, sqlx::Error> {
    connection.execute("BEGIN").await?;
    let steps = connection.fetch_many(query).try_collect().await;
    if steps.as_ref().is_err_and(is_lost) {
        return steps;
    }
    let ended = end_transaction(connection, steps.is_ok()).await;
    // Only a commit may have had an effect.
    if steps.is_ok() {
        ended.map_err(convert_autocommit_error)?
    } else {
        ended?
    }
    steps
}
