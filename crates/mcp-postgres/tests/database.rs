//! Lifecycle of connections, and callers that wait for one; against a real Postgres.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod support;

use std::time::{Duration, Instant};

use mcp_postgres::{Database, DatabaseConfig, DatabaseError, Retry};
use mcp_server::HandlerError;
use mcp_testing::{BackendKind, TestBackend, on_both_databases};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use support::{
    LIMIT, MIGRATOR, NOTE, config, context, end_sessions, execute, open, open_with, sessions, wait_for_sessions,
};

on_both_databases!(
    crate::support::create:
    one_connection_is_opened_at_init_and_shared_by_all_calls,
    a_lost_connection_is_replaced_transparently,
    a_write_with_retry_never_is_not_retried,
    a_long_idle_connection_is_pinged,
    a_statement_is_prepared_again_after_another_deployment_changed_its_table,
    a_statement_that_waits_for_a_lock_times_out_and_its_connection_is_closed,
    a_constraint_is_identified_by_its_name,
    close_closes_all_connections_and_later_operations_open_one,
);

async fn one_connection_is_opened_at_init_and_shared_by_all_calls(test: TestBackend) {
    let mut admin = test.connect().await;
    let database = open(&test, 1).await;
    assert_eq!((sessions(&mut admin).await, database.idle_connections()), (1, 1));

    let notes = (0..20).map(|_| {
        let database = database.clone();
        tokio::spawn(async move { execute(&database, LIMIT, Retry::Never, NOTE).await })
    });
    for note in notes.collect::<Vec<_>>() {
        note.await.unwrap().unwrap();
    }

    assert_eq!((sessions(&mut admin).await, database.idle_connections()), (1, 1));
}

async fn a_lost_connection_is_replaced_transparently(test: TestBackend) {
    let mut admin = test.connect().await;
    let database = open(&test, 1).await;

    for _ in 0..3 {
        end_sessions(&mut admin).await;

        execute(&database, LIMIT, Retry::Idempotent, "SELECT 1").await.unwrap();
    }

    assert_eq!(sessions(&mut admin).await, 1);
}

async fn a_write_with_retry_never_is_not_retried(test: TestBackend) {
    let mut admin = test.connect().await;
    let database = open(&test, 1).await;
    end_sessions(&mut admin).await;

    let lost = execute(&database, LIMIT, Retry::Never, NOTE).await.unwrap_err();
    let next = execute(&database, LIMIT, Retry::Never, NOTE).await;

    assert!(matches!(lost, DatabaseError::OutcomeUnknown(_)), "{lost:?}");
    assert_eq!(next.unwrap(), 1);
}

async fn a_long_idle_connection_is_pinged(test: TestBackend) {
    let mut admin = test.connect().await;
    let mut config = config(&test, &[]);
    // Every idle time exceeds the limit here.
    config.ping_after = Duration::ZERO;
    let database = Database::open(config, &MIGRATOR).await;
    end_sessions(&mut admin).await;

    let done = execute(&database, LIMIT, Retry::Never, NOTE).await;

    assert_eq!(done.unwrap(), 1);
}

#[tokio::test]
async fn with_startup_settings_each_session_has_timeouts() {
    let test = TestBackend::create(BackendKind::Postgres).await;
    // One that applies migrations, and one without pending migrations.
    for _ in 0..2 {
        let database = open(&test, 1).await;
        let context = context(LIMIT).await;
        let settings = database.read(&context, async |mut connection| {
            let sql =
                "SELECT current_setting('statement_timeout') || ' ' || current_setting('client_connection_check_interval')";
            Ok(connection.fetch_one(sql).await?.get::<String, _>(0))
        });

        assert_eq!(settings.await.unwrap(), "15s 1s");
    }
}

async fn a_statement_is_prepared_again_after_another_deployment_changed_its_table(test: TestBackend) {
    let database = open(&test, 1).await;
    let read = async || {
        let context = context(LIMIT).await;
        let read = database.read(&context, async |mut connection| {
            Ok(sqlx::query("SELECT * FROM notes").fetch_all(&mut *connection).await?.len())
        });
        read.await
    };
    assert_eq!(read().await.unwrap(), 0);

    test.connect().await.execute("ALTER TABLE notes ADD COLUMN author text").await.unwrap();

    assert_eq!(read().await.unwrap(), 0);
}

