//! The `search` tool: operations and schemas by words.

use garde::Validate;
use mcp_lambda::{HandlerError, Json, Tool, ToolContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    State,
    list_operations::{Listed, MAX_PAGE_BYTES, page},
    list_schemas::ListedSchema,
    ranking,
};

const USUAL_LIMIT: u32 = 20;
/// An answer has a page of operations and one of schemas.
const MAX_BYTES: usize = MAX_PAGE_BYTES / 2;

pub(crate) fn tool() -> Tool<State> {
    Tool::new("search", search)
        .title("Search the API")
        .description(
            "Finds operations and schemas of the API by words, the best first. Use it when you know what you want to do and \
             not what it is called; then read what fits.",
        )
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
struct SearchArgs {
    /// A few words, such as `create invoice`; names and paths are words too. 1 to 200 characters.
    #[garde(length(chars, min = 1, max = 200))]
    query: String,
    /// Only operations, or only schemas; both unless given.
    kind: Option<Kind>,
    /// The most of each that are returned, 1 to 100; 20 unless given.
    #[garde(range(min = 1, max = 100))]
    limit: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Operations,
    Schemas,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Found {
    /// The best first.
    operations: Vec<Listed>,
    /// How many fit.
    operations_total: usize,
    /// The best first.
    schemas: Vec<ListedSchema>,
    /// How many fit.
    schemas_total: usize,
}

async fn search(context: ToolContext<State>, args: SearchArgs) -> Result<Json<Found>, HandlerError> {
    let document = State::document(&context).await;
    let limit = args.limit.unwrap_or(USUAL_LIMIT);
    let of = |kind: Kind| args.kind.is_none_or(|wanted| wanted == kind);
    let operations = if of(Kind::Operations) { ranking::operations(&document, &args.query) } else { Vec::new() };
    let schemas = if of(Kind::Schemas) { ranking::schemas(&document, &args.query) } else { Vec::new() };
    let (listed, _) = page(operations.iter().map(|hit| Listed::from(hit.item)), None, limit, MAX_BYTES);
    let (listed_schemas, _) = page(schemas.iter().map(|hit| ListedSchema::from(hit.item)), None, limit, MAX_BYTES);
    let found = Found {
        operations_total: operations.len(),
        schemas_total: schemas.len(),
        operations: listed,
        schemas: listed_schemas,
    };
    Ok(Json(found))
}
