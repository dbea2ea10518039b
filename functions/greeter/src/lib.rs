//! An MCP server without state: one tool, one prompt and one resource, registered in [`service`].

mod guide;
mod introduction;
mod personalized_greeting;

use mcp_lambda::{HttpConfig, InitError, McpService, Server};

/// Shared state of all calls: empty.
#[derive(Debug)]
pub struct State;

/// Builds the server.
///
/// # Errors
///
/// Never: no setup can fail, and no handler sends requests to the client.
pub async fn service(config: HttpConfig) -> Result<McpService, InitError> {
    let server = Server::new("greeter", env!("CARGO_PKG_VERSION"), State)
        .title("Greeter")
        .instructions("Greets people by name with `personalized_greeting`. Keeps no data.")
        .tool(personalized_greeting::tool())
        .prompt(introduction::prompt())
        .resource(guide::resource());
    McpService::new(server, config)
}