#[tokio::test]
async fn with_passwords_a_wrong_one_is_not_retried() {
    let test = TestBackend::create(BackendKind::Postgres).await;
    let (_, rest) = test.url().split_once('@').unwrap();
    let url = format!("postgres://postgres:wrong@{rest}");
    let config = DatabaseConfig::from_env(|name| (name == "DATABASE_URL").then_some(url.as_str())).unwrap();
    let database = Database::open(config, &MIGRATOR).await;
    let started = Instant::now();

    let error = execute(&database, LIMIT, Retry::Idempotent, NOTE).await.unwrap_err();

    assert!(matches!(error, DatabaseError::Other(_)), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // A call that is repeated fails again.
    let told = format!("{:?}", HandlerError::from(error));
    assert!(told.starts_with("Internal"), "{told}");
}

async fn a_statement_that_waits_for_a_lock_times_out_and_its_connection_is_closed(test: TestBackend) {
    let database = open(&test, 1).await;
    let mut holder = test.connect().await;
    let mut transaction = holder.begin().await.unwrap();
    transaction.execute("LOCK TABLE notes").await.unwrap();
    let started = Instant::now();

    let blocked = execute(&database, Some(Duration::from_secs(1)), Retry::Idempotent, NOTE).await.unwrap_err();

    assert!(matches!(blocked, DatabaseError::OutcomeUnknown(_)), "{blocked:?}");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(database.idle_connections(), 0);
    // Another call proceeds meanwhile, with its own connection.
    execute(&database, LIMIT, Retry::Idempotent, "SELECT 1").await.unwrap();
    // The server ends the session that waits for the lock, because its client has disconnected. The connections of the lock's
    // holder and of the function remain.
    let mut admin = test.connect().await;
    wait_for_sessions(&mut admin, 2).await;
    transaction.rollback().await.unwrap();
    assert_eq!(execute(&database, LIMIT, Retry::Idempotent, NOTE).await.unwrap(), 1);
}

#[tokio::test]
async fn with_replicas_a_read_only_database_is_reported() {
    let test = TestBackend::create(BackendKind::Postgres).await;
    let mut admin = test.connect().await;
    let database = open(&test, 1).await;
    let set = |value: &str| {
        AssertSqlSafe(format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = {value}', current_database()); END $$"
        ))
    };
    admin.execute(set("on")).await.unwrap();
    end_sessions(&mut admin).await;

    // The first attempt was lost with its session.
    let unknown = execute(&database, LIMIT, Retry::Idempotent, NOTE).await.unwrap_err();
    let error = execute(&database, LIMIT, Retry::Idempotent, NOTE).await.unwrap_err();
    let read = execute(&database, LIMIT, Retry::Idempotent, "SELECT 1").await;

    assert!(matches!(unknown, DatabaseError::OutcomeUnknown(_)), "{unknown:?}");
    assert!(matches!(error, DatabaseError::ReadOnly(_)), "{error:?}");
    assert!(read.is_ok());
    // The failover ends: the connection to the former replica is not reused.
    admin.execute("SET default_transaction_read_only = off").await.unwrap();
    admin.execute(set("off")).await.unwrap();
    let error = execute(&database, LIMIT, Retry::Idempotent, NOTE).await;
    assert!(matches!(error, Err(DatabaseError::ReadOnly(_))) || error.is_ok());
    assert_eq!(execute(&database, LIMIT, Retry::Idempotent, NOTE).await.unwrap(), 1);
}

async fn a_constraint_is_identified_by_its_name(test: TestBackend) {
    let database = open(&test, 1).await;

    let broken =
        execute(&database, LIMIT, Retry::Idempotent, "INSERT INTO notes (text) VALUES ('much too long')").await;
    let fault = execute(&database, LIMIT, Retry::Idempotent, "SELECT nothing").await;

    assert!(matches!(broken, Err(DatabaseError::Constraint { name, .. }) if name == "notes_text_length"));
    assert!(matches!(fault, Err(DatabaseError::Other(_))), "{fault:?}");
    assert_eq!(database.idle_connections(), 1);
}

#[tokio::test]
async fn with_advisory_locks_concurrent_cold_starts_apply_migrations_once() {
    let test = TestBackend::create(BackendKind::Postgres).await;

    let databases = (0..12).map(|_| open(&test, 1));
    let databases = futures_util::future::join_all(databases).await;

    for database in &databases {
        assert_eq!(execute(database, LIMIT, Retry::Idempotent, NOTE).await.unwrap(), 1);
    }
    let applied = test.connect().await.fetch_one("SELECT count(*) FROM _sqlx_migrations").await.unwrap();
    assert_eq!(applied.get::<i64, _>(0), 1);
}

