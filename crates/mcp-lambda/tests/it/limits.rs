//! Rate limits: who is counted, and how a request over a limit is rejected.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use http_body_util::BodyExt;
use mcp_lambda::{
    Env, FromEnv, HttpConfig, McpService, RateLimit, Server, Tool,
    transport::{Body, SourceAddress},
};
use mcp_protocol::ProtocolVersion;
use mcp_server::{HandlerError, Invocation, NoArguments, Principal, ToolContext};
use mcp_testing::{
    McpRequest, Reply, TestIssuer, Via, as_caller, exchange, exchange_via, initialize, tools_call, tools_list,
};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{authorization, common::capture_logs};

async fn answer(_: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("42")
}

fn per_minute(requests: u32) -> RateLimit {
    RateLimit::per_caller(requests, Duration::from_secs(60))
}

/// Calls of `answer` are limited to 2 a minute.
fn server() -> Server<()> {
    let limited = Tool::new("answer", answer).limit(per_minute(2));
    Server::new("limited", "1.0.0", ()).tool(limited).tool(Tool::new("free", answer))
}

fn service(server: Server<()>, pairs: &[(&str, &str)]) -> McpService {
    McpService::new(server, HttpConfig::from_env(&Env::from_pairs(pairs.iter().copied())).unwrap()).unwrap()
}

fn ada() -> Invocation {
    as_caller(Principal::new("https://issuer.example", "ada"))
}

async fn as_ada(service: &McpService, request: McpRequest) -> Reply {
    exchange_via(Via::FunctionUrl, service, request, ada()).await
}

/// Sends a request with another source address.
async fn from(service: &McpService, address: &str, request: McpRequest) -> Reply {
    let mut http = request.clone().into_http();
    http.extensions_mut().insert(SourceAddress(address.parse().unwrap()));
    let (parts, body) = service.handle(http).await.into_parts();
    Reply::read(&request, parts.status, parts.headers, &body.collect().await.unwrap().to_bytes())
}

/// The number of seconds in a rejection, from 1 to 60, and the text with `N` in its place.
fn without_seconds(text: &str) -> String {
    let (start, wait) = text.rsplit_once("try again in ").unwrap();
    let seconds: u32 = wait.split(' ').next().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{text}");
    format!("{start}try again in N")
}

