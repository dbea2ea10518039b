//! The function's contract: what clients see, and what they may rely on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

use greeter::{Config, service};
use mcp_lambda::McpService;
use mcp_protocol::ProtocolVersion;
use mcp_testing::{bounds, exchange, tools_call, tools_list};
use serde_json::{Value, json};

async fn greeter() -> McpService<greeter::State> {
    service(Config::default()).await.unwrap()
}

/// Compares with a golden file, or writes it when `UPDATE_GOLDEN` is set.
#[track_caller]
fn assert_golden(name: &str, value: &Value) {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = format!("{value:#}\n");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, golden, "{path} differs; if that is intended: UPDATE_GOLDEN=1 cargo test -p greeter");
}

#[tokio::test]
async fn the_list_of_tools_is_the_golden_one() {
    let reply = exchange(&greeter().await, tools_list()).await;

    assert_golden("tools-list.json", reply.result());
}

#[tokio::test]
async fn a_name_is_greeted_in_every_revision() {
    for revision in ProtocolVersion::ALL {
        let request = tools_call("personalized_greeting", json!({ "name": "Zoë 👋" })).revision(revision);

        let result = exchange(&greeter().await, request).await.tool_result();

        assert_eq!(result.text(), "Hello, Zoë 👋! Welcome to the serverless MCP world.");
    }
}

#[tokio::test]
async fn the_bounds_in_the_schema_are_the_bounds_that_hold() {
    let tried = bounds::assert_enforced(&greeter().await, "personalized_greeting", &json!({ "name": "Ada" })).await;

    assert_eq!(tried, 2);
}

#[tokio::test]
async fn a_name_that_is_too_long_is_refused_with_the_bound_and_what_was_given() {
    let request = tools_call("personalized_greeting", json!({ "name": "é".repeat(101) }));

    let result = exchange(&greeter().await, request).await.tool_result();

    assert_eq!(result.is_error, Some(true));
    for part in ["`name`", "100", "101 characters"] {
        assert!(result.text().contains(part), "{}", result.text());
    }
}
