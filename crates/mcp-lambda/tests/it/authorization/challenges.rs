//! Challenges, metadata and statuses of rejected callers.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use mcp_lambda::{
    McpService,
    transport::{Body, EventSource, Transport},
};
use mcp_protocol::ProtocolVersion;
use mcp_server::Invocation;
use mcp_testing::{TEST_AUDIENCE, TestIssuer, TestKey, Via, exchange, exchange_via, sign, tools_call, tools_list};
use serde_json::{Value, json};

use super::{closed_server, server, service};
use crate::common::capture_logs;

const DOMAIN: &str = "abcdefghij.lambda-url.eu-west-1.on.aws";

async fn send(service: &McpService, method: Method, path: &str, domain: Option<&str>) -> Response<Body> {
    let mut request =
        Request::builder().method(method).uri(path).header("origin", "https://web.example").body(Bytes::new()).unwrap();
    let domain_name = domain.map(str::to_owned);
    request.extensions_mut().insert(Transport { source: EventSource::FunctionUrl, domain_name, iam: None });
    service.handle(request).await
}

async fn metadata(service: &McpService, path: &str) -> (StatusCode, Value) {
    let response = send(service, Method::GET, path, Some(DOMAIN)).await;
    assert_eq!(response.headers()["access-control-allow-origin"], "*", "{path}");
    let status = response.status();
    let Ok(body) = response.into_body().collect().await;
    (status, serde_json::from_slice(&body.to_bytes()).unwrap())
}

#[tokio::test]
async fn metadata_names_the_requested_resource() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    for (path, resource) in [
        ("/.well-known/oauth-protected-resource/mcp", TEST_AUDIENCE),
        ("/.well-known/oauth-protected-resource", TEST_AUDIENCE.strip_suffix("/mcp").unwrap()),
        ("/.well-known/oauth-protected-resource/", TEST_AUDIENCE.strip_suffix("/mcp").unwrap()),
        ("/.well-known/oauth-protected-resource/mcp/", TEST_AUDIENCE),
    ] {
        let (status, document) = metadata(&service, path).await;

        assert_eq!(status, 200, "{path}");
        let expected = json!({
            "resource": resource,
            "authorization_servers": [issuer.issuer()],
            "scopes_supported": ["events:write", "events:read"],
            "bearer_methods_supported": ["header"],
            "resource_name": "guarded",
        });
        assert_eq!(document["resource"], resource);
        let mut scopes: Vec<_> = document["scopes_supported"].as_array().unwrap().clone();
        scopes.sort_by_key(|scope| scope.to_string());
        assert_eq!(scopes, ["events:read", "events:write"]);
        for name in ["authorization_servers", "bearer_methods_supported", "resource_name"] {
            assert_eq!(document[name], expected[name], "{name}");
        }
        assert_eq!(document.as_object().unwrap().len(), 5);
    }
    for path in [
        "/.well-known/oauth-protected-resource/other",
        "/.well-known/oauth-protected-resource/mcp//",
        "/.well-known/oauth-protected-resourcemcp",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    ] {
        assert_eq!(metadata(&service, path).await.0, 404, "{path}");
    }
    assert_eq!(issuer.requests("/.well-known/openid-configuration"), 0, "the issuer got no request");
}

#[tokio::test]
async fn one_environment_supports_several_domain_names() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    let other = DOMAIN.replace("abc", "xyz");
    for name in [DOMAIN, &other, DOMAIN] {
        let response = send(&service, Method::GET, "/.well-known/oauth-protected-resource/mcp", Some(name)).await;

        let Ok(body) = response.into_body().collect().await;
        let document: Value = serde_json::from_slice(&body.to_bytes()).unwrap();
        assert_eq!(document["resource"], format!("https://{name}/mcp"));
    }
}

#[tokio::test]
async fn metadata_is_not_found_without_an_issuer() {
    let open = McpService::new(closed_server_without_policy(), mcp_lambda::HttpConfig::default()).unwrap();
    for path in ["/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"] {
        assert_eq!(metadata(&open, path).await.0, 404);
    }
}

