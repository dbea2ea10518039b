//! The log event of a call, and what it must not contain.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use mcp_lambda::{Env, FromEnv, HttpConfig, McpService, transport::LambdaInvocation};
use mcp_protocol::ProtocolVersion;
use mcp_server::{
    HandlerError, Invocation, NoArguments, Principal, RequestContext, Resource, Server, Tool, ToolContext,
};
use mcp_testing::{
    IssuerResponse, McpRequest, TestIssuer, Via, exchange, exchange_via, prompts_get, resources_read, tools_call,
    tools_list,
};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    authorization,
    common::{State, capture_logs, config, fixture, server, streaming_fixture},
};

#[tokio::test]
async fn each_call_is_one_log_event_with_request_and_outcome() {
    let (logs, service) = (capture_logs(), fixture());
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = tools_call("echo", json!({ "text": "s3cret" }))
        .meta("traceparent", json!(traceparent))
        .meta("io.modelcontextprotocol/clientInfo", json!({ "name": "c".repeat(100), "version": "1.0" }));
    let invocation =
        LambdaInvocation::traced("req-1", "Root=1-69219ad0-0123456789abcdef01234567;Parent=b7ad6b7169203331;Sampled=1");

    let reply = exchange_via(Via::FunctionUrl, &service, request, invocation).await;
    exchange(&service, tools_list()).await;

    let calls = logs.calls();
    assert_eq!(calls.len(), 2, "{calls:?}");
    let call = &calls[0];
    for (field, value) in [
        ("level", json!("INFO")),
        ("request_id", json!("req-1")),
        ("trace_id", json!("1-69219ad0-0123456789abcdef01234567")),
        ("traceparent", json!(traceparent)),
        ("method", json!("tools/call")),
        ("dimension.item", json!("echo")),
        ("era", json!("modern")),
        ("revision", json!("2026-07-28")),
        ("client_name", json!("c".repeat(64))),
        ("client_version", json!("1.0")),
        ("outcome", json!("ok")),
        ("status", json!(200)),
        ("response_bytes", json!(reply.body.len())),
        ("streamed", json!(false)),
        ("cold_start", json!(true)),
        ("monotonic_counter.cold_starts", json!(1)),
    ] {
        assert_eq!(call[field], value, "{field}: {call}");
    }
    assert!(call["histogram.duration_ms"].as_f64().unwrap() > 0.0);
    assert_eq!((&calls[1]["method"], &calls[1]["cold_start"]), (&json!("tools/list"), &json!(false)));
    assert_eq!(calls[1].get("dimension.item"), None);
    assert!(!logs.read().contains("s3cret"));
}

#[tokio::test]
async fn each_outcome_has_a_name_and_a_metric() {
    let soon = Invocation { deadline: Instant::now().checked_add(Duration::from_millis(600)), ..Invocation::default() };
    for (request, outcome, counter, level) in [
        (tools_call("simple", json!({})), "ok", None, "INFO"),
        (tools_call("fails", json!({})), "tool_error", Some("tool_errors"), "INFO"),
        (tools_call("echo", json!({})), "tool_error", Some("tool_errors"), "INFO"),
        (tools_call("fails_inside", json!({})), "fault", Some("faults"), "ERROR"),
        (tools_call("panics", json!({})), "fault", Some("faults"), "ERROR"),
        (tools_call("sleeps", json!({})), "timeout", Some("timeouts"), "WARN"),
        (tools_call("large", json!({ "bytes": 7_000_000 })), "too_large", Some("too_large_results"), "WARN"),
        (McpRequest::new("no/method", json!({})), "invalid", Some("invalid_calls"), "INFO"),
        (tools_list().without_header("mcp-method"), "invalid", Some("invalid_calls"), "INFO"),
        (tools_list().header("accept", "text/html"), "invalid", Some("invalid_calls"), "INFO"),
        (tools_list().body("{"), "invalid", Some("invalid_calls"), "INFO"),
        (legacy_list_of("[1]"), "invalid", Some("invalid_calls"), "INFO"),
    ] {
        let logs = capture_logs();
        let name = format!("{} {}", request.message(), outcome);

        let invocation = if outcome == "timeout" { soon.clone() } else { Invocation::default() };
        let reply = exchange_via(Via::FunctionUrl, &fixture(), request, invocation).await;

        let calls = logs.calls();
        assert_eq!(calls.len(), 1, "{name}: {calls:?}");
        let call = &calls[0];
        assert_eq!((&call["outcome"], &call["level"]), (&json!(outcome), &json!(level)), "{name}: {call}");
        let counted = call.as_object().unwrap().keys().filter_map(|key| key.strip_prefix("monotonic_counter."));
        let counted: Vec<_> = counted.filter(|name| *name != "cold_starts").collect();
        assert_eq!(counted, counter.into_iter().collect::<Vec<_>>(), "{name}");
        assert_eq!(call.get("error").is_some(), outcome == "fault", "{name}");
        assert_eq!(call.get("error_code").is_some(), reply.body.contains(r#""error":"#), "{name}: {call}");
    }
}

/// A paused database is not a fault of the server, and has its own metric.
#[tokio::test]
async fn unavailable_dependencies_have_their_own_metric() {
    async fn away(_: ToolContext<State>, _: NoArguments) -> Result<String, HandlerError> {
        Err(HandlerError::unavailable("Try again.", "no route"))
    }
    async fn read_away(_: RequestContext<State>) -> Result<String, HandlerError> {
        Err(HandlerError::unavailable("Try again.", "no route"))
    }
    let server = Server::new("away", "1.0.0", State)
        .tool(Tool::new("away", away).description("Is away."))
        .resource(Resource::new("away://it", "away", read_away));
    let service = McpService::new(server, config()).unwrap();
    for request in [tools_call("away", json!({})), resources_read("away://it")] {
        let logs = capture_logs();

        exchange_via(Via::FunctionUrl, &service, request, Invocation::default()).await;

        let call = &logs.calls()[0];
        for (field, value) in [
            ("outcome", json!("unavailable")),
            ("level", json!("WARN")),
            ("monotonic_counter.unavailable_calls", json!(1)),
            ("error", json!("no route")),
        ] {
            assert_eq!(call[field], value, "{field}: {call}");
        }
        assert_eq!(call.get("monotonic_counter.faults"), None);
    }
}

/// A request with an invalid progress token: a legacy client gets the error with status 200.
fn legacy_list_of(progress_token: &str) -> McpRequest {
    let message = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"progressToken":TOKEN}}}"#;
    tools_list().revision(ProtocolVersion::V2025_11_25).body(message.replace("TOKEN", progress_token))
}

