//! The greeter with pmcp: its axum router, stateless as its documentation recommends for Lambda, on lambda_http. (The
//! output of `cargo pmcp deploy` calls itself over HTTP on loopback, which would be slower.)

use std::sync::Arc;

use pmcp::{
    Server,
    axum::{AllowedOrigins, RouterConfig, concurrent_router_with_config},
    server::streamable_http_server::StreamableHttpServerConfig,
    types::{ProtocolVersion, protocol::PROTOCOL_VERSION_2026_07_28},
};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct GreetingArgs {
    /// Name of the person to greet.
    name: String,
}

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    lambda_http::tracing::init_default_subscriber();
    let versions = ["2025-11-25", PROTOCOL_VERSION_2026_07_28].map(|version| ProtocolVersion(version.to_owned()));
    let server = Server::builder()
        .name("greeter")
        .version("1.0.0")
        .with_supported_protocol_versions(versions)
        .tool_typed_with_description(
            "personalized_greeting",
            "Generates a friendly greeting for a name.",
            |args: GreetingArgs, _| async move {
                Ok(format!("Hello, {}! Welcome to the serverless MCP world.", args.name).into())
            },
        )
        .build()?;
    let config = RouterConfig {
        allowed_origins: Some(AllowedOrigins::any()),
        server_config: StreamableHttpServerConfig::stateless(),
        ..Default::default()
    };
    lambda_http::run(concurrent_router_with_config(Arc::new(server), config)).await
}
