//! Service under test, and assertions on every response.

use std::sync::LazyLock;

use mcp_lambda::{HttpConfig, McpService, transport::{Invocation, respond_buffered}};
use serde_json::Value;
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));

static SERVICE: LazyLock<McpService> =
    LazyLock::new(|| RUNTIME.block_on(greeter::service(HttpConfig::default())).expect("greeter has no dependencies"));

/// Returns the response to an event; `None` for an unsupported event.
pub fn respond(event: &[u8]) -> Option<Value> {
    let response = RUNTIME.block_on(respond_buffered(&SERVICE, event, Invocation::default())).ok()?;
    Some(serde_json::to_value(response).expect("a response is JSON"))
}

/// Checks status, headers and body; returns the JSON-RPC messages.
pub fn assert_well_formed(response: &Value) -> Vec<Value> {
    let status = response["statusCode"].as_u64().expect("a status");
    assert!((200..600).contains(&status), "{response}");
    let body = response["body"].as_str().unwrap_or_default();
    let content_type = ["headers", "multiValueHeaders"].into_iter().find_map(|headers| {
        let value = &response[headers]["content-type"];
        value.as_str().or(value[0].as_str())
    });
    let messages = match content_type {
        None => Vec::new(),
        Some("application/json") => match serde_json::from_str(body).expect("a body of JSON") {
            Value::Array(messages) => messages,
            message => vec![message],
        },
        Some("text/event-stream") => body
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).expect("an event of JSON"))
            .collect(),
        Some(other) => panic!("unexpected content type {other}"),
    };
    assert!(messages.iter().all(|message| message["jsonrpc"] == "2.0"), "{response}");
    messages
}