#[tokio::test]
async fn a_long_error_chain_is_truncated() {
    let logs = capture_logs();

    exchange(&fixture(), tools_call("fails_at_length", json!({}))).await;

    let call = &logs.calls()[0];
    assert_eq!(call["outcome"], "fault");
    assert_eq!(call["error"].as_str().unwrap().len(), 8 * 1024);
}

#[tokio::test]
async fn callers_cannot_create_metric_series() {
    let (logs, service) = (capture_logs(), fixture());
    let names = ["no_such_tool", "", "Simple", "simple ", "__proto__", "{\"a\":1}", "näme", "unknown"];
    for name in names {
        let encoded = if name.is_ascii() { name } else { "=?base64?bsOkbWU=?=" };
        exchange(&service, tools_call(name, json!({})).header("mcp-name", encoded)).await;
        exchange(&service, prompts_get(name, json!({})).header("mcp-name", encoded)).await;
        exchange(&service, McpRequest::new(&format!("m{name}"), json!({})).header("mcp-method", "x")).await;
    }
    exchange(&service, tools_call("simple", json!({}))).await;

    let calls = logs.calls();
    let seen = |field: &str| {
        let values = calls.iter().filter_map(|call| call.get(field)?.as_str().map(str::to_owned));
        values.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(calls.len(), 3 * names.len() + 1);
    assert_eq!(seen("dimension.item"), ["simple", "unknown"]);
    assert_eq!(seen("method"), ["prompts/get", "tools/call", "unknown"]);
}

#[tokio::test]
async fn a_stream_is_logged_at_its_end_and_a_dropped_one_as_abandoned() {
    let logs = capture_logs();
    let request = || tools_call("count", json!({ "to": 3 })).progress_token(json!(1)).into_http();

    let body = streaming_fixture().oneshot(request()).await.unwrap().into_body();
    assert!(logs.calls().is_empty());
    let bytes = body.collect().await.unwrap().to_bytes();

    let calls = logs.calls();
    assert_eq!((calls.len(), &calls[0]["outcome"], &calls[0]["streamed"]), (1, &json!("ok"), &json!(true)));
    let said = usize::try_from(calls[0]["response_bytes"].as_u64().unwrap()).unwrap();
    // Without the framing of the last event.
    assert_eq!(said, bytes.len() - "data: \n\n".len());

    let mut body = streaming_fixture().oneshot(request()).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);

    let calls = logs.calls();
    assert_eq!((calls.len(), &calls[1]["outcome"], &calls[1]["level"]), (2, &json!("abandoned"), &json!("WARN")));
    assert_eq!(calls[1]["dimension.item"], "count");
}

#[tokio::test]
async fn each_request_of_a_batch_has_a_log_event() {
    let logs = capture_logs();
    let body = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "simple" } },
        { "jsonrpc": "2.0", "id": 2, "method": "ping" },
        { "jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": { "name": "fails" } },
    ]);
    let request = tools_list().revision(ProtocolVersion::V2025_03_26).body(body.to_string());

    exchange(&fixture(), request).await;

    let calls = logs.calls();
    let ends: Vec<_> = calls.iter().map(|call| (call["method"].as_str().unwrap(), &call["outcome"])).collect();
    assert_eq!(ends, [("tools/call", &json!("ok")), ("ping", &json!("ok")), ("tools/call", &json!("tool_error"))]);
    assert!(calls.iter().all(|call| call["era"] == "legacy"));
    let cold: Vec<_> = calls.iter().map(|call| call["cold_start"].as_bool().unwrap()).collect();
    assert_eq!(cold, [true, false, false]);
}

