//! Example messages of the specification: each is valid, and each round-trips through the wire types unchanged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

use std::{collections::BTreeSet, fs, path::Path};

use mcp_protocol::{
    AudioContent, BlobResourceContents, CallToolResult, ClientCapabilities, CompleteResult, CompletionArgument,
    CompletionContext, CompletionReference, ContentBlock, CreateMessageRequestParams, CreateMessageResult,
    DiscoverResult, ElicitRequestParams, ElicitResult, EmbeddedResource, ErrorObject, GetPromptResult, ImageContent,
    Implementation, Incoming, InitializeResult, InputRequest, InputRequests, InputRequiredResult, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListRootsResult, ListToolsResult,
    LoggingMessageNotificationParams, Message, ModelPreferences, PrimitiveSchemaDefinition, ProgressNotificationParams,
    Prompt, ProtocolVersion, ReadResourceResult, RequestMeta, RequestParams, Resource, ResourceLink, ResourceTemplate,
    Root, SamplingMessage, SamplingMessageContentBlock, ServerCapabilities, TextContent, TextResourceContents, Tool,
};
use mcp_testing::schema::check;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Types that are not supported: subscriptions, list changes, and cancellation, which is closing the connection.
const UNSUPPORTED: &str = "
    CancelledNotification CancelledNotificationParams PromptListChangedNotification ResourceListChangedNotification
    ResourceUpdatedNotification ResourceUpdatedNotificationParams SubscriptionsAcknowledgedNotification
    SubscriptionsListenRequest SubscriptionsListenResult SubscriptionsListenResultResponse
    ToolListChangedNotification
";

fn examples() -> Vec<(String, String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/examples/2026-07-28");
    let mut examples = Vec::new();
    for definition in fs::read_dir(folder).unwrap() {
        let definition = definition.unwrap();
        for file in fs::read_dir(definition.path()).unwrap() {
            let file = file.unwrap();
            let value = serde_json::from_str(&fs::read_to_string(file.path()).unwrap()).unwrap();
            let name = |name: std::ffi::OsString| name.into_string().unwrap();
            examples.push((name(definition.file_name()), name(file.file_name()), value));
        }
    }
    assert!(examples.len() > 100, "missing examples: {}", examples.len());
    examples
}

/// Examples that violate their schema: a request inside `inputRequests` must have no id, and a complete result of
/// `resources/read` must have a time to live.
const INVALID: [&str; 2] = ["list-roots-request.json", "read-resource-result-response.json"];

#[test]
fn examples_are_valid() {
    let errors = examples().into_iter().filter_map(|(definition, file, value)| {
        let error = check(ProtocolVersion::V2026_07_28, &definition, &value).err()?;
        Some((file, error))
    });
    let errors: Vec<(String, String)> = errors.collect();

    let files: BTreeSet<&str> = errors.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(files, BTreeSet::from(INVALID), "{errors:#?}");
}

