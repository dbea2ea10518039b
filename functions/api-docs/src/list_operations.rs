//! The `list_operations` tool: what the API can do, page by page.

use garde::Validate;
use mcp_server::{Json, Tool, ToolContext, ToolError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{State, document::Operation};

pub(crate) const USUAL_LIMIT: u32 = 50;

pub(crate) fn tool() -> Tool<State> {
    Tool::new("list_operations", list_operations)
        .title("List operations")
        .description(
            "Lists the operations of the API by path, with method and summary, page by page. Use it to see what there is, or \
             all that begins with a path or has a tag; use search for anything else.",
        )
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct ListArgs {
    /// How the path begins, such as `/users`; any path unless given. At most 500 characters.
    #[garde(length(chars, max = 500))]
    path: Option<String>,
    /// A tag that the operations have; any unless given. At most 200 characters.
    #[garde(length(chars, max = 200))]
    tag: Option<String>,
    /// How many to leave out: `next_skip` of the page before.
    #[garde(skip)]
    skip: Option<u32>,
    /// The most that are returned, 1 to 200; 50 unless given.
    #[garde(range(min = 1, max = 200))]
    limit: Option<u32>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Operations {
    /// The API's name.
    api: String,
    /// The API's version.
    version: String,
    /// How many there are in all.
    total: usize,
    /// By path.
    operations: Vec<Listed>,
    /// What to skip for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_skip: Option<usize>,
    /// What the document leaves out; absent if it is all there.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// An operation in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Listed {
    /// What `read_operation` takes.
    pub(crate) operation_id: String,
    /// The HTTP method.
    pub(crate) method: String,
    /// The path, with its parameters in braces.
    pub(crate) path: String,
    /// What it does, in one line; empty if the document does not say.
    pub(crate) summary: String,
    /// What it is filed under.
    pub(crate) tags: Vec<String>,
    /// Whether it should no longer be used.
    pub(crate) deprecated: bool,
}

impl From<&Operation> for Listed {
    fn from(operation: &Operation) -> Self {
        Self {
            operation_id: operation.id.clone(),
            method: operation.method.clone(),
            path: operation.path.clone(),
            summary: operation.summary.clone(),
            tags: operation.tags.clone(),
            deprecated: operation.is_deprecated,
        }
    }
}

async fn list_operations(context: ToolContext<State>, args: ListArgs) -> Result<Json<Operations>, ToolError> {
    let document = State::document(&context).await;
    let is_wanted = |operation: &&Operation| {
        args.path.as_ref().is_none_or(|path| operation.path.starts_with(path))
            && args.tag.as_ref().is_none_or(|tag| operation.tags.iter().any(|own| own.eq_ignore_ascii_case(tag)))
    };
    let wanted: Vec<&Operation> = document.operations().iter().filter(is_wanted).collect();
    let (operations, next_skip) = page(&wanted, args.skip, args.limit);
    Ok(Json(Operations {
        api: document.title.clone(),
        version: document.version.clone(),
        total: wanted.len(),
        operations: operations.iter().map(|own| (*own).into()).collect(),
        next_skip,
        note: document.elsewhere().first().map(|path| {
            let count = document.elsewhere().len();
            format!("{count} paths refer to what is not in the document, such as `{path}`: what is there is not listed")
        }),
    }))
}

/// A part of a list, and where the next begins.
pub(crate) fn page<T>(all: &[T], skip: Option<u32>, limit: Option<u32>) -> (&[T], Option<usize>) {
    let from = (skip.unwrap_or_default() as usize).min(all.len());
    let to = (from + limit.unwrap_or(USUAL_LIMIT) as usize).min(all.len());
    (&all[from..to], (to < all.len()).then_some(to))
}
