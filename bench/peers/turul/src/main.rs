//! The greeter with turul-mcp, as in the quick start of its Lambda crate.

use lambda_http::{Body, Error, Request, Response, run, service_fn};
use turul_mcp_aws_lambda::{LambdaMcpHandler, LambdaMcpServerBuilder};
use turul_mcp_derive::McpTool;
use turul_mcp_server::{McpResult, SessionContext};

#[derive(McpTool, Clone, Default)]
#[tool(name = "personalized_greeting", description = "Generates a friendly greeting for a name.", output = String)]
struct PersonalizedGreeting {
    #[param(description = "Name of the person to greet.")]
    name: String,
}

impl PersonalizedGreeting {
    async fn execute(&self, _session: Option<SessionContext>) -> McpResult<String> {
        Ok(format!("Hello, {}! Welcome to the serverless MCP world.", self.name))
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_target(false)
        .without_time()
        .init();
    let server = LambdaMcpServerBuilder::new()
        .name("greeter")
        .version("1.0.0")
        .tool(PersonalizedGreeting::default())
        .sse(true)
        .cors_allow_all_origins()
        .build()
        .await?;
    let handler = server.handler().await?;
    run(service_fn(move |request| dispatch(handler.clone(), request))).await
}

async fn dispatch(handler: LambdaMcpHandler, request: Request) -> Result<Response<Body>, Error> {
    Ok(handler.handle(request).await?)
}
