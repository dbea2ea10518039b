//! Poolers in transaction mode: each transaction may run in another session, so no state may be left in a session.

use std::mem::ManuallyDrop;

use sqlx::{Connection, Executor, PgConnection};

use crate::{Attempt, DatabaseError, attempt::lend, error::Failure};

/// Makes transactions that a handler begins savepoints. sqlx counts the nesting of transactions on the connection; after
/// this call it considers the connection to be within one, as each operation is.
pub(crate) async fn nest_transactions(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let _ = ManuallyDrop::new(connection.begin().await?);
    connection.execute("ROLLBACK").await.map(|_| ())
}

/// Ends a transaction in a session of a pooler, and deallocates its prepared statements: their names belong to the session,
/// which serves another client next.
pub(crate) async fn end_transaction(connection: &mut PgConnection, is_commit: bool) -> Result<(), sqlx::Error> {
    connection.clear_cached_statements().await?;
    // `COMMIT` of a transaction with a failed statement rolls back and reports success. `SELECT` fails in such a transaction,
    // and later statements of the same message are then not executed.
    let end = if is_commit { "SELECT 1; COMMIT" } else { "ROLLBACK" };
    let ended = connection.execute(end).await.map(|_| ());
    if ended.as_ref().is_err_and(is_aborted) {
        connection.execute("ROLLBACK").await?;
    }
    ended
}

/// `current transaction is aborted, commands ignored until end of transaction block`.
fn is_aborted(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("25P02"))
}

/// Runs the closure in a transaction that has begun, in one session of a pooler, and leaves no state in it.
pub(crate) async fn in_transaction<T, F, Fut>(
    connection: PgConnection,
    work: &F,
) -> (Option<PgConnection>, Result<T, Failure>)
where
    F: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<T, DatabaseError>>,
{
    let (connection, result) = lend(connection, work).await;
    // A failure before the end of the transaction rolls it back, if necessary with its session.
    let result = result.map_err(|error| Failure::from(error).without_effect());
    let Some(mut connection) = connection else {
        let kept = || {
            Failure::permanent(DatabaseError::Other("the closure kept the connection beyond its transaction".into()))
        };
        return (None, result.and_then(|_| Err(kept())));
    };
    match result {
        Err(failure) if failure.class.is_connection_lost => (None, Err(failure)),
        // The closure's own error is more specific. If the rollback fails, the connection is closed.
        Err(failure) => match end_transaction(&mut connection, false).await {
            Ok(()) => (Some(connection), Err(failure)),
            Err(_) => (None, Err(failure)),
        },
        Ok(value) => match end_transaction(&mut connection, true).await.map_err(Failure::from) {
            Ok(()) => (Some(connection), Ok(value)),
            Err(failure) => (Some(connection).filter(|_| !failure.class.is_connection_lost), Err(failure)),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

    use mcp_testing::TestDatabase;
    use sqlx::Row;

    use super::*;

    /// Behind a pooler an operation is one transaction. After a failed statement, `COMMIT` rolls it back without an error.
    #[tokio::test]
    async fn an_operation_behind_a_pooler_is_atomic_and_failures_are_reported() {
        let test = TestDatabase::create().await;
        let mut connection = test.connect().await;
        nest_transactions(&mut connection).await.unwrap();
        connection.execute("CREATE TABLE notes (text text PRIMARY KEY)").await.unwrap();
        let insert = async |mut connection: Attempt, ignores_errors: bool| {
            let mut inserted = Ok(());
            for text in ["one", "two", "two"] {
                let query = sqlx::query("INSERT INTO notes VALUES ($1)").bind(text);
                inserted = inserted.and(query.execute(&mut *connection).await.map(|_| ()));
            }
            if ignores_errors { Ok(()) } else { Ok(inserted?) }
        };
        for (ignores_errors, code) in [(true, "25P02"), (false, "23505")] {
            connection.execute("BEGIN").await.unwrap();
            let (after, result) = in_transaction(connection, &|connection| insert(connection, ignores_errors)).await;
            connection = after.unwrap();

            let error = result.unwrap_err().error;
            let source = std::error::Error::source(&error).unwrap().downcast_ref::<sqlx::Error>().unwrap();
            assert_eq!(source.as_database_error().unwrap().code().unwrap(), code);
        }

        // The handler's own transactions: one that it drops, and one that it commits.
        let insert = async |connection: &mut PgConnection, text: &str, is_commit: bool| {
            let mut own = connection.begin().await?;
            sqlx::query("INSERT INTO notes VALUES ($1)").bind(text).execute(&mut *own).await?;
            if is_commit { own.commit().await } else { Ok(()) }
        };
        let work = async |mut connection: Attempt| {
            insert(&mut connection, "three", false).await?;
            Ok(insert(&mut connection, "four", true).await?)
        };
        connection.execute("BEGIN").await.unwrap();
        let (connection, done) = in_transaction(connection, &work).await;

        done.map_err(|failure| failure.error).unwrap();
        let left = "SELECT (SELECT count(*) FROM notes), (SELECT count(*) FROM pg_prepared_statements)";
        let left = connection.unwrap().fetch_one(left).await.unwrap();
        assert_eq!((left.get::<i64, _>(0), left.get::<i64, _>(1)), (1, 0));
        let outside = test.connect().await.fetch_one("SELECT text FROM notes").await.unwrap();
        assert_eq!(outside.get::<String, _>(0), "four", "it is committed");
    }
}
