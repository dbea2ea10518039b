//! Protocol versions before 2026-07-28, each determined from the request alone.

use mcp_protocol::ProtocolVersion;
use mcp_testing::{McpRequest, Via, discover, exchange, exchange_via, initialize, schema, tools_call, tools_list};
use serde_json::{Value, json};

use crate::common::fixture;

const LEGACY: [ProtocolVersion; 4] = [
    ProtocolVersion::V2025_11_25,
    ProtocolVersion::V2025_06_18,
    ProtocolVersion::V2025_03_26,
    ProtocolVersion::V2024_11_05,
];

#[tokio::test]
async fn initialize_returns_the_requested_version_without_a_session() {
    for revision in LEGACY {
        for via in Via::ALL {
            let reply = exchange_via(via, &fixture(), initialize(revision.as_str()), Default::default()).await;

            assert_eq!(reply.result()["protocolVersion"], revision.as_str());
            assert_eq!(reply.result()["capabilities"], json!({ "logging": {}, "tools": {} }));
            assert!(!reply.headers.contains_key("mcp-session-id"));
        }
    }
}

#[tokio::test]
async fn initialize_with_an_unknown_version_returns_the_newest_legacy_one() {
    for version in ["1999-01-01", "2026-07-28", "2027-01-01", ""] {
        let reply = exchange(&fixture(), initialize(version)).await;

        assert_eq!(reply.result()["protocolVersion"], "2025-11-25", "{version}");
    }
    let with_header = initialize("2027-01-01").header("mcp-protocol-version", "2027-01-01");
    assert_eq!(exchange(&fixture(), with_header).await.result()["protocolVersion"], "2025-11-25");
}

#[tokio::test]
async fn initialize_needs_its_parameters() {
    for params in [json!({}), json!({ "protocolVersion": 5, "capabilities": {}, "clientInfo": {} })] {
        let request = McpRequest::new("initialize", params).revision(ProtocolVersion::V2025_11_25);

        assert_eq!(exchange(&fixture(), request).await.status_and_code(), (200, -32602));
    }
}

#[tokio::test]
async fn invalid_display_fields_of_initialize_are_ignored() {
    let info = json!({ "name": "x", "version": "1", "icons": null, "title": null });
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": { "roots": null }, "clientInfo": info });
    let request = McpRequest::new("initialize", params).revision(ProtocolVersion::V2025_11_25);
    let modern = discover().meta("io.modelcontextprotocol/clientInfo", info);

    assert_eq!(exchange(&fixture(), request).await.status, 200);
    assert_eq!(exchange(&fixture(), modern).await.status, 200);
}

#[tokio::test]
async fn a_client_without_the_version_header_is_served_as_2025_03_26() {
    let request = tools_list().revision(ProtocolVersion::V2025_03_26).without_header("mcp-protocol-version");

    let reply = exchange(&fixture(), request).await;

    assert!(reply.result()["tools"][0].get("annotations").is_some());
}

/// Some clients negotiate a newer revision, and omit the header afterwards.
#[tokio::test]
async fn a_client_without_the_version_header_gets_the_members_that_newer_revisions_have() {
    let service = fixture();
    let bare =
        |request: McpRequest| request.revision(ProtocolVersion::V2025_03_26).without_header("mcp-protocol-version");

    let list = exchange(&service, bare(tools_list())).await;
    let structured = exchange(&service, bare(tools_call("structured", json!({})))).await;
    let array = exchange(&service, bare(tools_call("list", json!({})))).await;
    let blocks = exchange(&service, bare(tools_call("blocks", json!({})))).await;

    let tools = list.result()["tools"].as_array().unwrap();
    let named = |name: &str| tools.iter().find(|tool| tool["name"] == name).unwrap();
    assert_eq!(named("simple")["title"], "Simple");
    assert_eq!(named("structured")["outputSchema"]["type"], "object");
    assert_eq!(structured.result()["structuredContent"]["x"], 1);
    assert_eq!(blocks.result()["content"][0]["annotations"]["lastModified"], "2026-07-28T00:00:00Z");
    // Modern members, and content types that old clients reject, are still omitted.
    assert!(named("list").get("outputSchema").is_none() && array.result().get("structuredContent").is_none());
    assert!(list.result().get("ttlMs").is_none() && list.result().get("resultType").is_none());
    assert_eq!(blocks.result()["content"][5]["type"], "text");
}

