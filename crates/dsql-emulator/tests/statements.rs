//! Statements and transactions, by both protocols, with sqlx as the client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod support;

use std::time::Duration;

use dsql_emulator::Limits;
use sqlx::{Connection, Executor, PgConnection, Row};
use support::{Cluster, error, eventually, statement_error};

#[tokio::test]
async fn statements_are_executed_by_both_protocols() {
    let cluster = Cluster::start().await;
    let mut connection = cluster.with_notes().await;

    let inserted = sqlx::query("INSERT INTO notes VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING text");
    let inserted: String = inserted.bind("one").bind(1_i64).fetch_one(&mut connection).await.unwrap().get(0);
    let count =
        connection.execute("INSERT INTO notes SELECT 'n' || n, n FROM generate_series(2, 2999) AS n").await.unwrap();
    let rows =
        sqlx::query("SELECT text, number FROM notes WHERE number > $1").bind(0_i64).fetch_all(&mut connection).await;
    let rows_of_text = connection.fetch_all(sqlx::raw_sql("SELECT repeat('x', 1000) FROM notes")).await.unwrap();
    connection.ping().await.unwrap();
    connection.execute("/* nothing */").await.unwrap();

    assert_eq!(
        (inserted.as_str(), count.rows_affected(), rows.unwrap().len(), rows_of_text.len()),
        ("one", 2998, 2999, 2999)
    );
    let level: String = sqlx::query_scalar("SHOW transaction_isolation").fetch_one(&mut connection).await.unwrap();
    assert_eq!(level, "repeatable read");
}

#[tokio::test]
async fn a_rejected_statement_fails_its_transaction_and_no_other() {
    let cluster = Cluster::start().await;
    let mut connection = cluster.with_notes().await;
    for is_simple in [true, false] {
        assert_eq!(statement_error(&mut connection, "SELECT pg_advisory_lock(1)", is_simple).await.0, "0A000");
        connection.execute("INSERT INTO notes VALUES ('kept') ON CONFLICT DO NOTHING").await.unwrap();

        let mut transaction = connection.begin().await.unwrap();
        sqlx::query("INSERT INTO notes VALUES ($1)").bind("lost").execute(&mut *transaction).await.unwrap();
        assert_eq!(statement_error(&mut transaction, "TRUNCATE notes", is_simple).await.0, "0A000");
        assert_eq!(statement_error(&mut transaction, "SELECT 1", is_simple).await.0, "25P02");
        transaction.rollback().await.unwrap();

        // sqlx executes a nested transaction as a savepoint.
        let mut transaction = connection.begin().await.unwrap();
        assert_eq!(error(transaction.begin().await.unwrap_err()).0, "0A000");
        drop(transaction);
        assert_eq!(statement_error(&mut connection, "SELECT 1 / 0", is_simple).await.0, "22012");
        assert_eq!(cluster.notes().await, 1);
    }
}

#[tokio::test]
async fn a_transaction_has_one_ddl_statement_and_no_dml_beside_it() {
    let cluster = Cluster::start().await;
    let mut connection = cluster.with_notes().await;
    let ddl = "CREATE TABLE other (id bigint)";
    for (first, second, message) in [
        (ddl, "CREATE TABLE third (id bigint)", "multiple ddl"),
        (ddl, "INSERT INTO notes VALUES ('x')", "ddl and dml"),
        (ddl, "SELECT 1", "ddl and dml"),
        ("INSERT INTO notes VALUES ('x')", ddl, "ddl and dml"),
        ("GRANT SELECT ON notes TO PUBLIC", "REVOKE SELECT ON notes FROM PUBLIC", "multiple ddl"),
    ] {
        for is_simple in [true, false] {
            let mut transaction = connection.begin().await.unwrap();
            transaction.execute(first).await.unwrap();
            let (code, text) = statement_error(&mut transaction, second, is_simple).await;
            transaction.rollback().await.unwrap();

            assert!(code == "0A000" && text.contains(message), "{second}: {code} {text}");
        }
    }
    let mut transaction = connection.begin().await.unwrap();
    transaction.execute(ddl).await.unwrap();
    transaction.commit().await.unwrap();
    connection.execute("INSERT INTO other VALUES (1)").await.unwrap();
}