fn closed_server_without_policy() -> mcp_server::Server<()> {
    mcp_server::Server::new("open", "1.0.0", ())
}

/// HEAD is GET without a body (RFC 9110, section 9.3.2).
#[tokio::test]
async fn metadata_answers_head_as_get_without_a_body() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    for path in ["/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource/other"] {
        let get = send(&service, Method::GET, path, Some(DOMAIN)).await;
        let head = send(&service, Method::HEAD, path, Some(DOMAIN)).await;

        assert_eq!((head.status(), head.headers()), (get.status(), get.headers()), "{path}");
        let Ok(body) = head.into_body().collect().await;
        assert!(body.to_bytes().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn metadata_allows_every_origin() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    let path = "/.well-known/oauth-protected-resource/mcp";

    let preflight = send(&service, Method::OPTIONS, path, Some(DOMAIN)).await;

    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.headers()["access-control-allow-origin"], "*");
    assert!(preflight.headers()["access-control-allow-headers"].to_str().unwrap().contains("mcp-protocol-version"));
    assert!(!preflight.headers().contains_key("access-control-allow-credentials"));
    assert_eq!(send(&service, Method::POST, path, Some(DOMAIN)).await.status(), 405);
}

#[tokio::test]
async fn a_public_url_with_a_path_is_part_of_the_challenge() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[("MCP_PUBLIC_URL", "https://example.com/tools/")]);
    for (asked, endpoint) in
        [("/tools/mcp", "/mcp"), ("/mcp", "/mcp"), ("/tools/mcp/", "/mcp"), ("/tools", ""), ("/tools/", "")]
    {
        let reply = exchange(&service, tools_list().path(asked)).await;

        let url = format!("https://example.com/tools/.well-known/oauth-protected-resource{endpoint}");
        let challenge = reply.headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.contains(&format!("resource_metadata=\"{url}\"")), "{asked}: {challenge}");
        let path = url.strip_prefix("https://example.com").unwrap();
        let (status, document) = metadata(&service, path).await;
        assert_eq!(status, 200);
        assert_eq!(document["resource"], format!("https://example.com/tools{endpoint}"), "{asked}");
    }
    // The path of RFC 9728, if the proxy forwards it.
    let (_, document) = metadata(&service, "/.well-known/oauth-protected-resource/tools/mcp").await;
    assert_eq!(document["resource"], "https://example.com/tools/mcp");
}

#[tokio::test]
async fn the_challenge_is_in_the_header_and_in_the_error_data() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[("OIDC_SCOPE_PREFIX", "api/")]);
    let call = || tools_call("both", json!({}));
    let resource = format!(
        "Bearer resource_metadata=\"{}\"",
        TEST_AUDIENCE.replace("/mcp", "/.well-known/oauth-protected-resource/mcp")
    );
    let expired = issuer.mint([], |_, claims| claims["exp"] = json!(1));
    for (what, request, status, error) in [
        ("no token", call(), 401, None),
        ("a bad token", call().bearer(&expired), 401, Some("invalid_token")),
        ("another scheme", call().header("authorization", "Basic YWRhOnNlY3JldA=="), 401, None),
        ("too few scopes", call().bearer(&issuer.token(["api/events:read"])), 403, Some("insufficient_scope")),
        ("no token after the scheme", call().header("authorization", "Bearer"), 401, Some("invalid_token")),
        ("a space for a token", call().header("authorization", "Bearer "), 401, Some("invalid_token")),
        ("two words", call().header("authorization", "Bearer a b"), 401, Some("invalid_token")),
        ("two tokens", call().header("authorization", "Bearer a, Bearer b"), 401, Some("invalid_token")),
        ("quotes", call().header("authorization", "Bearer \"a\""), 401, Some("invalid_token")),
        ("beyond ASCII", call().header("authorization", "Bearer \u{e9}"), 401, Some("invalid_token")),
        ("nothing", call().header("authorization", ""), 400, Some("invalid_request")),
    ] {
        let reply = exchange(&service, request).await;

        assert_eq!(reply.status_and_code(), (status, i64::from(status)), "{what}: {}", reply.body);
        let challenge = reply.headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.starts_with(&resource), "{what}: {challenge}");
        let named = challenge.split_once(", error=\"").map(|(_, rest)| rest.split_once('"').unwrap().0);
        assert_eq!(named, error, "{what}");
        assert!(challenge.ends_with(", scope=\"api/events:read api/events:write\""), "{what}: {challenge}");
        assert_eq!(reply.response()["error"]["data"], json!({ "mcp/www_authenticate": [challenge] }), "{what}");
    }
}

