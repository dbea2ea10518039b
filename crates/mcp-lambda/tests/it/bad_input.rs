//! Hostile input, as events of a Function URL.

use crate::common::{self, Fixture, fixture};
use http::Method;
use mcp_protocol::ProtocolVersion;
use mcp_server::Invocation;
use mcp_testing::{McpRequest, Via, exchange, exchange_via, tools_call, tools_list};
use serde_json::{Value, json};

/// Status and code of the reply to a body.
async fn error_response(body: impl Into<bytes::Bytes>) -> (u16, i64, Value) {
    let reply = exchange(&fixture(), tools_list().body(body)).await;
    let (status, code) = reply.status_and_code();
    (status, code, reply.response().get("id").cloned().unwrap_or_default())
}

#[tokio::test]
async fn what_is_not_json_is_a_parse_error() {
    for body in [&b""[..], b"{", b"hello", b"{\"jsonrpc\":\"2.0\",\"id\":1,", b"\xff\xfe", b"\"\xc3\x28\""] {
        assert_eq!(error_response(body).await, (400, -32700, Value::Null), "{body:?}");
    }
}

#[tokio::test]
async fn json_that_is_not_a_message_is_an_invalid_request() {
    for body in ["5", "null", "\"x\"", "{}", r#"{"jsonrpc":"2.0"}"#, r#"{"a":[1]}"#] {
        assert_eq!(error_response(body).await, (400, -32600, Value::Null), "{body}");
    }
}

