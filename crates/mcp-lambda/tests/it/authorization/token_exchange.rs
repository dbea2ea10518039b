//! Token exchange: a handler gets a token for another service, and never the caller's token.

use mcp_lambda::{McpService, TokenExchangeContext, TokenTarget};
use mcp_server::{HandlerError, NoArguments, Server, Tool, ToolContext};
use mcp_testing::{IssuerResponse, McpRequest, TestIssuer, exchange, tools_call};
use serde_json::json;

use super::service;
use crate::common::capture_logs;

async fn invoices(context: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    let token = context.exchange_token(TokenTarget::Audience("billing"), &["invoices:read"]).await?;
    // Only a test may return a token.
    Ok(token.as_str().to_owned())
}

fn server() -> Server<()> {
    Server::new("exchanging", "1.0.0", ()).tool(Tool::new("invoices", invoices).public())
}

fn exchanging(issuer: &TestIssuer) -> McpService {
    let endpoint = format!("{}/token", issuer.origin());
    let variables = [
        ("OIDC_EXCHANGE_CLIENT_ID", "mcp"),
        ("OIDC_EXCHANGE_CLIENT_SECRET", "s3cret"),
        ("OIDC_EXCHANGE_TOKEN_ENDPOINT", &*endpoint),
    ];
    service(server(), issuer, &variables)
}

fn call() -> McpRequest {
    tools_call("invoices", json!({}))
}

fn granted(token: &str) -> IssuerResponse {
    IssuerResponse::json(&json!({
        "access_token": token,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 600,
    }))
}

#[tokio::test]
async fn an_exchanged_token_is_cached() {
    let issuer = TestIssuer::start().await;
    let service = exchanging(&issuer);
    issuer.set_response("/token", granted("exchanged"));
    let own = issuer.token([]);

    for _ in 0..2 {
        let reply = exchange(&service, call().bearer(&own)).await;

        assert_eq!(reply.result()["content"][0]["text"], "exchanged", "{}", reply.body);
    }

    assert_eq!(issuer.requests("/token"), 1);
}

#[tokio::test]
async fn exchange_errors_go_to_the_caller_or_to_the_log() {
    let issuer = TestIssuer::start().await;
    let service = exchanging(&issuer);
    let own = issuer.token([]);
    for (answer, expected) in [
        (IssuerResponse::Status(503), "The authorization server is not available"),
        (IssuerResponse::Redirect("http://127.0.0.1:1/".to_owned()), "The tool failed."),
        (IssuerResponse::Endless, "The tool failed."),
        (IssuerResponse::json(&json!({ "access_token": "secret" })), "The tool failed."),
    ] {
        issuer.set_response("/token", answer);

        let logs = capture_logs();
        let reply = exchange(&service, call().bearer(&own)).await;

        assert!(reply.body.contains(expected), "{expected}: {}", reply.body);
        let logs = format!("{:?}", logs.lines());
        for hidden in [&*own, "s3cret", "secret"] {
            assert!(!reply.body.contains(hidden) && !logs.contains(hidden), "{} {logs}", reply.body);
        }
    }
}

#[tokio::test]
async fn an_anonymous_caller_cannot_exchange_a_token() {
    let issuer = TestIssuer::start().await;

    let reply = exchange(&exchanging(&issuer), call()).await;

    assert!(reply.body.contains("authenticated caller"), "{}", reply.body);
    assert_eq!(issuer.requests("/token"), 0);
}

#[tokio::test]
async fn without_an_exchange_client_the_token_is_not_kept() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);

    let reply = exchange(&service, call().bearer(&issuer.token([]))).await;

    assert!(reply.body.contains("The tool failed."), "{}", reply.body);
}
