//! The `latest_notes` tool: lists notes, those that were saved last first.

use garde::Validate;
use mcp_lambda::{HandlerError, Json, Tool, ToolContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;

use crate::{READ, State};

const LATEST: &str = r#"SELECT title, "text" FROM notes ORDER BY saved_at DESC, title DESC LIMIT $1"#;

pub(crate) fn tool() -> Tool<State> {
    Tool::new("latest_notes", latest_notes)
        .title("Latest notes")
        .description("Lists the notes that were saved last, the newest first.")
        .require_scope(READ)
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct LatestNotesArgs {
    /// How many notes to list; 1 to 50, 10 unless given.
    #[serde(default = "default_limit")]
    #[garde(range(min = 1, max = 50))]
    limit: i64,
}

fn default_limit() -> i64 {
    10
}

/// One note.
#[derive(Debug, Serialize, JsonSchema, FromRow)]
struct Note {
    /// Title of the note.
    title: String,
    /// Text of the note.
    text: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LatestNotes {
    /// The notes, the newest first.
    notes: Vec<Note>,
}

async fn latest_notes(context: ToolContext<State>, args: LatestNotesArgs) -> Result<Json<LatestNotes>, HandlerError> {
    let notes = context.state().database.read(&context, async |mut connection| {
        Ok(sqlx::query_as(LATEST).bind(args.limit).fetch_all(&mut *connection).await?)
    });
    Ok(Json(LatestNotes { notes: notes.await? }))
}