#[tokio::test]
async fn rows_and_bytes_of_a_transaction_are_limited() {
    let cluster = Cluster::start().await;
    let mut connection = cluster.with_notes().await;
    let insert = |count: u32| format!("INSERT INTO notes SELECT 'n' || n FROM generate_series(1, {count}) AS n");
    for is_simple in [true, false] {
        let (code, text) = statement_error(&mut connection, &insert(3001), is_simple).await;

        assert_eq!((code.as_str(), text.as_str()), ("54000", "transaction row limit exceeded"));
        assert_eq!(cluster.notes().await, 0);
    }
    let mut transaction = connection.begin().await.unwrap();
    transaction.execute(sqlx::AssertSqlSafe(insert(2000))).await.unwrap();
    assert_eq!(statement_error(&mut transaction, "UPDATE notes SET number = 1", false).await.0, "54000");
    transaction.rollback().await.unwrap();

    let mut transaction = connection.begin().await.unwrap();
    let insert = async |transaction: &mut PgConnection, text: &str| {
        let text = text.repeat(4 << 20);
        sqlx::query("INSERT INTO notes VALUES (left($1, 1))").bind(text).execute(transaction).await
    };
    insert(&mut transaction, "a").await.unwrap();
    insert(&mut transaction, "b").await.unwrap();
    let (code, text) = error(insert(&mut transaction, "c").await.unwrap_err());
    assert_eq!((code.as_str(), text.as_str()), ("54000", "transaction size limit 10mb exceeded"));
    transaction.rollback().await.unwrap();
    assert_eq!(cluster.notes().await, 0);
}

#[tokio::test]
async fn the_time_of_a_transaction_is_limited() {
    let limits = Limits { transaction_time: Duration::from_secs(1), ..Limits::default() };
    let cluster = Cluster::with_limits(limits).await;
    let mut connection = cluster.with_notes().await;

    let mut transaction = connection.begin().await.unwrap();
    transaction.execute("INSERT INTO notes VALUES ('x')").await.unwrap();
    // The transaction ends in Postgres without a request of the client.
    let mut admin = cluster.database.connect().await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction (aborted)' AND datname = current_database()";
    eventually(async || sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut admin).await.unwrap() == 1).await;
    let late = statement_error(&mut transaction, "SELECT 1", true).await;
    assert_eq!((late.0.as_str(), late.1.as_str()), ("54000", "transaction age limit of 1s exceeded"));
    assert_eq!(statement_error(&mut transaction, "SELECT 1", true).await.0, "25P02");
    transaction.rollback().await.unwrap();

    let slow = "SELECT count(*) FROM generate_series(1, 1000000000)";
    assert_eq!(statement_error(&mut connection, slow, false).await.0, "54000");
    assert_eq!(cluster.notes().await, 0);
}

#[tokio::test]
async fn an_asynchronous_index_has_a_job() {
    let cluster = Cluster::start().await;
    let mut connection = cluster.with_notes().await;
    connection.execute("INSERT INTO notes VALUES ('one', 1), ('two', 1)").await.unwrap();
    for (sql, is_valid) in [
        ("CREATE INDEX ASYNC IF NOT EXISTS by_number ON notes (number)", true),
        ("CREATE UNIQUE INDEX ASYNC unique_number ON notes (number)", false),
    ] {
        let job: String = match is_valid {
            true => sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap(),
            false => connection.fetch_one(sqlx::raw_sql(sql)).await.unwrap().get_unchecked(0),
        };
        let waited =
            sqlx::query_scalar::<_, Option<bool>>("CALL sys.wait_for_job($1)").bind(&job).fetch_one(&mut connection);
        assert_eq!(waited.await.unwrap(), Some(is_valid), "{sql}");
        let name = sql.split_whitespace().rev().nth(3).unwrap();
        let valid =
            sqlx::query_scalar::<_, bool>("SELECT indisvalid FROM pg_index WHERE indexrelid = $1::regclass").bind(name);
        assert_eq!(valid.fetch_one(&mut connection).await.unwrap(), is_valid, "{sql}");
        let status = sqlx::query_scalar::<_, String>("SELECT status FROM sys.jobs WHERE job_id = $1").bind(&job);
        assert_eq!(status.fetch_one(&mut connection).await.unwrap(), if is_valid { "completed" } else { "failed" });
    }
    for (sql, code) in [
        ("CREATE INDEX ASYNC i ON missing (number)", "42P01"),
        ("CREATE INDEX ASYNC i ON notes (missing)", "42703"),
        ("CALL sys.wait_for_job('missing')", "42704"),
    ] {
        assert_eq!(statement_error(&mut connection, sql, false).await.0, code, "{sql}");
        assert_eq!(statement_error(&mut connection, sql, true).await.0, code, "{sql}");
    }
}

