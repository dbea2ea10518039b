//! The `list_operations` tool: lists operations in pages.

use std::ops::Not;

use garde::Validate;
use mcp_lambda::{HandlerError, Json, Tool, ToolContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    State,
    document::{Operation, truncate},
    excerpt::size_of,
    words::fold,
};

pub(crate) const DEFAULT_LIMIT: u32 = 50;
/// Maximum size of the items of a page, in bytes: as structured content plus as text.
pub(crate) const MAX_PAGE_BYTES: usize = 256 * 1024;
/// Maximum size of an operation's tags in a list, as JSON; further tags are omitted.
const MAX_TAGS_BYTES: usize = 4 * 1024;

pub(crate) fn tool() -> Tool<State> {
    Tool::new("list_operations", list_operations)
        .title("List operations")
        .description(
            "Lists the operations of the API by path, with method and summary, in pages; then its webhooks by name, \
             which are requests that the API sends. Use it for an overview, or for all operations with a path prefix or a tag; use search \
             for all other queries.",
        )
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
struct ListOperationsArgs {
    /// Prefix of the path, such as `/users`; default: all paths. At most 500 characters.
    #[garde(length(chars, max = 500))]
    path: Option<String>,
    /// Tag of the operations; default: all. At most 200 characters.
    #[garde(length(chars, max = 200))]
    tag: Option<String>,
    /// Number of items to skip: `next_skip` of the previous page.
    skip: Option<u32>,
    /// Maximum number of results, 1 to 200; default: 50.
    #[garde(range(min = 1, max = 200))]
    limit: Option<u32>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct OperationPage {
    /// Name of the API.
    api: String,
    /// Version of the API.
    version: String,
    /// Total number of results.
    total: usize,
    /// Operations by path, then webhooks by name.
    operations: Vec<OperationSummary>,
    /// Value of `skip` for the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_skip: Option<usize>,
    /// Operations that are not in the list, with the reason; absent if the list is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// Summary of an operation.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OperationSummary {
    /// Argument of `read_operation`.
    pub(crate) operation_id: String,
    /// HTTP method.
    pub(crate) method: String,
    /// Path with its parameters in braces, or name of a webhook.
    pub(crate) path: String,
    /// Summary in one line; empty if the document has none.
    pub(crate) summary: String,
    /// Tags.
    pub(crate) tags: Vec<String>,
    /// Whether the operation is deprecated.
    pub(crate) deprecated: bool,
    /// Whether it is a webhook: a request that the API sends to a URL registered by its user. Absent if it is not.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub(crate) webhook: bool,
}

impl From<&Operation> for OperationSummary {
    fn from(operation: &Operation) -> Self {
        Self {
            operation_id: operation.id.clone(),
            method: operation.method.clone(),
            path: operation.path.clone(),
            summary: operation.summary.clone(),
            tags: first_tags(&operation.tags),
            deprecated: operation.is_deprecated,
            webhook: operation.is_webhook(),
        }
    }
}

/// Returns the first tags that fit.
fn first_tags(tags: &[String]) -> Vec<String> {
    let mut bytes = 0;
    let has_room = |tag: &&String| {
        bytes += size_of(*tag) + 1;
        bytes <= MAX_TAGS_BYTES
    };
    tags.iter().take_while(has_room).cloned().collect()
}

async fn list_operations(
    context: ToolContext<State>,
    args: ListOperationsArgs,
) -> Result<Json<OperationPage>, HandlerError> {
    let document = State::document(&context).await;
    let tag = args.tag.map(|tag| fold(&tag));
    let is_matching = |operation: &&Operation| {
        args.path.as_ref().is_none_or(|path| operation.path.starts_with(path))
            && tag.as_ref().is_none_or(|tag| operation.tags.iter().any(|own| fold(own) == *tag))
    };
    let matching: Vec<&Operation> = document.operations().iter().filter(is_matching).collect();
    let limit = args.limit.unwrap_or(DEFAULT_LIMIT);
    let (operations, next_skip) =
        page(matching.iter().map(|own| OperationSummary::from(*own)), args.skip, limit, MAX_PAGE_BYTES);
    Ok(Json(OperationPage {
        api: document.title.clone(),
        version: document.version.clone(),
        total: matching.len(),
        operations,
        next_skip,
        note: document.external_paths().first().map(|path| {
            let count = document.external_paths().len();
            let path = truncate(path);
            format!(
                "{count} paths or webhooks refer to other documents, such as `{path}`: their operations are not listed"
            )
        }),
    }))
}

/// Returns a page of a list, and the start of the next page. A page has at most `limit` items and takes at most
/// `max_bytes` of a result, but has at least one item if there is one.
pub(crate) fn page<T: Serialize>(
    all: impl ExactSizeIterator<Item = T>,
    skip: Option<u32>,
    limit: u32,
    max_bytes: usize,
) -> (Vec<T>, Option<usize>) {
    let (count, from) = (all.len(), skip.unwrap_or_default() as usize);
    let (mut items, mut bytes) = (Vec::new(), 0);
    for item in all.skip(from).take(limit as usize) {
        bytes += size_in_result(&item);
        if bytes > max_bytes && !items.is_empty() {
            break;
        }
        items.push(item);
    }
    let to = from.saturating_add(items.len());
    (items, (to < count).then_some(to))
}

/// Returns the size of an item in a result: as structured content and as text.
fn size_in_result<T: Serialize>(item: &T) -> usize {
    // Serializing cannot fail.
    serde_json::to_string(item).map_or(0, |json| json.len() + size_of(&json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_limited_in_size_and_continue() {
        let all = vec!["x".repeat(MAX_PAGE_BYTES / 6); 10];

        let (first, next) = page(all.iter(), None, 200, MAX_PAGE_BYTES);
        let (last, end) = page(all.iter(), Some(8), 200, MAX_PAGE_BYTES);
        let long = ["x".repeat(2 * MAX_PAGE_BYTES)];
        let (one, after) = page(long.iter(), None, 200, MAX_PAGE_BYTES);

        assert_eq!((first.len(), next), (2, Some(2)));
        assert_eq!((last.len(), end), (2, None));
        assert_eq!((one.len(), after), (1, None));
    }

    #[test]
    fn pages_are_limited_in_size_with_any_tags() {
        for tag in ["t".repeat(2000), "\u{1}".repeat(2000), "\"".repeat(30), "t".to_owned()] {
            let tags: Vec<_> = (0..64).map(|number| format!("{number}{tag}")).collect();
            let paths: serde_json::Map<_, _> = (0..100)
                .map(|number| {
                    let id = format!("{number}{}", "\u{1}".repeat(1900));
                    (format!("/{id}"), serde_json::json!({ "get": { "operationId": id, "tags": tags } }))
                })
                .collect();
            let text = serde_json::json!({ "openapi": "3.1.0", "paths": paths }).to_string();
            let document = crate::Document::parse(text.as_bytes(), crate::Budget::of_function(4096)).unwrap();

            for skip in [0, 50, 99] {
                let listed = document.operations().iter().map(OperationSummary::from);
                let (items, _) = page(listed, Some(skip), 200, MAX_PAGE_BYTES);

                let json = serde_json::to_string(&items).unwrap();
                let twice = json.len() + serde_json::to_string(&json).unwrap().len();
                assert!(!items.is_empty() && twice <= MAX_PAGE_BYTES + 1024, "{twice} bytes");
            }
            assert_eq!(
                OperationSummary::from(&document.operations()[0]).tags.is_empty(),
                tag.len() >= 2000 && tag.contains('\u{1}')
            );
        }
    }
}
