//! The resources `openapi://operations/{operationId}`: operations that users attach to a conversation.

use garde::Validate;
use mcp_lambda::{HandlerError, PartialArgument, RequestContext, ResourceTemplate};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{State, excerpt::Start, read_operation::read, words::fold};

/// Maximum number of suggestions in a result.
const SUGGESTIONS: usize = 100;

pub(crate) fn template() -> ResourceTemplate<State> {
    ResourceTemplate::new("openapi://operations/{operationId}", "operation", operation)
        .title("Operation")
        .description("One operation of the API with resolved references.")
        .mime_type("application/json")
        .complete("operationId", suggest)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct OperationUri {
    /// Id of the operation.
    #[serde(rename = "operationId")]
    operation_id: String,
}

async fn operation(context: RequestContext<State>, uri: OperationUri) -> Result<String, HandlerError> {
    let document = State::document(&context).await;
    let operation = document.operation(&uri.operation_id).ok_or_else(HandlerError::not_found)?;
    let read = read(&document, operation, Start::default())?;
    Ok(serde_json::to_string(&read)?)
}

/// Suggests ids that start with the typed text, then ids that contain it.
async fn suggest(context: RequestContext<State>, typed: PartialArgument) -> Result<Vec<String>, HandlerError> {
    let document = State::document(&context).await;
    let typed = fold(&typed.value);
    let (mut begin, mut have) = (Vec::new(), Vec::new());
    for id in document.operations().iter().map(|operation| &operation.id) {
        match fold(id).find(&typed) {
            Some(0) => begin.push(id),
            Some(_) => have.push(id),
            None => {}
        }
    }
    Ok(begin.into_iter().chain(have).take(SUGGESTIONS + 1).cloned().collect())
}
