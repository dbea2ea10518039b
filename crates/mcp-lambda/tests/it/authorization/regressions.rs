//! Regression tests for vulnerabilities that servers of this kind have had. They were found by running a well-known Python
//! framework for MCP on Lambda. One more, a connection pool per request, needs a database: it is in
//! `tests/interop/test_authorization.py`.

use http_body_util::BodyExt;
use mcp_protocol::ProtocolVersion;
use mcp_server::{HandlerError, NoArguments, Server, Tool, ToolContext};
use mcp_testing::{Provider, TestIssuer, TestKey, exchange, resources_read, sign, tools_call, tools_list};
use serde_json::json;

use super::{closed_server, server, service};

#[tokio::test]
async fn a_token_of_another_issuer_and_audience_is_rejected() {
    let (own, other) = (TestIssuer::start().await, TestIssuer::start().await);
    let service = service(server(), &own, &[]);
    let token = other.mint(["admin"], |_, claims| claims["aud"] = json!("https://other.example/mcp"));

    assert_eq!(exchange(&service, tools_call("closed", json!({})).bearer(&token)).await.status, 401);
    assert_eq!(other.key_fetches(), 0, "keys are not fetched from a URL in the token");
}

#[tokio::test]
async fn an_arbitrary_string_is_not_a_google_token() {
    let issuer = TestIssuer::of(Provider::Google).await;
    let service = service(server(), &issuer, &[]);
    for garbage in ["x", "ya29.garbage", "a.b.c", "null", "undefined", "eyJhbGciOiJub25lIn0.e30."] {
        // A tool that needs no scope.
        let reply = exchange(&service, tools_call("closed", json!({})).bearer(garbage)).await;

        assert_eq!(reply.status, 401, "{garbage}");
    }
}

#[tokio::test]
async fn the_scopes_of_a_tool_are_enforced() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);

    let reply = exchange(&service, tools_call("write", json!({})).bearer(&issuer.token(["events:read"]))).await;

    assert_eq!(reply.status, 403);
}

async fn delete_everything(_: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("deleted")
}

#[tokio::test]
async fn a_tool_with_another_name_than_its_function_is_protected() {
    let issuer = TestIssuer::start().await;
    let named = Tool::new("cleanup", delete_everything).require_scope("admin");
    let service = service(Server::new("s", "1.0.0", ()).tool(named), &issuer, &[]);
    for name in ["cleanup", "delete_everything"] {
        assert_eq!(exchange(&service, tools_call(name, json!({}))).await.status, 401, "{name}");
        let known = exchange(&service, tools_call(name, json!({})).bearer(&issuer.token([]))).await;
        assert!(!known.body.contains("deleted"), "{name}: {}", known.body);
    }
}

#[tokio::test]
async fn the_scopes_of_a_resource_are_checked() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    for uri in ["test://read", "item://7"] {
        assert_eq!(exchange(&service, resources_read(uri)).await.status, 401, "{uri}");
        assert_eq!(exchange(&service, resources_read(uri).bearer(&issuer.token([]))).await.status, 403, "{uri}");
    }
}

#[tokio::test]
async fn lists_of_a_closed_server_need_a_token() {
    let issuer = TestIssuer::start().await;
    let service = service(closed_server(), &issuer, &[]);
    for revision in ProtocolVersion::ALL {
        assert_eq!(exchange(&service, tools_list().revision(revision)).await.status, 401, "{revision}");
    }
}

#[tokio::test]
async fn malformed_json_is_a_client_error() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    for (body, code) in [("{", -32700), ("[", -32700), ("null", -32600), ("7", -32600)] {
        let reply = exchange(&service, tools_list().body(body).bearer(&issuer.token([]))).await;

        assert_eq!(reply.status_and_code(), (400, code), "{body}");
    }
}

#[tokio::test]
async fn metadata_conforms_to_rfc_9728() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    let anonymous = exchange(&service, tools_call("write", json!({}))).await;
    let challenge = anonymous.headers["www-authenticate"].to_str().unwrap().to_owned();
    let url = challenge.split('"').nth(1).unwrap();

    let url: http::Uri = url.parse().unwrap();
    let mut request = http::Request::get(url.path()).body(bytes::Bytes::new()).unwrap();
    request.extensions_mut().insert(mcp_lambda::transport::Transport {
        source: mcp_lambda::transport::EventSource::FunctionUrl,
        domain_name: url.host().map(str::to_owned),
        iam: None,
    });
    let response = service.handle(request).await;
    let Ok(body) = response.into_body().collect().await;
    let metadata: serde_json::Value = serde_json::from_slice(&body.to_bytes()).unwrap();

    // RFC 9728: `resource` is the requested resource (section 3.3), and the metadata is at its well-known path (section 3.1).
    assert_eq!(metadata["resource"], mcp_testing::TEST_AUDIENCE);
    assert_eq!(url.to_string().replace("/.well-known/oauth-protected-resource", ""), mcp_testing::TEST_AUDIENCE);
}

/// Tokens that a verifier with the defaults of `jsonwebtoken` 11 accepts: each was tried against one.
#[tokio::test]
async fn tokens_that_jsonwebtoken_accepts_by_default_are_rejected() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    let without = |name: &str| issuer.mint(["admin"], |_, claims| drop(claims.as_object_mut().unwrap().remove(name)));
    let with = |name: &str, value: serde_json::Value| issuer.mint(["admin"], |_, claims| claims[name] = value);
    for (what, token) in [
        ("issuers that overlap", with("iss", json!([issuer.issuer(), "https://evil.example"]))),
        ("no issuer", without("iss")),
        ("an issuer that cannot be read", with("iss", json!({}))),
        ("no audience", without("aud")),
        ("an audience that cannot be read", with("aud", json!({}))),
        ("not yet valid", with("nbf", json!(9_999_999_999_u64))),
        ("issued in the future", with("iat", json!(9_999_999_999_u64))),
        ("an extension that must be understood", {
            issuer.mint(["admin"], |header, _| (header["crit"], header["x"]) = (json!(["x"]), json!(1)))
        }),
    ] {
        assert_eq!(exchange(&service, tools_call("write", json!({})).bearer(&token)).await.status, 401, "{what}");
    }
    // An unsupported key does not affect the others.
    issuer.publish([json!({ "kty": "RSA", "n": 7, "e": [], "alg": "nonsense" }), TestKey::rsa().jwk("later")]);
    let claims = json!({
        "iss": issuer.issuer(), "aud": mcp_testing::TEST_AUDIENCE, "sub": "ada", "exp": 9_999_999_999_u64,
    });
    let token = sign(r#"{"alg":"RS256","kid":"later"}"#, &claims.to_string(), TestKey::rsa());
    assert_eq!(exchange(&service, tools_call("closed", json!({})).bearer(&token)).await.status, 200);
}
