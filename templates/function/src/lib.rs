//! An MCP server with one tool. Read [`service`] to see it.

mod count_words;

use mcp_lambda::{HttpConfig, InitError, McpService, Server};

/// What all calls share: nothing yet. A client of another service, for example, belongs here.
#[derive(Debug)]
pub struct State;

/// The server, ready to be called.
///
/// # Errors
///
/// Never: nothing is set up that could fail, and nothing asks the client.
pub async fn service(config: HttpConfig) -> Result<McpService, InitError> {
    let server = Server::new("{{ project_name }}", env!("CARGO_PKG_VERSION"), State)
        // Clients show it to the model: what the server is for, and when to use it.
        .instructions("Measures texts. Use `count_words` when asked how long a text is.")
        .tool(count_words::tool());
    McpService::new(server, config)
}
