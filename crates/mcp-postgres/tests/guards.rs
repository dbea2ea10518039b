//! Guards and closures: commits, retries, closed connections, errors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod support;

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use futures_util::TryStreamExt;
use mcp_postgres::{Database, DatabaseError, Retry};
use mcp_server::{HandlerError, RequestContext};
use mcp_testing::{BackendKind, TestBackend, on_both_databases};
use sqlx::{Connection, Executor, PgConnection, Row};
use support::{
    LIMIT, NOTE, Proxy, context, end_sessions, execute, notes, open, open_with, wait_for_a_lock, wait_for_sessions,
};

const MARK: &str = "INSERT INTO notes (text) VALUES ($1)";
const END_OWN: &str = "SELECT pg_terminate_backend(pg_backend_pid())";

on_both_databases!(
    crate::support::create:
    a_transaction_that_is_rolled_back_keeps_its_connection,
    a_transaction_that_is_dropped_is_rolled_back_at_once_by_closing_its_connection,
    a_guard_that_is_dropped_in_the_middle_of_a_statement_leaves_no_connection,
    unread_results_are_discarded_before_the_next_call,
    a_connection_that_breaks_during_the_commit_leaves_the_outcome_unknown,
    a_commit_that_times_out_leaves_the_outcome_unknown,
    a_commit_that_the_database_rejects_has_no_effect,
    a_commit_after_a_failed_statement_is_an_error,
    a_connection_lost_before_the_commit_has_no_effect,
    a_lost_connection_is_replaced_before_a_transaction_begins,
    a_statement_of_a_guard_times_out_before_the_deadline,
    a_second_guard_of_a_call_fails_with_the_reason,
    another_call_waits_for_the_guard_of_the_first,
    a_connection_that_the_closure_keeps_is_not_reused,
);

async fn insert(connection: &mut PgConnection, text: &str) -> Result<(), DatabaseError> {
    sqlx::query(MARK).bind(text).execute(&mut *connection).await?;
    Ok(())
}

async fn pid(database: &Database) -> i32 {
    let context = context(LIMIT).await;
    let mut connection = database.acquire(&context).await.unwrap();
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *connection).await.unwrap()
}

/// `COMMIT` waits for a lock that the result holds.
async fn slow_commit(test: &TestBackend) -> PgConnection {
    let mut holder = test.connect().await;
    let sql = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION slow();
        SELECT pg_advisory_lock(1)";
    holder.execute(sqlx::raw_sql(sql)).await.unwrap();
    holder
}

#[tokio::test]
async fn with_savepoints_a_transaction_is_committed_as_a_whole_and_its_connection_kept() {
    let test = TestBackend::create(BackendKind::Postgres).await;
    let database = open(&test, 1).await;
    let before = pid(&database).await;
    let context = context(LIMIT).await;

    let mut transaction = database.begin(&context).await.unwrap();
    sqlx::query(MARK).bind("one").execute(&mut *transaction).await.unwrap();
    // Functions that take a connection of sqlx's, and its savepoints.
    insert(&mut transaction, "two").await.unwrap();
    let mut savepoint = transaction.begin().await.unwrap();
    insert(&mut savepoint, "three").await.unwrap();
    drop(savepoint);
    assert_eq!(notes(&test).await, 0);
    transaction.commit().await.unwrap();

    assert_eq!(notes(&test).await, 2);
    assert_eq!((pid(&database).await, database.idle_connections()), (before, 1));
}

async fn a_transaction_that_is_rolled_back_keeps_its_connection(test: TestBackend) {
    let database = open(&test, 1).await;
    let before = pid(&database).await;
    let context = context(LIMIT).await;

    let mut transaction = database.begin(&context).await.unwrap();
    sqlx::query(MARK).bind("much too long").execute(&mut *transaction).await.unwrap_err();
    transaction.rollback().await.unwrap();

    assert_eq!((pid(&database).await, notes(&test).await), (before, 0));
}

