//! The `read_operation` tool: all that the document says of one operation.

use std::ops::Not;

use garde::Validate;
use mcp_lambda::{HandlerError, Json, Tool, ToolContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    State,
    document::{Document, Operation, beginning},
    excerpt::{Excerpt, Start, excerpt},
    ranking,
};

pub(crate) fn tool() -> Tool<State> {
    Tool::new("read_operation", read_operation)
        .title("Read an operation")
        .description(
            "Returns one operation of the API with parameters, request body, responses, security and servers, its references \
             resolved. Use it before writing a call.",
        )
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
struct ReadArgs {
    /// The operation's id, or its method and path, such as `GET /users/{id}`; of a webhook, its method and name. 1 to 500 characters.
    #[garde(length(chars, min = 1, max = 500))]
    operation_id: String,
    /// A JSON pointer to a part of the operation, such as `/requestBody`: what `x-cut` names. All of it unless given. At most
    /// 2000 characters.
    #[garde(length(chars, max = 2000))]
    pointer: Option<String>,
    /// How many members, items or characters of that part to leave out at its beginning; none unless given.
    skip: Option<u32>,
}

/// An operation, or a part of one.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OperationRead {
    operation_id: String,
    /// The HTTP method.
    method: String,
    /// The path, below the URL of a server; the name of a webhook.
    path: String,
    /// Whether it is a webhook: a request that the API sends, to a URL that its user registers. Absent if it is not.
    #[serde(default, skip_serializing_if = "Not::not")]
    webhook: bool,
    #[serde(flatten)]
    excerpt: Excerpt,
}

async fn read_operation(context: ToolContext<State>, args: ReadArgs) -> Result<Json<OperationRead>, HandlerError> {
    let document = State::document(&context).await;
    let Some(operation) = document.operation(&args.operation_id) else {
        return Err(HandlerError::invalid_input(unknown(&document, &args.operation_id)));
    };
    let start =
        Start { pointer: args.pointer.as_deref().unwrap_or_default(), skip: args.skip.unwrap_or_default() as usize };
    read(&document, operation, start).map(Json)
}

pub(crate) fn read(
    document: &Document,
    operation: &Operation,
    start: Start<'_>,
) -> Result<OperationRead, HandlerError> {
    let beside = document.beside(operation);
    let excerpt = document
        .written(operation)
        .and_then(|written| excerpt(document, written, &beside, start))
        .ok_or_else(|| HandlerError::invalid_input("`pointer` leads to nothing in this operation"))?;
    Ok(OperationRead {
        operation_id: operation.id.clone(),
        method: operation.method.clone(),
        path: operation.path.clone(),
        webhook: operation.is_webhook(),
        excerpt,
    })
}

fn unknown(document: &Document, id: &str) -> String {
    let hits = ranking::operations(document, id).into_iter().take(3);
    let similar: Vec<_> = hits.map(|hit| format!("`{}`", beginning(&hit.item.id))).collect();
    match similar.is_empty() {
        true => "there is no operation of that id: use search, or list_operations".to_owned(),
        false => format!("there is no operation of that id; similar are {}", similar.join(", ")),
    }
}