#[tokio::test]
async fn ping_and_set_level_return_an_empty_result() {
    for revision in LEGACY {
        let ping = McpRequest::new("ping", json!({})).revision(revision);
        let set_level = McpRequest::new("logging/setLevel", json!({ "level": "debug" })).revision(revision);
        let bad_level = McpRequest::new("logging/setLevel", json!({ "level": "loud" })).revision(revision);

        assert_eq!(exchange(&fixture(), ping).await.result(), &json!({}));
        assert_eq!(exchange(&fixture(), set_level).await.result(), &json!({}));
        assert_eq!(exchange(&fixture(), bad_level).await.status_and_code(), (200, -32602));
    }
}

#[tokio::test]
async fn notifications_and_responses_are_accepted() {
    for body in [
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
    ] {
        for revision in LEGACY {
            let reply = exchange(&fixture(), tools_list().revision(revision).body(body)).await;

            assert_eq!((reply.status.as_u16(), reply.body.as_str()), (202, ""));
        }
    }
}

#[tokio::test]
async fn an_unknown_method_is_an_error_with_status_200() {
    for request in
        [discover(), McpRequest::new("resources/subscribe", json!({})), McpRequest::new("no/such", json!({}))]
    {
        for revision in LEGACY {
            assert_eq!(exchange(&fixture(), request.clone().revision(revision)).await.status_and_code(), (200, -32601));
        }
    }
}

#[tokio::test]
async fn no_message_has_a_field_of_a_newer_revision() {
    // `exchange` validates each message with a schema without unknown fields; these fields must be missing.
    for (revision, lacks, has) in [
        (ProtocolVersion::V2025_11_25, &["resultType", "ttlMs"][..], &["title", "icons"][..]),
        (ProtocolVersion::V2025_06_18, &["resultType", "icons"], &["title", "outputSchema", "annotations"]),
        (ProtocolVersion::V2025_03_26, &["resultType", "ttlMs"], &["annotations", "title", "outputSchema"]),
        (ProtocolVersion::V2024_11_05, &["resultType", "icons", "outputSchema", "annotations"], &["description"]),
    ] {
        let list =
            exchange(&fixture(), tools_list().revision(revision).header("mcp-protocol-version", revision.as_str()))
                .await;
        let hello = exchange(&fixture(), initialize(revision.as_str())).await;
        let text = format!("{}{}", list.body, hello.body);

        for name in lacks {
            assert!(!text.contains(&format!("\"{name}\":")), "{revision} has no {name}: {text}");
        }
        for name in has {
            assert!(text.contains(&format!("\"{name}\":")), "{revision} has {name}: {text}");
        }
    }
}

#[tokio::test]
async fn the_message_check_detects_a_field_of_a_newer_revision() {
    let tool = json!({ "name": "x", "inputSchema": { "type": "object" }, "title": "X" });
    let message = json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": [tool] } });

    assert!(schema::check_from_server(ProtocolVersion::V2025_06_18, "tools/list", &message).is_ok());
    assert!(schema::check_from_server(ProtocolVersion::V2024_11_05, "tools/list", &message).is_err());
}

