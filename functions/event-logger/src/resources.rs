//! The resources `events://latest` and `events://{id}`.

use garde::Validate;
use mcp_lambda::{HandlerError, RequestContext, Resource, ResourceTemplate};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{READ, State, events, get_latest_events::lines};

/// Number of events in `events://latest`: the default of the tool.
const LATEST: i64 = 5;

pub(crate) fn latest() -> Resource<State> {
    Resource::new("events://latest", "latest", read_latest)
        .title("Latest events")
        .description("The five events that were logged last, one a line, the newest first.")
        .mime_type("text/plain")
        .require_scope(READ)
}

pub(crate) fn by_id() -> ResourceTemplate<State> {
    ResourceTemplate::new("events://{id}", "event", read_event)
        .title("Event")
        .description("One event by its number, as JSON.")
        .mime_type("application/json")
        .require_scope(READ)
}

async fn read_latest(context: RequestContext<State>) -> Result<String, HandlerError> {
    Ok(lines(&events::latest(&context, LATEST).await?))
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct EventUri {
    /// The event's number.
    #[garde(range(min = 1))]
    id: i64,
}

async fn read_event(context: RequestContext<State>, uri: EventUri) -> Result<String, HandlerError> {
    let row = events::by_id(&context, uri.id).await?.ok_or_else(HandlerError::not_found)?;
    Ok(serde_json::to_string(&row.into_event(&context))?)
}
