//! The schema: an upgrade of a table with rows, and the same result on Postgres and on Aurora DSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod support;

use event_logger::SCHEMA;
use mcp_lambda::{Principal, postgres::MigrationConfig};
use mcp_testing::{BackendKind, TestBackend, TestDatabase, Via, as_caller, exchange_via, tools_call};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};
use support::service_of;

const ROWS: i64 = 100_000;
/// The insert of the previous version, which serves requests while a new one is deployed.
const OLD_INSERT: &str = r#"
    INSERT INTO events (event_name, issuer, subject, email, idempotency_key)
    VALUES ($1, $2, $3, $4, coalesce('client:' || $5, 'call:' || md5($6)))
    ON CONFLICT (issuer, subject, idempotency_key) DO UPDATE SET idempotency_key = excluded.idempotency_key
    RETURNING id, event_name, "timestamp", issuer, subject, email,
        xmax = 0 AS is_new, "timestamp" < now() - interval '30 days' AS is_expired
"#;

/// Creates the schema of the previous version by its own migration, and rows by three kinds of callers.
async fn old_schema(connection: &mut PgConnection) {
    let first = SCHEMA.postgres.iter().next().unwrap().version;
    SCHEMA.postgres.run_to(first, &mut *connection).await.unwrap();
    let rows = format!(
        "INSERT INTO events (event_name, issuer, subject, idempotency_key, \"timestamp\")
            SELECT 'event ' || n, CASE n % 3 WHEN 0 THEN '' ELSE 'https://issuer.example' END,
                CASE n % 3 WHEN 0 THEN '' WHEN 1 THEN 'ada' ELSE 'größe' END,
                CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN 'call:' || md5(n::text) ELSE 'client:key ' || n END,
                now() - interval '1 day' + n * interval '1 ms'
            FROM generate_series(1, {ROWS}) AS n"
    );
    connection.execute(AssertSqlSafe(rows)).await.unwrap();
}

async fn digest(connection: &mut PgConnection) -> (i64, String) {
    let sql = "SELECT count(*), coalesce(md5(string_agg(concat_ws('|', id, event_name, \"timestamp\", issuer, subject, email, idempotency_key), ','
        ORDER BY id)), '') FROM events";
    let row = connection.fetch_one(sql).await.unwrap();
    (row.get(0), row.get(1))
}

async fn log(backend: &TestBackend, caller: &Principal, name: &str, key: &str) -> Value {
    let service = service_of(backend).await;
    let request = tools_call("log_event", json!({ "event_name": name, "idempotency_key": key }));
    let caller = as_caller(caller.clone());
    let result = exchange_via(Via::FunctionUrl, &service, request, caller).await.tool_result();
    assert_eq!(result.is_error, None, "{}", result.text());
    serde_json::from_str(result.structured_content.as_ref().unwrap().get()).unwrap()
}

#[tokio::test]
async fn an_upgrade_keeps_all_rows_and_recognizes_their_keys() {
    let backend = TestBackend::create(BackendKind::Postgres).await;
    let mut admin = backend.connect().await;
    old_schema(&mut admin).await;
    let before = digest(&mut admin).await;

    SCHEMA.postgres.run(&mut admin).await.unwrap();

    assert_eq!((digest(&mut admin).await, before.0), (before.clone(), ROWS));
    let keys = "SELECT count(DISTINCT key), count(*) FILTER (WHERE key IS NULL) FROM events";
    let keys = admin.fetch_one(keys).await.unwrap();
    assert_eq!((keys.get::<i64, _>(0), keys.get::<i64, _>(1)), (ROWS, 0));
    // The keys are those of the function, not only those of the old index.
    admin.execute("DROP INDEX events_idempotency").await.unwrap();
    let anonymous = Principal::default();
    let (ada, other) =
        (Principal::new("https://issuer.example", "ada"), Principal::new("https://issuer.example", "größe"));
    for (number, caller) in
        [(3, &anonymous), (ROWS - 1, &anonymous), (7, &ada), (99_994, &ada), (2, &other), (50, &other)]
    {
        let (name, key) = (format!("event {number}"), format!("key {number}"));
        let found = log(&backend, caller, &name, &key).await;

        assert_eq!(found["id"], json!(number), "{key}");
    }
    assert_eq!(digest(&mut admin).await.0, ROWS);
}

/// A canary and a rollback: both versions write into the table.
#[tokio::test]
async fn the_previous_and_this_version_recognize_each_others_keys() {
    let backend = TestBackend::create(BackendKind::Postgres).await;
    let mut admin = backend.connect().await;
    SCHEMA.postgres.run(&mut admin).await.unwrap();
    let old = async |name: &str, key: &str| {
        let query = sqlx::query(OLD_INSERT).bind(name).bind("https://issuer.example").bind("ada").bind("");
        let row = query.bind(Some(key)).bind(Some("call")).fetch_one(&mut backend.connect().await).await.unwrap();
        (row.get::<i64, _>("id"), row.get::<bool, _>("is_new"))
    };
    let ada = Principal::new("https://issuer.example", "ada");

    let by_old = old("paid", "k1").await;
    let by_new = log(&backend, &ada, "sold", "k2").await["id"].as_i64().unwrap();

    assert_eq!(log(&backend, &ada, "paid", "k1").await["id"], json!(by_old.0));
    assert_eq!(old("sold", "k2").await, (by_new, false));
    // A key that this version releases can be used by the previous version.
    admin.execute("UPDATE events SET \"timestamp\" = now() - interval '31 days'").await.unwrap();
    let again = log(&backend, &ada, "paid again", "k1").await["id"].as_i64().unwrap();
    assert_eq!(old("paid again", "k1").await, (again, false));
    assert_eq!(digest(&mut admin).await.0, 3);
}

