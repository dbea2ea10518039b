#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use super::*;

/// Returns the code of the error response.
fn code(sql: &str) -> Option<String> {
    let error = classify(sql).err()?;
    crate::error_response::PostgresError::read(&error.encode()[5..]).ok().map(|error| error.code)
}

#[test]
fn unsupported_statements_are_rejected_with_their_code() {
    for (sql, expected) in [
        ("SAVEPOINT s", "0A000"),
        ("RELEASE SAVEPOINT s", "0A000"),
        ("ROLLBACK TO SAVEPOINT s", "0A000"),
        ("BEGIN ISOLATION LEVEL READ COMMITTED", "0A000"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "0A000"),
        ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "0A000"),
        ("SET TRANSACTION READ ONLY", "0A000"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED", "0A000"),
        ("SELECT pg_advisory_lock(1)", "0A000"),
        ("SELECT * FROM pg_catalog.pg_advisory_xact_lock(1)", "0A000"),
        ("SELECT 1 WHERE pg_try_advisory_lock(1)", "0A000"),
        ("SELECT \"pg_advisory_lock\"(1)", "0A000"),
        ("INSERT INTO t VALUES (pg_advisory_lock(1))", "0A000"),
        ("SELECT set_config('statement_timeout', '1s', false)", "0A000"),
        ("DO $$ BEGIN NULL; END $$", "0A000"),
        ("TRUNCATE t", "0A000"),
        ("LOCK TABLE t", "0A000"),
        ("LISTEN x", "0A000"),
        ("NOTIFY x", "0A000"),
        ("VACUUM t", "0A000"),
        ("COPY t FROM STDIN", "0A000"),
        ("PREPARE p AS SELECT 1", "0A000"),
        ("EXECUTE p", "0A000"),
        ("DECLARE c CURSOR FOR SELECT 1", "0A000"),
        ("DISCARD ALL", "0A000"),
        ("SELECT xmax FROM t", "0A000"),
        ("INSERT INTO t VALUES (1) RETURNING (xmax = 0) AS is_new", "0A000"),
        ("SELECT t.ctid FROM t", "0A000"),
        ("SELECT * INTO u FROM t", "0A000"),
        ("SELECT id FROM t FOR SHARE", "0A000"),
        ("SELECT id FROM t FOR NO KEY UPDATE", "0A000"),
        ("WITH u AS (SELECT id FROM t FOR SHARE) SELECT id FROM u FOR UPDATE", "0A000"),
        ("SELECT id FROM t TABLESAMPLE SYSTEM (1)", "0A000"),
        ("SELECT to_tsvector('a')", "0A000"),
        ("SET client_connection_check_interval = '1s'", "0A000"),
        ("SET statement_timeout = '1s'", "0A000"),
        ("SET ROLE admin", "0A000"),
        ("SET SESSION AUTHORIZATION DEFAULT", "0A000"),
        ("RESET ALL", "0A000"),
        ("CALL other()", "0A000"),
        ("SELECT 1; SELECT 2", "0A000"),
        ("BEGIN; INSERT INTO t VALUES (1); COMMIT", "0A000"),
        ("CREATE EXTENSION pgcrypto", "0A000"),
        ("CREATE DATABASE other", "0A000"),
        ("CREATE TYPE mood AS ENUM ('sad')", "0A000"),
        ("CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()", "0A000"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'", "0A000"),
        ("CREATE TEMPORARY TABLE t (id bigint)", "0A000"),
        ("CREATE TEMP VIEW v AS SELECT 1", "0A000"),
        ("CREATE UNLOGGED TABLE t (id bigint)", "0A000"),
        ("CREATE TABLE t AS SELECT 1", "0A000"),
        ("CREATE TABLE t (id bigint) PARTITION BY RANGE (id)", "0A000"),
        ("CREATE TABLE t (id serial)", "42704"),
        ("CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY)", "0A000"),
        ("CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY (CACHE 100))", "0A000"),
        ("CREATE TABLE t (id integer GENERATED ALWAYS AS IDENTITY (CACHE 1))", "0A000"),
        ("CREATE TABLE t (id bigint UNIQUE DEFERRABLE INITIALLY DEFERRED)", "0A000"),
        ("CREATE TABLE t (a int, PRIMARY KEY (a) DEFERRABLE)", "0A000"),
        ("CREATE SEQUENCE s", "0A000"),
        (
            "CREATE TABLE t (a int, b int, c int, d int, e int, f int, g int, h int, i int, PRIMARY KEY (a, b, c, d, e, f, g, h, i))",
            "54011",
        ),
        ("CREATE INDEX i ON t (id)", "0A000"),
        ("CREATE INDEX CONCURRENTLY i ON t (id)", "0A000"),
        ("CREATE INDEX ASYNC i ON t (id DESC)", "0A000"),
        ("CREATE INDEX ASYNC i ON t (id ASC)", "0A000"),
        ("CREATE INDEX ASYNC i ON t USING gin (id)", "0A000"),
        ("ALTER TABLE t ADD COLUMN a int DEFAULT 1", "0A000"),
        ("ALTER TABLE t ADD COLUMN a int NOT NULL", "0A000"),
        ("ALTER TABLE t ALTER COLUMN a SET NOT NULL", "0A000"),
        ("ALTER TABLE t ALTER COLUMN a SET DATA TYPE bigint", "0A000"),
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)", "0A000"),
        ("ALTER TABLE t ADD PRIMARY KEY (a)", "0A000"),
        ("ALTER TABLE t VALIDATE CONSTRAINT c", "0A000"),
        ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "0A000"),
        ("not sql", "0A000"),
        ("AWS IAM GRANT app", "42601"),
        ("AWS IAM GRANT app TO 'arn'; DROP TABLE t", "42601"),
    ] {
        assert_eq!(code(sql).as_deref(), Some(expected), "{sql}: {:?}", classify(sql));
    }
}