#[tokio::test]
async fn a_batch_without_a_valid_request_has_one_log_event() {
    let logs = capture_logs();
    let request = tools_list().revision(ProtocolVersion::V2025_03_26).body("[1,2,3]");

    exchange(&fixture(), request).await;

    let calls = logs.calls();
    assert_eq!((calls.len(), &calls[0]["cold_start"]), (1, &json!(true)), "{calls:?}");
}

#[tokio::test]
async fn a_rejected_origin_is_logged() {
    let logs = capture_logs();

    let reply = exchange(&fixture(), tools_list().header("origin", "https://evil.example")).await;

    assert_eq!(reply.status, 403);
    let lines = logs.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["origin"], "https://evil.example");
}

#[tokio::test]
async fn only_calls_have_a_log_event() {
    let logs = capture_logs();

    for method in [http::Method::GET, http::Method::OPTIONS, http::Method::DELETE] {
        exchange(&fixture(), tools_list().http_method(method).body("")).await;
    }

    assert!(logs.calls().is_empty(), "{}", logs.read());
}

fn subject_of(call: &Value) -> Option<&str> {
    call.get("subject")?.as_str()
}

#[tokio::test]
async fn the_subject_is_a_pseudonym_unless_configured() {
    let key = ("MCP_STATE_KEY", authorization::STATE_KEY);
    let call = async |variables: &[(&str, &str)]| {
        let config = HttpConfig::from_env(&Env::from_pairs(variables.iter().copied())).unwrap();
        let service = McpService::new(server(), config).unwrap();
        let logs = capture_logs();
        let caller = Principal::new("https://issuer.example", "ada@example.com");
        let invocation = Invocation { principal: Some(caller.into()), ..Invocation::default() };
        exchange_via(Via::FunctionUrl, &service, tools_list(), invocation).await;
        let whole = logs.read();
        (logs.calls().remove(0), whole)
    };

    let ((hidden, log), (plain, _), (none, _)) =
        (call(&[key]).await, call(&[key, ("MCP_LOG_SUBJECT", "plain")]).await, call(&[]).await);

    assert_eq!(subject_of(&hidden).unwrap().len(), 16);
    assert!(!log.contains("ada@example.com"), "{log}");
    assert_eq!(subject_of(&plain), Some("ada@example.com"));
    assert_eq!(subject_of(&none), None);
}

#[tokio::test]
async fn a_rejected_caller_has_an_audit_event_and_a_call_event() {
    let issuer = TestIssuer::start().await;
    let service = authorization::service(authorization::server(), &issuer, &[]);
    let expired = issuer.mint([], |_, claims| claims["exp"] = json!(1));
    for (request, item, audit) in [
        (tools_call("closed", json!({})), Some("closed"), "request rejected: caller not authorized"),
        (
            tools_call("write", json!({})).bearer(&issuer.token([])),
            Some("write"),
            "request rejected: caller not authorized",
        ),
        (tools_call("closed", json!({})).bearer(&expired), None, "a token was refused"),
        (tools_list().header("authorization", "Basic eA=="), None, "an Authorization header has no bearer token"),
    ] {
        let logs = capture_logs();

        exchange(&service, request).await;

        let calls = logs.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        assert_eq!(
            (&calls[0]["outcome"], calls[0].get("dimension.item")),
            (&json!("refused"), item.map(Value::from).as_ref())
        );
        let audits: Vec<_> = logs.lines().into_iter().filter(|line| line["message"] == audit).collect();
        assert_eq!(audits.len(), 1, "{}", logs.read());
        assert_eq!(audits[0]["monotonic_counter.token_refusals"], json!(1), "{}", audits[0]);
        assert!(calls[0]["method"].is_string(), "{}", calls[0]);
    }
}

#[tokio::test]
async fn a_challenge_in_a_result_is_logged_as_refused() {
    let issuer = TestIssuer::start().await;
    let service = authorization::service(authorization::server(), &issuer, &[("MCP_CHALLENGE", "result")]);
    let logs = capture_logs();

    let reply = exchange(&service, tools_call("closed", json!({}))).await;

    assert_eq!(reply.status, 200);
    let call = &logs.calls()[0];
    assert_eq!((&call["outcome"], &call["monotonic_counter.refused_calls"]), (&json!("refused"), &json!(1)), "{call}");
}

#[tokio::test]
async fn unavailable_keys_are_logged_as_a_fault() {
    let issuer = TestIssuer::start().await;
    let service = authorization::service(authorization::server(), &issuer, &[]);
    let token = issuer.token([]);
    issuer.set_keys_response(IssuerResponse::Status(500));
    issuer.set_response("/.well-known/openid-configuration", IssuerResponse::Status(500));
    let logs = capture_logs();

    let reply = exchange(&service, tools_call("closed", json!({})).bearer(&token)).await;

    assert_eq!(reply.status, 503);
    let call = &logs.calls()[0];
    assert_eq!((&call["outcome"], &call["level"]), (&json!("fault"), &json!("ERROR")), "{call}");
    assert!(call["error"].as_str().unwrap().contains("keys"), "{call}");
    assert!(!logs.read().contains("token_refusals"), "{}", logs.read());
}