async fn a_transaction_that_is_dropped_is_rolled_back_at_once_by_closing_its_connection(test: TestBackend) {
    let mut admin = test.connect().await;
    let database = open(&test, 1).await;
    let context = context(LIMIT).await;

    let mut transaction = database.begin(&context).await.unwrap();
    sqlx::query(NOTE).execute(&mut *transaction).await.unwrap();
    drop(transaction);

    assert_eq!(database.idle_connections(), 0);
    wait_for_sessions(&mut admin, 0).await;
    // Otherwise the next call would join the transaction.
    assert_eq!(execute(&database, LIMIT, Retry::Never, NOTE).await.unwrap(), 1);
    assert_eq!(notes(&test).await, 1);
}

async fn a_guard_that_is_dropped_in_the_middle_of_a_statement_leaves_no_connection(test: TestBackend) {
    let mut admin = test.connect().await;
    let database = open(&test, 1).await;
    let mut holder = test.connect().await;
    let mut lock = holder.begin().await.unwrap();
    lock.execute("LOCK TABLE notes").await.unwrap();

    for form in ["begin", "acquire", "read"] {
        let context = context(LIMIT).await;
        let blocked = async {
            match form {
                "begin" => {
                    let mut transaction = database.begin(&context).await?;
                    sqlx::query(NOTE).execute(&mut *transaction).await?;
                }
                "acquire" => {
                    let mut connection = database.acquire(&context).await?;
                    sqlx::query(NOTE).execute(&mut *connection).await?;
                }
                _ => {
                    let read = database.read(&context, async |mut connection| {
                        Ok(sqlx::query("SELECT text FROM notes").fetch_all(&mut *connection).await?)
                    });
                    read.await?;
                }
            }
            Ok::<_, DatabaseError>(())
        };
        tokio::select! {
            done = blocked => panic!("{form}: {done:?}"),
            () = wait_for_a_lock(&mut admin) => {}
        }

        assert_eq!(database.idle_connections(), 0, "{form}");
        // The holder's connection remains.
        wait_for_sessions(&mut admin, 1).await;
    }
}

async fn unread_results_are_discarded_before_the_next_call(test: TestBackend) {
    let database = open(&test, 1).await;
    let sql = "SELECT repeat('x', 1000000) FROM generate_series(1, 30)";
    let context = context(LIMIT).await;

    let mut connection = database.acquire(&context).await.unwrap();
    assert!(sqlx::query(sql).fetch(&mut *connection).try_next().await.unwrap().is_some());
    let again = sqlx::query("SELECT 1").execute(&mut *connection).await.unwrap_err();
    drop(connection);

    assert!(matches!(DatabaseError::from(again), DatabaseError::Unavailable(_)));
    assert_eq!(database.idle_connections(), 0);
    let first = database.read(&context, async |mut connection| {
        Ok(sqlx::query(sql).fetch(&mut *connection).try_next().await?.is_some())
    });
    assert!(first.await.unwrap());
    // The results above were discarded within the time limit. This call has no time.
    assert_eq!(database.idle_connections(), 1);
    let sql = "SELECT repeat('x', 1000000), generate_series(1, 1000000000)";
    let first = database.read(&context, async |mut connection| {
        Ok(sqlx::query(sql).fetch(&mut *connection).try_next().await?.is_some())
    });
    assert!(first.await.unwrap());
    assert_eq!(database.idle_connections(), 0);
    assert_eq!(execute(&database, LIMIT, Retry::Never, NOTE).await.unwrap(), 1);
}

async fn a_connection_that_breaks_during_the_commit_leaves_the_outcome_unknown(test: TestBackend) {
    let database = open(&test, 1).await;
    let mut holder = slow_commit(&test).await;
    let context = context(LIMIT).await;

    let mut transaction = database.begin(&context).await.unwrap();
    sqlx::query(NOTE).execute(&mut *transaction).await.unwrap();
    let broken = async {
        wait_for_a_lock(&mut holder).await;
        end_sessions(&mut holder).await;
    };
    let (committed, ()) = tokio::join!(transaction.commit(), broken);

    let error = committed.unwrap_err();
    assert!(matches!(error, DatabaseError::OutcomeUnknown(_)), "{error:?}");
    assert_eq!(database.idle_connections(), 0);
}

