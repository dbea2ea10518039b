//! The invocation that changes the schema, on Postgres and on Aurora DSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod support;

use dsql_emulator::{Faults, TestCredentials};
use mcp_postgres::{MigrationConfig, MigrationError, MigrationReport, Schema, migrate};
use mcp_server::error_chain;
use mcp_testing::{BackendKind, TestBackend};
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row, migrate::Migrator};
use support::Proxy;

static SCHEMA: Schema = Schema {
    postgres: sqlx::migrate!("tests/migrations"),
    dsql: sqlx::migrate!("tests/migrations-dsql"),
    grants: &[("notes", "SELECT, INSERT")],
};
/// Not for Aurora DSQL: its first migration has no first line `-- no-transaction`.
static OTHER: Schema = Schema { postgres: Migrator::DEFAULT, dsql: sqlx::migrate!("tests/migrations"), grants: &[] };

/// With an index that is built outside of a transaction.
static CONCURRENT: Schema =
    Schema { postgres: sqlx::migrate!("tests/migrations-no-transaction"), dsql: Migrator::DEFAULT, grants: &[] };

/// An emulator without a table.
async fn cluster() -> TestBackend {
    TestBackend::create(BackendKind::Dsql).await
}

fn config(backend: &TestBackend, role: Option<&str>) -> MigrationConfig {
    let variables = backend.variables();
    let arn = TestCredentials::default().role_arn;
    let get = |name: &str| match (name, role) {
        ("DB_APP_ROLE_ARN", Some(_)) => Some(arn.as_str()),
        ("DB_APP_USER", Some(role)) => Some(role),
        _ => variables.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str()),
    };
    MigrationConfig::from_env(get).unwrap()
}

async fn run(backend: &TestBackend, role: Option<&str>) -> Result<MigrationReport, MigrationError> {
    migrate(config(backend, role), &SCHEMA).await
}

