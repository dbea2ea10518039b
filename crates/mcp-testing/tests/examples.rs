//! The specification's own example messages: each fits its schema, and each goes through our types and back unchanged.

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

/// Types of what is not served: subscriptions, changes of lists, and cancelling, which is by closing the connection.
const NOT_SERVED: &str = "
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
    assert!(examples.len() > 100, "the examples are there: {}", examples.len());
    examples
}

/// Examples that break their own schema: a request inside `inputRequests` has no id, and a complete result of
/// `resources/read` says how long it may be cached.
const BROKEN: [&str; 2] = ["list-roots-request.json", "read-resource-result-response.json"];

#[test]
fn every_example_fits_the_schema() {
    let mistakes = examples().into_iter().filter_map(|(definition, file, value)| {
        let mistake = check(ProtocolVersion::V2026_07_28, &definition, &value).err()?;
        Some((file, mistake))
    });
    let mistakes: Vec<(String, String)> = mistakes.collect();

    let files: BTreeSet<&str> = mistakes.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(files, BTreeSet::from(BROKEN), "{mistakes:#?}");
}

#[test]
fn every_example_of_a_type_that_is_served_survives_it() {
    let mut skipped = BTreeSet::new();
    for (definition, file, value) in examples() {
        let back = match definition.as_str() {
            "AudioContent" => block::<AudioContent>(&value),
            "BlobResourceContents" => through::<BlobResourceContents>(&value),
            "BooleanSchema"
            | "NumberSchema"
            | "StringSchema"
            | "TitledMultiSelectEnumSchema"
            | "TitledSingleSelectEnumSchema"
            | "UntitledMultiSelectEnumSchema"
            | "UntitledSingleSelectEnumSchema" => through::<PrimitiveSchemaDefinition>(&value),
            "CallToolRequestParams" | "CompleteRequestParams" | "GetPromptRequestParams" | "PaginatedRequestParams" => {
                request_params(&value)
            }
            "CompleteResult" => through::<CompleteResult>(&value),
            "CompleteResultResponse" => member::<CompleteResult>(&value, "result"),
            "CreateMessageRequest" | "ElicitRequest" => through::<InputRequest>(&value),
            // The example has an id, which its definition does not name.
            "ListRootsRequest" => {
                let InputRequest::ListRoots = serde_json::from_str(&value.to_string()).unwrap() else {
                    panic!("a request for roots");
                };
                continue;
            }
            "CreateMessageRequestParams" => through::<CreateMessageRequestParams>(&value),
            "CreateMessageResult" => through::<CreateMessageResult>(&value),
            "ElicitRequestFormParams" | "ElicitRequestURLParams" => through::<ElicitRequestParams>(&value),
            "ElicitResult" => through::<ElicitResult>(&value),
            "GetPromptResult" => through::<GetPromptResult>(&value),
            "GetPromptResultResponse" => member::<GetPromptResult>(&value, "result"),
            "InputRequests" => through::<InputRequests>(&value),
            "InputRequiredResult" => through::<InputRequiredResult>(&value),
            // Each answer is read by the type that its question calls for.
            "InputResponses" => {
                let mut back = member::<ElicitResult>(&value, "github_login");
                back["capital_of_france"] = through::<CreateMessageResult>(&value["capital_of_france"]);
                back
            }
            "ListPromptsResult" => through::<ListPromptsResult>(&value),
            "ListPromptsResultResponse" => member::<ListPromptsResult>(&value, "result"),
            "ListResourcesResult" => through::<ListResourcesResult>(&value),
            "ListResourcesResultResponse" => member::<ListResourcesResult>(&value, "result"),
            "ListResourceTemplatesResult" => through::<ListResourceTemplatesResult>(&value),
            "ListResourceTemplatesResultResponse" => member::<ListResourceTemplatesResult>(&value, "result"),
            "ListRootsResult" => through::<ListRootsResult>(&value),
            "ModelPreferences" => through::<ModelPreferences>(&value),
            "ReadResourceResult" => through::<ReadResourceResult>(&value),
            "ReadResourceResultResponse" => member::<ReadResourceResult>(&value, "result"),
            "Resource" => through::<Resource>(&value),
            "Root" => through::<Root>(&value),
            "SamplingMessage" => through::<SamplingMessage>(&value),
            "ToolResultContent" | "ToolUseContent" => through::<SamplingMessageContentBlock>(&value),
            "CallToolResult" => through::<CallToolResult>(&value),
            "ClientCapabilities" => through::<ClientCapabilities>(&value),
            "ServerCapabilities" => through::<ServerCapabilities>(&value),
            "DiscoverResult" => through::<DiscoverResult>(&value),
            "EmbeddedResource" => block::<EmbeddedResource>(&value),
            "ImageContent" => block::<ImageContent>(&value),
            "ListToolsResult" => through::<ListToolsResult>(&value),
            "LoggingMessageNotificationParams" => through::<LoggingMessageNotificationParams>(&value),
            "ProgressNotificationParams" => through::<ProgressNotificationParams>(&value),
            "ResourceLink" => block::<ResourceLink>(&value),
            "TextContent" => block::<TextContent>(&value),
            "TextResourceContents" => through::<TextResourceContents>(&value),
            "Tool" => through::<Tool>(&value),
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
                through::<ErrorObject>(&value)
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
        NOT_SERVED.split_whitespace().map(str::to_owned).collect(),
        "what is skipped is what is said to be"
    );
}

fn through<T: DeserializeOwned + Serialize>(value: &Value) -> Value {
    serde_json::to_value(serde_json::from_str::<T>(&value.to_string()).unwrap()).unwrap()
}

/// A block has its kind beside its members.
fn block<T: DeserializeOwned + Serialize>(value: &Value) -> Value {
    let mut own = through::<T>(value);
    let kind = value["type"].clone();
    own["type"] = kind;
    assert_eq!(numbers(own.clone()), numbers(through::<ContentBlock>(value)));
    own
}

fn member<T: DeserializeOwned + Serialize>(value: &Value, name: &str) -> Value {
    let mut value = value.clone();
    value[name] = through::<T>(&value[name]);
    value
}

/// Parameters are read and never written: what was read of them is put together again.
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
        back["ref"] = through::<CompletionReference>(&params["ref"]);
        back["argument"] = through::<CompletionArgument>(&params["argument"]);
    }
    if own.context.is_some() {
        back["context"] = through::<CompletionContext>(&params["context"]);
    }
    if own.meta.is_some() {
        back["_meta"] = through::<RequestMeta>(&params["_meta"]);
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

/// Wherever the schema leaves members open, what nobody here knows is kept.
#[test]
fn unknown_members_are_kept_where_the_schema_allows_them() {
    let other = json!({ "com.example/other": { "deep": [1, "two", null] } });
    let with_meta = |mut value: Value| {
        value["_meta"] = other.clone();
        value
    };
    let text = || with_meta(json!({ "type": "text", "text": "text" }));
    let definition = || with_meta(json!({ "name": "name", "inputSchema": { "type": "object", "x-other": other } }));

    kept::<ContentBlock>(&text());
    kept::<ContentBlock>(&with_meta(json!({ "type": "image", "data": "", "mimeType": "image/png" })));
    kept::<ContentBlock>(&with_meta(json!({ "type": "audio", "data": "", "mimeType": "audio/wav" })));
    kept::<ContentBlock>(&with_meta(json!({ "type": "resource_link", "uri": "x:y", "name": "name" })));
    let contents = with_meta(json!({ "uri": "x:y", "text": "text" }));
    kept::<ContentBlock>(&with_meta(json!({ "type": "resource", "resource": contents })));
    kept::<TextResourceContents>(&contents);
    kept::<BlobResourceContents>(&with_meta(json!({ "uri": "x:y", "blob": "" })));
    kept::<Tool>(&definition());
    kept::<Prompt>(&with_meta(json!({ "name": "name" })));
    kept::<Resource>(&with_meta(json!({ "name": "name", "uri": "x:y" })));
    kept::<ResourceTemplate>(&with_meta(json!({ "name": "name", "uriTemplate": "x:{y}" })));
    kept::<Root>(&with_meta(json!({ "uri": "file:///x" })));
    kept::<CallToolResult>(&with_meta(json!({ "content": [text()], "structuredContent": other })));
    kept::<ListToolsResult>(&with_meta(json!({ "tools": [definition()] })));
    kept::<ListPromptsResult>(&with_meta(json!({ "prompts": [] })));
    kept::<ListResourcesResult>(&with_meta(json!({ "resources": [] })));
    kept::<ListResourceTemplatesResult>(&with_meta(json!({ "resourceTemplates": [] })));
    kept::<ReadResourceResult>(&with_meta(json!({ "contents": [contents] })));
    kept::<GetPromptResult>(&with_meta(json!({ "messages": [{ "role": "user", "content": text() }] })));
    kept::<CompleteResult>(&with_meta(json!({ "completion": { "values": [] } })));
    kept::<InputRequiredResult>(&with_meta(json!({ "resultType": "input_required", "requestState": "state" })));
    kept::<SamplingMessage>(&with_meta(json!({ "role": "user", "content": text() })));
    let tool_use = with_meta(json!({ "type": "tool_use", "id": "1", "name": "name", "input": other }));
    kept::<SamplingMessageContentBlock>(&tool_use);
    let tool_result = json!({ "type": "tool_result", "toolUseId": "1", "content": [], "structuredContent": other });
    kept::<SamplingMessageContentBlock>(&with_meta(tool_result));
    let model = json!({ "role": "assistant", "content": [tool_use], "model": "model" });
    kept::<CreateMessageResult>(&with_meta(model));
    let question = json!({ "messages": [], "maxTokens": 1, "metadata": other, "tools": [definition()] });
    kept::<CreateMessageRequestParams>(&question);
    kept::<RequestMeta>(&json!({ "progressToken": 1, "com.example/other": other }));
    let capabilities = json!({ "experimental": other, "extensions": other });
    kept::<ClientCapabilities>(&capabilities);
    kept::<ServerCapabilities>(&capabilities);
    let discovered = json!({
        "resultType": "complete", "supportedVersions": [], "capabilities": capabilities, "ttlMs": 0,
        "cacheScope": "public",
    });
    kept::<DiscoverResult>(&with_meta(discovered));
    let own = json!({ "name": "name", "version": "1" });
    kept::<Implementation>(&own);
    kept::<InitializeResult>(&json!({ "protocolVersion": "x", "capabilities": capabilities, "serverInfo": own }));
    kept::<ErrorObject>(&json!({ "code": 1, "message": "text", "data": other }));
}

#[track_caller]
fn kept<T: DeserializeOwned + Serialize>(value: &Value) {
    assert_eq!(numbers(through::<T>(value)), numbers(value.clone()));
}

/// What the specification's examples of requests leave out.
#[test]
fn a_further_round_is_read_whole() {
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
