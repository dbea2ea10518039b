//! The `search` tool: finds operations and schemas by words.

use garde::Validate;
use mcp_lambda::{HandlerError, Json, Tool, ToolContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    State,
    list_operations::{MAX_PAGE_BYTES, OperationSummary, page},
    list_schemas::SchemaSummary,
    ranking,
};

const DEFAULT_LIMIT: u32 = 20;
/// Maximum size of each page: a result has one of operations and one of schemas.
const MAX_BYTES: usize = MAX_PAGE_BYTES / 2;

pub(crate) fn tool() -> Tool<State> {
    Tool::new("search", search)
        .title("Search the API")
        .description(
            "Finds operations and schemas of the API by words, the best match first. Use it if you know the purpose and \
             not the name; then read the best match.",
        )
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
struct SearchArgs {
    /// Words to search for, such as `create invoice`; names and paths are split into words. 1 to 200 characters.
    #[garde(length(chars, min = 1, max = 200))]
    query: String,
    /// `operations` or `schemas`; default: both.
    kind: Option<ItemKind>,
    /// Maximum number of results of each type, 1 to 100; default: 20.
    #[garde(range(min = 1, max = 100))]
    limit: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ItemKind {
    Operations,
    Schemas,
}

#[derive(Debug, Serialize, JsonSchema)]
struct SearchResult {
    /// Best match first.
    operations: Vec<OperationSummary>,
    /// Total number of matches.
    operations_total: usize,
    /// Best match first.
    schemas: Vec<SchemaSummary>,
    /// Total number of matches.
    schemas_total: usize,
}

async fn search(context: ToolContext<State>, args: SearchArgs) -> Result<Json<SearchResult>, HandlerError> {
    let document = State::document(&context).await;
    let limit = args.limit.unwrap_or(DEFAULT_LIMIT);
    let of = |kind: ItemKind| args.kind.is_none_or(|wanted| wanted == kind);
    let operations = if of(ItemKind::Operations) { ranking::operations(&document, &args.query) } else { Vec::new() };
    let schemas = if of(ItemKind::Schemas) { ranking::schemas(&document, &args.query) } else { Vec::new() };
    let (listed, _) = page(operations.iter().map(|hit| OperationSummary::from(hit.item)), None, limit, MAX_BYTES);
    let (listed_schemas, _) = page(schemas.iter().map(|hit| SchemaSummary::from(hit.item)), None, limit, MAX_BYTES);
    let found = SearchResult {
        operations_total: operations.len(),
        schemas_total: schemas.len(),
        operations: listed,
        schemas: listed_schemas,
    };
    Ok(Json(found))
}
