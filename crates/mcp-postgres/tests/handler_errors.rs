//! Conversion of a statement's error by `?` in a handler.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod support;

use mcp_postgres::{Database, DatabaseError, Retry};
use mcp_server::{Cursor, HandlerError};
use mcp_testing::{BackendKind, TestBackend};
use sqlx::{AssertSqlSafe, Executor};
use support::{LIMIT, NOTE, Proxy, context, execute, notes, open, open_with, start_failing_proxy};

#[tokio::test]
async fn with_plpgsql_a_handler_needs_no_conversion_of_a_statements_error() {
    async fn acquired(database: &Database, sql: &str) -> Result<(), HandlerError> {
        let mut connection = database.acquire(&context(LIMIT).await).await?;
        sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(&mut *connection).await?;
        Ok(())
    }
    async fn begun(database: &Database, sql: &str) -> Result<(), HandlerError> {
        let mut transaction = database.begin(&context(LIMIT).await).await?;
        sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }
    let test = TestBackend::create(BackendKind::Postgres).await;
    let pooler = Proxy::start(&test, true);
    let databases = [open(&test, 1).await, open_with(&test, 1, &[("DATABASE_URL", &pooler.url)]).await];
    let raise = |code| format!("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{code}'; END $$");

    for database in &databases {
        for (sql, kind) in [
            // A serialization failure, a lock that another session holds, a replica.
            (raise("40001"), "Unavailable"),
            (raise("55P03"), "Unavailable"),
            (raise("25006"), "Unavailable"),
            ("SELECT pg_terminate_backend(pg_backend_pid())".to_owned(), "Unavailable"),
            (raise("23505"), "Internal"),
            ("SELECT 1 / 0".to_owned(), "Internal"),
            ("SELECT 1 WHERE false".to_owned(), "Internal"),
        ] {
            for error in [acquired(database, &sql).await, begun(database, &sql).await].map(Result::unwrap_err) {
                assert!(format!("{error:?}").starts_with(kind), "{sql}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_text_that_postgres_cannot_store_is_an_invalid_input() {
    const TEXT: &str = "text must not contain the character U+0000, nor one that the encoding of the database lacks";
    // U+0000 in a text (22021), and escaped in JSON (22P05).
    let statements = [("INSERT INTO notes (text) VALUES ($1)", "a\0b"), ("SELECT $1::jsonb ->> 0", r#"["\u0000"]"#)];
    let test = TestBackend::create(BackendKind::Postgres).await;
    let database = open(&test, 1).await;

    for (sql, value) in statements {
        let acquired: Result<(), HandlerError> = async {
            let mut connection = database.acquire(&context(LIMIT).await).await?;
            sqlx::query(sql).bind(value).execute(&mut *connection).await?;
            Ok(())
        }
        .await;
        let begun: Result<(), HandlerError> = async {
            let mut transaction = database.begin(&context(LIMIT).await).await?;
            sqlx::query(sql).bind(value).execute(&mut *transaction).await?;
            Ok(transaction.commit().await?)
        }
        .await;
        let call = context(LIMIT).await;
        let written = database.write(&call, Retry::Idempotent, async |mut connection| {
            sqlx::query(sql).bind(value).execute(&mut *connection).await?;
            Ok(())
        });
        let written = written.await.map_err(HandlerError::from);
        // A client can put any text into a cursor.
        let position = serde_json::from_value::<Cursor<String>>(serde_json::to_value(Cursor(value)).unwrap()).unwrap();
        let read = database.read(&call, async |mut connection| {
            sqlx::query(sql).bind(&position.0).execute(&mut *connection).await?;
            Ok(())
        });
        let read = read.await.map_err(HandlerError::from);

        for result in [acquired, begun, written, read] {
            assert_eq!(format!("{:?}", result.unwrap_err()), format!("InvalidInput({TEXT:?})"), "{sql}");
        }
    }
}

/// Such as a full disk, which stops the whole server while it commits (a panic), or a dropped database.
#[tokio::test]
async fn the_outcome_is_unknown_when_any_error_ends_the_session_during_a_write() {
    let test = TestBackend::create(BackendKind::Postgres).await;
    open(&test, 1).await;
    for (severity, code) in [("PANIC", "53100"), ("FATAL", "57P04")] {
        let url = start_failing_proxy(&test, severity, code);
        let database = open_with(&test, 1, &[("DATABASE_URL", &url)]).await;
        let before = notes(&test).await;

        let written = execute(&database, LIMIT, Retry::Never, NOTE).await.unwrap_err();
        let acquired: DatabaseError = {
            let mut connection = database.acquire(&context(LIMIT).await).await.unwrap();
            connection.execute(NOTE).await.unwrap_err().into()
        };

        for error in [written, acquired] {
            assert!(matches!(error, DatabaseError::OutcomeUnknown(_)), "{severity} {code}: {error:?}");
        }
        assert_eq!(notes(&test).await, before + 2, "both were executed");
    }
}
