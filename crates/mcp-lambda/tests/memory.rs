//! A body costs at most eight times its size plus 4 MiB of memory. A separate binary, because it measures the whole process.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use garde::Validate;
use mcp_lambda::{HttpConfig, McpService};
use mcp_protocol::JsonObject;
use mcp_server::{
    HandlerError, InteractiveContext, Json, Prompt, RequestContext, Resource, ResourceTemplate, Server, Tool,
    ToolContext,
};
use mcp_testing::{PeakAlloc, assert_memory_is_bounded, state_key};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Lists in which every item violates a bound, arbitrary JSON, and a large struct without bounds.
#[derive(Debug, Deserialize, Serialize, JsonSchema, Validate)]
struct Everything {
    #[serde(default)]
    #[garde(length(max = 3), inner(length(chars, min = 2, max = 3), ascii, alphanumeric))]
    texts: Vec<String>,
    #[serde(default)]
    #[garde(inner(range(min = 1, max = 2)))]
    numbers: Vec<i64>,
    #[serde(default)]
    #[garde(dive)]
    rows: Vec<Row>,
    #[serde(default)]
    #[garde(skip)]
    value: Value,
    #[serde(default)]
    #[garde(skip)]
    members: JsonObject,
    #[garde(inner(length(chars, max = 10)))]
    text: Option<String>,
    #[serde(flatten)]
    #[garde(skip)]
    rest: JsonObject,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema, Validate)]
#[serde(default)]
struct Row {
    #[garde(length(chars, min = 1))]
    a: String,
    #[garde(length(chars, min = 1))]
    b: String,
    #[garde(length(chars, min = 1))]
    c: String,
    #[garde(skip)]
    numbers: [u64; 24],
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct Texts {
    #[garde(length(chars, max = 10))]
    text: String,
    #[garde(range(max = 3))]
    count: Option<u8>,
}

async fn typed(_: ToolContext<()>, _: Everything) -> Result<String, HandlerError> {
    Ok("done".to_owned())
}

async fn raw(_: ToolContext<()>, args: JsonObject) -> Result<Json<usize>, HandlerError> {
    Ok(Json(args.len()))
}

async fn asks(context: InteractiveContext<()>, _: Everything) -> Result<String, HandlerError> {
    Ok(format!("{:?}", context.elicit::<Texts>("confirm", "Really?").await))
}

async fn writes(_: RequestContext<()>, args: Texts) -> Result<String, HandlerError> {
    Ok(format!("{} {:?}", args.text.len(), args.count))
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct Variables {
    #[garde(length(chars, max = 10))]
    text: String,
}

async fn reads(_: RequestContext<()>, args: Variables) -> Result<String, HandlerError> {
    Ok(args.text)
}

fn service() -> McpService {
    let schema = json!({
        "type": "object",
        "properties": {
            "text": { "type": "string", "maxLength": 3, "x-mcp-header": "text" },
            "texts": { "type": "array", "items": { "type": "string", "pattern": "^a+$" }, "uniqueItems": true },
            "rows": { "type": "array", "items": { "anyOf": [{ "type": "string" }, { "required": ["a"] }] } },
            "map": { "type": "object", "additionalProperties": false },
            "names": { "type": "object", "propertyNames": { "maxLength": 1 } },
        },
        "additionalProperties": { "type": "string" },
    });
    let server = Server::new("memory", "1.0.0", ())
        .tool(Tool::new("typed", typed))
        .tool(Tool::raw("raw", schema.clone(), raw))
        .tool(Tool::raw("unvalidated", schema, raw).unvalidated())
        .tool(Tool::new("asks", asks))
        .prompt(Prompt::new("writes", writes))
        .resource(Resource::new("memory://one", "one", |_: RequestContext<()>| async { Ok::<_, HandlerError>("1") }))
        .resource_template(ResourceTemplate::new("memory://{text}", "some", reads));
    McpService::new(server, HttpConfig { state_key: Some(state_key()), ..HttpConfig::default() }).unwrap()
}

#[tokio::test]
async fn a_body_takes_at_most_eight_times_its_size_plus_4_mib() {
    let count = assert_memory_is_bounded(&service(), 64 * 1024).await;

    assert!(count > 1_000, "{count} bodies");
}