/// The scopes of all requests of a batch; those of the metadata if the requests need none.
#[tokio::test]
async fn a_challenge_names_the_scopes_of_the_requests() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    let expired = issuer.mint([], |_, claims| claims["exp"] = json!(1));
    let batch = |names: &[&str]| {
        let calls = names.iter().enumerate().map(
            |(id, name)| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": name } }),
        );
        tools_list().revision(ProtocolVersion::V2025_03_26).body(Value::Array(calls.collect()).to_string())
    };
    for (what, request, scopes) in [
        ("a tool", tools_call("write", json!({})), "events:write"),
        ("a list", tools_list(), "events:write events:read"),
        ("no such tool", tools_call("no_such", json!({})), "events:write events:read"),
        ("no JSON", tools_list().body("{"), "events:write events:read"),
        ("a batch of one", batch(&["write"]), "events:write"),
        ("a batch of two", batch(&["write", "both"]), "events:read events:write"),
    ] {
        let reply = exchange(&service, request.bearer(&expired)).await;

        let challenge = reply.headers["www-authenticate"].to_str().unwrap();
        let named = challenge.split_once("scope=\"").map(|(_, scopes)| scopes.trim_end_matches('"'));
        let sorted = |scopes: &str| {
            let mut scopes: Vec<_> = scopes.split(' ').map(str::to_owned).collect();
            scopes.sort();
            scopes
        };
        assert_eq!(reply.status, 401, "{what}");
        assert_eq!(sorted(named.unwrap_or_default()), sorted(scopes), "{what}: {challenge}");
    }
}

#[tokio::test]
async fn the_caller_does_not_learn_why_a_token_is_invalid() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[]);
    let mut bodies = std::collections::BTreeSet::new();
    for hostile in issuer.hostile_tokens() {
        bodies.insert(exchange(&service, tools_list().bearer(&hostile.token)).await.body);
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

#[tokio::test]
async fn the_log_has_the_failed_check_and_no_token() {
    let logs = capture_logs();
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    let expired = issuer.mint([], |_, claims| claims["exp"] = json!(1));
    let foreign = issuer.mint([], |_, claims| claims["aud"] = json!("https://other.example"));
    let forged = sign(r#"{"alg":"RS256","kid":"rsa"}"#, &decoded_claims(&issuer.token([])), TestKey::other_rsa());
    let unscoped = issuer.token([]);
    for token in [&expired, &foreign, &forged, &issuer.id_token()] {
        exchange(&service, tools_list().bearer(token)).await;
    }
    exchange(&service, tools_call("write", json!({})).bearer(&unscoped)).await;
    exchange(&service, tools_list().header("authorization", "Basic YWRhOnNlY3JldA==")).await;
    let (tokens, log) = ([expired, foreign, forged, unscoped, "YWRhOnNlY3JldA==".to_owned()], logs.read());

    for reason in
        ["it has expired", "its audience is not", "its signature is wrong", "it is an ID token", "lacks a scope"]
    {
        assert!(log.contains(reason), "{reason}: {log}");
    }
    for token in tokens {
        // Not even a part of a token.
        let part = token.rsplit('.').next().unwrap();
        assert!(!log.contains(part), "{log}");
    }
}

fn decoded_claims(token: &str) -> String {
    use base64::Engine as _;
    let claims = token.split('.').nth(1).unwrap();
    String::from_utf8(base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

#[tokio::test]
async fn stages_of_an_api_are_different_servers() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[]);
    let mut event = mcp_testing::event_of(Via::FunctionUrl, &tools_list().bearer(&issuer.token([])).into_http());
    let send = async |event: &Value| {
        let response =
            mcp_lambda::transport::respond_buffered(&service, event.to_string().as_bytes(), Invocation::default())
                .await;
        serde_json::to_value(response.unwrap()).unwrap()["statusCode"].as_u64().unwrap()
    };
    assert_eq!(send(&event).await, 200);

    event["requestContext"]["stage"] = json!("dev");
    event["rawPath"] = json!("/dev/mcp");

    assert_eq!(send(&event).await, 500, "without MCP_PUBLIC_URL");
}

#[tokio::test]
async fn a_token_in_the_query_is_ignored() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[]);
    let token = issuer.token([]);

    let reply = exchange(&service, tools_list().path(&format!("/mcp?access_token={token}"))).await;

    assert_eq!(reply.status, 401);
    assert!(!reply.body.contains(&token) && !reply.headers["www-authenticate"].to_str().unwrap().contains("error="));
}

