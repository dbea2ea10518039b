//! Contract of the function with its clients, against a real Postgres.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use mcp_lambda::{Env, FromEnv, McpService};
use mcp_testing::{TestDatabase, TestIssuer, assert_contract, bounds, exchange, tools_call};
use serde_json::{Value, json};

use {{ project_name | replace: "-", "_" }}::{Config, service};

/// For tests that do not depend on the caller: access rules are off.
async fn server(database: &TestDatabase) -> McpService {
    build(&[
        ("DATABASE_URL".to_owned(), database.url().to_owned()),
        ("MCP_AUTH".to_owned(), "dangerously-off".to_owned()),
    ])
    .await
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
#[tokio::test]
async fn contract_equals_the_golden_file() {
    let database = TestDatabase::create().await;
    let service = server(&database).await;

    assert_contract(&service, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"), None).await;
}

#[tokio::test]
async fn a_saved_note_is_listed_and_replaces_the_one_with_its_title() {
    let database = TestDatabase::create().await;
    let service = server(&database).await;

    for (title, text) in [("milk", "one bottle"), ("bread", "a loaf"), ("milk", "two bottles")] {
        save(&service, title, text).await;
    }

    let milk = json!({ "title": "milk", "text": "two bottles" });
    let bread = json!({ "title": "bread", "text": "a loaf" });
    assert_eq!(latest(&service, json!({})).await, json!([milk, bread]));
    assert_eq!(latest(&service, json!({ "limit": 1 })).await, json!([milk]));
}

#[tokio::test]
async fn text_that_postgres_cannot_store_is_rejected() {
    let database = TestDatabase::create().await;
    let service = server(&database).await;
    let request = tools_call("save_note", json!({ "title": "a\0b", "text": "x" }));

    let text = exchange(&service, request).await.tool_result().text();

    assert!(text.contains("U+0000"), "{text}");
}

#[tokio::test]
async fn each_tool_requires_its_scope() {
    let database = TestDatabase::create().await;
    let issuer = TestIssuer::start().await;
    let mut variables = issuer.variables();
    variables.push(("DATABASE_URL".to_owned(), database.url().to_owned()));
    let service = build(&variables).await;

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

#[tokio::test]
async fn schema_bounds_are_enforced() {
    let database = TestDatabase::create().await;
    let service = server(&database).await;
    let note = json!({ "title": "milk", "text": "x" });

    assert_eq!(bounds::assert_enforced(&service, "save_note", &note).await, 4);
    assert_eq!(bounds::assert_enforced(&service, "latest_notes", &json!({})).await, 2);
}