#[test]
fn examples_of_supported_types_round_trip() {
    let mut skipped = BTreeSet::new();
    for (definition, file, value) in examples() {
        let back = match definition.as_str() {
            "AudioContent" => block::<AudioContent>(&value),
            "BlobResourceContents" => round_trip::<BlobResourceContents>(&value),
            "BooleanSchema"
            | "NumberSchema"
            | "StringSchema"
            | "TitledMultiSelectEnumSchema"
            | "TitledSingleSelectEnumSchema"
            | "UntitledMultiSelectEnumSchema"
            | "UntitledSingleSelectEnumSchema" => round_trip::<PrimitiveSchemaDefinition>(&value),
            "CallToolRequestParams" | "CompleteRequestParams" | "GetPromptRequestParams" | "PaginatedRequestParams" => {
                request_params(&value)
            }
            "CompleteResult" => round_trip::<CompleteResult>(&value),
            "CompleteResultResponse" => member::<CompleteResult>(&value, "result"),
            "CreateMessageRequest" | "ElicitRequest" => round_trip::<InputRequest>(&value),
            // The example has an id, which its definition does not list.
            "ListRootsRequest" => {
                let InputRequest::ListRoots = serde_json::from_str(&value.to_string()).unwrap() else {
                    panic!("a request for roots");
                };
                continue;
            }
            "CreateMessageRequestParams" => round_trip::<CreateMessageRequestParams>(&value),
            "CreateMessageResult" => round_trip::<CreateMessageResult>(&value),
            "ElicitRequestFormParams" | "ElicitRequestURLParams" => round_trip::<ElicitRequestParams>(&value),
            "ElicitResult" => round_trip::<ElicitResult>(&value),
            "GetPromptResult" => round_trip::<GetPromptResult>(&value),
            "GetPromptResultResponse" => member::<GetPromptResult>(&value, "result"),
            "InputRequests" => round_trip::<InputRequests>(&value),
            "InputRequiredResult" => round_trip::<InputRequiredResult>(&value),
            // Each response has the result type of its input request.
            "InputResponses" => {
                let mut back = member::<ElicitResult>(&value, "github_login");
                back["capital_of_france"] = round_trip::<CreateMessageResult>(&value["capital_of_france"]);
                back
            }
            "ListPromptsResult" => round_trip::<ListPromptsResult>(&value),
            "ListPromptsResultResponse" => member::<ListPromptsResult>(&value, "result"),
            "ListResourcesResult" => round_trip::<ListResourcesResult>(&value),
            "ListResourcesResultResponse" => member::<ListResourcesResult>(&value, "result"),
            "ListResourceTemplatesResult" => round_trip::<ListResourceTemplatesResult>(&value),
            "ListResourceTemplatesResultResponse" => member::<ListResourceTemplatesResult>(&value, "result"),
            "ListRootsResult" => round_trip::<ListRootsResult>(&value),
            "ModelPreferences" => round_trip::<ModelPreferences>(&value),
            "ReadResourceResult" => round_trip::<ReadResourceResult>(&value),
            "ReadResourceResultResponse" => member::<ReadResourceResult>(&value, "result"),
            "Resource" => round_trip::<Resource>(&value),
            "Root" => round_trip::<Root>(&value),
            "SamplingMessage" => round_trip::<SamplingMessage>(&value),
            "ToolResultContent" | "ToolUseContent" => round_trip::<SamplingMessageContentBlock>(&value),
            "CallToolResult" => round_trip::<CallToolResult>(&value),
            "ClientCapabilities" => round_trip::<ClientCapabilities>(&value),
            "ServerCapabilities" => round_trip::<ServerCapabilities>(&value),
            "DiscoverResult" => round_trip::<DiscoverResult>(&value),
            "EmbeddedResource" => block::<EmbeddedResource>(&value),
            "ImageContent" => block::<ImageContent>(&value),
            "ListToolsResult" => round_trip::<ListToolsResult>(&value),
            "LoggingMessageNotificationParams" => round_trip::<LoggingMessageNotificationParams>(&value),
            "ProgressNotificationParams" => round_trip::<ProgressNotificationParams>(&value),
            "ResourceLink" => block::<ResourceLink>(&value),
            "TextContent" => block::<TextContent>(&value),
            "TextResourceContents" => round_trip::<TextResourceContents>(&value),
            "Tool" => round_trip::<Tool>(&value),
            "CallToolRequest"
            | "DiscoverRequest"
            | "CompleteRequest"
            | "GetPromptRequest"
            | "ListPromptsRequest"
            | "ListResourcesRequest"
            | "ListResourceTemplatesRequest"
            | "ListToolsRequest"
            | "ReadResourceRequest" => request(&value),
            "CallToolResultResponse" => member::<CallToolResult>(&value, "result"),
            "DiscoverResultResponse" => member::<DiscoverResult>(&value, "result"),
            "ListToolsResultResponse" => member::<ListToolsResult>(&value, "result"),
            "LoggingMessageNotification" => member::<LoggingMessageNotificationParams>(&value, "params"),
            "ProgressNotification" => member::<ProgressNotificationParams>(&value, "params"),
            "HeaderMismatchError" | "MissingRequiredClientCapabilityError" | "UnsupportedProtocolVersionError" => {
                member::<ErrorObject>(&value, "error")
            }
            "InternalError" | "InvalidParamsError" | "MethodNotFoundError" | "ParseError" => {
                round_trip::<ErrorObject>(&value)
            }
            other => {
                skipped.insert(other.to_owned());
                continue;
            }
        };
        assert_eq!(numbers(back), numbers(value), "{definition}/{file}");
    }
    assert_eq!(
        skipped,
        UNSUPPORTED.split_whitespace().map(str::to_owned).collect(),
        "exactly the unsupported types are skipped"
    );
}

