//! The `list_schemas` tool: lists schemas in pages.

use garde::Validate;
use mcp_lambda::{HandlerError, Json, Tool, ToolContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    State,
    document::Schema,
    list_operations::{DEFAULT_LIMIT, MAX_PAGE_BYTES, page},
    words::fold,
};

pub(crate) fn tool() -> Tool<State> {
    Tool::new("list_schemas", list_schemas)
        .title("List schemas")
        .description(
            "Lists the named schemas of the API in pages. Use it for an overview of the types; use search to find one \
             by words.",
        )
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
struct ListSchemasArgs {
    /// Part of the name, case-insensitive; default: all names. At most 200 characters.
    #[garde(length(chars, max = 200))]
    name: Option<String>,
    /// Number of items to skip: `next_skip` of the previous page.
    skip: Option<u32>,
    /// Maximum number of results, 1 to 200; default: 50.
    #[garde(range(min = 1, max = 200))]
    limit: Option<u32>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct SchemaPage {
    /// Total number of results.
    total: usize,
    /// Schemas by name.
    schemas: Vec<SchemaSummary>,
    /// Value of `skip` for the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_skip: Option<usize>,
}

/// Summary of a schema.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SchemaSummary {
    /// Argument of `read_schema`.
    pub(crate) name: String,
    /// Summary in one line; empty if the document has none.
    pub(crate) summary: String,
}

impl From<&Schema> for SchemaSummary {
    fn from(schema: &Schema) -> Self {
        Self { name: schema.name.clone(), summary: schema.summary.clone() }
    }
}

async fn list_schemas(context: ToolContext<State>, args: ListSchemasArgs) -> Result<Json<SchemaPage>, HandlerError> {
    let document = State::document(&context).await;
    let part = args.name.map(|name| fold(&name));
    let is_matching = |own: &&Schema| part.as_ref().is_none_or(|part| fold(&own.name).contains(part));
    let matching: Vec<&Schema> = document.schemas().iter().filter(is_matching).collect();
    let limit = args.limit.unwrap_or(DEFAULT_LIMIT);
    let (schemas, next_skip) =
        page(matching.iter().map(|own| SchemaSummary::from(*own)), args.skip, limit, MAX_PAGE_BYTES);
    Ok(Json(SchemaPage { total: matching.len(), schemas, next_skip }))
}
