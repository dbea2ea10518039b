//! The `log_event` tool: stores one event.

use garde::Validate;
use mcp_lambda::{HandlerError, Json, Tool, ToolContext, postgres::DatabaseError};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    State, WRITE,
    events::{self, Event, InsertOutcome, NewEvent},
};

pub(crate) fn tool() -> Tool<State> {
    Tool::new("log_event", log_event)
        .title("Log an event")
        .description(
            "Stores an event with the current time. Use it when asked to log, record or note that something happened.",
        )
        .destructive(false)
        .require_scope(WRITE)
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct LogEventArgs {
    /// What happened; 1 to 500 characters on one line, not only white space.
    #[garde(length(chars, min = 1, max = 500), custom(is_visible))]
    event_name: String,
    /// Any text that is new for each event; 1 to 200 characters. A call that is repeated with the same key stores nothing
    /// new and returns the first result: use it when a call may have to be repeated. Keys are kept for 30 days.
    #[garde(length(chars, min = 1, max = 200), inner(custom(is_storable)))]
    idempotency_key: Option<String>,
}

/// Without a key, a retry cannot be distinguished from a second event.
const OUTCOME_UNKNOWN: &str = "The database did not respond. The event may have been stored: check get_latest_events before you \
    log it again, and set an idempotency_key for events that must not be stored twice.";

/// With a key, a retry is the same event, whether or not it was stored.
const TRY_AGAIN: &str = "The database is busy or not available. Try again in a moment.";

fn is_visible(text: &str, context: &()) -> garde::Result {
    if text.trim().is_empty() {
        return Err(garde::Error::new("must not be blank"));
    }
    is_storable(text, context)
}

fn is_storable(text: &str, _: &()) -> garde::Result {
    // An event is displayed as one line, and Postgres cannot store U+0000.
    let is_break = |character: char| character.is_control() || matches!(character, '\u{2028}' | '\u{2029}');
    match text.contains(is_break) {
        true => Err(garde::Error::new("must not contain line breaks or other control characters")),
        false => Ok(()),
    }
}

async fn log_event(context: ToolContext<State>, args: LogEventArgs) -> Result<Json<Event>, HandlerError> {
    let event = NewEvent { event_name: &args.event_name, idempotency_key: args.idempotency_key.as_deref() };
    let logged = events::insert(&context, &event).await.map_err(|error| match error {
        // The retry has another invocation id; only the caller's key makes it the same event.
        DatabaseError::OutcomeUnknown(source) if event.idempotency_key.is_none() => {
            HandlerError::unavailable(OUTCOME_UNKNOWN, source)
        }
        DatabaseError::OutcomeUnknown(source) => HandlerError::unavailable(TRY_AGAIN, source),
        error => error.into_handler_error(|constraint| match constraint {
            "events_name_length" => Some("`event_name` must have 1 to 500 characters".to_owned()),
            _ => None,
        }),
    })?;
    match logged {
        InsertOutcome::Stored(row) => {
            let caller = context.principal().map(|caller| caller.verified_email().unwrap_or(&caller.subject));
            let by = caller.map(|caller| format!(" by {caller}")).unwrap_or_default();
            let text = format!("Event '{}' logged{by}. Its number is {}.", row.event_name, row.id);
            Ok(Json(row.into_event(&context)).with_text(text))
        }
        InsertOutcome::KeyTaken => Err(HandlerError::invalid_input(
            "`idempotency_key` was used for another event in the last 30 days: use a new key for a new event",
        )),
    }
}
