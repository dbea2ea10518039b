//! The `find_operation` tool: finds one operation, and asks the user to choose if several match.

use garde::Validate;
use mcp_lambda::{HandlerError, InteractiveContext, Json, TitledOption, Tool};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    State,
    document::{Document, Operation, truncate},
    excerpt::Start,
    ranking,
    read_operation::{OperationExcerpt, read},
};

/// Maximum number of choices in an input request.
const MAX_CHOICES: usize = 12;
/// Maximum total size of choices, in bytes. They are stored in `requestState`, which is limited to 8 KiB.
const MAX_CHOICES_BYTES: usize = 5000;
const CHOICES: &str = "choices";

pub(crate) fn tool() -> Tool<State> {
    Tool::new("find_operation", find_operation)
        .title("Find an operation")
        .description(
            "Returns the operation of the API that matches a few words best, as read_operation does. If several match equally well, \
             the user is asked to choose; if the user does not choose, the error lists them.",
        )
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct FindArgs {
    /// A few words, such as `create invoice`; or method and path. 1 to 200 characters.
    #[garde(length(chars, min = 1, max = 200))]
    query: String,
}

async fn find_operation(
    context: InteractiveContext<State>,
    args: FindArgs,
) -> Result<Json<OperationExcerpt>, HandlerError> {
    let document = State::document(&context).await;
    // The choices are stored, since the document may change between the round trips.
    let choices = context.once(CHOICES, async { choices(&document, &args.query) }).await?;
    let id = match &*choices {
        [only] => only.value.clone(),
        several => context.choose("operation", "Several operations match. Which one do you want?", several).await?,
    };
    let operation = document.operation(&id);
    let operation =
        operation.ok_or_else(|| HandlerError::failed(format!("the document no longer has `{}`", truncate(&id))))?;
    read(&document, operation, Start::default()).map(Json)
}

/// Returns the operations that match equally well, by id: one or several.
fn choices(document: &Document, query: &str) -> Result<Vec<TitledOption>, HandlerError> {
    let option = |own: &Operation| TitledOption::new(&own.id, title(own));
    if let Some(operation) = document.operation(query) {
        return Ok(vec![option(operation)]);
    }
    let hits = ranking::operations(document, query);
    let top_ranked = ranking::top_ranked(&hits);
    let choices: Vec<_> = top_ranked.iter().take(MAX_CHOICES).map(|hit| option(hit.item)).collect();
    let bytes: usize = choices.iter().map(|own| own.value.len() + own.title.len()).sum();
    match top_ranked.len() {
        0 => Err(HandlerError::invalid_input("no operation matches: try other words, or list_operations")),
        count @ 2.. if count > MAX_CHOICES || bytes > MAX_CHOICES_BYTES => Err(too_many(count, &choices)),
        _ => Ok(choices),
    }
}

fn too_many(count: usize, choices: &[TitledOption]) -> HandlerError {
    let named: Vec<_> = choices.iter().map(|own| format!("`{}`", truncate(&own.value))).collect();
    HandlerError::invalid_input(format!(
        "{count} operations match equally well: read one of them, or use a more specific query: {}",
        named.join(", ")
    ))
}

fn title(operation: &Operation) -> String {
    let place = operation.place();
    if operation.summary.is_empty() { place } else { format!("{place}: {}", operation.summary) }
}
