//! The `list_operations` tool: what the API can do, page by page.

use garde::Validate;
use mcp_server::{Json, Tool, ToolContext, ToolError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{State, document::Operation};

pub(crate) const USUAL_LIMIT: u32 = 50;
/// Of the items of a page, as JSON.
const MAX_PAGE_BYTES: usize = 256 * 1024;

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
    let limit = args.limit.unwrap_or(USUAL_LIMIT);
    let (operations, next_skip) = page(wanted.iter().map(|own| Listed::from(*own)), args.skip, limit);
    Ok(Json(Operations {
        api: document.title.clone(),
        version: document.version.clone(),
        total: wanted.len(),
        operations,
        next_skip,
        note: document.elsewhere().first().map(|path| {
            let count = document.elsewhere().len();
            format!("{count} paths refer to what is not in the document, such as `{path}`: what is there is not listed")
        }),
    }))
}

/// A part of a list, and where the next begins. What is long makes it shorter than `limit`; it has one item at least, if
/// there is one.
pub(crate) fn page<T: Serialize>(
    all: impl ExactSizeIterator<Item = T>,
    skip: Option<u32>,
    limit: u32,
) -> (Vec<T>, Option<usize>) {
    let (count, from) = (all.len(), skip.unwrap_or_default() as usize);
    let (mut items, mut bytes) = (Vec::new(), 0);
    for item in all.skip(from).take(limit as usize) {
        // Texts can always be written.
        bytes += serde_json::to_vec(&item).map_or(0, |json| json.len());
        if bytes > MAX_PAGE_BYTES && !items.is_empty() {
            break;
        }
        items.push(item);
    }
    let to = from.saturating_add(items.len());
    (items, (to < count).then_some(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8.4
    #[test]
    fn a_page_has_at_most_so_many_bytes_and_is_gone_on_with() {
        let all = vec!["x".repeat(MAX_PAGE_BYTES / 3); 10];

        let (first, next) = page(all.iter(), None, 200);
        let (last, end) = page(all.iter(), Some(8), 200);
        let long = ["x".repeat(2 * MAX_PAGE_BYTES)];
        let (one, after) = page(long.iter(), None, 200);

        assert_eq!((first.len(), next), (2, Some(2)));
        assert_eq!((last.len(), end), (2, None));
        assert_eq!((one.len(), after), (1, None));
    }
}
