//! The function's contract: the definitions that clients receive, and the behavior that they rely on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

use greeter::service;
use mcp_lambda::{HttpConfig, McpService, ProtocolVersion};
use mcp_testing::{assert_contract, bounds, complete, exchange, prompts_get, resources_read, tools_call};
use serde_json::json;

async fn greeter() -> McpService {
    service(HttpConfig::default()).await.unwrap()
}

#[tokio::test]
async fn definitions_match_the_golden_file() {
    assert_contract(&greeter().await, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"), None).await;
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
async fn schema_bounds_are_enforced() {
    let tried = bounds::assert_enforced(&greeter().await, "personalized_greeting", &json!({ "name": "Ada" })).await;

    assert_eq!(tried, 2);
}

#[tokio::test]
async fn a_too_long_name_is_rejected_with_the_bound_and_the_actual_length() {
    let request = tools_call("personalized_greeting", json!({ "name": "é".repeat(101) }));

    let result = exchange(&greeter().await, request).await.tool_result();

    assert_eq!(result.is_error, Some(true));
    for part in ["`name`", "100", "101 characters"] {
        assert!(result.text().contains(part), "{}", result.text());
    }
}

#[tokio::test]
async fn the_prompt_names_the_person_and_the_tone() {
    let request = prompts_get("introduction", json!({ "name": "Ada", "tone": "formal" }));

    let reply = exchange(&greeter().await, request).await;

    let text = reply.result()["messages"][0]["content"]["text"].as_str().unwrap();
    assert!(text.contains("Ada") && text.contains("a formal introduction"), "{text}");
}

#[tokio::test]
async fn a_partial_tone_is_completed() {
    let request = complete(json!({ "type": "ref/prompt", "name": "introduction" }), "tone", "f");

    let reply = exchange(&greeter().await, request).await;

    assert_eq!(reply.result()["completion"]["values"], json!(["formal", "funny"]));
}

#[tokio::test]
async fn a_prompt_without_a_name_is_rejected_with_the_expected_arguments() {
    let reply = exchange(&greeter().await, prompts_get("introduction", json!({}))).await;

    assert_eq!(reply.status_and_code(), (200, -32602));
    assert!(reply.body.contains("`name` (string, required)"), "{}", reply.body);
}

#[tokio::test]
async fn the_guide_names_the_tool() {
    for revision in ProtocolVersion::ALL {
        let reply = exchange(&greeter().await, resources_read("greeter://guide").revision(revision)).await;

        let contents = &reply.result()["contents"][0];
        assert_eq!(contents["mimeType"], "text/markdown");
        assert!(contents["text"].as_str().unwrap().contains("`personalized_greeting`"));
    }
}