async fn a_commit_that_times_out_leaves_the_outcome_unknown(test: TestBackend) {
    let database = open(&test, 1).await;
    let _holder = slow_commit(&test).await;
    let context = context(Some(Duration::from_secs(2))).await;

    let mut transaction = database.begin(&context).await.unwrap();
    sqlx::query(NOTE).execute(&mut *transaction).await.unwrap();
    let error = transaction.commit().await.unwrap_err();

    assert!(matches!(error, DatabaseError::OutcomeUnknown(_)), "{error:?}");
    assert!(!context.remaining().unwrap().is_zero(), "there is time for an answer");
    assert_eq!(database.idle_connections(), 0);
}

async fn a_commit_that_the_database_rejects_has_no_effect(test: TestBackend) {
    let database = open(&test, 1).await;
    let sql = "ALTER TABLE notes ADD CONSTRAINT once UNIQUE (text) DEFERRABLE INITIALLY DEFERRED";
    test.connect().await.execute(sql).await.unwrap();
    let context = context(LIMIT).await;

    let mut transaction = database.begin(&context).await.unwrap();
    for _ in 0..2 {
        sqlx::query(NOTE).execute(&mut *transaction).await.unwrap();
    }
    let error = transaction.commit().await.unwrap_err();

    assert!(matches!(&error, DatabaseError::Constraint { name, .. } if name == "once"), "{error:?}");
    assert_eq!(notes(&test).await, 0);
}

/// The server rolls such a transaction back, and reports success.
async fn a_commit_after_a_failed_statement_is_an_error(test: TestBackend) {
    let database = open(&test, 1).await;
    for is_seen in [true, false] {
        let context = context(LIMIT).await;

        let mut transaction = database.begin(&context).await.unwrap();
        sqlx::query(NOTE).execute(&mut *transaction).await.unwrap();
        match is_seen {
            true => _ = sqlx::query(MARK).bind("much too long").execute(&mut *transaction).await.unwrap_err(),
            false => _ = insert(&mut transaction, "much too long").await.unwrap_err(),
        }
        let error = transaction.commit().await.unwrap_err();

        assert!(matches!(error, DatabaseError::Other(_)), "{error:?}");
        assert_eq!(notes(&test).await, 0);
    }
}

async fn a_connection_lost_before_the_commit_has_no_effect(test: TestBackend) {
    let database = open(&test, 1).await;
    let context = context(LIMIT).await;

    let mut transaction = database.begin(&context).await.unwrap();
    sqlx::query(NOTE).execute(&mut *transaction).await.unwrap();
    end_sessions(&mut test.connect().await).await;
    let lost = DatabaseError::from(sqlx::query(NOTE).execute(&mut *transaction).await.unwrap_err());
    let error = transaction.commit().await.unwrap_err();

    assert!(matches!(lost, DatabaseError::Unavailable(_)), "{lost:?}");
    assert!(matches!(error, DatabaseError::Unavailable(_)), "{error:?}");
    assert_eq!(notes(&test).await, 0);
}

async fn a_lost_connection_is_replaced_before_a_transaction_begins(test: TestBackend) {
    let mut admin = test.connect().await;
    let database = open(&test, 1).await;
    end_sessions(&mut admin).await;
    let context = context(LIMIT).await;

    let mut transaction = database.begin(&context).await.unwrap();
    sqlx::query(NOTE).execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();

    assert_eq!(notes(&test).await, 1);
    wait_for_sessions(&mut admin, 1).await;
}

async fn a_statement_of_a_guard_times_out_before_the_deadline(test: TestBackend) {
    let database = open(&test, 1).await;
    let mut holder = test.connect().await;
    let mut lock = holder.begin().await.unwrap();
    lock.execute("LOCK TABLE notes").await.unwrap();
    let second = Some(Duration::from_secs(1));

    let own = context(second).await;
    let mut transaction = database.begin(&own).await.unwrap();
    let error = DatabaseError::from(sqlx::query(NOTE).execute(&mut *transaction).await.unwrap_err());
    // Nothing was committed.
    assert!(matches!(error, DatabaseError::TimedOut), "{error:?}");
    assert!(!own.remaining().unwrap().is_zero());
    drop(transaction);

    let own = context(second).await;
    let mut connection = database.acquire(&own).await.unwrap();
    let error = DatabaseError::from(sqlx::query(NOTE).execute(&mut *connection).await.unwrap_err());
    assert!(matches!(error, DatabaseError::OutcomeUnknown(_)), "{error:?}");
    assert!(!own.remaining().unwrap().is_zero());
    drop(connection);
    assert_eq!(database.idle_connections(), 0);
}