/// The backfill is interrupted, also after some of its batches.
#[tokio::test]
async fn a_backfill_that_is_interrupted_continues() {
    let backend = TestBackend::create(BackendKind::Postgres).await;
    let mut admin = backend.connect().await;
    old_schema(&mut admin).await;
    let before = digest(&mut admin).await;
    let second = SCHEMA.postgres.iter().nth(1).unwrap().version;
    SCHEMA.postgres.run_to(second, &mut admin).await.unwrap();
    let missing = async |connection: &mut PgConnection| {
        connection.fetch_one("SELECT count(*) FROM events WHERE key IS NULL").await.unwrap().get::<i64, _>(0)
    };
    let mut other = backend.connect().await;
    let interrupted = {
        let mut connection = backend.connect().await;
        let pid: i32 = connection.fetch_one("SELECT pg_backend_pid()").await.unwrap().get(0);
        let interrupt = async {
            while missing(&mut other).await == ROWS {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(&mut other).await.unwrap();
        };
        tokio::join!(SCHEMA.postgres.run(&mut connection), interrupt).0
    };
    assert!(interrupted.is_err());
    let left = missing(&mut other).await;
    assert!(left < ROWS, "{left}");

    SCHEMA.postgres.run(&mut admin).await.unwrap();

    assert_eq!((missing(&mut other).await, digest(&mut admin).await), (0, before));
}

#[tokio::test]
async fn both_sets_of_migrations_have_the_same_schema() {
    let (postgres, dsql) =
        (TestBackend::create(BackendKind::Postgres).await, TestBackend::create(BackendKind::Dsql).await);
    let mut upgraded = postgres.connect().await;
    old_schema(&mut upgraded).await;
    SCHEMA.postgres.run(&mut upgraded).await.unwrap();
    support::run_migrations(&dsql).await.unwrap();

    let mut on_postgres = support::schema(&mut upgraded).await;
    let on_dsql = support::schema(&mut dsql.connect().await).await;

    // For the previous version; the contract drops it with its column.
    let extra =
        "index CREATE UNIQUE INDEX events_idempotency ON public.events USING btree (issuer, subject, idempotency_key)";
    assert!(on_postgres.iter().any(|own| own == extra), "{on_postgres:#?}");
    on_postgres.retain(|own| own != extra);
    assert_eq!(on_postgres, on_dsql);
    assert!(on_dsql.len() > 10, "{on_dsql:#?}");
}

#[tokio::test]
async fn the_role_that_serves_requests_cannot_change_the_schema() {
    let backend = TestBackend::create(BackendKind::Dsql).await;
    let role = format!("app_{}_{}", std::process::id(), backend.url().rsplit('_').next().unwrap());
    let arn = dsql_emulator::TestCredentials::default().role_arn;
    let config = || {
        let variables = backend.variables_as("admin");
        let get = |name: &str| match name {
            "DB_APP_ROLE_ARN" => Some(arn.as_str()),
            "DB_APP_USER" => Some(role.as_str()),
            _ => variables.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str()),
        };
        MigrationConfig::from_env(get).unwrap()
    };

    let first = mcp_lambda::postgres::migrate(config(), &SCHEMA).await.unwrap();
    let second = mcp_lambda::postgres::migrate(config(), &SCHEMA).await.unwrap();

    assert_eq!((&*first.applied, first.already_applied), (&[1, 2, 3][..], 0));
    assert_eq!((&*second.applied, second.already_applied), (&[][..], 3));
    for (report, is_new) in [(&first, true), (&second, false)] {
        let own = report.role.as_ref().unwrap();
        assert_eq!((&own.name, &own.arn, own.is_new, own.revoked.len()), (&role, &arn, is_new, 0));
        // With the feature `store` of another package of the workspace, also the tables of the store.
        let granted: Vec<_> = own.granted.iter().filter(|own| !own.contains(" ON mcp.")).collect();
        assert_eq!(granted, ["SELECT, INSERT, UPDATE ON events"]);
    }
    let variables = backend.variables_as(&role);
    let service = support::service_with(&variables).await;
    let request = tools_call("log_event", json!({ "event_name": "login", "idempotency_key": "k" }));
    for _ in 0..2 {
        let result = mcp_testing::exchange(&service, request.clone()).await.tool_result();
        assert_eq!(result.is_error, None, "{}", result.text());
    }
    let mut admin = backend.connect().await;
    for (table, privilege, is_granted) in [
        ("events", "SELECT", true),
        ("events", "UPDATE", true),
        ("events", "DELETE", false),
        ("_sqlx_migrations", "SELECT", false),
    ] {
        let has = sqlx::query_scalar::<_, bool>("SELECT has_table_privilege($1, $2, $3)");
        let has = has.bind(&role).bind(table).bind(privilege).fetch_one(&mut admin).await.unwrap();
        assert_eq!(has, is_granted, "{privilege} ON {table}");
    }
    let creates = sqlx::query_scalar::<_, bool>("SELECT has_schema_privilege($1, 'public', 'CREATE')");
    assert!(!creates.bind(&role).fetch_one(&mut admin).await.unwrap());
    drop(service);
    for sql in [format!("DROP OWNED BY {role}"), format!("DROP ROLE {role}")] {
        admin.execute(AssertSqlSafe(sql)).await.unwrap();
    }
}

/// Applies the migrations without the function, as `sqlx migrate run` does.
#[tokio::test]
async fn a_fresh_database_needs_no_rows() {
    let test = TestDatabase::create().await;
    let mut admin = test.connect().await;

    SCHEMA.postgres.run(&mut admin).await.unwrap();
    SCHEMA.postgres.run(&mut admin).await.unwrap();

    assert_eq!(digest(&mut admin).await.0, 0);
}
