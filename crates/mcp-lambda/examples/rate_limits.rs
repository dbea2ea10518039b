//! Rate limits: of all requests, and a stricter one of an expensive tool. By hand or in a test, `EXAMPLE_CALLER` takes the place of
//! authentication.
//!
//! ```text
//! cargo build --package mcp-lambda --features limits --example rate_limits
//! cargo run --package function-url-emulator -- target/debug/examples/rate_limits --env EXAMPLE_CALLER=ada
//! ```

use std::{process::ExitCode, sync::Arc, time::Duration};

use http::Request;
use mcp_lambda::{
    Env, FromEnv, HandlerError, HttpConfig, InitError, McpService, NoArguments, Principal, RateLimit, Server, Tool,
    ToolContext,
    transport::{Body, Invocation},
};
use tower::util::MapRequestLayer;

const MINUTE: Duration = Duration::from_secs(60);

struct Config {
    http: HttpConfig,
    /// The subject of every caller; none if callers are anonymous.
    caller: Option<Arc<Principal>>,
}

impl FromEnv for Config {
    fn from_env(env: &Env) -> Result<Self, InitError> {
        let caller =
            env.get("EXAMPLE_CALLER").map(|subject| Arc::new(Principal::new("https://issuer.example", subject)));
        Ok(Self { http: HttpConfig::from_env(env)?, caller })
    }
}

async fn render(_: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("rendered")
}

async fn status(_: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("ready")
}

async fn service(Config { http, caller }: Config) -> Result<McpService, InitError> {
    let tool = Tool::new("render", render).description("Renders a report.").read_only();
    let server = Server::new("reports", env!("CARGO_PKG_VERSION"), ())
        .limit(RateLimit::per_caller(20, MINUTE))
        .tool(tool.limit(RateLimit::per_caller(2, MINUTE)))
        .tool(Tool::new("status", status).description("Reports whether reports can be rendered.").read_only());
    let with_caller = move |mut request: Request<Body>| {
        if let Some(invocation) = request.extensions_mut().get_mut::<Invocation>() {
            invocation.principal.clone_from(&caller);
        }
        request
    };
    Ok(McpService::new(server, http)?.layer(MapRequestLayer::new(with_caller)))
}

fn main() -> ExitCode {
    mcp_lambda::main(service)
}