#[test]
fn supported_statements_are_classified() {
    for (sql, kind) in [
        ("", Kind::Empty),
        ("/* ping */ -- nothing", Kind::Empty),
        ("BEGIN", Kind::Begin),
        ("START TRANSACTION READ ONLY", Kind::Begin),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ", Kind::Begin),
        ("COMMIT", Kind::Commit),
        ("END", Kind::Commit),
        ("ROLLBACK", Kind::Rollback),
        ("SHOW transaction_isolation", Kind::Session),
        ("SET search_path = app, public", Kind::Session),
        ("SET TIME ZONE 'UTC'", Kind::Session),
        ("CALL sys.wait_for_job('x')", Kind::WaitForJob),
        ("CALL sys.wait_for_job($1)", Kind::WaitForJob),
        ("SELECT count(*) FROM t", Kind::Read),
        ("SELECT id FROM t WHERE id = $1 FOR UPDATE", Kind::Read),
        ("SELECT id FROM t WHERE id > $1 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED", Kind::Read),
        ("VALUES (1)", Kind::Read),
        ("EXPLAIN DELETE FROM t", Kind::Read),
        ("EXPLAIN ANALYZE VERBOSE DELETE FROM t", Kind::Write),
        ("WITH gone AS (DELETE FROM t RETURNING id) SELECT * FROM gone", Kind::Write),
        ("INSERT INTO t (a) VALUES ($1) ON CONFLICT (a) DO NOTHING RETURNING id", Kind::Write),
        ("INSERT INTO t (a) VALUES ($1) ON CONFLICT (a) DO UPDATE SET b = excluded.b", Kind::Write),
        ("UPDATE t SET a = $1 WHERE \"timestamp\" < now() - interval '30 days'", Kind::Write),
        ("DELETE FROM t WHERE id IN (SELECT id FROM t LIMIT 3000)", Kind::Write),
        (
            "CREATE TABLE IF NOT EXISTS t (key uuid PRIMARY KEY, id bigint GENERATED BY DEFAULT AS IDENTITY (CACHE 65536), n text NOT NULL \
          DEFAULT '', CONSTRAINT l CHECK (char_length(n) BETWEEN 1 AND 500))",
            Kind::Ddl,
        ),
        ("CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY, data jsonb)", Kind::Ddl),
        ("CREATE TABLE t (a int REFERENCES u (a) DEFERRABLE INITIALLY DEFERRED)", Kind::Ddl),
        ("CREATE SEQUENCE s CACHE 65536", Kind::Ddl),
        ("ALTER TABLE t ADD COLUMN IF NOT EXISTS a int", Kind::Ddl),
        ("ALTER TABLE t ALTER COLUMN a SET DEFAULT 1", Kind::Ddl),
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID", Kind::Ddl),
        ("ALTER TABLE t DROP COLUMN a", Kind::Ddl),
        ("ALTER TABLE t RENAME COLUMN a TO b", Kind::Ddl),
        ("ALTER INDEX i RENAME TO j", Kind::Ddl),
        ("DROP TABLE IF EXISTS t", Kind::Ddl),
        ("DROP INDEX IF EXISTS i", Kind::Ddl),
        ("CREATE ROLE app WITH LOGIN", Kind::Ddl),
        ("GRANT USAGE ON SCHEMA public TO app", Kind::Ddl),
        ("GRANT SELECT, INSERT, UPDATE ON events TO app", Kind::Ddl),
        ("REVOKE INSERT ON events FROM app", Kind::Ddl),
        ("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO app", Kind::Ddl),
        ("AWS IAM GRANT app TO 'arn:aws:iam::1:role/x';", Kind::Ddl),
        ("aws iam revoke app from 'arn:aws:iam::1:role/x'", Kind::Ddl),
    ] {
        assert_eq!(classify(sql).map(|own| own.kind), Ok(kind), "{sql}");
    }
}

