//! The `read_schema` tool: returns one schema.

use garde::Validate;
use mcp_lambda::{HandlerError, Json, Tool, ToolContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    State,
    document::Inherited,
    excerpt::{Excerpt, Start, excerpt, excerpt_at},
};

const PREFIX: &str = "#/components/schemas/";

pub(crate) fn tool() -> Tool<State> {
    Tool::new("read_schema", read_schema)
        .title("Read a schema")
        .description(
            "Returns one named schema of the API with references resolved, or the target of any other reference within the \
             document. Use it for references that an operation has as `$ref`.",
        )
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
struct ReadSchemaArgs {
    /// Name of the schema, or a reference within the document, such as `#/components/responses/NotFound`. 1 to 500
    /// characters.
    #[garde(length(chars, min = 1, max = 500))]
    name: String,
    /// JSON pointer to a part of the schema, such as `/properties/address` or the value of `x-cut`; default: the whole
    /// schema. At most 2000 characters.
    #[garde(length(chars, max = 2000))]
    pointer: Option<String>,
    /// Number of members, items or characters to skip at the start of that part; default: 0.
    skip: Option<u32>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct SchemaExcerpt {
    name: String,
    #[serde(flatten)]
    excerpt: Excerpt,
}

async fn read_schema(context: ToolContext<State>, args: ReadSchemaArgs) -> Result<Json<SchemaExcerpt>, HandlerError> {
    let document = State::document(&context).await;
    let start =
        Start { pointer: args.pointer.as_deref().unwrap_or_default(), skip: args.skip.unwrap_or_default() as usize };
    let (exists, excerpt) = match args.name.starts_with('#') {
        true => (document.target(&args.name).is_some(), excerpt_at(&document, &args.name, start)),
        false => {
            let schema = document.schema(&args.name);
            (schema.is_some(), schema.and_then(|schema| excerpt(&document, schema, &Inherited::new(), start)))
        }
    };
    if !exists {
        return Err(HandlerError::invalid_input("unknown schema name: use search, or list_schemas"));
    }
    let excerpt = excerpt.ok_or_else(|| {
        HandlerError::invalid_input("`pointer` does not exist in this schema: use a value of `x-cut`, or omit it")
    })?;
    let name = args.name.strip_prefix(PREFIX).unwrap_or(&args.name).to_owned();
    Ok(Json(SchemaExcerpt { name, excerpt }))
}
