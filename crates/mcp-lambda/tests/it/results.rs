//! Results of tools, and their conversion into responses.

use std::collections::BTreeMap;

use garde::Validate;
use mcp_lambda::{HttpConfig, McpService, transport::LambdaInvocation};
use mcp_protocol::ProtocolVersion;
use mcp_server::{HandlerError, Invocation, Json, NoArguments, Server, Tool, ToolContext};
use mcp_testing::{Via, exchange, exchange_via, tools_call};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::common::fixture;

#[tokio::test]
async fn a_structured_result_is_sent_as_json_and_as_text() {
    let reply = exchange(&fixture(), tools_call("structured", json!({}))).await;

    let value = json!({ "x": 1, "label": { "a": [true] } });
    assert_eq!(reply.result()["structuredContent"], value);
    assert_eq!(serde_json::from_str::<Value>(&reply.tool_result().text()).unwrap(), value);
}

#[tokio::test]
async fn an_array_is_structured_output_in_the_newest_revision() {
    let reply = exchange(&fixture(), tools_call("list", json!({}))).await;

    assert_eq!(reply.result()["structuredContent"], json!([1, 2, 3]));
}

#[tokio::test]
async fn a_failed_tool_is_a_result_with_is_error() {
    let result = exchange(&fixture(), tools_call("fails", json!({}))).await.tool_result();

    assert_eq!((result.is_error, result.text().as_str()), (Some(true), "the shop is closed"));
}

fn invocation(request_id: &str) -> Invocation {
    Invocation { request_id: request_id.to_owned(), ..Invocation::default() }
}

#[tokio::test]
async fn an_internal_fault_is_logged_and_only_its_request_id_is_sent() {
    let logs = crate::common::capture_logs();

    let request = tools_call("fails_inside", json!({}));
    let reply = exchange_via(Via::FunctionUrl, &fixture(), request, invocation("abc-123")).await;

    let result = reply.tool_result();
    assert_eq!(result.is_error, Some(true));
    assert_eq!(result.text(), "The tool failed. Request id: abc-123");
    let logs = logs.read();
    assert!(logs.contains("the disk is full") && logs.contains("abc-123") && logs.contains("ERROR"), "{logs}");
}

#[tokio::test]
async fn a_panic_while_parsing_arguments_is_an_internal_error() {
    let reply = exchange(&fixture(), tools_call("checks", json!({ "text": "é" }))).await;

    assert_eq!(reply.status_and_code(), (200, -32603));
}

#[tokio::test]
async fn multi_line_raw_json_is_one_line_of_an_event() {
    for accept in ["text/event-stream", "application/json"] {
        let reply = exchange(&fixture(), tools_call("pretty", json!({})).header("accept", accept)).await;

        assert_eq!(reply.result()["structuredContent"], json!({ "a": [1, "\n"] }));
    }
}

#[tokio::test]
async fn a_panic_and_an_unserializable_result_are_internal_errors() {
    let service = fixture();
    for tool in ["panics", "unserialisable"] {
        for revision in ProtocolVersion::ALL {
            let request = tools_call(tool, json!({})).revision(revision);

            let reply = exchange_via(Via::FunctionUrl, &service, request, invocation("abc-123")).await;

            assert_eq!(reply.status_and_code(), (200, -32603), "{tool}");
            assert_eq!(reply.response()["error"]["message"], "internal error; request id: abc-123");
            assert_eq!(reply.response()["id"], 1);
        }
    }
    assert_eq!(exchange(&service, tools_call("simple", json!({}))).await.tool_result().text(), "simple");
}