async fn a_second_guard_of_a_call_fails_with_the_reason(test: TestBackend) {
    let database = open(&test, 1).await;
    let own = context(LIMIT).await;
    let started = Instant::now();

    let guard = database.acquire(&own).await.unwrap();
    let second = async |context: &RequestContext<_>| {
        let read = database.read(context, async |_| Ok(())).await;
        [database.begin(context).await.map(drop), database.acquire(context).await.map(drop), read]
    };
    // Also with a clone of the context, which belongs to the same call.
    for result in second(&own.clone()).await {
        assert!(matches!(result, Err(DatabaseError::AlreadyHeld)), "{result:?}");
    }
    drop(guard);
    let nested = database.read(&own, async |_| database.begin(&own).await.map(drop)).await;

    assert!(started.elapsed() < LIMIT.unwrap() / 2, "it has not waited for the first");
    let error = nested.unwrap_err();
    assert!(error.to_string().contains("already holds a connection"), "{error}");
    assert!(format!("{:?}", HandlerError::from(error)).starts_with("Internal"));
    for result in second(&own).await {
        result.unwrap();
    }
}

async fn another_call_waits_for_the_guard_of_the_first(test: TestBackend) {
    let database = open(&test, 1).await;
    let (first, other) = (context(LIMIT).await, context(LIMIT).await);

    let guard = database.begin(&first).await.unwrap();
    let waiting = async {
        let transaction = database.begin(&other).await?;
        transaction.commit().await
    };
    let ending = async {
        tokio::task::yield_now().await;
        guard.commit().await
    };
    let (second, first) = tokio::join!(waiting, ending);

    assert!(first.is_ok() && second.is_ok());
}

#[tokio::test]
async fn with_pg_terminate_backend_only_idempotent_closures_are_retried_after_a_lost_connection() {
    let test = TestBackend::create(BackendKind::Postgres).await;
    let database = open(&test, 1).await;
    let attempts = AtomicU32::new(0);
    let lose_first = async |mut connection: mcp_postgres::Attempt| {
        if attempts.fetch_add(1, Ordering::Relaxed) == 0 {
            connection.execute(END_OWN).await?;
        }
        insert(&mut connection, "once").await
    };

    let context = context(LIMIT).await;
    let read = database.read(&context, &lose_first).await;
    assert!((read.is_ok(), attempts.swap(0, Ordering::Relaxed)) == (true, 2));
    let idempotent = database.write(&context, Retry::Idempotent, &lose_first).await;
    assert!((idempotent.is_ok(), attempts.swap(0, Ordering::Relaxed)) == (true, 2));
    let never = database.write(&context, Retry::Never, &lose_first).await;

    assert!(matches!(never, Err(DatabaseError::OutcomeUnknown(_))), "{never:?}");
    assert_eq!((attempts.load(Ordering::Relaxed), notes(&test).await), (1, 2));
}

/// A regression: a closure that must not be retried ran again when the server rolled back its second statement.
#[tokio::test]
async fn with_plpgsql_a_statement_before_one_that_was_rolled_back_is_not_repeated() {
    let test = TestBackend::create(BackendKind::Postgres).await;
    let database = open(&test, 1).await;
    let sql = "DO $$ BEGIN RAISE 'conflict' USING ERRCODE = '40001'; END $$";
    let context = context(LIMIT).await;

    let write = database.write(&context, Retry::Never, async |mut connection| {
        insert(&mut connection, "first").await?;
        connection.execute(sql).await?;
        Ok(())
    });

    assert!(matches!(write.await, Err(DatabaseError::Unavailable(_))));
    assert_eq!(notes(&test).await, 1);
}

async fn a_connection_that_the_closure_keeps_is_not_reused(test: TestBackend) {
    let mut admin = test.connect().await;
    let database = open(&test, 1).await;
    let own = context(LIMIT).await;

    let kept = database.read(&own, async |connection| Ok(connection)).await.unwrap();

    assert_eq!(database.idle_connections(), 0);
    execute(&database, LIMIT, Retry::Never, NOTE).await.unwrap();
    drop(kept);
    wait_for_sessions(&mut admin, 1).await;
}

