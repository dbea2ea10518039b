//! An MCP server without state: one tool, one prompt and one resource. Read [`service`] to see them.

mod guide;
mod introduction;
mod personalized_greeting;

use mcp_lambda::{HttpConfig, InitError, McpService, Server};

/// What all calls share: nothing.
#[derive(Debug)]
pub struct State;

/// The server, ready to be called.
///
/// # Errors
///
/// Never: nothing is set up that could fail, and nothing asks the client.
pub async fn service(config: HttpConfig) -> Result<McpService, InitError> {
    let server = Server::new("greeter", env!("CARGO_PKG_VERSION"), State)
        .title("Greeter")
        .instructions("Greets people by name with `personalized_greeting`. Keeps no data.")
        .tool(personalized_greeting::tool())
        .prompt(introduction::prompt())
        .resource(guide::resource());
    McpService::new(server, config)
}