#[tokio::test]
async fn a_raw_schema_is_enforced_unless_it_is_unvalidated() {
    let service = fixture();
    for (arguments, complaint) in [
        (json!({ "kind": "a" }), None),
        (json!({ "kind": "b", "size": 1 }), None),
        (json!({ "kind": "c" }), Some("`kind`")),
        (json!({ "kind": "b" }), Some("\"size\" is a required property")),
        (json!({ "kind": "a", "size": "x" }), Some("`size`")),
        (json!({ "kind": "a", "y": 1 }), Some("'y'")),
        (json!({}), Some("\"kind\" is a required property")),
    ] {
        let result = exchange(&service, tools_call("raw", arguments.clone())).await.tool_result();

        assert_eq!(result.is_error.is_some(), complaint.is_some(), "{arguments}: {}", result.text());
        assert!(complaint.is_none_or(|complaint| result.text().contains(complaint)), "{}", result.text());
    }
    let long = exchange(&service, tools_call("raw", json!({ "kind": "x".repeat(1_000_000) }))).await.tool_result();
    assert!(long.is_error == Some(true) && long.text().len() < 1000);
    let anything = exchange(&service, tools_call("anything", json!({ "y": [1] }))).await.tool_result();
    assert_eq!(anything.text(), r#"{"y":[1]}"#);
}

#[tokio::test]
async fn the_context_has_the_request_and_its_invocation() {
    let invocation = Invocation {
        deadline: std::time::Instant::now().checked_add(std::time::Duration::from_secs(30)),
        ..LambdaInvocation::traced("req", "Root=1-2-3")
    };
    let request = tools_call("about", json!({}))
        .id(json!("seven"))
        .capabilities(json!({ "sampling": {} }))
        .meta("traceparent", json!("00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"));

    let modern = exchange_via(Via::FunctionUrl, &fixture(), request.clone(), invocation.clone()).await;
    let legacy = request.revision(ProtocolVersion::V2025_11_25);
    let legacy = exchange_via(Via::FunctionUrl, &fixture(), legacy, invocation).await;

    let expected = json!({
        "id": "seven", "request_id": "req", "revision": "2026-07-28", "client": "test", "samples": true,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01", "xray": "Root=1-2-3", "has_deadline": true,
    });
    assert_eq!(modern.result()["structuredContent"], expected);
    assert_eq!(
        legacy.result()["structuredContent"]["client"],
        Value::Null,
        "legacy clients send their name only in `initialize`"
    );
}

#[tokio::test]
async fn a_result_over_the_limit_is_an_error_with_size_and_limit() {
    const MIB: usize = 1024 * 1024;
    let service = fixture();
    for (via, limit) in [(Via::FunctionUrl, 6 * MIB), (Via::RestApi, 6 * MIB), (Via::LoadBalancer, MIB)] {
        let call = |bytes: usize, of: &str| tools_call("large", json!({ "bytes": bytes, "of": of }));

        let fits = exchange_via(via, &service, call(limit - 8192, "x"), Default::default()).await;
        let too_large = exchange_via(via, &service, call(limit, "x"), Default::default()).await;
        // Quotes are escaped twice, so that half of the limit is too large already.
        let escaped = exchange_via(via, &service, call(limit / 3, "\""), Default::default()).await;

        assert_eq!(fits.tool_result().is_error, None, "{via:?}");
        assert_eq!(fits.tool_result().text().len(), limit - 8192);
        for reply in [too_large, escaped] {
            let result = reply.tool_result();
            assert_eq!(result.is_error, Some(true), "{via:?}");
            assert!(result.text().contains(&limit.to_string()), "{}", result.text());
        }
    }
}

#[tokio::test]
async fn notifications_are_dropped_before_the_result() {
    let request = tools_call("large", json!({ "bytes": 5_000_000, "notifications": 100 })).progress_token(json!(1));

    let reply = exchange(&fixture(), request).await;

    assert!((10..101).contains(&reply.messages.len()), "{}", reply.messages.len());
    assert!(reply.body.len() < 6_291_456);
    assert_eq!(reply.tool_result().text().len(), 5_000_000);
}

#[derive(Debug, Deserialize, Serialize, JsonSchema, Validate)]
struct Reading {
    /// The temperature; NaN if it is omitted.
    #[garde(skip)]
    celsius: Option<f64>,
    #[garde(skip)]
    #[serde(default)]
    samples: u64,
}

#[derive(Debug, Serialize, JsonSchema, Validate)]
struct Measured {
    #[garde(skip)]
    by_place: BTreeMap<String, Inner>,
}

#[derive(Debug, Serialize, JsonSchema, Validate)]
struct Inner {
    #[garde(skip)]
    celsius: f64,
    #[garde(range(max = 9))]
    samples: u64,
}

async fn measure(_: ToolContext<()>, reading: Reading) -> Result<Json<Measured>, HandlerError> {
    let inner = Inner { celsius: reading.celsius.unwrap_or(f64::NAN), samples: reading.samples };
    Ok(Json(Measured { by_place: BTreeMap::from([("secret-place".to_owned(), inner)]) }))
}

/// A client would discard such a result, without any log event on the server.
#[tokio::test]
async fn a_result_that_violates_its_schema_is_a_fault_with_the_member() {
    let server = Server::new("test", "0.0.0", ()).tool(Tool::new("measure", measure));
    let service = McpService::new(server, HttpConfig::default()).unwrap();

    for (arguments, says) in [
        (json!({}), "`by_place.*.celsius` is of type null, expected number (NaN and infinity become null)"),
        (json!({ "celsius": -4.25, "samples": 77 }), "`by_place.*.samples` violates `maximum`"),
    ] {
        for revision in [ProtocolVersion::LATEST, ProtocolVersion::V2025_03_26] {
            let logs = crate::common::capture_logs();
            let request = tools_call("measure", arguments.clone()).revision(revision);

            let reply = exchange_via(Via::FunctionUrl, &service, request, invocation("abc-123")).await;

            assert_eq!(reply.status_and_code(), (200, -32603), "{}", reply.body);
            assert_eq!(reply.response()["error"]["message"], "internal error; request id: abc-123");
            let text = logs.read();
            let fault = logs.lines().into_iter().find(|line| line["outcome"] == "fault").unwrap();
            let error = fault["error"].as_str().unwrap();
            assert!(error.contains(says) && fault["request_id"] == "abc-123", "{fault}");
            assert!(!text.contains("secret-place") && !error.contains("77"), "{text}");
        }
    }
    let kept = exchange(&service, tools_call("measure", json!({ "celsius": -4.25, "samples": 9.0 }))).await;
    assert_eq!(kept.result()["structuredContent"]["by_place"]["secret-place"]["samples"], 9);
}

/// In JSON Schema, `5.0` is an integer: the handler gets an integer.
#[tokio::test]
async fn a_raw_schema_handler_gets_integral_numbers_as_integers() {
    let service = fixture();
    let call = |arguments: &str| {
        let body =
            json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "raw", "arguments": {} } });
        let body = body.to_string().replace(r#""arguments":{}"#, &format!(r#""arguments":{arguments}"#));
        exchange(&service, tools_call("raw", json!({})).revision(ProtocolVersion::V2025_11_25).body(body))
    };

    for (arguments, expected) in [
        (r#"{"kind":"b","size":5.0}"#, r#"{"kind":"b","size":5}"#),
        (r#"{"kind":"b","size":-1.50e1}"#, r#"{"kind":"b","size":-15}"#),
        (r#"{"kind":"a","note":5.0}"#, r#"{"kind":"a","note":5.0}"#),
        (r#"{"kind":"a","note":{"size":[1e3]}}"#, r#"{"kind":"a","note":{"size":[1000.0]}}"#),
    ] {
        let result = call(arguments).await.tool_result();

        assert_eq!((result.is_error, result.text().as_str()), (None, expected), "{arguments}");
    }
    for (arguments, says) in [
        (r#"{"kind":"b","size":1.5}"#, "`size`: "),
        (r#"{"kind":"b","size":1e999999999}"#, "number out of range"),
        (r#"{"kind":"b","size":"5.0"}"#, "`size`: "),
    ] {
        let result = call(arguments).await.tool_result();

        assert!(result.is_error == Some(true) && result.text().contains(says), "{arguments}: {}", result.text());
    }
}

#[tokio::test]
async fn null_means_no_arguments() {
    let service = fixture();
    for revision in ProtocolVersion::ALL {
        let simple = exchange(&service, tools_call("simple", Value::Null).revision(revision)).await.tool_result();
        let anything = exchange(&service, tools_call("anything", Value::Null).revision(revision)).await.tool_result();
        let echo = exchange(&service, tools_call("echo", Value::Null).revision(revision)).await.tool_result();

        assert_eq!((simple.is_error, simple.text().as_str()), (None, "simple"));
        assert_eq!((anything.is_error, anything.text().as_str()), (None, "{}"));
        assert!(echo.text().contains("missing field `text`"), "{}", echo.text());
    }
}

#[tokio::test(start_paused = true)]
async fn notifications_are_rate_limited_and_dropped_ones_are_counted() {
    let logs = crate::common::capture_logs();
    let request = || tools_call("count", json!({ "to": 1000 })).progress_token(json!(1));

    // The clock is paused.
    let burst = exchange(&fixture(), request()).await;
    let few = exchange(&fixture(), tools_call("count", json!({ "to": 100 })).progress_token(json!(1))).await;

    assert_eq!((burst.messages.len(), few.messages.len()), (101, 101));
    assert_eq!(burst.tool_result().text(), "counted to 1000");
    let lines = logs.lines();
    let dropped: Vec<_> = lines.iter().filter_map(|line| line.get("dropped")).collect();
    // Progress that does not increase is not counted, except next to a dropped one.
    assert_eq!(dropped, [&json!(1800)]);
    assert!(lines.iter().all(|line| line.get("dropped").is_none() || line["level"] == "WARN"));
}

/// In total, at any rate.
#[tokio::test(start_paused = true)]
async fn a_call_sends_at_most_a_thousand_notifications() {
    async fn chatter(context: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
        for _ in 0..20 {
            for _ in 0..100 {
                context.log(mcp_protocol::LoggingLevel::Error, None, "again").await;
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        Ok("done")
    }
    let server = Server::new("test", "0.0.0", ()).tool(Tool::new("chatter", chatter));
    let service = McpService::new(server, HttpConfig::default()).unwrap();

    let reply = exchange(&service, tools_call("chatter", json!({})).log_level("info")).await;

    assert_eq!(reply.messages.len(), 1001);
}
