//! The `find_operation` tool: the one operation that is meant, asking the person if several may be.

use garde::Validate;
use mcp_lambda::{HandlerError, InteractiveContext, Json, TitledOption, Tool};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    State,
    document::{Document, Operation, beginning},
    excerpt::Start,
    ranking,
    read_operation::{OperationRead, read},
};

/// More would be no question but a list.
const MOST_CHOICES: usize = 12;
/// Of choices in all. They are kept in `requestState`, which has 8 KiB.
const MOST_CHOICES_BYTES: usize = 5000;
const CHOICES: &str = "choices";

pub(crate) fn tool() -> Tool<State> {
    Tool::new("find_operation", find_operation)
        .title("Find an operation")
        .description(
            "Returns the one operation of the API that a few words mean, as read_operation does. If several fit equally well \
             the user is asked which; if the user does not choose, the error names them.",
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
) -> Result<Json<OperationRead>, HandlerError> {
    let document = State::document(&context).await;
    // The answer is to the question that was asked: the document may have changed since.
    let choices = context.once(CHOICES, async { choices(&document, &args.query) }).await?;
    let id = match &*choices {
        [only] => only.value.clone(),
        several => context.choose("operation", "Several operations fit. Which one is meant?", several).await?,
    };
    let operation = document.operation(&id);
    let operation = operation
        .ok_or_else(|| HandlerError::failed(format!("the document does not have `{}` any more", beginning(&id))))?;
    read(&document, operation, Start::default()).map(Json)
}

/// The operations that fit equally well, by id: one or several.
fn choices(document: &Document, query: &str) -> Result<Vec<TitledOption>, HandlerError> {
    let option = |own: &Operation| TitledOption::new(&own.id, title(own));
    if let Some(operation) = document.operation(query) {
        return Ok(vec![option(operation)]);
    }
    let hits = ranking::operations(document, query);
    let equals = ranking::equals(&hits);
    let choices: Vec<_> = equals.iter().take(MOST_CHOICES).map(|hit| option(hit.item)).collect();
    let bytes: usize = choices.iter().map(|own| own.value.len() + own.title.len()).sum();
    match equals.len() {
        0 => Err(HandlerError::invalid_input("no operation fits: try other words, or list_operations")),
        count @ 2.. if count > MOST_CHOICES || bytes > MOST_CHOICES_BYTES => Err(too_many(count, &choices)),
        _ => Ok(choices),
    }
}

fn too_many(count: usize, choices: &[TitledOption]) -> HandlerError {
    let named: Vec<_> = choices.iter().map(|own| format!("`{}`", beginning(&own.value))).collect();
    HandlerError::invalid_input(format!(
        "{count} operations fit equally well: read one of them, or say more. {}",
        named.join(", ")
    ))
}

fn title(operation: &Operation) -> String {
    let place = operation.place();
    if operation.summary.is_empty() { place } else { format!("{place}: {}", operation.summary) }
}
