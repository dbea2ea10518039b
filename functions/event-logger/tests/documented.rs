//! The SQL of docs/database.md, on both databases.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod support;

use std::fs;

use mcp_lambda::postgres::{MigrationConfig, Schema, migrate};
use mcp_testing::{BackendKind, TestBackend};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgSslMode},
};

const PAGE: &str = include_str!("../../../docs/database.md");

/// Files of one section, by their paths in the comment of the first line.
fn files(section: &str) -> Vec<(&'static str, String)> {
    let (_, section) = PAGE.split_once(&format!("\n{section}\n")).expect("the section is there");
    let section = section.split_once("\n#").map_or(section, |(own, _)| own);
    let blocks = section.split("```sql\n").skip(1).map(|block| block.split_once("```").unwrap().0);
    let files = blocks.map(|block| {
        let (path, text) = block.trim_start().strip_prefix("-- ").unwrap().split_once('\n').unwrap();
        (path, text.lines().map(|line| line.strip_prefix("   ").unwrap_or(line)).collect::<Vec<_>>().join("\n"))
    });
    files.collect()
}

/// A schema of these files, one folder for each kind of database.
async fn schema_of(files: &[(&str, String)]) -> &'static Schema {
    let root = std::env::temp_dir().join(format!("documented-{}-{}", std::process::id(), files.as_ptr().addr()));
    let read = async |folder: &str| {
        let folder = format!("{folder}/");
        fs::create_dir_all(root.join(&folder)).unwrap();
        for (path, text) in files.iter().filter(|(path, _)| path.starts_with(&folder)) {
            fs::write(root.join(path), text).unwrap();
        }
        Migrator::new(root.join(&folder)).await.unwrap()
    };
    let (postgres, dsql) = (read("migrations").await, read("migrations-dsql").await);
    fs::remove_dir_all(&root).unwrap();
    // As a function's static.
    Box::leak(Box::new(Schema { postgres, dsql, grants: &[] }))
}

/// A session as the function's: of Postgres, or of the emulator.
async fn session(backend: &TestBackend, kind: BackendKind) -> PgConnection {
    if kind == BackendKind::Postgres {
        return backend.connect().await;
    }
    let (emulator, variables) = (backend.emulator(), backend.variables());
    let value = |name: &str| variables.iter().find(|(own, _)| own == name).unwrap().1.clone();
    let options = PgConnectOptions::new_without_pgpass()
        .host(&value("DB_HOST"))
        .port(emulator.address().port())
        .username("admin")
        .password(&emulator.token("admin").unwrap())
        .database("postgres")
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert_from_pem(emulator.certificate().as_bytes().to_vec());
    PgConnection::connect_with(&options).await.unwrap()
}

async fn apply(backend: &TestBackend, schema: &'static Schema) -> Vec<i64> {
    let variables = backend.variables();
    let get = |name: &str| variables.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    migrate(MigrationConfig::from_env(get).unwrap(), schema).await.unwrap().applied
}

#[tokio::test]
async fn the_recipe_for_a_table_runs_on_both() {
    let section = "### A table of your own on both databases";
    let files = files(section);
    assert_eq!(files.len(), 3, "{files:?}");
    let (_, rust) = PAGE.split_once(section).unwrap().1.split_once("```rust\n").unwrap();
    let (rust, _) = rust.split_once("```").unwrap();
    let statements: Vec<&str> = rust.split("r#\"").skip(1).map(|own| own.split("\"#").next().unwrap()).collect();
    let [save, latest] = statements[..] else { panic!("{statements:?}") };
    for (kind, versions) in [(BackendKind::Postgres, 1), (BackendKind::Dsql, 2)] {
        let backend = TestBackend::create(kind).await;
        let schema = schema_of(&files).await;

        let applied = apply(&backend, schema).await;

        assert_eq!((applied.len(), apply(&backend, schema).await), (versions, Vec::new()));
        let mut session = session(&backend, kind).await;
        let key = "00112233445566778899aabbccddeeff";
        for is_new in [true, false] {
            let save = sqlx::query(AssertSqlSafe(save)).bind(key).bind("text");
            assert_eq!(save.fetch_optional(&mut session).await.unwrap().is_some(), is_new);
        }
        let latest = sqlx::query_as(AssertSqlSafe(latest)).bind(9_i64);
        let rows: Vec<(String, String)> = latest.fetch_all(&mut session).await.unwrap();
        assert_eq!(rows, [("00112233-4455-6677-8899-aabbccddeeff".to_owned(), "text".to_owned())]);
    }
}

/// The contract of event-logger, which a later release applies while the version before it serves requests.
#[tokio::test]
async fn the_contract_runs_on_both_and_leaves_the_same_schema() {
    /// `events::INSERT` of the release before the contract.
    const INSERT: &str = "INSERT INTO events (key, event_name, issuer, subject, email)
        VALUES (coalesce($1::text::uuid, gen_random_uuid()), $2, '', '', '') ON CONFLICT DO NOTHING RETURNING id";
    let files = files("### Expand and contract");
    let mut schemas = Vec::new();
    for (kind, folder) in [(BackendKind::Postgres, "migrations/"), (BackendKind::Dsql, "migrations-dsql/")] {
        let backend = support::create(kind).await;
        let sql: Vec<_> = files.iter().filter(|(path, _)| path.starts_with(folder)).collect();
        let [(_, sql)] = sql[..] else { panic!("{files:?}") };
        let (mut running, mut migrating) = (session(&backend, kind).await, session(&backend, kind).await);

        for name in ["before", "after", "after an interrupted migration"] {
            let inserted = sqlx::query(INSERT).bind(None::<String>).bind(name).fetch_all(&mut running).await.unwrap();
            assert_eq!(inserted.len(), 1);
            let sql = sql.trim_start_matches("-- no-transaction\n").to_owned();
            migrating.execute(AssertSqlSafe(sql)).await.unwrap();
        }

        schemas.push(support::schema(&mut backend.connect().await).await);
    }
    assert_eq!(schemas[0], schemas[1]);
    assert!(schemas[0].len() > 9 && !schemas[0].iter().any(|own| own.contains("idempotency")), "{schemas:#?}");
}