#[tokio::test]
async fn a_challenge_may_be_in_a_tool_result() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[("MCP_CHALLENGE", "result")]);
    for revision in [ProtocolVersion::LATEST, ProtocolVersion::LATEST_LEGACY] {
        let call = || tools_call("write", json!({})).revision(revision);

        let no_token = exchange(&service, call()).await;
        let no_scope = exchange(&service, call().bearer(&issuer.token([]))).await;
        let bad = exchange(&service, call().bearer("garbage")).await;
        let other = exchange(&service, mcp_testing::resources_read("test://read").revision(revision)).await;

        for (reply, error) in [(no_token, ""), (no_scope, "error=\"insufficient_scope\"")] {
            assert_eq!(reply.status, 200);
            assert_eq!(reply.result()["isError"], true);
            let challenge = reply.result()["_meta"]["mcp/www_authenticate"][0].as_str().unwrap().to_owned();
            assert!(challenge.starts_with("Bearer resource_metadata=") && challenge.contains(error), "{challenge}");
            assert!(challenge.contains("scope=\"events:write\""), "{challenge}");
        }
        assert_eq!((bad.status.as_u16(), other.status.as_u16()), (401, 401), "only `tools/call` has such a result");
    }
}

#[tokio::test]
async fn a_caller_cannot_choose_the_public_url() {
    let issuer = TestIssuer::start().await;
    let evil = issuer.mint([], |_, claims| claims["aud"] = json!("https://evil.example/mcp"));
    let request = || {
        tools_list()
            .header("host", "evil.example")
            .header("x-forwarded-host", "evil.example")
            .header("forwarded", "host=evil.example")
    };
    let nameless = service(closed_server(), &issuer, &[]);
    let named = service(closed_server(), &issuer, &[("MCP_PUBLIC_URL", "https://mcp.example.com")]);
    for via in [Via::LoadBalancer, Via::LoadBalancerMultiValue, Via::RestApi] {
        let unknown = exchange_via(via, &nameless, request().bearer(&evil), Invocation::default()).await;
        let rejected = exchange_via(via, &named, request().bearer(&evil), Invocation::default()).await;
        let anonymous = exchange_via(via, &named, request(), Invocation::default()).await;

        assert_eq!(unknown.status_and_code(), (500, 500), "without a public URL the function rejects every caller");
        assert_eq!(rejected.status, 401);
        let challenge = anonymous.headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.contains("https://mcp.example.com/") && !challenge.contains("evil"), "{challenge}");
    }
    assert_eq!(exchange(&named, request().bearer(&evil)).await.status, 401);
    let response = send(&nameless, Method::GET, "/.well-known/oauth-protected-resource/mcp", None).await;
    assert_eq!(response.status(), 500);
    let response =
        send(&nameless, Method::GET, "/.well-known/oauth-protected-resource/mcp", Some("evil.example")).await;
    assert_eq!(response.status(), 500, "a domain name that the platform has not set");
}

#[tokio::test]
async fn a_foreign_origin_is_rejected_before_authentication() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[]);

    let reply =
        exchange(&service, tools_list().header("origin", "https://evil.example").bearer(&issuer.token([]))).await;

    assert_eq!(reply.status, 403);
    assert!(!reply.headers.contains_key("www-authenticate"));
    assert_eq!(issuer.key_fetches(), 0);
}
