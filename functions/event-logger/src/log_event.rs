//! The `log_event` tool: stores one event.

use garde::Validate;
use mcp_server::{Json, JsonWithText, Tool, ToolContext, ToolError};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    State,
    events::{self, Event, Logged, NewEvent},
};

pub(crate) fn tool() -> Tool<State> {
    Tool::new("log_event", log_event)
        .title("Log an event")
        .description(
            "Stores an event with the current time. Use it when asked to log, record or note that something happened.",
        )
        .destructive(false)
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct LogEventArgs {
    /// What happened; 1 to 500 characters, not only white space.
    #[garde(length(chars, min = 1, max = 500), custom(is_visible))]
    event_name: String,
    /// Any text that is new for each event; 1 to 200 characters. A call that is repeated with the same key stores nothing
    /// new and returns the first result: use it when a call may have to be repeated. Keys are kept for 30 days.
    #[garde(length(chars, min = 1, max = 200), inner(custom(is_storable)))]
    idempotency_key: Option<String>,
}

fn is_visible(text: &str, context: &()) -> garde::Result {
    if text.trim().is_empty() {
        return Err(garde::Error::new("must not be blank"));
    }
    is_storable(text, context)
}

fn is_storable(text: &str, _: &()) -> garde::Result {
    if text.contains('\0') { Err(garde::Error::new("must not contain the character U+0000")) } else { Ok(()) }
}

async fn log_event(context: ToolContext<State>, args: LogEventArgs) -> Result<JsonWithText<Event>, ToolError> {
    let event = NewEvent { event_name: &args.event_name, idempotency_key: args.idempotency_key.as_deref() };
    let logged = events::insert(&context, &event).await.map_err(|error| {
        error.into_tool_error(|constraint| match constraint {
            "events_name_length" => Some("`event_name` must have 1 to 500 characters".to_owned()),
            _ => None,
        })
    })?;
    match logged {
        Logged::Event(row) => {
            let text = format!("Event '{}' logged.", row.event_name);
            Ok(Json(row.into_event()).with_text(text))
        }
        Logged::KeyTaken => Err(ToolError::InvalidInput(
            "`idempotency_key` was used for another event in the last 30 days: use a new key for a new event"
                .to_owned(),
        )),
    }
}