#[tokio::test]
async fn wrong_member_types_are_an_invalid_request_with_the_id() {
    for (body, id) in [
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, json!(null)),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, json!(null)),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, json!(null)),
        (r#"{"jsonrpc":"2.0","id":1e400,"method":"ping"}"#, json!(null)),
        (r#"{"jsonrpc":"2.0","id":"\ud800","method":"ping"}"#, json!(null)),
        (r#"{"jsonrpc":"2.0","id":7,"method":5}"#, json!(7)),
        (r#"{"jsonrpc":"2.0","id":7,"method":null}"#, json!(7)),
        (r#"{"jsonrpc":"2.0","id":7,"method":"\udc00"}"#, json!(7)),
        (r#"{"jsonrpc":"2.0","id":"a","method":"ping","params":[]}"#, json!("a")),
        (r#"{"jsonrpc":"2.0","id":"a","method":"ping","params":"x"}"#, json!("a")),
        (r#"{"jsonrpc":2.0,"id":7,"method":"ping"}"#, json!(7)),
        (r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#, json!(7)),
        (r#"{"jsonrpc":"2.0","id":7,"method":"ping","method":"tools/list"}"#, json!(7)),
        (r#"{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}"#, json!(null)),
    ] {
        assert_eq!(error_response(body).await, (400, -32600, id), "{body}");
    }
}

#[tokio::test]
async fn duplicate_members_of_parameters_are_rejected() {
    let request = tools_call("echo", json!({}));
    let mut message = request.message();
    message["params"]["name"] = json!("other");
    let body = message.to_string().replacen(r#""name":"other""#, r#""name":"echo","name":"other""#, 1);

    let reply = exchange(&fixture(), request.body(body)).await;

    assert_eq!(reply.status_and_code(), (400, -32602));
    assert_eq!(reply.response()["id"], 1);
}

#[tokio::test]
async fn duplicate_arguments_are_a_tool_error() {
    let request = tools_call("echo", json!({ "text": "first" }));
    let body = request.message().to_string().replacen(r#""text":"first""#, r#""text":"first","text":"second""#, 1);

    let result = exchange(&fixture(), request.body(body)).await.tool_result();

    assert_eq!(result.is_error, Some(true));
    assert!(result.text().contains("duplicate field `text`"), "{}", result.text());
}

#[tokio::test]
async fn deep_nesting_is_rejected_everywhere() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let call = tools_call("echo", json!({ "text": "DEEP" }));
    let text = call.message().to_string();
    let service = fixture();

    let in_arguments = exchange(&service, call.clone().body(text.replace("\"DEEP\"", &deep))).await;
    let in_meta = exchange(&service, call.clone().body(text.replace("\"1.0.0\"", &deep))).await;
    let beside =
        exchange(&service, call.clone().body(text.replace("\"text\"", &format!("\"x\":{deep},\"text\"")))).await;
    let alone = exchange(&service, tools_list().body(deep.clone())).await;
    let open = exchange(&service, tools_list().body("[".repeat(10_000))).await;
    let as_id =
        exchange(&service, tools_list().body(format!(r#"{{"jsonrpc":"2.0","id":{deep},"method":"ping"}}"#))).await;

    assert_eq!(in_arguments.tool_result().is_error, Some(true));
    assert_eq!(in_meta.status_and_code(), (400, -32602));
    assert_eq!(beside.tool_result().is_error, Some(true));
    assert_eq!(alone.status_and_code().0, 400);
    assert_eq!(open.status_and_code(), (400, -32700));
    assert_eq!(as_id.status_and_code(), (400, -32600));
}

#[tokio::test]
async fn out_of_range_numbers_and_lone_surrogates_are_a_tool_error() {
    for (tool, arguments, says) in [
        ("count", r#"{"to":1e400}"#, "number out of range"),
        ("count", r#"{"to":99999999999999999999}"#, "`to`"),
        ("count", r#"{"to":-1}"#, "`to`"),
        ("echo", r#"{"text":"\ud800"}"#, "`text`"),
        ("anything", r#"{"x":1e400}"#, "number out of range"),
    ] {
        let request = tools_call(tool, json!("ARGUMENTS"));
        let body = request.message().to_string().replace("\"ARGUMENTS\"", arguments);

        let result = exchange(&fixture(), request.body(body)).await.tool_result();

        assert_eq!(result.is_error, Some(true), "{arguments}");
        assert!(result.text().contains(says), "{arguments}: {}", result.text());
    }
}

#[tokio::test]
async fn a_body_is_limited_to_six_megabytes() {
    const LIMIT: usize = 6 * 1024 * 1024;
    let request = tools_call("length", json!({ "text": "" }));
    let overhead = request.message().to_string().len();
    let with_text = |length: usize| tools_call("length", json!({ "text": "x".repeat(length) }));
    let service = fixture();

    let largest = exchange(&service, with_text(LIMIT - overhead)).await;
    let too_large = exchange(&service, with_text(LIMIT - overhead + 1)).await;

    assert_eq!(largest.tool_result().text(), (LIMIT - overhead).to_string());
    assert_eq!(
        (too_large.status_and_code(), &too_large.response()["id"]),
        ((413, 413), &json!(1)),
        "the error has the request's id"
    );
    assert!(too_large.response()["error"]["message"].as_str().unwrap().contains("6291456"));
}

#[tokio::test]
async fn another_content_type_is_rejected() {
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", ""] {
        let reply = exchange(&fixture(), tools_list().header("content-type", content_type)).await;

        assert_eq!(reply.status_and_code(), (415, 415), "{content_type}");
        assert_eq!(reply.response()["id"], 1, "the error has the request's id");
    }
    let without = exchange(&fixture(), tools_list().without_header("content-type")).await;
    assert_eq!(without.status_and_code(), (415, 415));
}

#[tokio::test]
async fn a_compressed_body_is_rejected_with_the_supported_encoding() {
    let gzip = [0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 3, 0xab, 0xae, 5, 0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0];
    for via in [Via::Http, Via::FunctionUrlBase64] {
        for request in [
            tools_list().body(gzip.to_vec()).header("content-encoding", "gzip"),
            tools_list().header("content-encoding", "br"),
            tools_list().header("content-encoding", "identity, zstd"),
        ] {
            let reply = exchange_via(via, &fixture(), request, Invocation::default()).await;

            assert_eq!(reply.status_and_code(), (415, 415));
            assert!(reply.body.contains("without Content-Encoding"), "{}", reply.body);
            assert_eq!(reply.headers["accept-encoding"], "identity");
        }
        let identity = tools_list().header("content-encoding", "Identity");
        let identity = exchange_via(via, &fixture(), identity, Invocation::default()).await;
        assert_eq!(identity.status, 200);
    }
}

#[tokio::test]
async fn an_unsupported_accept_header_is_406_and_a_missing_one_unless_legacy() {
    let service = fixture();
    let legacy = || tools_list().revision(ProtocolVersion::V2025_06_18);

    let html = exchange(&service, tools_list().header("accept", "text/html")).await;
    let silent = exchange(&service, tools_list().without_header("accept")).await;
    let legacy_html = exchange(&service, legacy().header("accept", "text/html")).await;
    let legacy_silent = exchange(&service, legacy().without_header("accept")).await;

    assert_eq!(html.status_and_code(), (406, 406));
    assert_eq!(html.response()["id"], 1, "the response has the id");
    assert_eq!(silent.status_and_code(), (406, 406));
    assert_eq!(legacy_html.status_and_code(), (406, 406));
    assert_eq!(legacy_silent.status, 200);
}

#[tokio::test]
async fn an_unknown_tool_is_an_invalid_parameter() {
    let reply = exchange(&fixture(), tools_call("no such tool", json!({}))).await;

    assert_eq!(reply.status_and_code(), (200, -32602));
    assert!(reply.response()["error"]["message"].as_str().unwrap().contains("no such tool"));
}

#[tokio::test]
async fn caller_supplied_text_is_truncated_in_errors() {
    let long = "\"é".repeat(1_000_000);
    let legacy = |request: McpRequest| request.revision(ProtocolVersion::V2025_11_25);
    let service = fixture();

    let tool = exchange(
        &service,
        legacy(tools_call("echo", json!({})))
            .body(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": long } }).to_string()),
    );
    let method =
        exchange(&service, legacy(tools_list()).body(json!({ "jsonrpc": "2.0", "id": 1, "method": long }).to_string()));
    let params = exchange(
        &service,
        legacy(tools_list())
            .body(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": long.clone() }).to_string()),
    );
    let cursor = exchange(
        &service,
        legacy(tools_list()).body(
            json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "cursor": long } }).to_string(),
        ),
    );
    let id = exchange(
        &service,
        legacy(tools_list()).body(json!({ "jsonrpc": "2.0", "id": long, "method": "tools/list" }).to_string()),
    );
    let version = "v".repeat(60_000);
    let version = exchange(
        &service,
        tools_list()
            .header("mcp-protocol-version", &version)
            .meta("io.modelcontextprotocol/protocolVersion", json!(version)),
    );

    let (tool, method, params) = (tool.await, method.await, params.await);
    let (cursor, id, version) = (cursor.await, id.await, version.await);
    assert_eq!(tool.status_and_code(), (200, -32602));
    assert_eq!(method.status_and_code(), (200, -32601));
    assert_eq!(params.status_and_code(), (400, -32600));
    assert_eq!(cursor.status_and_code(), (200, -32602));
    assert_eq!(id.status_and_code(), (400, -32600));
    assert_eq!(version.status_and_code(), (400, -32022));
    for reply in [tool, method, params, cursor, id, version] {
        assert!(reply.body.len() < 8192, "{}", reply.body.len());
    }
}

#[tokio::test]
async fn a_call_without_a_name_is_an_invalid_parameter() {
    for params in [json!({}), json!({ "name": 5 }), json!({ "name": null })] {
        let reply = exchange(&fixture(), McpRequest::new("tools/call", params).header("mcp-name", "echo")).await;

        assert_eq!(reply.status_and_code(), (400, -32602));
    }
}

#[tokio::test]
async fn invalid_arguments_are_explained() {
    for (arguments, says) in [
        (json!({}), &["missing field `text`", "`text` (string, required)"][..]),
        (json!({ "text": "a", "other": 1 }), &["unknown field `other`", "expected `text`"]),
        (json!({ "text": 5 }), &["`text`", "integer `5`", "expected a string"]),
        (json!([]), &["must be a JSON object, not an array"]),
        (json!(5), &["must be a JSON object, not `5`"]),
        (json!("x"), &["must be a JSON object"]),
    ] {
        let result = exchange(&fixture(), tools_call("echo", arguments.clone())).await.tool_result();

        assert_eq!(result.is_error, Some(true), "{arguments}");
        for part in says {
            assert!(result.text().contains(part), "{arguments}: {}", result.text());
        }
    }
}

#[tokio::test]
async fn arguments_may_be_absent() {
    let request = McpRequest::new("tools/call", json!({ "name": "simple" })).header("mcp-name", "simple");

    assert_eq!(exchange(&fixture(), request).await.tool_result().text(), "simple");
}

#[tokio::test]
async fn get_and_delete_are_not_allowed_in_either_era() {
    for method in [Method::GET, Method::DELETE, Method::PUT, Method::PATCH, Method::HEAD] {
        for revision in ProtocolVersion::ALL {
            let reply = exchange(&fixture(), tools_list().revision(revision).http_method(method.clone())).await;

            assert_eq!(reply.status, 405, "{method}");
            assert_eq!(reply.headers["allow"], "POST, OPTIONS");
        }
    }
}

#[tokio::test]
async fn other_paths_are_not_found() {
    for path in ["/mcp2", "/mcp//", "/.well-known/oauth-protected-resource", "//", "/admin"] {
        assert_eq!(exchange(&fixture(), tools_list().path(path)).await.status, 404, "{path}");
    }
    // Users and clients write URLs with and without a trailing slash.
    for path in ["/mcp", "/", "/mcp?token=x", "/mcp/", "/mcp/?token=x"] {
        assert_eq!(exchange(&fixture(), tools_list().path(path)).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn bodies_are_never_logged() {
    let logs = common::capture_logs();
    let service = fixture();

    for body in ["s3cret", r#"{"s3cret":1}"#, r#"{"jsonrpc":"2.0","id":"s3cret","method":["s3cret"]}"#] {
        exchange(&service, tools_list().body(body)).await;
    }
    exchange(&service, tools_call("echo", json!({ "s3cret": "s3cret" }))).await;
    exchange(&service, tools_call("s3cret", json!({}))).await;
    exchange(&service, tools_call("fails_inside", json!({}))).await;

    let logs = logs.read();
    assert!(logs.contains("the disk is full"), "the log is captured at all: {logs}");
    assert!(!logs.contains("s3cret"), "{logs}");
}

#[tokio::test]
async fn every_event_source_rejects_in_the_same_way() {
    let service: Fixture = fixture();
    for via in Via::ALL {
        for (body, expected) in [("{", (400, -32700)), ("5", (400, -32600))] {
            let reply = exchange_via(via, &service, tools_list().body(body), Default::default()).await;

            assert_eq!(reply.status_and_code(), expected, "{via:?}");
        }
    }
}

/// The arguments that a raw schema has validated are those that the handler gets, whichever parser it uses.
#[tokio::test]
async fn ambiguous_arguments_are_rejected() {
    let call = |tool: &str, arguments: &str| {
        let message = tools_call(tool, json!("ARGUMENTS")).message().to_string().replace("\"ARGUMENTS\"", arguments);
        tools_call(tool, json!({})).body(message)
    };
    for tool in ["raw", "anything", "echo"] {
        for arguments in [
            r#"{"kind":"a","kind":"z"}"#,
            r#"{"kind":"a","note":{"x":1,"\u0078":2}}"#,
            r#"{"$serde_json::private::RawValue":"{\"kind\":\"z\"}"}"#,
            r#"{"kind":"a","note":{"$serde_json::private::RawValue":"[1]"}}"#,
        ] {
            let result = exchange(&fixture(), call(tool, arguments)).await.tool_result();

            assert_eq!(result.is_error, Some(true), "{tool} {arguments}");
            let text = result.text();
            assert!(
                text.contains("duplicate field") || text.contains("name is reserved"),
                "{tool} {arguments}: {text}"
            );
        }
    }
    let good = exchange(&fixture(), call("anything", r#"{"kind":"a","note":{"x":1}}"#)).await.tool_result();
    assert_eq!(good.text(), r#"{"kind":"a","note":{"x":1}}"#);
}
