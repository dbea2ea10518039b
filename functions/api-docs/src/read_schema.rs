//! The `read_schema` tool: one of the API's types.

use garde::Validate;
use mcp_lambda::{HandlerError, Json, Tool, ToolContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    State,
    document::Beside,
    excerpt::{Excerpt, Start, excerpt, excerpt_at},
};

const PREFIX: &str = "#/components/schemas/";

pub(crate) fn tool() -> Tool<State> {
    Tool::new("read_schema", read_schema)
        .title("Read a schema")
        .description(
            "Returns one named schema of the API with its references resolved, or whatever else a reference within the \
             document leads to. Use it for what an operation left as `$ref`.",
        )
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
struct ReadArgs {
    /// The schema's name, or a reference within the document, such as `#/components/responses/NotFound`. 1 to 500 characters.
    #[garde(length(chars, min = 1, max = 500))]
    name: String,
    /// A JSON pointer to a part of the schema, such as `/properties/address`: what `x-cut` names. All of it unless given. At
    /// most 2000 characters.
    #[garde(length(chars, max = 2000))]
    pointer: Option<String>,
    /// How many members, items or characters of that part to leave out at its beginning; none unless given.
    skip: Option<u32>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct SchemaRead {
    name: String,
    #[serde(flatten)]
    excerpt: Excerpt,
}

async fn read_schema(context: ToolContext<State>, args: ReadArgs) -> Result<Json<SchemaRead>, HandlerError> {
    let document = State::document(&context).await;
    let start =
        Start { pointer: args.pointer.as_deref().unwrap_or_default(), skip: args.skip.unwrap_or_default() as usize };
    let (is_there, excerpt) = match args.name.starts_with('#') {
        true => (document.target(&args.name).is_some(), excerpt_at(&document, &args.name, start)),
        false => {
            let schema = document.schema(&args.name);
            (schema.is_some(), schema.and_then(|schema| excerpt(&document, schema, &Beside::new(), start)))
        }
    };
    if !is_there {
        return Err(HandlerError::invalid_input("there is no schema of that name: use search, or list_schemas"));
    }
    let excerpt = excerpt.ok_or_else(|| HandlerError::invalid_input("`pointer` leads to nothing in this schema"))?;
    let name = args.name.strip_prefix(PREFIX).unwrap_or(&args.name).to_owned();
    Ok(Json(SchemaRead { name, excerpt }))
}
