//! An MCP server without state. Read [`service`] to see which tools it has.

mod config;
mod personalized_greeting;

use mcp_lambda::McpService;
use mcp_server::{InitError, Server};

pub use config::Config;

/// What all calls share: nothing.
#[derive(Debug)]
pub struct State;

/// The server, ready to be called.
///
/// # Errors
///
/// Never: nothing is set up that could fail, and nothing asks the client.
pub async fn service(config: Config) -> Result<McpService<State>, InitError> {
    let server =
        Server::new("greeter", env!("CARGO_PKG_VERSION"), State).title("Greeter").tool(personalized_greeting::tool());
    McpService::new(server, config.http)
}