fn round_trip<T: DeserializeOwned + Serialize>(value: &Value) -> Value {
    serde_json::to_value(serde_json::from_str::<T>(&value.to_string()).unwrap()).unwrap()
}

/// The type of a content block is beside its members.
fn block<T: DeserializeOwned + Serialize>(value: &Value) -> Value {
    let mut own = round_trip::<T>(value);
    let kind = value["type"].clone();
    own["type"] = kind;
    assert_eq!(numbers(own.clone()), numbers(round_trip::<ContentBlock>(value)));
    own
}

fn member<T: DeserializeOwned + Serialize>(value: &Value, name: &str) -> Value {
    let mut value = value.clone();
    value[name] = round_trip::<T>(&value[name]);
    value
}

/// Rebuilds parameters from their parsed members, since they are never serialized.
fn request_params(params: &Value) -> Value {
    let text = params.to_string();
    let own = RequestParams::read(Some(serde_json::from_str(&text).unwrap())).unwrap();
    let mut back = json!({
        "arguments": own.arguments,
        "cursor": own.cursor().unwrap(),
        "inputResponses": own.input_responses,
        "requestState": own.request_state().unwrap(),
    });
    if own.name.is_some() {
        back["name"] = json!(own.name().unwrap());
    }
    if own.uri.is_some() {
        back["uri"] = json!(own.uri().unwrap());
    }
    if own.reference.is_some() {
        back["ref"] = round_trip::<CompletionReference>(&params["ref"]);
        back["argument"] = round_trip::<CompletionArgument>(&params["argument"]);
    }
    if own.context.is_some() {
        back["context"] = round_trip::<CompletionContext>(&params["context"]);
    }
    if own.meta.is_some() {
        back["_meta"] = round_trip::<RequestMeta>(&params["_meta"]);
    }
    back.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    back
}

fn request(value: &Value) -> Value {
    let body = value.to_string();
    let Ok(Incoming::Single(Message::Request(request))) = Incoming::parse(body.as_bytes()) else {
        panic!("a request");
    };
    let params: Value = serde_json::from_str(request.params.unwrap().get()).unwrap();
    let params = request_params(&params);
    json!({ "jsonrpc": "2.0", "id": request.id, "method": request.method, "params": params })
}

/// `50` and `50.0` are the same number.
fn numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.into_iter().map(numbers).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, numbers(value))).collect(),
        other => other,
    }
}

