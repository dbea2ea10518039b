//! Test server for the official conformance suite, with the names that the suite expects. It uses each feature of a
//! server once, as an author would. Not for deployment: it has no authorization and no useful tools.

mod input_requests;
mod prompts;
mod resources;
mod tools;

use mcp_lambda::{HttpConfig, InitError, McpService, Server};

/// State of all calls: empty.
#[derive(Debug)]
pub struct State;

/// Builds the server.
///
/// # Errors
///
/// Returns an error if there is no state key, which tools with input requests need.
pub async fn service(config: HttpConfig) -> Result<McpService, InitError> {
    let mut server = Server::new("conformance", env!("CARGO_PKG_VERSION"), State)
        .instructions("Serves the official conformance suite: a tool, prompt or resource for each of its cases.");
    for tool in tools::all().into_iter().chain(input_requests::tools()) {
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

/// PNG image of one red pixel.
const PNG: &[u8] = include_bytes!("pixel.png");
/// WAV audio of 0.1 s of silence.
const WAV: &[u8] = include_bytes!("silence.wav");
