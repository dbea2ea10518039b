//! An MCP server with one tool, which [`service`] registers.

mod count_words;

use mcp_lambda::{HttpConfig, InitError, McpService, Server};

/// State that all calls share: empty. Add resources such as a client of another service here.
#[derive(Debug)]
pub struct State;

/// Builds the server.
///
/// # Errors
///
/// Never returns an error: no resource is initialized, and no tool sends input requests.
pub async fn service(config: HttpConfig) -> Result<McpService, InitError> {
    let server = Server::new("{{ project_name }}", env!("CARGO_PKG_VERSION"), State)
        // Purpose of the server and when to use it. Clients show this text to the model.
        .instructions("Measures texts. Use `count_words` when asked how long a text is.")
        .tool(count_words::tool());
    McpService::new(server, config)
}
