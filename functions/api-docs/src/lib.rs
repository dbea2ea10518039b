//! MCP server that serves an OpenAPI document (3.0 or 3.1) to coding agents: lists of operations and schemas, and each
//! of them with resolved references. [`service`] registers the tools.

mod budget;
mod config;
mod document;
mod excerpt;
mod fetch;
mod find_operation;
mod json;
mod list_operations;
mod list_schemas;
mod operation_resource;
mod ranking;
mod read_operation;
mod read_schema;
mod search;
mod source;
mod state;
mod words;
mod yaml;

use mcp_lambda::{InitError, McpService, Server};

pub use budget::Budget;
pub use config::Config;
pub use document::{Document, DocumentError};
pub use source::Source;
pub use state::State;

/// Builds the server.
///
/// # Errors
///
/// Returns an error if there is no state key, or if the document cannot be loaded or parsed or has an unsupported
/// version.
pub async fn service(config: Config) -> Result<McpService, InitError> {
    let state = State::load(config.source, config.max_age, config.budget).await?;
    let server = Server::new("api-docs", env!("CARGO_PKG_VERSION"), state)
        .title("API documentation")
        .instructions(
            "Documentation of one HTTP API from its OpenAPI document. Use it before you write code that calls the API: `search` finds \
             operations and schemas by words, `read_operation` and `read_schema` return all details.",
        )
        .tool(search::tool())
        .tool(find_operation::tool())
        .tool(read_operation::tool())
        .tool(read_schema::tool())
        .tool(list_operations::tool())
        .tool(list_schemas::tool())
        .resource_template(operation_resource::template());
    McpService::new(server, config.http)
}

/// Searches a document and reads some of its operations and schemas. For `fuzz/` and a test, which have no client.
#[doc(hidden)]
pub fn read_some(document: &Document) {
    const SOME: usize = 100;
    let start = excerpt::Start::default();
    for own in document.operations().iter().take(SOME) {
        let _ = read_operation::read(document, own, start);
    }
    let none = document::Inherited::new();
    for own in document.schemas().iter().take(SOME) {
        let _ = document.schema(&own.name).map(|schema| excerpt::excerpt(document, schema, &none, start));
        let _ = (ranking::operations(document, &own.name), ranking::schemas(document, &own.name));
    }
}
