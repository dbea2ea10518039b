//! The `list_operations` tool: what the API can do, page by page.

use std::ops::Not;

use garde::Validate;
use mcp_lambda::{HandlerError, Json, Tool, ToolContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    State,
    document::{Operation, beginning},
    excerpt::size_of,
    words::fold,
};

pub(crate) const USUAL_LIMIT: u32 = 50;
/// Of the items of a page, as JSON, in both forms in which an answer has them.
pub(crate) const MAX_PAGE_BYTES: usize = 256 * 1024;
/// Of an operation's tags in a list, as JSON; those after them are not shown.
const MAX_TAGS_BYTES: usize = 4 * 1024;

pub(crate) fn tool() -> Tool<State> {
    Tool::new("list_operations", list_operations)
        .title("List operations")
        .description(
            "Lists the operations of the API by path, with method and summary, page by page; after them its webhooks by name, \
             the requests that it sends. Use it to see what there is, or all that begins with a path or has a tag; use search \
             for anything else.",
        )
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
struct ListArgs {
    /// How the path begins, such as `/users`; any path unless given. At most 500 characters.
    #[garde(length(chars, max = 500))]
    path: Option<String>,
    /// A tag that the operations have; any unless given. At most 200 characters.
    #[garde(length(chars, max = 200))]
    tag: Option<String>,
    /// How many to leave out: `next_skip` of the page before.
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
    /// By path; then the webhooks, by name.
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
    /// The path, with its parameters in braces; the name of a webhook.
    pub(crate) path: String,
    /// What it does, in one line; empty if the document does not say.
    pub(crate) summary: String,
    /// What it is filed under.
    pub(crate) tags: Vec<String>,
    /// Whether it should no longer be used.
    pub(crate) deprecated: bool,
    /// Whether it is a webhook: a request that the API sends, to a URL that its user registers. Absent if it is not.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub(crate) webhook: bool,
}

impl From<&Operation> for Listed {
    fn from(operation: &Operation) -> Self {
        Self {
            operation_id: operation.id.clone(),
            method: operation.method.clone(),
            path: operation.path.clone(),
            summary: operation.summary.clone(),
            tags: shown(&operation.tags),
            deprecated: operation.is_deprecated,
            webhook: operation.is_webhook(),
        }
    }
}

/// The first tags that a list has room for.
fn shown(tags: &[String]) -> Vec<String> {
    let mut bytes = 0;
    let has_room = |tag: &&String| {
        bytes += size_of(*tag) + 1;
        bytes <= MAX_TAGS_BYTES
    };
    tags.iter().take_while(has_room).cloned().collect()
}

async fn list_operations(context: ToolContext<State>, args: ListArgs) -> Result<Json<Operations>, HandlerError> {
    let document = State::document(&context).await;
    let tag = args.tag.map(|tag| fold(&tag));
    let is_wanted = |operation: &&Operation| {
        args.path.as_ref().is_none_or(|path| operation.path.starts_with(path))
            && tag.as_ref().is_none_or(|tag| operation.tags.iter().any(|own| fold(own) == *tag))
    };
    let wanted: Vec<&Operation> = document.operations().iter().filter(is_wanted).collect();
    let limit = args.limit.unwrap_or(USUAL_LIMIT);
    let (operations, next_skip) = page(wanted.iter().map(|own| Listed::from(*own)), args.skip, limit, MAX_PAGE_BYTES);
    Ok(Json(Operations {
        api: document.title.clone(),
        version: document.version.clone(),
        total: wanted.len(),
        operations,
        next_skip,
        note: document.elsewhere().first().map(|path| {
            let count = document.elsewhere().len();
            let path = beginning(path);
            format!(
                "{count} paths or webhooks refer to what is not in the document, such as `{path}`: what is there is not listed"
            )
        }),
    }))
}

/// A part of a list, and where the next begins. What is long makes it shorter than `limit`, so that it takes at most so many
/// bytes of an answer; it has one item at least, if there is one.
pub(crate) fn page<T: Serialize>(
    all: impl ExactSizeIterator<Item = T>,
    skip: Option<u32>,
    limit: u32,
    max_bytes: usize,
) -> (Vec<T>, Option<usize>) {
    let (count, from) = (all.len(), skip.unwrap_or_default() as usize);
    let (mut items, mut bytes) = (Vec::new(), 0);
    for item in all.skip(from).take(limit as usize) {
        bytes += size_in_answer(&item);
        if bytes > max_bytes && !items.is_empty() {
            break;
        }
        items.push(item);
    }
    let to = from.saturating_add(items.len());
    (items, (to < count).then_some(to))
}

/// As JSON, and once more as a text in JSON, for those who read only text.
fn size_in_answer<T: Serialize>(item: &T) -> usize {
    // Texts can always be written.
    serde_json::to_string(item).map_or(0, |json| json.len() + size_of(&json))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8.4
    #[test]
    fn a_page_has_at_most_so_many_bytes_and_is_gone_on_with() {
        let all = vec!["x".repeat(MAX_PAGE_BYTES / 6); 10];

        let (first, next) = page(all.iter(), None, 200, MAX_PAGE_BYTES);
        let (last, end) = page(all.iter(), Some(8), 200, MAX_PAGE_BYTES);
        let long = ["x".repeat(2 * MAX_PAGE_BYTES)];
        let (one, after) = page(long.iter(), None, 200, MAX_PAGE_BYTES);

        assert_eq!((first.len(), next), (2, Some(2)));
        assert_eq!((last.len(), end), (2, None));
        assert_eq!((one.len(), after), (1, None));
    }

    /// F9
    #[test]
    fn a_page_has_at_most_so_many_bytes_in_both_forms_of_an_answer_with_whatever_tags() {
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
                let listed = document.operations().iter().map(Listed::from);
                let (items, _) = page(listed, Some(skip), 200, MAX_PAGE_BYTES);

                let json = serde_json::to_string(&items).unwrap();
                let twice = json.len() + serde_json::to_string(&json).unwrap().len();
                assert!(!items.is_empty() && twice <= MAX_PAGE_BYTES + 1024, "{twice} bytes");
            }
            assert_eq!(
                Listed::from(&document.operations()[0]).tags.is_empty(),
                tag.len() >= 2000 && tag.contains('\u{1}')
            );
        }
    }
}