#[tokio::test]
async fn a_constraint_is_added_without_validation_and_validated_by_a_job() {
    let cluster = Cluster::start().await;
    let mut connection = cluster.with_notes().await;
    connection.execute("INSERT INTO notes VALUES ('one', 1), ('two', -2)").await.unwrap();
    connection.execute("ALTER TABLE notes ADD CONSTRAINT positive CHECK (number > 0) NOT VALID").await.unwrap();
    assert_eq!(statement_error(&mut connection, "INSERT INTO notes VALUES ('three', -3)", false).await.0, "23514");
    for is_valid in [false, true] {
        let sql = "ALTER TABLE ASYNC notes VALIDATE CONSTRAINT positive";
        let job: String = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();

        let waited = sqlx::query_scalar::<_, Option<bool>>("CALL sys.wait_for_job($1)").bind(&job);
        assert_eq!(waited.fetch_one(&mut connection).await.unwrap(), Some(is_valid));
        let state = sqlx::query(
            "SELECT job_type, coalesce(details, ''), convalidated FROM sys.jobs, pg_constraint
            WHERE job_id = $1 AND conname = 'positive'",
        );
        let state = state.bind(&job).fetch_one(&mut connection).await.unwrap();
        assert_eq!((state.get::<&str, _>(0), state.get::<bool, _>(2)), ("VALIDATE_CONSTRAINT", is_valid));
        assert_eq!(state.get::<&str, _>(1).contains("is violated by some row"), !is_valid);
        connection.execute("DELETE FROM notes WHERE number < 0").await.unwrap();
    }
    let missing = "ALTER TABLE ASYNC notes VALIDATE CONSTRAINT missing";
    assert_eq!(statement_error(&mut connection, missing, false).await.0, "42704");
}

#[tokio::test]
async fn keys_columns_and_rows_are_limited() {
    let cluster = Cluster::start().await;
    let mut connection = cluster.connect().await;
    connection.execute("CREATE TABLE documents (a text, b text, c text, d text, PRIMARY KEY (a, b))").await.unwrap();
    connection.fetch_all("CREATE INDEX ASYNC by_c ON documents (c)").await.unwrap();
    let insert = "INSERT INTO documents SELECT repeat('a', $1), repeat('b', $2), repeat('c', $3), repeat('d', $4)";
    let mebi = 1 << 20;
    for (sizes, message) in [
        ([512, 512, 1024, 10_000], None),
        ([512, 513, 1, 1], Some("key size too large")),
        ([1, 1, 1025, 1], Some("key size too large")),
        ([1, 2, 1, mebi + 1], Some("maximum column size exceeded")),
        ([1, 3, 1, mebi], None),
    ] {
        let mut query = sqlx::query(insert);
        for size in sizes {
            query = query.bind(size);
        }
        let rejected = query.execute(&mut connection).await.err().map(error);

        assert_eq!(rejected, message.map(|own| ("54000".to_owned(), own.to_owned())), "{sizes:?}");
    }
    connection.execute("CREATE TABLE wide (a text, b text, c text)").await.unwrap();
    let wide = "INSERT INTO wide SELECT repeat('a', 900000), repeat('b', 900000), repeat('c', 900000)";
    assert_eq!(
        statement_error(&mut connection, wide, false).await,
        ("54000".to_owned(), "maximum row size exceeded".to_owned())
    );
}

#[tokio::test]
async fn columns_and_keys_have_the_types_of_aurora_dsql() {
    let cluster = Cluster::start().await;
    let mut connection = cluster.connect().await;
    connection.execute("CREATE DOMAIN address AS inet").await.unwrap();
    for own in ["text[]", "inet", "lseg", "bit(8)", "pg_lsn", "numrange", "int4multirange", "oid", "name", "address"] {
        let sql = format!("CREATE TABLE typed (v {own})");
        let (code, message) = statement_error(&mut connection, &sql, false).await;
        assert!(code == "0A000" && message.ends_with("not supported"), "{own}: {code} {message}");
    }
    let all = "CREATE TABLE typed (a smallint, b real, c double precision, d numeric, e numeric(10, 2), f char(10), g varchar(20), h text,
        i date, j time, k timetz, l timestamp, m timestamptz, n interval, o boolean, p bytea, q uuid, r json, s jsonb)";
    connection.execute(all).await.unwrap();
    assert_eq!(statement_error(&mut connection, "ALTER TABLE typed ADD COLUMN t money", false).await.0, "0A000");
    connection.execute("ALTER TABLE typed ADD COLUMN t numeric").await.unwrap();

    for column in ["k", "n", "p", "s", "h, \"p\""] {
        let sql = format!("CREATE INDEX ASYNC ON typed ({column})");
        assert_eq!(statement_error(&mut connection, &sql, false).await.0, "0A000", "{column}");
    }
    for key in ["k bytea PRIMARY KEY", "k text, v jsonb UNIQUE", "k text, v interval, PRIMARY KEY (k, v)"] {
        let sql = format!("CREATE TABLE keyed ({key})");
        assert_eq!(statement_error(&mut connection, &sql, false).await.0, "0A000", "{key}");
    }
    connection.fetch_all("CREATE INDEX ASYNC ON typed (d, e, f, h) INCLUDE (p)").await.unwrap();

    // Without a precision it is numeric(18, 6).
    let insert = "INSERT INTO typed (d, t) VALUES (1.23456789, 2.23456789) RETURNING d::text || ' ' || t::text";
    let stored: String = sqlx::query_scalar(insert).fetch_one(&mut connection).await.unwrap();
    assert_eq!(stored, "1.234568 2.234568");
    let overflow = "INSERT INTO typed (d) VALUES (1234567890123)";
    assert_eq!(statement_error(&mut connection, overflow, false).await.0, "22003");
}
