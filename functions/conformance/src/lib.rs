//! What the official conformance suite calls, by the names that it expects. It shows each thing that a server can offer
//! once, written as any author would write it. Not for deployment: it is open to everyone and does nothing useful.

mod asking;
mod prompts;
mod resources;
mod tools;

use mcp_lambda::{HttpConfig, InitError, McpService, Server};

/// What all calls share: nothing.
#[derive(Debug)]
pub struct State;

/// The server, ready to be called.
///
/// # Errors
///
/// When there is no state key, since most of `asking` asks.
pub async fn service(config: HttpConfig) -> Result<McpService, InitError> {
    let mut server = Server::new("conformance", env!("CARGO_PKG_VERSION"), State)
        .instructions("Serves the official conformance suite: a tool, prompt or resource for each of its cases.");
    for tool in tools::all().into_iter().chain(asking::tools()) {
        server = server.tool(tool);
    }
    for prompt in prompts::all() {
        server = server.prompt(prompt);
    }
    for resource in resources::all() {
        server = server.resource(resource);
    }
    McpService::new(server.resource_template(resources::template()), config)
}

/// A picture of one red pixel.
const PNG: &[u8] = include_bytes!("pixel.png");
/// A tenth of a second of silence.
const WAV: &[u8] = include_bytes!("silence.wav");
