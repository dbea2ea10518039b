//! The `read_operation` tool: returns the documentation of one operation.

use std::ops::Not;

use garde::Validate;
use mcp_lambda::{HandlerError, Json, Tool, ToolContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    State,
    document::{Document, Operation, truncate},
    excerpt::{Excerpt, Start, excerpt},
    ranking,
};

pub(crate) fn tool() -> Tool<State> {
    Tool::new("read_operation", read_operation)
        .title("Read an operation")
        .description(
            "Returns one operation of the API with parameters, request body, responses, security and servers, with references \
             resolved. Use it before you write a call.",
        )
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
struct ReadOperationArgs {
    /// Id of the operation, or its method and path, such as `GET /users/{id}`; for a webhook, its method and name. 1 to
    /// 500 characters.
    #[garde(length(chars, min = 1, max = 500))]
    operation_id: String,
    /// JSON pointer to a part of the operation, such as `/requestBody` or the value of `x-cut`; default: the whole
    /// operation. At most 2000 characters.
    #[garde(length(chars, max = 2000))]
    pointer: Option<String>,
    /// Number of members, items or characters to skip at the start of that part; default: 0.
    skip: Option<u32>,
}

/// Excerpt of an operation.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OperationExcerpt {
    operation_id: String,
    /// HTTP method.
    method: String,
    /// Path relative to the URL of a server, or name of a webhook.
    path: String,
    /// Whether it is a webhook: a request that the API sends to a URL registered by its user. Absent if it is not.
    #[serde(default, skip_serializing_if = "Not::not")]
    webhook: bool,
    #[serde(flatten)]
    excerpt: Excerpt,
}

async fn read_operation(
    context: ToolContext<State>,
    args: ReadOperationArgs,
) -> Result<Json<OperationExcerpt>, HandlerError> {
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
) -> Result<OperationExcerpt, HandlerError> {
    let inherited = document.inherited(operation);
    let excerpt = document
        .written(operation)
        .and_then(|written| excerpt(document, written, &inherited, start))
        .ok_or_else(|| {
            HandlerError::invalid_input(
                "`pointer` does not exist in this operation: use a value of `x-cut`, or omit it",
            )
        })?;
    Ok(OperationExcerpt {
        operation_id: operation.id.clone(),
        method: operation.method.clone(),
        path: operation.path.clone(),
        webhook: operation.is_webhook(),
        excerpt,
    })
}

fn unknown(document: &Document, id: &str) -> String {
    let hits = ranking::operations(document, id).into_iter().take(3);
    let similar: Vec<_> = hits.map(|hit| format!("`{}`", truncate(&hit.item.id))).collect();
    match similar.is_empty() {
        true => "unknown operation id: use search, or list_operations".to_owned(),
        false => format!("unknown operation id; similar ids: {}", similar.join(", ")),
    }
}
