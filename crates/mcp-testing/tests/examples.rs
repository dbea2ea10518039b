//! The specification's own example messages: each fits its schema, and each goes through our types and back unchanged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

use std::{collections::BTreeSet, fs, path::Path};

use mcp_protocol::{
    AudioContent, BlobResourceContents, CallToolResult, ClientCapabilities, ContentBlock, DiscoverResult,
    EmbeddedResource, ErrorObject, ImageContent, Incoming, ListToolsResult, LoggingMessageNotificationParams, Message,
    ProgressNotificationParams, ProtocolVersion, RequestMeta, ResourceLink, ServerCapabilities, TextContent,
    TextResourceContents, Tool,
};
use mcp_testing::schema::check;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Types of features that are not served yet.
const NOT_YET: &str = "
    BooleanSchema CancelledNotification CancelledNotificationParams CompleteRequest CompleteRequestParams
    CompleteResult CompleteResultResponse CreateMessageRequest CreateMessageRequestParams CreateMessageResult
    ElicitRequest ElicitRequestFormParams ElicitRequestURLParams ElicitResult GetPromptRequest
    GetPromptRequestParams GetPromptResult GetPromptResultResponse InputRequests InputRequiredResult InputResponses
    ListPromptsRequest ListPromptsResult ListPromptsResultResponse ListResourceTemplatesRequest
    ListResourceTemplatesResult ListResourceTemplatesResultResponse ListResourcesRequest ListResourcesResult
    ListResourcesResultResponse ListRootsRequest ListRootsResult ModelPreferences NumberSchema
    PromptListChangedNotification ReadResourceRequest ReadResourceResult ReadResourceResultResponse Resource
    ResourceListChangedNotification ResourceUpdatedNotification ResourceUpdatedNotificationParams Root
    SamplingMessage StringSchema SubscriptionsAcknowledgedNotification SubscriptionsListenRequest
    SubscriptionsListenResult SubscriptionsListenResultResponse TitledMultiSelectEnumSchema
    TitledSingleSelectEnumSchema ToolListChangedNotification ToolResultContent ToolUseContent
    UntitledMultiSelectEnumSchema UntitledSingleSelectEnumSchema
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
            "CallToolRequestParams" | "PaginatedRequestParams" => request_params(&value),
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
            "CallToolRequest" | "DiscoverRequest" | "ListToolsRequest" => request(&value),
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
        NOT_YET.split_whitespace().map(str::to_owned).collect(),
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

fn request_params(params: &Value) -> Value {
    let mut params = params.clone();
    if params.get("_meta").is_some() {
        params["_meta"] = through::<RequestMeta>(&params["_meta"]);
    }
    params
}

fn request(value: &Value) -> Value {
    let body = value.to_string();
    let Ok(Incoming::Single(Message::Request(request))) = Incoming::parse(body.as_bytes()) else {
        panic!("a request");
    };
    let params: Value = serde_json::from_str(request.params.unwrap().get()).unwrap();
    json!({ "jsonrpc": "2.0", "id": request.id, "method": request.method, "params": request_params(&params) })
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