/// Tables, columns, indexes, constraints, privileges and the recorded migrations.
async fn state(connection: &mut PgConnection, role: &str) -> Vec<String> {
    let sql = format!(
        "SELECT concat_ws(' ', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, attidentity) FROM pg_attribute
            WHERE attrelid IN ('notes'::regclass, '_sqlx_migrations'::regclass) AND attnum > 0
        UNION ALL SELECT concat_ws(' ', indexrelid::regclass, indisvalid, pg_get_indexdef(indexrelid)) FROM pg_index
            WHERE indrelid = 'notes'::regclass
        UNION ALL SELECT concat_ws(' ', conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE conrelid = 'notes'::regclass
        UNION ALL SELECT concat_ws(' ', version, description, success, encode(checksum, 'hex')) FROM _sqlx_migrations
        UNION ALL SELECT privilege_type FROM information_schema.role_table_grants WHERE grantee = '{role}'
        UNION ALL SELECT arn FROM sys.iam_pg_role_mappings WHERE pg_role_name = '{role}'
        ORDER BY 1"
    );
    connection.fetch_all(AssertSqlSafe(sql)).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn drop_role(connection: &mut PgConnection, role: &str) {
    connection.execute(AssertSqlSafe(format!("DROP OWNED BY {role}"))).await.unwrap();
    connection.execute(AssertSqlSafe(format!("DROP ROLE {role}"))).await.unwrap();
}

#[tokio::test]
async fn an_interruption_after_any_statement_is_continued() {
    // Roles belong to the server, not to the database of a test.
    let role = format!("interrupted_{}", std::process::id());
    let mut expected: Option<Vec<String>> = None;
    let mut interruptions = 0;
    for statement in 1.. {
        let backend = cluster().await;
        let mut admin = backend.connect().await;
        backend.emulator().set_faults(Faults { disconnect_at: Some(statement), ..Faults::default() });
        let first = run(&backend, Some(&role)).await;
        let is_whole = first.is_ok();
        backend.emulator().set_faults(Faults::default());

        let second = run(&backend, Some(&role)).await;

        assert!(second.is_ok(), "after statement {statement}: {first:?}, {second:?}");
        let own = state(&mut admin, &role).await;
        drop_role(&mut admin, &role).await;
        let expected = expected.get_or_insert_with(|| own.clone());
        assert_eq!(own, *expected, "after statement {statement}");
        if is_whole {
            // The run had fewer statements.
            assert_eq!(second.unwrap().already_applied, 3);
            break;
        }
        interruptions += 1;
    }
    assert!(interruptions > 12, "{interruptions}");
    let expected = expected.unwrap();
    assert!(expected.iter().any(|own| own.starts_with("notes_text t CREATE UNIQUE INDEX")), "{expected:#?}");
}

/// The role that serves requests uses the tables of the store, and cannot change them.
#[cfg(feature = "store")]
#[tokio::test]
async fn the_tables_of_the_store_are_created_for_the_app_role() {
    use std::time::Duration;

    use mcp_postgres::{DatabaseConfig, PostgresStore};
    use mcp_server::store::{Content, Kind, RowKey, RowTag, Store};

    const KIND: Kind = Kind::new("test");
    let role = format!("store_{}", std::process::id());
    for kind in [BackendKind::Dsql, BackendKind::Postgres] {
        let backend = TestBackend::create(kind).await;
        let is_dsql = kind == BackendKind::Dsql;
        for _ in 0..2 {
            run(&backend, is_dsql.then_some(role.as_str())).await.unwrap();
        }

        let mut variables = backend.variables_as(&role);
        variables.push(("DB_MIGRATE".to_owned(), "off".to_owned()));
        let get = |name: &str| variables.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        let store = PostgresStore::new(DatabaseConfig::from_env(get).unwrap());
        let (key, tag) = (RowKey::from_bytes([1; 32]), RowTag { kind: KIND, subject: None });
        let content = Content { value: b"value", expires_in: Duration::from_secs(60), due_in: None };
        assert!(store.put_if_absent(key, tag, content).await.unwrap().is_some());
        assert_eq!(store.get(key).await.unwrap().unwrap().value, b"value");
        store.delete(key).await.unwrap();
        store.close().await;

        let mut admin = backend.connect().await;
        let unfinished = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
        assert_eq!(admin.fetch_one(unfinished).await.unwrap().get::<i64, _>(0), 0);
        if is_dsql {
            for (what, is_granted) in [
                ("has_schema_privilege($1, 'mcp', 'USAGE')", true),
                ("has_schema_privilege($1, 'mcp', 'CREATE')", false),
                ("has_table_privilege($1, 'mcp.state', 'DELETE')", true),
                ("has_table_privilege($1, 'mcp.counters', 'TRUNCATE')", false),
                ("has_table_privilege($1, 'mcp.store_migrations', 'INSERT')", false),
            ] {
                let has = sqlx::query_scalar::<_, bool>(AssertSqlSafe(format!("SELECT {what}")));
                assert_eq!(has.bind(&role).fetch_one(&mut admin).await.unwrap(), is_granted, "{what}");
            }
            drop_role(&mut admin, &role).await;
        }
    }
}

/// As `infra/app-user.sql` prepares it: the role owns nothing, and creates tables in a schema that exists.
#[cfg(feature = "store")]
#[tokio::test]
async fn a_role_that_may_create_no_schema_creates_the_tables_of_the_store() {
    use mcp_postgres::{DatabaseConfig, PostgresStore};

    let role = format!("narrow_{}", std::process::id());
    let backend = TestBackend::create(BackendKind::Postgres).await;
    let mut admin = backend.connect().await;
    for sql in [
        format!("CREATE ROLE {role} LOGIN PASSWORD 'x'"),
        "CREATE SCHEMA mcp".to_owned(),
        format!("GRANT USAGE, CREATE ON SCHEMA mcp TO {role}"),
    ] {
        admin.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    let (head, database) = backend.url().rsplit_once('@').unwrap();
    let url = format!("{}://{role}:x@{database}", head.split("://").next().unwrap());
    let get = |name: &str| (name == "DATABASE_URL").then_some(url.as_str());
    let store = PostgresStore::new(DatabaseConfig::from_env(get).unwrap());

    let migrated = store.migrate().await;

    store.close().await;
    let owner =
        admin.fetch_one("SELECT tableowner FROM pg_tables WHERE schemaname = 'mcp' AND tablename = 'state'").await;
    drop_role(&mut admin, &role).await;
    assert!(migrated.is_ok(), "{migrated:?}");
    assert_eq!(owner.unwrap().get::<String, _>(0), role);
}

#[tokio::test]
async fn conflicts_and_an_unavailable_server_are_retried() {
    let role = format!("retried_{}", std::process::id());
    for seed in 0..5 {
        let backend = cluster().await;
        let faults = Faults { conflict: 0.2, schema_change: 0.2, unavailable: 0.2, seed, ..Faults::default() };
        backend.emulator().set_faults(faults);

        let report = run(&backend, Some(&role)).await.unwrap();

        assert_eq!(report.applied, [1, 2, 3]);
        let mut admin = backend.connect().await;
        assert!(state(&mut admin, &role).await.contains(&"INSERT".to_owned()));
        drop_role(&mut admin, &role).await;
    }
}

/// The first deployment creates the IAM role, whose permission does not apply at once.
#[tokio::test]
async fn a_denied_connection_is_retried() {
    let backend = cluster().await;
    backend.emulator().set_faults(Faults { denied: 3, ..Faults::default() });

    let report = run(&backend, None).await.unwrap();

    assert_eq!(report.applied, [1, 2, 3]);
}

#[tokio::test]
async fn a_connection_that_stays_denied_fails_with_the_reason() {
    let backend = cluster().await;
    backend.emulator().set_faults(Faults { denied: u32::MAX, ..Faults::default() });

    let error = run(&backend, None).await.unwrap_err();

    let chain = error_chain(&error);
    assert!(chain.contains("access denied: A permission does not apply yet"), "{chain}");
}

#[tokio::test]
async fn privileges_that_the_schema_does_not_declare_are_revoked() {
    let (role, other) = (format!("revoked_{}", std::process::id()), format!("other_{}", std::process::id()));
    let backend = cluster().await;
    let first = run(&backend, Some(&role)).await.unwrap().role.unwrap();
    let mut admin = backend.connect().await;
    let declared = state(&mut admin, &role).await;
    admin.execute("CREATE TABLE \"Other\" (id uuid PRIMARY KEY)").await.unwrap();
    admin.execute(AssertSqlSafe(format!("CREATE ROLE {other}"))).await.unwrap();
    for (privilege, role) in [
        ("DELETE ON notes", &role),
        ("UPDATE (text) ON notes", &role),
        // `ALL` of Postgres 17 has one more, which Aurora DSQL does not know.
        ("SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON _sqlx_migrations", &role),
        ("SELECT ON \"Other\"", &role),
        ("USAGE ON SEQUENCE notes_id_seq", &role),
        ("CREATE ON SCHEMA public", &role),
        ("DELETE ON notes", &other),
    ] {
        admin.execute(AssertSqlSafe(format!("GRANT {privilege} TO {role}"))).await.unwrap();
    }
    for privilege in ["SELECT", "TRUNCATE"] {
        let sql = format!("GRANT {privilege} ON notes TO {role} WITH GRANT OPTION");
        admin.execute(AssertSqlSafe(sql)).await.unwrap();
    }

    let second = run(&backend, Some(&role)).await.unwrap().role.unwrap();
    let third = run(&backend, Some(&role)).await.unwrap().role.unwrap();

    assert_eq!((first.is_new, first.revoked.len()), (true, 0));
    assert_eq!((second.granted, second.is_new), (first.granted, false));
    for own in [
        "\"Other\"",
        "DELETE ON _sqlx_migrations",
        "DELETE ON notes",
        "UPDATE ON notes",
        "USAGE ON SEQUENCE notes_id_seq",
        "CREATE ON SCHEMA public",
    ] {
        assert!(second.revoked.iter().any(|revoked| revoked.ends_with(own)), "{own}: {:?}", second.revoked);
    }
    assert!(!second.revoked.iter().any(|own| ["SELECT ON notes", "INSERT ON notes"].contains(&own.as_str())));
    assert_eq!((third.revoked, state(&mut admin, &role).await), (Vec::new(), declared));
    for privilege in ["SELECT WITH GRANT OPTION", "TRUNCATE"] {
        let has = format!("SELECT has_table_privilege('{role}', 'notes', '{privilege}')");
        assert!(!admin.fetch_one(AssertSqlSafe(has)).await.unwrap().get::<bool, _>(0), "{privilege}");
    }
    let kept = format!("SELECT has_table_privilege('{other}', 'notes', 'DELETE')");
    assert!(admin.fetch_one(AssertSqlSafe(kept)).await.unwrap().get::<bool, _>(0));
    for own in [&role, &other] {
        drop_role(&mut admin, own).await;
    }
}

/// Each change of the catalog gives `OC001` to live connections.
#[tokio::test]
async fn a_repeated_migration_changes_no_privilege_that_is_held() {
    let role = format!("unchanged_{}", std::process::id());
    let backend = cluster().await;
    run(&backend, Some(&role)).await.unwrap();
    let mut admin = backend.connect().await;
    let versions = "SELECT concat_ws(' ', oid::regclass, xmin) FROM pg_class WHERE relnamespace::regnamespace::text IN ('public', 'mcp')
        UNION ALL SELECT concat_ws(' ', nspname, xmin) FROM pg_namespace ORDER BY 1";
    let read = async |connection: &mut PgConnection| -> Vec<String> {
        connection.fetch_all(versions).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    let before = read(&mut admin).await;

    let repeated = run(&backend, Some(&role)).await.unwrap().role.unwrap();
    let after = read(&mut admin).await;
    // A privilege for a column is not one for the table.
    admin.execute(AssertSqlSafe(format!("REVOKE INSERT ON notes FROM {role}"))).await.unwrap();
    admin.execute(AssertSqlSafe(format!("GRANT INSERT (text) ON notes TO {role}"))).await.unwrap();
    run(&backend, Some(&role)).await.unwrap();

    assert!(repeated.granted.contains(&"SELECT, INSERT ON notes".to_owned()), "{repeated:?}");
    assert_eq!(after, before);
    let has = format!("SELECT has_table_privilege('{role}', 'notes', 'INSERT')");
    assert!(admin.fetch_one(AssertSqlSafe(has)).await.unwrap().get::<bool, _>(0));
    drop_role(&mut admin, &role).await;
}

/// The version that serves requests has a table and a privilege that the deployed code, of an older release, does not know.
#[tokio::test]
async fn code_older_than_the_database_revokes_no_privilege() {
    let role = format!("older_{}", std::process::id());
    let backend = cluster().await;
    run(&backend, Some(&role)).await.unwrap();
    let mut admin = backend.connect().await;
    let record = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES ($1, 'newer', true, '', -1)";
    for version in [5_i64, 4] {
        sqlx::query(record).bind(version).execute(&mut admin).await.unwrap();
    }
    for sql in [
        "CREATE TABLE tags (id uuid PRIMARY KEY)".to_owned(),
        format!("GRANT SELECT ON tags TO {role}"),
        format!("GRANT UPDATE ON notes TO {role}"),
    ] {
        admin.execute(AssertSqlSafe(sql)).await.unwrap();
    }

    let older = run(&backend, Some(&role)).await.unwrap();
    let kept = format!(
        "SELECT has_table_privilege('{role}', 'tags', 'SELECT') AND has_table_privilege('{role}', 'notes', 'UPDATE')"
    );
    let is_kept: bool = admin.fetch_one(AssertSqlSafe(kept)).await.unwrap().get(0);
    admin.execute("DELETE FROM _sqlx_migrations WHERE version > 3").await.unwrap();
    let newest = run(&backend, Some(&role)).await.unwrap();

    assert!(is_kept);
    assert_eq!((older.unknown, older.role.unwrap().revoked), (vec![4, 5], Vec::<String>::new()));
    assert_eq!(newest.role.unwrap().revoked, ["UPDATE ON notes", "SELECT ON tags"]);
    assert_eq!(newest.unknown, Vec::<i64>::new());
    drop_role(&mut admin, &role).await;
}

#[tokio::test]
async fn a_failed_index_fails_the_migration_until_it_is_dropped() {
    let backend = cluster().await;
    let mut admin = backend.connect().await;
    let table = SCHEMA.dsql.iter().next().unwrap().sql.as_str().replace("(CACHE 65536)", "");
    admin.execute(sqlx::raw_sql(AssertSqlSafe(table))).await.unwrap();
    admin.execute("INSERT INTO notes (text) VALUES ('one'), ('one')").await.unwrap();

    let failed = run(&backend, None).await.unwrap_err();
    admin.execute("DELETE FROM notes").await.unwrap();
    let invalid = run(&backend, None).await.unwrap_err();
    admin.execute("DROP INDEX notes_text").await.unwrap();
    let last = run(&backend, None).await.unwrap();

    assert!(matches!(&failed, MigrationError::Job { details, .. } if details.contains("notes_text")), "{failed:?}");
    assert!(matches!(&invalid, MigrationError::InvalidIndexes(names) if names == "notes_text"), "{invalid:?}");
    assert_eq!((last.applied, last.already_applied), (vec![2, 3], 1));
}

/// Aurora DSQL analyzes tables and frees the storage of dropped ones by jobs, which last for minutes and can fail.
#[tokio::test]
async fn jobs_that_are_not_of_a_migration_are_not_waited_for() {
    let backend = cluster().await;
    let mut admin = backend.connect().await;
    let own = "INSERT INTO sys.jobs (job_id, status, job_type) VALUES ('1', 'submitted', 'ANALYZE'), ('2', 'processing', 'DROP')";
    admin.execute(own).await.unwrap();
    assert_eq!(run(&backend, None).await.unwrap().applied, [1, 2, 3]);

    admin.execute("UPDATE sys.jobs SET job_type = 'INDEX_BUILD' WHERE job_id = '2'").await.unwrap();
    let unfinished = run(&backend, None).await.unwrap_err();

    assert!(matches!(&unfinished, MigrationError::Job { job, .. } if job == "2"), "{unfinished:?}");
}

#[cfg(feature = "store")]
#[tokio::test]
async fn an_invalid_index_of_the_store_fails_the_migration_until_it_is_dropped() {
    let backend = cluster().await;
    run(&backend, None).await.unwrap();
    let mut admin = backend.connect().await;
    // Superusers alone may change the catalog: in place of a build that failed.
    let invalidate = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mcp.state_subject'::regclass";
    admin.execute(invalidate).await.unwrap();

    let invalid = run(&backend, None).await.unwrap_err();
    admin.execute("DROP INDEX mcp.state_subject").await.unwrap();
    run(&backend, None).await.unwrap();

    assert!(matches!(&invalid, MigrationError::InvalidIndexes(names) if names == "mcp.state_subject"), "{invalid:?}");
    let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('mcp.state_subject')";
    assert!(admin.fetch_one(valid).await.unwrap().get::<bool, _>(0));
}

/// The index changes the schema while the call that waits for it is a transaction.
#[tokio::test]
async fn a_conflict_after_a_long_wait_for_an_index_is_retried() {
    let backend = cluster().await;
    let mut admin = backend.connect().await;
    // A sequence keeps its value when the transaction fails. The wait is longer than the time for retries of a statement.
    for sql in [
        "CREATE SEQUENCE sys.calls",
        "CREATE OR REPLACE PROCEDURE sys.wait_for_job(job text, INOUT succeeded boolean DEFAULT NULL) LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('sys.calls') = 1 THEN PERFORM pg_sleep(10.1); RAISE 'outdated' USING ERRCODE = '40001'; END IF;
            succeeded := true;
        END $$",
        "GRANT USAGE ON SEQUENCE sys.calls TO PUBLIC",
    ] {
        admin.execute(sql).await.unwrap();
    }

    let report = run(&backend, None).await.unwrap();

    assert_eq!(report.applied, [1, 2, 3]);
}

#[tokio::test]
async fn a_changed_or_transactional_migration_is_an_error() {
    let backend = cluster().await;
    let transactional = migrate(config(&backend, None), &OTHER).await.unwrap_err();
    run(&backend, None).await.unwrap();
    let changed = migrate(config(&backend, None), &OTHER).await.unwrap_err();

    assert!(matches!(transactional, MigrationError::Transactional(1)), "{transactional:?}");
    assert!(matches!(changed, MigrationError::Changed(1)), "{changed:?}");
}

#[tokio::test]
async fn postgres_is_migrated_by_its_own_set() {
    let backend = TestBackend::create(BackendKind::Postgres).await;

    let (first, second) = (run(&backend, None).await.unwrap(), run(&backend, None).await.unwrap());

    assert_eq!((first.applied, first.already_applied, first.role), (vec![1], 0, None));
    assert_eq!((second.applied, second.already_applied), (vec![], 1));
    assert_eq!(support::notes(&backend).await, 0);
}

#[tokio::test]
async fn postgres_is_migrated_outside_of_a_transaction_also_behind_a_pooler() {
    for is_pooler in [false, true] {
        let backend = TestBackend::create(BackendKind::Postgres).await;
        let proxy = Proxy::start(&backend, is_pooler);
        let get = |name: &str| (name == "DATABASE_URL").then_some(proxy.url.as_str());
        let config = || MigrationConfig::from_env(get).unwrap();

        let first = migrate(config(), &CONCURRENT).await.unwrap();
        let second = migrate(config(), &CONCURRENT).await.unwrap();

        assert_eq!((first.applied, second.already_applied), (vec![1, 2], 2), "pooler: {is_pooler}");
        let index = backend.connect().await.fetch_one("SELECT to_regclass('notes_text') IS NOT NULL").await.unwrap();
        assert!(index.get::<bool, _>(0));
    }
}
