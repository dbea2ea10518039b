//! Tools without input requests.

use std::time::Duration;

use garde::Validate;
use mcp_lambda::{
    ClientCapabilities, ContentBlock, HandlerError, JsonObject, LoggingLevel, NoArguments, ResourceContents, Tool,
    ToolContext,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{PNG, State, WAV};

/// The suite calls the first tool without arguments.
pub(crate) fn all() -> Vec<Tool<State>> {
    vec![
        Tool::new("test_simple_text", simple_text).description("Returns a text.").read_only(),
        Tool::new("test_image_content", image).description("Returns an image.").read_only(),
        Tool::new("test_audio_content", audio).description("Returns audio.").read_only(),
        Tool::new("test_embedded_resource", embedded_resource).description("Returns a resource.").read_only(),
        Tool::new("test_multiple_content_types", mixed).description("Returns several content types.").read_only(),
        Tool::new("test_tool_with_logging", logs).description("Sends log messages to the client.").read_only(),
        Tool::new("test_logging_tool", logs).description("Sends log messages if the client requests them.").read_only(),
        Tool::new("test_error_handling", fails).description("Always fails.").read_only(),
        Tool::new("test_tool_with_progress", progress).description("Reports progress.").read_only(),
        Tool::new("test_missing_capability", simple_text)
            .description("Requires a client with sampling.")
            .requires_client(ClientCapabilities::sampling()),
        Tool::new("test_trigger_tool_change", simple_text)
            .description("Would change the list of tools; the list is static."),
        Tool::new("test_trigger_prompt_change", simple_text)
            .description("Would change the list of prompts; the list is static."),
        Tool::new("test_reconnection", simple_text).description("Returns immediately: there is no stream to resume."),
        Tool::new("test_custom_header", custom_header).description("Has a parameter that clients mirror in a header."),
        Tool::raw("json_schema_2020_12_tool", json_schema(), counts).description("Has a hand-written schema."),
    ]
}

async fn simple_text(_: ToolContext<State>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("This is a simple text response.")
}

async fn image(_: ToolContext<State>, _: NoArguments) -> Result<ContentBlock, HandlerError> {
    Ok(ContentBlock::image(PNG, "image/png"))
}

async fn audio(_: ToolContext<State>, _: NoArguments) -> Result<ContentBlock, HandlerError> {
    Ok(ContentBlock::audio(WAV, "audio/wav"))
}

fn resource() -> ContentBlock {
    ContentBlock::resource(ResourceContents::text("test://embedded-resource", "text/plain", "An embedded resource."))
}

async fn embedded_resource(_: ToolContext<State>, _: NoArguments) -> Result<ContentBlock, HandlerError> {
    Ok(resource())
}

async fn mixed(_: ToolContext<State>, _: NoArguments) -> Result<Vec<ContentBlock>, HandlerError> {
    Ok(vec!["Several content types:".into(), ContentBlock::image(PNG, "image/png"), resource()])
}

async fn logs(context: ToolContext<State>, _: NoArguments) -> Result<&'static str, HandlerError> {
    for message in ["started", "in progress", "done"] {
        context.log(LoggingLevel::Info, None, message).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok("logged")
}

async fn fails(_: ToolContext<State>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Err(HandlerError::failed("This tool always fails."))
}

async fn progress(context: ToolContext<State>, _: NoArguments) -> Result<&'static str, HandlerError> {
    for percent in [0, 50, 100] {
        context.progress(percent, 100, None).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok("done")
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct CustomHeaderArgs {
    /// Any text.
    #[schemars(extend("x-mcp-header" = "Value"))]
    value: String,
}

async fn custom_header(_: ToolContext<State>, args: CustomHeaderArgs) -> Result<String, HandlerError> {
    Ok(args.value)
}

fn json_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    })
}

async fn counts(_: ToolContext<State>, args: JsonObject) -> Result<String, HandlerError> {
    Ok(format!("{} members", args.len()))
}