/// Unknown members are kept wherever the schema allows additional members.
#[test]
fn unknown_members_round_trip() {
    let other = json!({ "com.example/other": { "deep": [1, "two", null] } });
    let with_meta = |mut value: Value| {
        value["_meta"] = other.clone();
        value
    };
    let text = || with_meta(json!({ "type": "text", "text": "text" }));
    let definition = || with_meta(json!({ "name": "name", "inputSchema": { "type": "object", "x-other": other } }));

    assert_round_trip::<ContentBlock>(&text());
    assert_round_trip::<ContentBlock>(&with_meta(json!({ "type": "image", "data": "", "mimeType": "image/png" })));
    assert_round_trip::<ContentBlock>(&with_meta(json!({ "type": "audio", "data": "", "mimeType": "audio/wav" })));
    assert_round_trip::<ContentBlock>(&with_meta(json!({ "type": "resource_link", "uri": "x:y", "name": "name" })));
    let contents = with_meta(json!({ "uri": "x:y", "text": "text" }));
    assert_round_trip::<ContentBlock>(&with_meta(json!({ "type": "resource", "resource": contents })));
    assert_round_trip::<TextResourceContents>(&contents);
    assert_round_trip::<BlobResourceContents>(&with_meta(json!({ "uri": "x:y", "blob": "" })));
    assert_round_trip::<Tool>(&definition());
    assert_round_trip::<Prompt>(&with_meta(json!({ "name": "name" })));
    assert_round_trip::<Resource>(&with_meta(json!({ "name": "name", "uri": "x:y" })));
    assert_round_trip::<ResourceTemplate>(&with_meta(json!({ "name": "name", "uriTemplate": "x:{y}" })));
    assert_round_trip::<Root>(&with_meta(json!({ "uri": "file:///x" })));
    assert_round_trip::<CallToolResult>(&with_meta(json!({ "content": [text()], "structuredContent": other })));
    assert_round_trip::<ListToolsResult>(&with_meta(json!({ "tools": [definition()] })));
    assert_round_trip::<ListPromptsResult>(&with_meta(json!({ "prompts": [] })));
    assert_round_trip::<ListResourcesResult>(&with_meta(json!({ "resources": [] })));
    assert_round_trip::<ListResourceTemplatesResult>(&with_meta(json!({ "resourceTemplates": [] })));
    assert_round_trip::<ReadResourceResult>(&with_meta(json!({ "contents": [contents] })));
    assert_round_trip::<GetPromptResult>(&with_meta(json!({ "messages": [{ "role": "user", "content": text() }] })));
    assert_round_trip::<CompleteResult>(&with_meta(json!({ "completion": { "values": [] } })));
    assert_round_trip::<InputRequiredResult>(&with_meta(
        json!({ "resultType": "input_required", "requestState": "state" }),
    ));
    assert_round_trip::<SamplingMessage>(&with_meta(json!({ "role": "user", "content": text() })));
    let tool_use = with_meta(json!({ "type": "tool_use", "id": "1", "name": "name", "input": other }));
    assert_round_trip::<SamplingMessageContentBlock>(&tool_use);
    let tool_result = json!({ "type": "tool_result", "toolUseId": "1", "content": [], "structuredContent": other });
    assert_round_trip::<SamplingMessageContentBlock>(&with_meta(tool_result));
    let model = json!({ "role": "assistant", "content": [tool_use], "model": "model" });
    assert_round_trip::<CreateMessageResult>(&with_meta(model));
    let question = json!({ "messages": [], "maxTokens": 1, "metadata": other, "tools": [definition()] });
    assert_round_trip::<CreateMessageRequestParams>(&question);
    assert_round_trip::<RequestMeta>(&json!({ "progressToken": 1, "com.example/other": other }));
    let capabilities = json!({ "experimental": other, "extensions": other });
    assert_round_trip::<ClientCapabilities>(&capabilities);
    assert_round_trip::<ServerCapabilities>(&capabilities);
    let discovered = json!({
        "resultType": "complete", "supportedVersions": [], "capabilities": capabilities, "ttlMs": 0,
        "cacheScope": "public",
    });
    assert_round_trip::<DiscoverResult>(&with_meta(discovered));
    let own = json!({ "name": "name", "version": "1" });
    assert_round_trip::<Implementation>(&own);
    assert_round_trip::<InitializeResult>(
        &json!({ "protocolVersion": "x", "capabilities": capabilities, "serverInfo": own }),
    );
    assert_round_trip::<ErrorObject>(&json!({ "code": 1, "message": "text", "data": other }));
}

#[track_caller]
fn assert_round_trip<T: DeserializeOwned + Serialize>(value: &Value) {
    assert_eq!(numbers(round_trip::<T>(value)), numbers(value.clone()));
}

/// The specification has no example of such a request.
#[test]
fn parameters_of_a_further_round_trip_are_parsed() {
    for method in ["tools/call", "prompts/get", "resources/read"] {
        let mut params = json!({
            "inputResponses": { "name": { "action": "accept" } },
            "requestState": "state",
            "_meta": { "progressToken": 1 },
        });
        match method {
            "resources/read" => params["uri"] = json!("x:y"),
            _ => {
                params["name"] = json!("name");
                params["arguments"] = json!({ "a": "b" });
            }
        }

        assert_eq!(request_params(&params), params);
    }
}