/// Round trips of each operation with a statement that was prepared before, or may not stay prepared.
#[tokio::test]
async fn without_tls_each_operation_takes_the_minimum_of_round_trips() {
    let test = TestBackend::create(BackendKind::Postgres).await;
    for (is_pooler, expected) in [(false, [1, 1, 1, 3]), (true, [5, 5, 5, 5])] {
        let proxy = Proxy::start(&test, is_pooler);
        let database = open_with(&test, 1, &[("DATABASE_URL", &proxy.url)]).await;
        let context = context(LIMIT).await;
        let operations = async || {
            let mut counts = Vec::new();
            proxy.round_trips();
            let read = database.read(&context, async |mut connection| insert(&mut connection, "read").await);
            read.await.unwrap();
            counts.push(proxy.round_trips());
            let write =
                database.write(&context, Retry::Never, async |mut connection| insert(&mut connection, "write").await);
            write.await.unwrap();
            counts.push(proxy.round_trips());
            {
                let mut connection = database.acquire(&context).await.unwrap();
                sqlx::query(MARK).bind("acquire").execute(&mut *connection).await.unwrap();
            }
            counts.push(proxy.round_trips());
            let mut transaction = database.begin(&context).await.unwrap();
            sqlx::query(MARK).bind("begin").execute(&mut *transaction).await.unwrap();
            transaction.commit().await.unwrap();
            counts.push(proxy.round_trips());
            counts
        };
        operations().await;

        assert_eq!(operations().await, expected, "pooler: {is_pooler}");
    }
    assert_eq!(notes(&test).await, 16);
}

#[tokio::test]
async fn behind_a_pooler_no_operation_leaves_state_in_the_session() {
    let test = TestBackend::create(BackendKind::Postgres).await;
    let proxy = Proxy::start(&test, true);
    let database = open_with(&test, 1, &[("DATABASE_URL", &proxy.url)]).await;
    let before = pid(&database).await;

    for is_kept in [true, false] {
        let text = if is_kept { "kept" } else { "much too long" };
        let own = context(LIMIT).await;
        let write = database.write(&own, Retry::Never, async |mut connection| insert(&mut connection, text).await);
        assert_eq!(write.await.is_ok(), is_kept);
        {
            let mut connection = database.acquire(&own).await.unwrap();
            let inserted = sqlx::query(MARK).bind(text).execute(&mut *connection).await;
            assert_eq!(inserted.is_ok(), is_kept);
            // The connection can still be used.
            let row = sqlx::query("SELECT $1").bind("on").fetch_one(&mut *connection).await.unwrap();
            assert_eq!(row.get::<String, _>(0), "on");
        }
        let mut transaction = database.begin(&own).await.unwrap();
        let inserted = sqlx::query(MARK).bind(text).execute(&mut *transaction).await;
        assert_eq!(inserted.is_ok(), is_kept);
        match is_kept {
            true => transaction.commit().await.unwrap(),
            false => transaction.rollback().await.unwrap(),
        }

        let mut connection = database.acquire(&own).await.unwrap();
        let sql = "SELECT pg_backend_pid(), (SELECT count(*) FROM pg_prepared_statements)";
        // Without preparing anything.
        let row = connection.fetch_one(sql).await.unwrap();
        // Results without a prepared statement are text.
        let row: (String, String) = (row.try_get_unchecked(0).unwrap(), row.try_get_unchecked(1).unwrap());
        assert_eq!(row, (before.to_string(), "0".to_owned()));
    }
    assert_eq!(notes(&test).await, 3);
}

#[tokio::test]
async fn behind_a_pooler_a_transaction_with_a_failed_statement_is_not_committed() {
    let test = TestBackend::create(BackendKind::Postgres).await;
    let proxy = Proxy::start(&test, true);
    let database = open_with(&test, 1, &[("DATABASE_URL", &proxy.url)]).await;
    let context = context(LIMIT).await;

    let mut transaction = database.begin(&context).await.unwrap();
    sqlx::query(NOTE).execute(&mut *transaction).await.unwrap();
    insert(&mut transaction, "much too long").await.unwrap_err();
    let error = transaction.commit().await.unwrap_err();

    assert!(matches!(error, DatabaseError::Other(_)), "{error:?}");
    assert_eq!(notes(&test).await, 0);
}
