//! A server that calls another MCP server on behalf of its caller. It does not forward the caller's token: it exchanges it for a
//! token of the other server at the issuer (RFC 8693). `UPSTREAM_URL` is the MCP endpoint of the other server, which may run the
//! same program.

use std::process::ExitCode;

use mcp_lambda::{
    Env, FromEnv, HandlerError, HttpConfig, InitError, McpService, NoArguments, Server, TokenExchangeContext,
    TokenTarget, Tool, ToolContext,
    https::{Client, header},
};
use serde_json::{Value, json};

struct Upstream {
    client: Client,
    url: String,
}

impl FromEnv for Upstream {
    fn from_env(env: &Env) -> Result<Self, InitError> {
        Ok(Self { client: Client::trusted(), url: env.get("UPSTREAM_URL").unwrap_or_default().to_owned() })
    }
}

async fn whoami(context: ToolContext<Upstream>, _: NoArguments) -> Result<String, HandlerError> {
    let caller = context.principal().ok_or_else(|| HandlerError::failed("Sign in, then repeat the request."))?;
    Ok(json!({ "subject": caller.subject, "scopes": caller.scopes }).to_string())
}

async fn whoami_upstream(context: ToolContext<Upstream>, _: NoArguments) -> Result<String, HandlerError> {
    let Upstream { client, url } = context.state();
    let token = context.exchange_token(TokenTarget::Resource(url), &["identity:read"]).await?;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "whoami" } });
    let request = client.post(url).bearer(token.as_str()).answer_by(context.deadline());
    let request = request
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header(header::CONTENT_TYPE, "application/json")
        .header("mcp-protocol-version", "2025-11-25");
    let sent = request.body(call.to_string()).send().await;
    let response = sent.map_err(|error| HandlerError::unavailable("The other server cannot be reached.", error))?;
    let answer: Value = serde_json::from_slice(&response.bytes().await?)?;
    let text = answer["result"]["content"][0]["text"].as_str();
    text.map(str::to_owned).ok_or_else(|| HandlerError::internal("the other server returned no text"))
}

async fn service((http, upstream): (HttpConfig, Upstream)) -> Result<McpService, InitError> {
    let server = Server::new("call-as-caller", "1.0.0", upstream)
        .tool(Tool::new("whoami", whoami).description("Returns who you are here.").read_only())
        .tool(Tool::new("whoami_upstream", whoami_upstream).description("Returns who you are there.").read_only());
    McpService::new(server, http)
}

fn main() -> ExitCode {
    mcp_lambda::main(service)
}
