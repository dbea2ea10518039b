//! Resources.

use std::time::Duration;

use garde::Validate;
use mcp_lambda::{Caching, HandlerError, RequestContext, Resource, ResourceTemplate};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{PNG, State};

/// Caching hints of static resources.
const CACHING: Caching = Caching::public(Duration::from_secs(300));

pub(crate) fn all() -> Vec<Resource<State>> {
    vec![
        Resource::new("test://static-text", "static-text", text)
            .description("A static text.")
            .mime_type("text/plain")
            .caching(CACHING),
        Resource::new("test://static-binary", "static-binary", binary)
            .description("A static image.")
            .mime_type("image/png")
            .caching(CACHING),
        Resource::new("test://watched-resource", "watched-resource", text)
            .description("A static text that supports subscriptions.")
            .mime_type("text/plain")
            .subscribable(),
    ]
}

pub(crate) fn template() -> ResourceTemplate<State> {
    ResourceTemplate::new("test://template/{id}/data", "template", data)
        .description("A text with the id of its URI.")
        .mime_type("text/plain")
}

async fn text(_: RequestContext<State>) -> Result<&'static str, HandlerError> {
    Ok("This is the content of the static text resource.")
}

async fn binary(_: RequestContext<State>) -> Result<&'static [u8], HandlerError> {
    Ok(PNG)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct DataUri {
    /// Any id.
    id: String,
}

async fn data(_: RequestContext<State>, uri: DataUri) -> Result<String, HandlerError> {
    Ok(format!("Data of {}", uri.id))
}
