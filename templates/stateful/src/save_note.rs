//! The `save_note` tool: stores one note under its title.

use garde::Validate;
use mcp_lambda::{HandlerError, Tool, ToolContext, postgres::Retry};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{State, WRITE};

const SAVE: &str = r#"
    INSERT INTO notes (title, "text") VALUES ($1, $2)
    ON CONFLICT (title) DO UPDATE SET "text" = excluded."text", saved_at = now()
"#;

pub(crate) fn tool() -> Tool<State> {
    Tool::new("save_note", save_note)
        .title("Save a note")
        .description("Stores a note under its title, in place of an earlier note with the same title.")
        .require_scope(WRITE)
        .destructive(true)
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct SaveNoteArgs {
    /// Title of the note; 1 to 100 characters.
    #[garde(length(chars, min = 1, max = 100), custom(is_storable))]
    title: String,
    /// Text of the note; 1 to 10,000 characters.
    #[garde(length(chars, min = 1, max = 10_000), custom(is_storable))]
    text: String,
}

fn is_storable(text: &str, _: &()) -> garde::Result {
    match text.contains('\0') {
        true => Err(garde::Error::new("must not contain U+0000, which Postgres cannot store")),
        false => Ok(()),
    }
}

async fn save_note(context: ToolContext<State>, args: SaveNoteArgs) -> Result<&'static str, HandlerError> {
    // The same call twice has the effect of one, so that it is repeated after a lost connection.
    let saved = context.state().database.write(&context, Retry::Idempotent, async |mut connection| {
        sqlx::query(SAVE).bind(&args.title).bind(&args.text).execute(&mut *connection).await?;
        Ok(())
    });
    saved.await?;
    Ok("Saved.")
}