fn retry_after(reply: &Reply) -> Option<u32> {
    reply.headers.get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_call_over_the_limit_is_a_tool_result_that_says_when_to_try_again() {
    let revisions = [ProtocolVersion::LATEST, ProtocolVersion::LATEST_LEGACY, ProtocolVersion::V2024_11_05];
    for revision in revisions {
        let (service, logs) = (service(server(), &[]), capture_logs());
        let call = || tools_call("answer", json!({})).revision(revision);
        for _ in 0..2 {
            assert_eq!(as_ada(&service, call()).await.tool_result().is_error, None);
        }

        let reply = as_ada(&service, call()).await;

        assert_eq!((reply.status.as_u16(), retry_after(&reply)), (200, None));
        let result = reply.tool_result();
        assert_eq!(result.is_error, Some(true));
        let expected = "rate limit reached: at most 2 calls of `answer` in 60 seconds for each caller; try again in N";
        assert_eq!(without_seconds(&result.text()), expected);
        assert_eq!(
            as_ada(&service, tools_call("free", json!({})).revision(revision)).await.tool_result().is_error,
            None
        );
        let bob = as_caller(Principal::new("https://issuer.example", "bob"));
        let other = exchange_via(Via::FunctionUrl, &service, call(), bob).await;
        assert_eq!(other.tool_result().is_error, None, "another caller");
        let outcomes: Vec<_> = logs.calls().iter().map(|call| call["outcome"].clone()).collect();
        assert_eq!(outcomes, ["ok", "ok", "limited", "ok", "ok"]);
        let rejection =
            logs.lines().into_iter().find(|line| line["message"] == "request rejected: rate limit").unwrap();
        assert_eq!(rejection["issuer"], "https://issuer.example");
        assert_eq!(rejection["monotonic_counter.limited_requests"], 1);
    }
}

#[tokio::test]
async fn another_request_over_the_limit_is_an_error_with_the_time() {
    for (revision, status) in [(ProtocolVersion::LATEST, 429), (ProtocolVersion::LATEST_LEGACY, 200)] {
        let service = service(server().limit(per_minute(1)), &[]);
        as_ada(&service, tools_list().revision(revision)).await.result();

        let reply = as_ada(&service, tools_list().revision(revision)).await;

        assert_eq!(reply.status_and_code(), (status, 429));
        let seconds = retry_after(&reply).unwrap();
        assert_eq!(reply.response()["error"]["data"], json!({ "retryAfterSeconds": seconds }));
        let call = as_ada(&service, tools_call("free", json!({})).revision(revision)).await.tool_result();
        let expected = "rate limit reached: at most 1 request in 60 seconds for each caller; try again in N";
        assert_eq!(without_seconds(&call.text()), expected);
    }
}

#[tokio::test]
async fn a_client_that_takes_streams_alone_gets_the_result_as_an_event() {
    let service = service(server().limit(per_minute(1)), &[]);
    let call = || tools_call("free", json!({})).revision(ProtocolVersion::LATEST_LEGACY);
    as_ada(&service, call()).await.tool_result();

    let reply = as_ada(&service, call().header("accept", "text/event-stream")).await;

    assert_eq!(reply.headers["content-type"], "text/event-stream");
    assert_eq!(reply.tool_result().is_error, Some(true));
}

#[tokio::test]
async fn each_request_of_a_batch_is_counted() {
    let service = service(server().limit(per_minute(3)), &[]);
    let call = |id: usize, name: &str| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": name } });
    let list = json!({ "jsonrpc": "2.0", "id": 5, "method": "tools/list" });
    let batch = json!([call(1, "free"), call(2, "free"), call(3, "free"), call(4, "free"), list]);
    let request = || tools_list().revision(ProtocolVersion::V2025_03_26).body(batch.to_string());

    let reply = as_ada(&service, request()).await;

    let summary: Vec<_> =
        reply.messages.iter().map(|own| (own["result"]["isError"].clone(), own["error"]["code"].clone())).collect();
    let (served, limited) = ((Value::Null, Value::Null), (json!(true), Value::Null));
    assert_eq!(summary, [served.clone(), served.clone(), served, limited, (Value::Null, json!(429))]);
    // Of an anonymous caller, a batch is served as a whole or rejected.
    let anonymous = exchange(&service, request()).await;
    assert_eq!(anonymous.status_and_code(), (429, 429));
}

#[tokio::test]
async fn an_anonymous_caller_over_the_limit_gets_status_429() {
    for revision in [ProtocolVersion::LATEST, ProtocolVersion::LATEST_LEGACY] {
        let service = service(server().limit(per_minute(3)), &[]);
        let call = |name| tools_call(name, json!({})).revision(revision);
        for _ in 0..2 {
            from(&service, "2001:db8::1", call("answer")).await.tool_result();
        }

        let of_tool = from(&service, "2001:db8::2", call("answer")).await;
        let of_server = from(&service, "2001:db8::3", call("free").id(json!("my id"))).await;
        let malformed = from(&service, "2001:db8::4", call("free").body("{")).await;

        for reply in [&of_tool, &of_server, &malformed] {
            assert_eq!(reply.status_and_code(), (429, 429));
            assert!(retry_after(reply).unwrap() <= 60);
        }
        assert_eq!(of_server.response()["id"], "my id");
        from(&service, "2001:db8:0:1::1", call("free")).await.tool_result();
        from(&service, "192.0.2.7", call("free")).await.tool_result();
        as_ada(&service, call("free")).await.tool_result();
    }
}

#[tokio::test]
async fn the_operator_sets_or_removes_the_limit_of_anonymous_callers() {
    for (value, expected) in [("2", 2), ("off", 20), ("", 5)] {
        let service = service(server().limit(per_minute(5)), &[("MCP_ANONYMOUS_LIMIT", value)]);
        let mut served = 0;
        while served < 20 && exchange(&service, tools_list()).await.status == 200 {
            served += 1;
        }

        assert_eq!(served, expected, "{value}");
    }
    for value in ["0", "-1", "many", "4294967296", "OFF"] {
        let error = HttpConfig::from_env(&Env::from_pairs([("MCP_ANONYMOUS_LIMIT", value)])).unwrap_err();

        let expected = format!("MCP_ANONYMOUS_LIMIT must be `off` or a number of requests a minute, not `{value}`");
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn an_operator_limits_anonymous_callers_of_a_server_without_a_limit() {
    let server = || Server::new("open", "1.0.0", ()).tool(Tool::new("free", answer));
    let limited = service(server(), &[("MCP_ANONYMOUS_LIMIT", "1")]);
    exchange(&limited, tools_list()).await.result();

    assert_eq!(exchange(&limited, tools_list()).await.status_and_code(), (429, 429));
    for _ in 0..5 {
        as_ada(&limited, tools_list()).await.result();
    }
    let unlimited = service(server(), &[]);
    for _ in 0..5 {
        exchange(&unlimited, tools_list()).await.result();
    }
}

#[tokio::test]
async fn failed_authentication_is_limited_by_address_and_a_valid_token_is_not() {
    let issuer = TestIssuer::start().await;
    let service = authorization::service(authorization::server().limit(per_minute(3)), &issuer, &[]);
    let (valid, list) = (issuer.token(["events:read"]), || tools_list().path("/mcp"));
    let mut statuses = Vec::new();
    for token in ["forged", "forged", "forged", "forged", valid.as_str()] {
        statuses.push(exchange(&service, list().bearer(token)).await.status.as_u16());
    }
    // `initialize` without a token, as clients begin.
    statuses.push(exchange(&service, initialize("2025-11-25")).await.status.as_u16());

    assert_eq!(statuses, [401, 401, 401, 429, 200, 429]);
}

#[tokio::test]
async fn an_issuer_that_is_away_counts_against_no_address() {
    let issuer = TestIssuer::start().await;
    let service = authorization::service(authorization::server().limit(per_minute(1)), &issuer, &[]);
    issuer.set_keys_response(mcp_testing::IssuerResponse::Status(500));
    for _ in 0..3 {
        let reply = exchange(&service, tools_list().bearer(&issuer.token(["events:read"]))).await;

        assert_eq!(reply.status, 503);
    }
}

#[tokio::test]
async fn failed_authentication_at_a_route_is_limited() {
    let issuer = TestIssuer::start().await;
    let ok = tower::service_fn(|_| async { Ok::<_, std::convert::Infallible>(http::Response::new(Body::whole("ok"))) });
    let service =
        authorization::service(authorization::server().limit(per_minute(1)), &issuer, &[]).route("/export", ok);
    let mut statuses = Vec::new();
    for token in [None, None, Some(issuer.token(["events:read"]))] {
        let mut request = http::Request::get("/export");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut request = request.body(bytes::Bytes::new()).unwrap();
        request.extensions_mut().insert(mcp_lambda::transport::Transport {
            source: mcp_lambda::transport::EventSource::FunctionUrl,
            domain_name: Some("abcdefghij.lambda-url.eu-west-1.on.aws".to_owned()),
            iam: None,
        });
        statuses.push(service.clone().oneshot(request).await.unwrap().status().as_u16());
    }

    assert_eq!(statuses, [401, 429, 200]);
}

/// Of more addresses than there are counts.
#[tokio::test]
async fn requests_of_many_addresses_reject_no_address() {
    let service = service(server().limit(per_minute(60)), &[]);
    for number in 0..5_000_u32 {
        let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes()).to_string();

        assert_eq!(from(&service, &address, tools_list()).await.status, 200);
    }
}

#[cfg(feature = "store")]
#[tokio::test]
async fn a_store_that_is_away_opens_or_closes_the_limit() {
    use mcp_lambda::store::MemoryStore;

    for (limit, is_open) in [(per_minute(1), true), (per_minute(1).fail_closed(), false)] {
        let logs = capture_logs();
        let full = MemoryStore::new().with_capacity(0, 0);
        let server = Server::new("limited", "1.0.0", ()).tool(Tool::new("free", answer)).limit(limit).store(full);
        let config = HttpConfig { state_key: Some(mcp_testing::state_key()), ..HttpConfig::default() };
        let service = McpService::new(server, config).unwrap();

        let reply = as_ada(&service, tools_call("free", json!({}))).await.tool_result();
        as_ada(&service, tools_call("free", json!({}))).await.tool_result();

        assert_eq!(reply.is_error, (!is_open).then_some(true));
        if !is_open {
            let expected = "the rate limit cannot be checked at the moment: try again in N";
            assert_eq!(without_seconds(&reply.text()), expected);
        }
        let warnings: Vec<_> = logs.lines().into_iter().filter(|line| line["level"] == "WARN").collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!(warnings[0]["message"], "a rate limit cannot be checked in the store");
        assert_eq!(warnings[0]["decision"], if is_open { "open" } else { "closed" });
        assert_eq!(warnings[0]["error"], "the store is full");
    }
}

#[tokio::test]
async fn a_window_ends_by_the_time_of_the_requests() {
    let service = service(server().limit(per_minute(1)), &[]);
    let mut limited = Vec::new();
    for seconds in [0, 59, 60, 61] {
        let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds);
        let invocation = Invocation { received, ..ada() };
        let reply = exchange_via(Via::RestApi, &service, tools_call("free", json!({})), invocation).await;
        limited.push(reply.tool_result().is_error == Some(true));
    }

    assert_eq!(limited, [false, true, false, true]);
}
