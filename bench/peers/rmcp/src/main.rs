//! The greeter with rmcp: its HTTP service on lambda_http, without sessions, and without streams where possible.

use std::sync::Arc;

use rmcp::{
    ServerHandler,
    handler::server::wrapper::Parameters,
    tool, tool_handler, tool_router,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct GreetingArgs {
    /// Name of the person to greet.
    name: String,
}

#[derive(Clone)]
struct Greeter;

#[tool_router]
impl Greeter {
    #[tool(description = "Generates a friendly greeting for a name.")]
    async fn personalized_greeting(&self, Parameters(args): Parameters<GreetingArgs>) -> String {
        format!("Hello, {}! Welcome to the serverless MCP world.", args.name)
    }
}

#[tool_handler]
impl ServerHandler for Greeter {}

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    lambda_http::tracing::init_default_subscriber();
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .disable_allowed_hosts();
    let sessions = Arc::new(NeverSessionManager::default());
    lambda_http::run(StreamableHttpService::new(|| Ok(Greeter), sessions, config)).await
}
