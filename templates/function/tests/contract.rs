//! Contract of the function with its clients.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use mcp_lambda::{HttpConfig, McpService};
use mcp_testing::{assert_contract, bounds, exchange, tools_call};
use serde_json::json;

use {{ project_name | replace: "-", "_" }}::service;

async fn server() -> McpService {
    service(HttpConfig::default()).await.unwrap()
}

/// After an intended change, run `UPDATE_GOLDEN=1 cargo test`.
#[tokio::test]
async fn contract_equals_the_golden_file() {
    assert_contract(&server().await, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"), None).await;
}

#[tokio::test]
async fn words_of_a_text_are_counted() {
    let request = tools_call("count_words", json!({ "text": "to be, or not to be" }));

    let result = exchange(&server().await, request).await.tool_result();

    assert_eq!(result.text(), "6");
}

#[tokio::test]
async fn schema_bounds_are_enforced() {
    let arguments = json!({ "text": "to be" });

    let tried = bounds::assert_enforced(&server().await, "count_words", &arguments).await;

    assert_eq!(tried, 2);
}