#[test]
fn an_asynchronous_index_is_built_concurrently() {
    let sql = "CREATE UNIQUE INDEX ASYNC IF NOT EXISTS latest ON events (\"timestamp\", id NULLS FIRST) INCLUDE (name) WHERE id > 0";

    let statement = classify(sql).unwrap();

    let Kind::Job(Job { sql: build, table, keys, kind: JobKind::IndexBuild }) = statement.kind else {
        panic!("{statement:?}")
    };
    let expected = "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS latest ON events (\"timestamp\", id NULLS FIRST) INCLUDE (name) WHERE id > 0";
    assert_eq!(build.replace("ON events(", "ON events ("), expected);
    assert_eq!((table.as_str(), keys), ("events", vec!["timestamp".to_owned(), "id".to_owned()]));
}

#[test]
fn a_validation_of_a_constraint_is_a_job() {
    for sql in
        ["ALTER TABLE ASYNC t VALIDATE CONSTRAINT c", "alter /* x */ table async public.t validate constraint c;"]
    {
        let Kind::Job(Job { sql: own, kind, .. }) = classify(sql).unwrap().kind else { panic!("{sql}") };

        assert_eq!(kind, JobKind::ConstraintValidation, "{sql}");
        assert!(!own.to_lowercase().contains("async") && own.ends_with("VALIDATE CONSTRAINT c"), "{own}");
    }
    for sql in [
        "ALTER TABLE ASYNC t ADD COLUMN a int",
        "ALTER TABLE ASYNC t VALIDATE CONSTRAINT c, VALIDATE CONSTRAINT d",
        "ALTER TABLE ASYNC t",
        "ALTER TABLE ASYNC",
        "ALTER TABLE \"ASYNC\" VALIDATE CONSTRAINT c",
        "ALTER INDEX ASYNC i RENAME TO j",
    ] {
        assert_eq!(code(sql).as_deref(), Some("0A000"), "{sql}");
    }
}

#[test]
fn names_and_arns_are_quoted() {
    let granted = classify("AWS IAM GRANT \"o'x\" TO 'a''b'").unwrap();

    assert_eq!(
        granted.sql,
        "INSERT INTO sys.iam_pg_role_mappings VALUES ('\"o''x\"'::regrole::text, 'a''b') ON CONFLICT DO NOTHING"
    );
}

/// Without a bound, each statement would overflow the stack of the parsing thread.
#[test]
fn hostile_statements_are_bounded() {
    let parentheses = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    assert_eq!(code(&parentheses).as_deref(), Some("0A000"));
    for (start, part) in [
        ("SELECT 1", "+1"),
        ("SELECT true", " AND true"),
        ("SELECT 1", "::int"),
        ("SELECT 1", " IS NULL"),
        ("SELECT a", "[1]"),
        ("SELECT 1", " UNION SELECT 1"),
        ("SELECT 1 FROM t", ",t"),
        ("SELECT 1 FROM t", " JOIN t ON true"),
        ("SELECT ", "- "),
        ("SELECT ", "NOT "),
    ] {
        for count in [500, 3900, 8000] {
            let sql = format!("{start}{}{}", part.repeat(count), if part.starts_with(['-', 'N']) { "1" } else { "" });
            let accepted = classify(&sql);
            if count == 8000 {
                assert!(accepted.is_err(), "{part}");
            }
        }
    }
    let rows = format!("INSERT INTO t VALUES (1){}", ",($1)".repeat(20_000));
    assert_eq!(classify(&rows).unwrap().kind, Kind::Write);
    assert_eq!(code(&"x".repeat(MAX_SQL + 1)).as_deref(), Some("54000"));
    for garbage in ["\0", "'", "$$", "SELECT '\u{0}", "/*", "SELECT \"", "\u{feff}SELECT 1", "💥"] {
        assert!(classify(garbage).is_err(), "{garbage:?}");
    }
}