#[tokio::test]
async fn structured_output_that_is_not_an_object_is_omitted_with_its_schema() {
    for revision in LEGACY {
        let request = |tool: &str| {
            tools_call(tool, json!({})).revision(revision).header("mcp-protocol-version", revision.as_str())
        };
        let list =
            exchange(&fixture(), tools_list().revision(revision).header("mcp-protocol-version", revision.as_str()))
                .await;
        let array = exchange(&fixture(), request("list")).await;
        let object = exchange(&fixture(), request("structured")).await;

        let tools = list.result()["tools"].as_array().unwrap();
        let schema_of =
            |name: &str| tools.iter().find(|tool| tool["name"] == name).unwrap().get("outputSchema").cloned();
        let has_structured = revision >= ProtocolVersion::V2025_03_26;
        assert_eq!(array.result(), &json!({ "content": [{ "type": "text", "text": "[1,2,3]" }] }));
        assert_eq!(schema_of("list"), None);
        assert_eq!(object.result().get("structuredContent").is_some(), has_structured, "{revision}");
        assert_eq!(schema_of("structured").is_some(), has_structured);
        assert_eq!(object.tool_result().text(), r#"{"x":1,"label":{"a":[true]}}"#);
    }
}

#[tokio::test]
async fn content_of_newer_revisions_is_converted() {
    let kinds = |result: &Value| -> Vec<String> {
        result["content"].as_array().unwrap().iter().map(|block| block["type"].as_str().unwrap().to_owned()).collect()
    };
    for (revision, expected) in [
        (ProtocolVersion::V2026_07_28, ["text", "image", "audio", "resource", "resource", "resource_link"]),
        (ProtocolVersion::V2025_06_18, ["text", "image", "audio", "resource", "resource", "resource_link"]),
        (ProtocolVersion::V2025_03_26, ["text", "image", "audio", "resource", "resource", "text"]),
        (ProtocolVersion::V2024_11_05, ["text", "image", "resource", "resource", "resource", "text"]),
    ] {
        let request =
            tools_call("blocks", json!({})).revision(revision).header("mcp-protocol-version", revision.as_str());

        let reply = exchange(&fixture(), request).await;

        assert_eq!(kinds(reply.result()), expected, "{revision}");
    }
    let oldest = tools_call("blocks", json!({}))
        .revision(ProtocolVersion::V2024_11_05)
        .header("mcp-protocol-version", "2024-11-05");
    let reply = exchange(&fixture(), oldest).await;
    assert_eq!(
        reply.result()["content"][2]["resource"],
        json!({ "uri": "urn:mcp:audio", "mimeType": "audio/wav", "blob": "BAUG" })
    );
    assert_eq!(reply.result()["content"][5]["text"], "a name: https://example.com/a");
}

#[tokio::test]
async fn an_elicitation_fails_for_legacy_clients_with_the_reason() {
    for revision in LEGACY {
        let result = exchange(&fixture(), tools_call("asks", json!({})).revision(revision)).await.tool_result();

        assert_eq!(result.is_error, Some(true));
        assert!(result.text().contains("MCP 2026-07-28 or newer"), "{}", result.text());
    }
}

#[tokio::test]
async fn progress_has_a_message_only_where_the_revision_has_one() {
    for revision in ProtocolVersion::ALL {
        let request = tools_call("count", json!({ "to": 2 }))
            .revision(revision)
            .header("mcp-protocol-version", revision.as_str())
            .progress_token(json!("token"));

        let reply = exchange(&fixture(), request).await;

        let progress: Vec<&Value> = reply.messages[..2].iter().map(|message| &message["params"]).collect();
        assert_eq!((&progress[0]["progress"], &progress[1]["progress"]), (&json!(1.0), &json!(2.0)));
        assert_eq!(progress[0]["progressToken"], "token");
        assert_eq!(progress[0].get("message").is_some(), revision >= ProtocolVersion::V2025_03_26);
        assert_eq!(reply.messages.len(), 3);
    }
}

#[tokio::test]
async fn log_messages_follow_the_level_of_each_era() {
    let levels = |messages: &[Value]| -> Vec<String> {
        let logs = messages.iter().filter_map(|message| message["params"]["level"].as_str());
        logs.map(str::to_owned).collect()
    };
    let service = fixture();
    let call = || tools_call("logs", json!({}));

    for revision in LEGACY {
        let reply = exchange(&service, call().revision(revision)).await;
        assert_eq!(levels(&reply.messages), ["info", "error"]);
        assert_eq!(reply.headers["content-type"], "text/event-stream");
    }
    let silent = exchange(&service, call()).await;
    assert_eq!(levels(&silent.messages), [""; 0]);
    assert_eq!(silent.headers["content-type"], "application/json");
    assert_eq!(levels(&exchange(&service, call().log_level("debug")).await.messages), ["debug", "info", "error"]);
    assert_eq!(levels(&exchange(&service, call().log_level("error")).await.messages), ["error"]);
    assert_eq!(levels(&exchange(&service, call().log_level("alert")).await.messages), [""; 0]);
}

fn batch(body: &Value) -> McpRequest {
    tools_list().revision(ProtocolVersion::V2025_03_26).body(body.to_string())
}

fn message(id: u32, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

#[tokio::test]
async fn a_batch_gets_a_response_per_request() {
    let call = message(2, "tools/call", json!({ "name": "simple" }));
    let notification = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let client = json!({ "name": "c", "version": "1" });
    let hello = json!({ "protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": client });
    let body = json!([
        message(1, "tools/list", json!({})), notification, call, message(3, "no/such", json!({})), 5,
        message(4, "initialize", hello), { "jsonrpc": "2.0", "id": 5, "method": 5 },
    ]);

    let reply = exchange(&fixture(), batch(&body)).await;

    assert!(reply.body.starts_with('['));
    let outcomes: Vec<(Value, i64)> = reply
        .messages
        .iter()
        .map(|message| (message["id"].clone(), message["error"]["code"].as_i64().unwrap_or(0)))
        .collect();
    assert_eq!(outcomes[2..], [(json!(3), -32601), (Value::Null, -32600), (json!(4), -32602), (json!(5), -32600)]);
    assert_eq!((&outcomes[0].0, &outcomes[1].0), (&json!(1), &json!(2)));
    schema::check(ProtocolVersion::V2025_03_26, "JSONRPCBatchResponse", &json!(reply.messages[..3])).unwrap();
}

#[tokio::test]
async fn a_batch_with_notifications_is_an_event_stream() {
    let progress = json!({ "name": "count", "arguments": { "to": 2 }, "_meta": { "progressToken": 7 } });
    let body = json!([message(1, "tools/call", progress), message(2, "ping", json!({}))]);

    let reply = exchange(&fixture(), batch(&body)).await;

    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let ids: Vec<&Value> = reply.messages.iter().map(|message| &message["id"]).collect();
    assert_eq!(ids, [&Value::Null, &Value::Null, &json!(1), &json!(2)]);
}

#[tokio::test]
async fn notifications_are_dropped_before_the_results_of_a_batch() {
    let loud = json!({ "name": "large", "arguments": { "bytes": 1_000_000, "notifications": 100 }, "_meta": { "progressToken": 7 } });
    let body = json!([message(1, "tools/call", loud.clone()), message(2, "tools/call", loud)]);

    let reply = exchange(&fixture(), batch(&body)).await;

    assert!(reply.body.len() < 6_291_456, "{}", reply.body.len());
    let ids: Vec<&Value> = reply.messages[reply.messages.len() - 2..].iter().map(|message| &message["id"]).collect();
    assert_eq!(ids, [1, 2]);
}

#[tokio::test]
async fn the_results_of_a_batch_have_a_common_size_limit() {
    let large = json!({ "name": "large", "arguments": { "bytes": 4_000_000 } });
    let body = json!([
        message(1, "tools/call", large.clone()),
        message(2, "tools/call", large),
        message(3, "ping", json!({}))
    ]);

    let reply = exchange(&fixture(), batch(&body)).await;

    assert!(reply.body.len() < 6_291_456, "{}", reply.body.len());
    let errors: Vec<&Value> = reply.messages.iter().map(|message| &message["result"]["isError"]).collect();
    assert_eq!(errors, [&Value::Null, &json!(true), &Value::Null]);
    let told = reply.messages[1]["result"]["content"][0]["text"].as_str().unwrap();
    assert!(told.contains("229") && !told.contains("6291456"), "what the first has left: {told}");
}

#[tokio::test]
async fn a_batch_response_has_an_accepted_media_type() {
    let body = json!([message(1, "ping", json!({}))]);

    let stream = exchange(&fixture(), batch(&body).header("accept", "text/event-stream")).await;
    let neither = exchange(&fixture(), batch(&body).header("accept", "text/html")).await;
    let silent = exchange(&fixture(), batch(&body).without_header("accept")).await;

    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert_eq!(neither.status_and_code(), (406, 406));
    assert_eq!(silent.headers["content-type"], "application/json");
}

#[tokio::test]
async fn a_batch_without_requests_is_accepted() {
    let body = json!([{ "jsonrpc": "2.0", "method": "notifications/initialized" }]);

    assert_eq!(exchange(&fixture(), batch(&body)).await.status, 202);
}

#[tokio::test]
async fn an_empty_or_long_batch_and_one_of_another_revision_is_rejected() {
    let ping = message(1, "ping", json!({}));
    for body in [json!([]), json!(vec![ping.clone(); 101])] {
        assert_eq!(exchange(&fixture(), batch(&body)).await.status_and_code(), (400, -32600));
    }
    for revision in [ProtocolVersion::V2025_06_18, ProtocolVersion::V2025_11_25, ProtocolVersion::V2026_07_28] {
        let request = tools_list().revision(revision).body(json!([ping]).to_string());

        assert_eq!(exchange(&fixture(), request).await.status_and_code(), (400, -32600));
    }
}