#[tokio::test]
async fn with_migrations_at_init_they_can_be_switched_off() {
    let test = TestBackend::create(BackendKind::Postgres).await;
    let database = open_with(&test, 1, &[("DB_MIGRATE", "off")]).await;

    let before = execute(&database, LIMIT, Retry::Idempotent, NOTE).await.unwrap_err();
    MIGRATOR.run(&mut test.connect().await).await.unwrap();
    let after = execute(&database, LIMIT, Retry::Idempotent, NOTE).await;

    assert!(matches!(before, DatabaseError::Other(_)), "{before:?}");
    assert_eq!(after.unwrap(), 1);
}

async fn close_closes_all_connections_and_later_operations_open_one(test: TestBackend) {
    let mut admin = test.connect().await;
    let database = open(&test, 1).await;

    database.close().await;

    for _ in 0..200 {
        if sessions(&mut admin).await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(sessions(&mut admin).await, 0);
    execute(&database, LIMIT, Retry::Idempotent, "SELECT 1").await.unwrap();
    assert_eq!(sessions(&mut admin).await, 1);
}

#[tokio::test]
async fn with_connection_limits_of_roles_connecting_is_retried_until_the_deadline() {
    let test = TestBackend::create(BackendKind::Postgres).await;
    let mut admin = test.connect().await;
    let role = format!("limited_{}", std::process::id());
    for sql in [
        format!("DROP ROLE IF EXISTS {role}"),
        format!("CREATE ROLE {role} LOGIN PASSWORD 'secret' CONNECTION LIMIT 0"),
    ] {
        admin.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    let (_, rest) = test.url().split_once('@').unwrap();
    let url = format!("postgres://{role}:secret@{rest}");
    let get = |name: &str| match name {
        "DATABASE_URL" => Some(url.as_str()),
        "DB_MIGRATE" => Some("off"),
        _ => None,
    };
    let database = Database::open(DatabaseConfig::from_env(get).unwrap(), &MIGRATOR).await;

    let full = execute(&database, Some(Duration::from_secs(1)), Retry::Never, "SELECT 1").await.unwrap_err();
    admin.execute(AssertSqlSafe(format!("ALTER ROLE {role} CONNECTION LIMIT 1"))).await.unwrap();
    let later = execute(&database, LIMIT, Retry::Never, "SELECT 1").await;

    assert!(matches!(full, DatabaseError::Unavailable(_)), "{full:?}");
    assert!(later.is_ok());
}

/// A regression: each request that started an environment connected, and so kept the database from pausing.
#[tokio::test]
async fn without_warm_the_first_operation_opens_the_database() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("postgres://app:x@{}/events", listener.local_addr().unwrap());
    let get = |name: &str| match name {
        "DATABASE_URL" => Some(url.as_str()),
        "DB_WARM" => Some("off"),
        _ => None,
    };

    let database = Database::open(DatabaseConfig::from_env(get).unwrap(), &MIGRATOR).await;
    database.warm().await;

    let none = listener.accept().map(|_| ()).unwrap_err();
    assert_eq!(none.kind(), std::io::ErrorKind::WouldBlock);
    // The kernel accepts the connection, and no response is sent.
    let limit = Some(Duration::from_millis(400));
    assert!(execute(&database, limit, Retry::Never, NOTE).await.is_err());
    assert!(listener.accept().is_ok());
}

/// A regression: a feature that the database or pooler does not support was retried until the deadline.
#[tokio::test]
async fn with_plpgsql_an_unsupported_feature_is_not_retried() {
    let test = TestBackend::create(BackendKind::Postgres).await;
    let mut admin = test.connect().await;
    let database = open(&test, 1).await;
    // Sequences are not rolled back.
    admin.execute("CREATE SEQUENCE tries").await.unwrap();
    let sql = "DO $$ BEGIN PERFORM nextval('tries'); RAISE 'not here' USING ERRCODE = '0A000'; END $$";

    let error = execute(&database, LIMIT, Retry::Idempotent, sql).await.unwrap_err();

    assert!(matches!(error, DatabaseError::Other(_)), "{error:?}");
    let tries: i64 = admin.fetch_one("SELECT last_value FROM tries").await.unwrap().get(0);
    assert_eq!(tries, 1);
}
