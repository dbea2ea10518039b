//! The `list_schemas` tool: the API's types, page by page.

use garde::Validate;
use mcp_lambda::{HandlerError, Json, Tool, ToolContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    State,
    document::Schema,
    list_operations::{MAX_PAGE_BYTES, USUAL_LIMIT, page},
    words::fold,
};

pub(crate) fn tool() -> Tool<State> {
    Tool::new("list_schemas", list_schemas)
        .title("List schemas")
        .description(
            "Lists the named schemas of the API, page by page. Use it to see which types there are; use search to find one \
             by words.",
        )
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
struct ListArgs {
    /// A part of the name, in small or capital letters; any name unless given. At most 200 characters.
    #[garde(length(chars, max = 200))]
    name: Option<String>,
    /// How many to leave out: `next_skip` of the page before.
    skip: Option<u32>,
    /// The most that are returned, 1 to 200; 50 unless given.
    #[garde(range(min = 1, max = 200))]
    limit: Option<u32>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Schemas {
    /// How many there are in all.
    total: usize,
    /// By name.
    schemas: Vec<ListedSchema>,
    /// What to skip for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_skip: Option<usize>,
}

/// A schema in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ListedSchema {
    /// What `read_schema` takes.
    pub(crate) name: String,
    /// What it is, in one line; empty if the document does not say.
    pub(crate) summary: String,
}

impl From<&Schema> for ListedSchema {
    fn from(schema: &Schema) -> Self {
        Self { name: schema.name.clone(), summary: schema.summary.clone() }
    }
}

async fn list_schemas(context: ToolContext<State>, args: ListArgs) -> Result<Json<Schemas>, HandlerError> {
    let document = State::document(&context).await;
    let part = args.name.map(|name| fold(&name));
    let is_wanted = |own: &&Schema| part.as_ref().is_none_or(|part| fold(&own.name).contains(part));
    let wanted: Vec<&Schema> = document.schemas().iter().filter(is_wanted).collect();
    let limit = args.limit.unwrap_or(USUAL_LIMIT);
    let (schemas, next_skip) =
        page(wanted.iter().map(|own| ListedSchema::from(*own)), args.skip, limit, MAX_PAGE_BYTES);
    Ok(Json(Schemas { total: wanted.len(), schemas, next_skip }))
}
