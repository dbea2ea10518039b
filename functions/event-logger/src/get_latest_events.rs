//! The `get_latest_events` tool: lists events, newest first.

use garde::Validate;
use mcp_lambda::{HandlerError, Json, Tool, ToolContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    State,
    events::{self, Event, EventRow},
};

pub(crate) fn tool() -> Tool<State> {
    Tool::new("get_latest_events", get_latest_events)
        .title("Latest events")
        .description("Lists the events that were logged last, the newest first. Use it when asked what happened.")
        .public()
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct GetLatestEventsArgs {
    /// How many events to list; 1 to 100, 5 unless given.
    #[serde(default = "default_limit")]
    #[garde(range(min = 1, max = 100))]
    limit: i64,
}

fn default_limit() -> i64 {
    5
}

#[derive(Debug, Serialize, JsonSchema)]
struct LatestEvents {
    /// The events, the newest first.
    events: Vec<Event>,
}

async fn get_latest_events(
    context: ToolContext<State>,
    args: GetLatestEventsArgs,
) -> Result<Json<LatestEvents>, HandlerError> {
    let rows = events::latest(&context, args.limit).await?;
    let text = lines(&rows);
    Ok(Json(LatestEvents { events: rows.into_iter().map(|row| row.into_event(&context)).collect() }).with_text(text))
}

/// Formats events, one on each line.
pub(crate) fn lines(rows: &[EventRow]) -> String {
    match rows {
        [] => "No events have been logged yet.".to_owned(),
        rows => rows.iter().map(EventRow::line).collect::<Vec<_>>().join("\n"),
    }
}
