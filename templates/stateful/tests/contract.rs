//! Contract of the function with its clients, against a real Postgres, and against Aurora DSQL by its emulator.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use mcp_lambda::{
    Env, FromEnv, McpService,
    postgres::{MigrationConfig, migrate},
};
use mcp_testing::{
    BackendKind, TestBackend, TestIssuer, assert_contract, bounds, exchange, on_both_databases, tools_call,
};
use serde_json::{Value, json};
use sqlx::{Executor, Row};

use {{ project_name | replace: "-", "_" }}::{Config, SCHEMA, service};

on_both_databases!(
    crate::create:
    contract_equals_the_golden_file,
    a_saved_note_is_listed_and_replaces_the_one_with_its_title,
    text_that_postgres_cannot_store_is_rejected,
    each_tool_requires_its_scope,
    schema_bounds_are_enforced,
);

/// A database with the function's schema.
async fn create(kind: BackendKind) -> TestBackend {
    let database = TestBackend::create(kind).await;
    let variables = database.variables();
    let get = |name: &str| variables.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    migrate(MigrationConfig::from_env(get).unwrap(), &SCHEMA).await.unwrap();
    database
}

/// For tests that do not depend on the caller: access rules are off.
async fn server(database: &TestBackend) -> McpService {
    let off = ("MCP_AUTH".to_owned(), "dangerously-off".to_owned());
    build(&[database.variables(), vec![off]].concat()).await
}

async fn build(variables: &[(String, String)]) -> McpService {
    let pairs = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    service(Config::from_env(&Env::from_pairs(pairs)).unwrap()).await.unwrap()
}

async fn save(service: &McpService, title: &str, text: &str) {
    let request = tools_call("save_note", json!({ "title": title, "text": text }));
    assert_eq!(exchange(service, request).await.tool_result().text(), "Saved.");
}

async fn latest(service: &McpService, arguments: Value) -> Value {
    exchange(service, tools_call("latest_notes", arguments)).await.result()["structuredContent"]["notes"].clone()
}

/// After an intended change, run `make contract FUNCTION={{ project_name }}`.
async fn contract_equals_the_golden_file(database: TestBackend) {
    let service = server(&database).await;

    assert_contract(&service, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"), None).await;
}

async fn a_saved_note_is_listed_and_replaces_the_one_with_its_title(database: TestBackend) {
    let service = server(&database).await;

    for (title, text) in [("milk", "one bottle"), ("bread", "a loaf"), ("milk", "two bottles")] {
        save(&service, title, text).await;
    }

    let milk = json!({ "title": "milk", "text": "two bottles" });
    let bread = json!({ "title": "bread", "text": "a loaf" });
    assert_eq!(latest(&service, json!({})).await, json!([milk, bread]));
    assert_eq!(latest(&service, json!({ "limit": 1 })).await, json!([milk]));
}

async fn text_that_postgres_cannot_store_is_rejected(database: TestBackend) {
    let service = server(&database).await;
    let request = tools_call("save_note", json!({ "title": "a\0b", "text": "x" }));

    let text = exchange(&service, request).await.tool_result().text();

    assert!(text.contains("U+0000"), "{text}");
}

async fn each_tool_requires_its_scope(database: TestBackend) {
    let issuer = TestIssuer::start().await;
    let service = build(&[issuer.variables(), database.variables()].concat()).await;

    for (tool, arguments, scope, other) in [
        ("save_note", json!({ "title": "milk", "text": "x" }), "notes:write", "notes:read"),
        ("latest_notes", json!({}), "notes:read", "notes:write"),
    ] {
        let call = || tools_call(tool, arguments.clone());

        assert_eq!(exchange(&service, call()).await.status, 401);
        assert_eq!(exchange(&service, call().bearer(&issuer.token([other]))).await.status, 403);
        assert_eq!(exchange(&service, call().bearer(&issuer.token([scope]))).await.status, 200);
    }
}

async fn schema_bounds_are_enforced(database: TestBackend) {
    let service = server(&database).await;
    let note = json!({ "title": "milk", "text": "x" });

    assert_eq!(bounds::assert_enforced(&service, "save_note", &note).await, 4);
    assert_eq!(bounds::assert_enforced(&service, "latest_notes", &json!({})).await, 2);
}

#[tokio::test]
async fn both_sets_of_migrations_have_the_same_schema() {
    let mut schemas = Vec::new();
    for kind in [BackendKind::Postgres, BackendKind::Dsql] {
        let database = create(kind).await;
        let sql = "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default)
                FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE '\\_sqlx%'
            UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE '\\_sqlx%' ORDER BY 1";
        let rows = database.connect().await.fetch_all(sql).await.unwrap();
        schemas.push(rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>());
    }

    assert_eq!(schemas[0], schemas[1]);
    assert!(schemas[0].len() >= 5, "{schemas:?}");
}
