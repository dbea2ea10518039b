//! Protocol version 2026-07-28.

use mcp_lambda::{HttpConfig, McpService};
use mcp_protocol::ProtocolVersion;
use mcp_server::Server;
use mcp_testing::{McpRequest, Via, discover, exchange, exchange_via, tools_call, tools_list};
use serde_json::{Value, json};

use crate::common::{fixture, paged_fixture};

#[tokio::test]
async fn discovery_names_versions_capabilities_and_the_server() {
    let reply = exchange(&fixture(), discover()).await;

    let result = reply.result();
    assert_eq!(result["resultType"], "complete");
    assert_eq!(
        result["supportedVersions"],
        json!(["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"])
    );
    assert_eq!(result["capabilities"], json!({ "logging": {}, "tools": {} }));
    assert_eq!(result["instructions"], "Use it in tests.");
    assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&json!(300_000), &json!("public")));
    let info = &result["_meta"]["io.modelcontextprotocol/serverInfo"];
    assert_eq!(
        (&info["name"], &info["version"], &info["title"]),
        (&json!("fixture"), &json!("1.2.3"), &json!("Fixture"))
    );
}

#[tokio::test]
async fn every_result_is_complete_and_names_the_server() {
    let service = fixture();
    for request in [discover(), tools_list(), tools_call("simple", json!({})), tools_call("fails", json!({}))] {
        for via in Via::ALL {
            let reply = exchange_via(via, &service, request.clone(), Default::default()).await;

            assert_eq!(reply.status, 200);
            assert_eq!(reply.result()["resultType"], "complete");
            assert_eq!(reply.result()["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "fixture");
        }
    }
}

#[tokio::test]
async fn tools_are_listed_in_registration_order_with_all_properties() {
    let reply = exchange(&fixture(), tools_list()).await;

    let tools = reply.result()["tools"].as_array().unwrap();
    assert_eq!(
        tools[0],
        json!({
            "name": "simple",
            "title": "Simple",
            "description": "No arguments.",
            "inputSchema": { "type": "object", "properties": {}, "additionalProperties": false },
            "annotations": { "title": "Simple", "readOnlyHint": true, "destructiveHint": false },
        })
    );
    let named = |name: &str| tools.iter().find(|tool| tool["name"] == name).unwrap();
    assert_eq!(named("region")["inputSchema"]["properties"]["region"]["x-mcp-header"], "Region");
    assert_eq!(named("structured")["outputSchema"]["properties"]["x"]["type"], "integer");
    assert_eq!(named("list")["outputSchema"]["type"], "array");
    assert_eq!(
        named("raw")["inputSchema"]["then"],
        json!({ "required": ["size"] }),
        "the rules of a raw schema are kept"
    );
    assert_eq!(named("raw")["inputSchema"]["properties"]["note"], json!({}));
}

#[tokio::test]
async fn pagination_ends_and_an_invalid_cursor_is_rejected() {
    let service = paged_fixture();
    let all = exchange(&fixture(), tools_list()).await.result()["tools"].clone();
    let list = |cursor: &str| McpRequest::new("tools/list", json!({ "cursor": cursor }));

    let mut seen = Vec::new();
    let mut reply = exchange(&service, tools_list()).await;
    loop {
        seen.extend(reply.result()["tools"].as_array().unwrap().clone());
        let Some(cursor) = reply.result()["nextCursor"].as_str() else { break };
        reply = exchange(&service, list(cursor)).await;
    }

    assert_eq!(Value::from(seen), all);
    for cursor in ["", "x", "ZnJvbTox"] {
        assert_eq!(exchange(&service, list(cursor)).await.status_and_code(), (200, -32602), "{cursor}");
    }
    assert_eq!(
        exchange(&service, McpRequest::new("tools/list", json!({ "cursor": 5 }))).await.status_and_code(),
        (400, -32602)
    );
}

/// Some clients request every list, even if no capability declares it.
#[tokio::test]
async fn empty_lists_are_served_and_not_declared_as_capabilities() {
    let bare = McpService::new(Server::new("bare", "1.0.0", ()), HttpConfig::default()).unwrap();
    for revision in ProtocolVersion::ALL {
        for (method, list) in [
            ("tools/list", "tools"),
            ("prompts/list", "prompts"),
            ("resources/list", "resources"),
            ("resources/templates/list", "resourceTemplates"),
        ] {
            let reply = exchange(&bare, McpRequest::new(method, json!({})).revision(revision)).await;

            assert_eq!(reply.result()[list], json!([]), "{method} in {revision:?}");
        }
    }
    let capabilities = exchange(&bare, discover()).await.result()["capabilities"].clone();
    for capability in ["tools", "prompts", "resources"] {
        assert!(capabilities.get(capability).is_none(), "{capabilities}");
    }
}

#[tokio::test]
async fn an_unknown_method_is_not_found() {
    for method in
        ["initialize", "ping", "logging/setLevel", "resources/subscribe", "completion/complete", "no/such", ""]
    {
        let request = McpRequest::new(method, json!({}));
        let request = if method.is_empty() { request.header("mcp-method", "") } else { request };

        let reply = exchange(&fixture(), request.id(json!("an id"))).await;

        assert_eq!(reply.status_and_code(), (404, -32601), "{method}");
        assert_eq!(reply.response()["id"], "an id");
    }
}

#[tokio::test]
async fn meta_requires_version_and_capabilities() {
    let service = fixture();
    let without_any = discover().body(r#"{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{}}"#);
    let without_params = discover().body(r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#);
    for request in [
        without_any,
        without_params,
        discover().meta("io.modelcontextprotocol/protocolVersion", Value::Null),
        discover().meta("io.modelcontextprotocol/protocolVersion", json!(5)),
        discover().meta("io.modelcontextprotocol/clientCapabilities", Value::Null),
        discover().meta("io.modelcontextprotocol/clientCapabilities", json!([])),
        discover().meta("io.modelcontextprotocol/clientCapabilities", json!({ "sampling": true })),
        discover().meta("io.modelcontextprotocol/clientInfo", json!({ "name": 5 })),
        discover().meta("io.modelcontextprotocol/logLevel", json!("loud")),
        discover().meta("progressToken", json!(1.5)),
        discover().meta("progressToken", json!({})),
        discover().meta("x", json!("x".repeat(65_536))),
        discover().body(r#"{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":["2026-07-28",{}]}}"#),
    ] {
        let message = request.message();

        assert_eq!(exchange(&service, request).await.status_and_code(), (400, -32602), "{message}");
    }
    let without_client = discover().meta("io.modelcontextprotocol/clientInfo", Value::Null);
    assert_eq!(exchange(&service, without_client).await.status, 200);
}

#[tokio::test]
async fn an_unsupported_version_is_rejected_with_the_supported_ones() {
    let request = discover()
        .header("mcp-protocol-version", "v999.0.0")
        .meta("io.modelcontextprotocol/protocolVersion", json!("v999.0.0"));

    let reply = exchange(&fixture(), request).await;

    assert_eq!(reply.status_and_code(), (400, -32022));
    let data = &reply.response()["error"]["data"];
    assert_eq!(data["requested"], "v999.0.0");
    assert_eq!(data["supported"][0], "2026-07-28");
}

#[tokio::test]
async fn a_header_that_differs_from_the_body_or_is_missing_is_a_mismatch() {
    let service = fixture();
    let call = || tools_call("echo", json!({ "text": "x" }));
    for request in [
        discover().meta("io.modelcontextprotocol/protocolVersion", json!("v999.0.0")),
        discover().header("mcp-protocol-version", "2025-11-25"),
        discover().without_header("mcp-protocol-version"),
        tools_list().without_header("mcp-method"),
        tools_list().header("mcp-method", "tools/call"),
        tools_list().header("mcp-method", "TOOLS/LIST"),
        call().without_header("mcp-name"),
        call().header("mcp-name", "Echo"),
        call().header("mcp-name", "=?base64?ZWNobw?="),
        call().header("mcp-name", "=?base64?bGlzdA==?="),
    ] {
        let message = request.message();

        assert_eq!(exchange(&service, request).await.status_and_code(), (400, -32020), "{message}");
    }
    for request in [
        call().header("MCP-NAME", "  echo "),
        call().header("mcp-name", "=?base64?ZWNobw==?="),
        tools_list().header("mcp-name", "ignored"),
    ] {
        assert_eq!(exchange(&service, request).await.status, 200);
    }
}

#[tokio::test]
async fn all_missing_headers_and_members_are_named_at_once() {
    const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    let service = fixture();
    let call = || tools_call("echo", json!({ "text": "x" }));
    let both = format!("`{VERSION}` and `{CAPABILITIES}`");
    for (request, expected) in [
        (
            call().without_header("mcp-protocol-version").without_header("mcp-method").without_header("mcp-name"),
            "headers `MCP-Protocol-Version`, `Mcp-Method`, `Mcp-Name` are missing".to_owned(),
        ),
        (
            call().without_header("mcp-method").without_header("mcp-name"),
            "headers `Mcp-Method`, `Mcp-Name` are missing".to_owned(),
        ),
        (call().without_header("mcp-name"), "header `Mcp-Name` is missing".to_owned()),
        (
            tools_list().without_header("mcp-protocol-version").without_header("mcp-method"),
            "headers `MCP-Protocol-Version`, `Mcp-Method` are missing".to_owned(),
        ),
        (call().meta(VERSION, Value::Null).meta(CAPABILITIES, Value::Null), format!("{both} are missing")),
        (call().meta(VERSION, Value::Null), format!("`{VERSION}` is missing")),
        (call().meta(CAPABILITIES, Value::Null), format!("`{CAPABILITIES}` is missing")),
        (
            discover().body(r#"{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{}}"#),
            format!("it is missing: {both} are required"),
        ),
    ] {
        let reply = exchange(&service, request).await;

        let message = reply.response()["error"]["message"].as_str().unwrap();
        assert!(message.ends_with(&expected), "{message}");
    }
}

#[tokio::test]
async fn mirrored_parameters_are_compared_with_the_body() {
    let service = fixture();
    let call = |arguments: Value| tools_call("region", arguments);
    let both = || call(json!({ "region": "Malmö", "count": 42 })).header("mcp-param-region", "=?base64?TWFsbcO2?=");
    for request in [
        call(json!({ "region": "eu" })),
        call(json!({ "region": "eu" })).header("mcp-param-region", "us"),
        call(json!({ "region": "eu" })).header("mcp-param-region", "eu").header("mcp-param-count", "1"),
        both(),
        both().header("mcp-param-count", "43"),
        both().header("mcp-param-region", "=?base64?TWFsbcO2=?=").header("mcp-param-count", "42"),
    ] {
        let message = request.message();

        assert_eq!(exchange(&service, request).await.status_and_code(), (400, -32020), "{message}");
    }
    // An unknown member cannot hide a value from the comparison.
    for beside in ["1e400", r#""\ud800""#, "[[[]]]"] {
        let request = call(json!({ "region": "us", "x": "BESIDE" }));
        let body = request.message().to_string().replace(r#""BESIDE""#, beside);

        assert_eq!(exchange(&service, request.body(body)).await.status_and_code(), (400, -32020), "{beside}");
    }
    let twice = call(json!({ "region": "us" })).header("mcp-param-region", "us");
    let body = twice.message().to_string().replace(r#""region":"us""#, r#""region":"us","region":"eu""#);
    assert_eq!(exchange(&service, twice.body(body)).await.status_and_code(), (400, -32020));
    for request in [
        call(json!({ "region": "eu" })).header("Mcp-Param-Region", "eu"),
        call(json!({ "region": "eu", "count": null })).header("mcp-param-region", "eu"),
        both().header("mcp-param-count", "42.0"),
        both().header("mcp-param-count", "42").header("mcp-param-unknown", "x"),
    ] {
        assert_eq!(exchange(&service, request).await.tool_result().is_error, None);
    }
}

#[tokio::test]
async fn a_missing_client_capability_is_rejected_by_name() {
    let service = fixture();

    let rejected = exchange(&service, tools_call("asks", json!({}))).await;
    let served = exchange(&service, tools_call("asks", json!({})).capabilities(json!({ "sampling": {} }))).await;

    assert_eq!(rejected.status_and_code(), (400, -32021));
    assert_eq!(rejected.response()["error"]["data"], json!({ "requiredCapabilities": { "sampling": {} } }));
    assert_eq!(served.tool_result().text(), "simple");
}

#[tokio::test]
async fn notifications_are_accepted_and_responses_are_not() {
    let service = fixture();
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;

    let accepted = exchange(&service, tools_list().body(notification)).await;
    let rejected = exchange(&service, tools_list().body(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)).await;
    for body in [notification, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#] {
        let request = tools_list().header("mcp-protocol-version", "1999-01-01").body(body);
        assert_eq!(exchange(&service, request).await.status_and_code(), (400, -32022), "{body}");
    }

    assert_eq!((accepted.status.as_u16(), accepted.body.as_str()), (202, ""));
    assert_eq!(rejected.status_and_code(), (400, -32600));
}

#[tokio::test]
async fn the_id_is_returned_unchanged() {
    for id in [json!(0), json!(-5), json!(u64::MAX), json!(""), json!("ünï\"\n")] {
        let reply = exchange(&fixture(), tools_call("simple", json!({})).id(id.clone())).await;

        assert_eq!(reply.response()["id"], id);
    }
}

#[tokio::test]
async fn a_session_id_and_a_last_event_id_are_ignored() {
    let request = tools_list().header("mcp-session-id", "x").header("last-event-id", "7");

    let reply = exchange(&fixture(), request).await;

    assert_eq!(reply.status, 200);
    assert!(!reply.headers.contains_key("mcp-session-id"));
}

#[tokio::test]
async fn a_legacy_version_in_meta_is_legacy() {
    let version = ProtocolVersion::V2025_11_25;
    let request =
        tools_list().revision(version).meta("io.modelcontextprotocol/protocolVersion", json!(version.as_str()));

    let reply = exchange(&fixture(), request).await;

    assert!(reply.result().get("resultType").is_none());
}
