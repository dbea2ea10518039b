//! CORS: which origins may call, and what they can read.

use http::Method;
use mcp_lambda::{
    HttpConfig, McpService,
    transport::{Origin, PublicUrl},
};
use mcp_testing::{McpRequest, Via, exchange, exchange_via, tools_list};

use crate::common::{fixture, server};

/// The origin of the domain name in the events of `mcp_testing`.
const OWN: &str = "https://abcdefghij.lambda-url.eu-west-1.on.aws";

fn preflight() -> McpRequest {
    tools_list()
        .http_method(Method::OPTIONS)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,mcp-method,Mcp-Param-Region,x-evil")
        .body("")
}

#[tokio::test]
async fn a_foreign_origin_is_rejected_in_preflights_too() {
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost:3000",
        "https://abcdefghij.lambda-url.eu-west-1.on.aws.evil.example",
    ] {
        for request in [tools_list(), preflight(), tools_list().http_method(Method::GET)] {
            let reply = exchange(&fixture(), request.header("origin", origin)).await;

            assert_eq!(reply.status_and_code(), (403, 403), "{origin}");
            assert!(!reply.headers.contains_key("access-control-allow-origin"));
            assert_eq!(reply.headers["vary"], "Origin");
        }
    }
}

#[tokio::test]
async fn the_same_origin_is_allowed() {
    let reply = exchange(&fixture(), tools_list().header("origin", OWN)).await;

    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["access-control-allow-origin"], OWN);
    assert!(!reply.headers.contains_key("access-control-allow-credentials"));
}

#[tokio::test]
async fn a_listed_origin_is_allowed_and_its_preflight_has_methods_and_headers() {
    let config = HttpConfig {
        allowed_origins: vec![Origin::parse("https://app.example.com").unwrap()],
        ..HttpConfig::default()
    };
    let service = McpService::new(server(), config).unwrap();

    let reply = exchange(&service, preflight().header("origin", "https://app.example.com")).await;

    assert_eq!((reply.status.as_u16(), reply.body.as_str()), (204, ""));
    assert_eq!(reply.headers["access-control-allow-origin"], "https://app.example.com");
    assert_eq!(reply.headers["access-control-allow-methods"], "POST, OPTIONS");
    let allowed = reply.headers["access-control-allow-headers"].to_str().unwrap();
    for header in
        ["authorization", "content-type", "mcp-protocol-version", "mcp-method", "mcp-name", "Mcp-Param-Region"]
    {
        assert!(allowed.split(", ").any(|name| name == header), "{allowed}");
    }
    assert!(!allowed.contains("x-evil"));
}

#[tokio::test]
async fn the_host_header_does_not_allow_an_origin() {
    let request = tools_list().header("host", "evil.example").header("x-forwarded-host", "evil.example");
    for via in Via::ALL {
        let request = request.clone().header("origin", "https://evil.example");

        assert_eq!(exchange_via(via, &fixture(), request, Default::default()).await.status, 403, "{via:?}");
    }
    // No domain name in the event of a load balancer can be trusted: only the configured URL is used.
    let own = tools_list().header("origin", OWN);
    assert_eq!(exchange_via(Via::LoadBalancer, &fixture(), own, Default::default()).await.status, 403);
}

#[tokio::test]
async fn the_public_url_replaces_the_domain_name_and_may_have_a_path() {
    let config = HttpConfig { public_url: PublicUrl::parse("https://mcp.example.com/tools"), ..HttpConfig::default() };
    let service = McpService::new(server(), config).unwrap();
    let from = |origin: &str| tools_list().header("origin", origin);

    assert_eq!(exchange(&service, from("https://mcp.example.com")).await.status, 200);
    assert_eq!(exchange(&service, from(OWN)).await.status, 403);
    for path in ["/tools/mcp", "/tools", "/tools/", "/mcp", "/"] {
        assert_eq!(exchange(&service, tools_list().path(path)).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn missing_metadata_has_cors_headers() {
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"] {
        let request = tools_list().http_method(Method::GET).path(path).header("origin", "https://anywhere.example");

        let reply = exchange(&fixture(), request).await;

        assert_eq!(reply.status, 404);
        assert_eq!(reply.headers["access-control-allow-origin"], "*");
    }
}
