//! The connection of one attempt at an operation that is retried.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use sqlx::{Connection, PgConnection};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};

use crate::{DatabaseError, error::Failure, sessions::PING_TIME};

/// The connection of one attempt of [`read`](crate::Database::read) or [`write`](crate::Database::write). It dereferences to
/// [`PgConnection`], and returns to the environment's connections when it is dropped.
#[derive(Debug)]
pub struct Attempt(OwnedMutexGuard<PgConnection>);

impl Deref for Attempt {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Attempt {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

/// Lends a connection to the closure of one attempt. If the connection outlives the closure, it is not returned, and is
/// closed when it is dropped.
pub(crate) async fn lend<T, F, Fut>(
    connection: PgConnection,
    work: &F,
) -> (Option<PgConnection>, Result<T, DatabaseError>)
where
    F: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<T, DatabaseError>>,
{
    let shared = Arc::new(Mutex::new(connection));
    let attempt = Attempt(Arc::clone(&shared).lock_owned().await);
    let result = work(attempt).await;
    (Arc::try_unwrap(shared).ok().map(Mutex::into_inner), result)
}

/// Runs the closure in its own session, where each statement commits by itself.
pub(crate) async fn in_autocommit<T, F, Fut>(
    connection: PgConnection,
    work: &F,
) -> (Option<PgConnection>, Result<T, Failure>)
where
    F: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<T, DatabaseError>>,
{
    let (connection, result) = lend(connection, work).await;
    let result = result.map_err(Failure::from);
    let is_lost = result.as_ref().is_err_and(|failure| failure.class.is_connection_lost);
    let Some(mut connection) = connection.filter(|_| !is_lost) else {
        return (None, result);
    };
    // Discards unread results, and rolls back a transaction that the closure dropped. Otherwise it does nothing.
    let is_ready = matches!(timeout(PING_TIME, connection.flush()).await, Ok(Ok(())));
    (Some(connection).filter(|_| is_ready), result)
}
