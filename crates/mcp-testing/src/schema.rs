//! The protocol's JSON Schemas, one a revision, and the check of a message against the right part of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
};

use jsonschema::Validator;
use mcp_protocol::{ProtocolVersion, jsonrpc, method};
use serde_json::{Value, json};

/// The schema of a revision.
pub fn schema(revision: ProtocolVersion) -> Value {
    let text = match revision {
        ProtocolVersion::V2024_11_05 => include_str!("../schema/2024-11-05.json"),
        ProtocolVersion::V2025_03_26 => include_str!("../schema/2025-03-26.json"),
        ProtocolVersion::V2025_06_18 => include_str!("../schema/2025-06-18.json"),
        ProtocolVersion::V2025_11_25 => include_str!("../schema/2025-11-25.json"),
        ProtocolVersion::V2026_07_28 => include_str!("../schema/2026-07-28.json"),
    };
    serde_json::from_str(text).expect("the schema files are JSON")
}

/// Checks a value against a definition of a revision's schema, which is read strictly: a member that the definition
/// does not name is a mistake, unless it says that anything may stand there.
///
/// # Errors
///
/// What does not fit, and where.
pub fn check(revision: ProtocolVersion, definition: &str, value: &Value) -> Result<(), String> {
    let validator = validator(revision, definition);
    let mistakes: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{} at `{}`", error, error.instance_path())).collect();
    if mistakes.is_empty() {
        return Ok(());
    }
    Err(format!("not a {definition} of {revision}: {}\n{value:#}", mistakes.join("; ")))
}

/// Checks a message that a server sent in answer to a request with `method`.
///
/// An error without an id is checked against the newest revision: older ones cannot say that it could not be read.
///
/// # Errors
///
/// What does not fit, and where.
pub fn check_from_server(revision: ProtocolVersion, method: &str, message: &Value) -> Result<(), String> {
    if let Some(notification) = message.get("method").and_then(Value::as_str) {
        let definition = match notification {
            method::NOTIFICATIONS_PROGRESS => "ProgressNotification",
            method::NOTIFICATIONS_MESSAGE => "LoggingMessageNotification",
            other => return Err(format!("no notification `{other}` is known to this check")),
        };
        check(revision, "JSONRPCNotification", message)?;
        return check(revision, definition, &strip_envelope(revision, message));
    }
    if message.get("error").is_some() {
        return check_error(if message.get("id").is_some() { revision } else { ProtocolVersion::LATEST }, message);
    }
    let asks = revision.is_modern() && message["result"]["resultType"] == "input_required";
    let definition = match method {
        method::TOOLS_CALL | method::PROMPTS_GET | method::RESOURCES_READ if asks => "InputRequiredResult",
        method::TOOLS_LIST => "ListToolsResult",
        method::PROMPTS_LIST => "ListPromptsResult",
        method::PROMPTS_GET => "GetPromptResult",
        method::RESOURCES_LIST => "ListResourcesResult",
        method::RESOURCES_TEMPLATES_LIST => "ListResourceTemplatesResult",
        method::RESOURCES_READ => "ReadResourceResult",
        method::COMPLETION_COMPLETE => "CompleteResult",
        method::TOOLS_CALL => "CallToolResult",
        method::SERVER_DISCOVER => "DiscoverResult",
        method::INITIALIZE => "InitializeResult",
        method::PING | method::LOGGING_SET_LEVEL | method::RESOURCES_SUBSCRIBE | method::RESOURCES_UNSUBSCRIBE => {
            "EmptyResult"
        }
        other => return Err(format!("no result of `{other}` is known to this check")),
    };
    let envelope = if revision >= ProtocolVersion::V2025_11_25 { "JSONRPCResultResponse" } else { "JSONRPCResponse" };
    check(revision, envelope, message)?;
    check(revision, definition, &message["result"])
}

fn check_error(revision: ProtocolVersion, message: &Value) -> Result<(), String> {
    let envelope = if revision >= ProtocolVersion::V2025_11_25 { "JSONRPCErrorResponse" } else { "JSONRPCError" };
    check(revision, envelope, message)?;
    let code = message["error"]["code"].as_i64().unwrap_or_default();
    let typed = match code {
        jsonrpc::HEADER_MISMATCH => Some("HeaderMismatchError"),
        jsonrpc::MISSING_REQUIRED_CLIENT_CAPABILITY => Some("MissingRequiredClientCapabilityError"),
        jsonrpc::UNSUPPORTED_PROTOCOL_VERSION => Some("UnsupportedProtocolVersionError"),
        jsonrpc::RESOURCE_NOT_FOUND if !revision.is_modern() => None,
        -32019..=-32000 => return Err(format!("code {code} is closed to new implementations")),
        -32099..=-32023 => return Err(format!("code {code} is reserved for the specification")),
        _ => None,
    };
    match typed {
        Some(definition) if revision.is_modern() => check(revision, definition, message),
        _ => Ok(()),
    }
}

/// Until 2025-06-18 a notification is defined without its JSON-RPC envelope.
fn strip_envelope(revision: ProtocolVersion, message: &Value) -> Value {
    let mut message = message.clone();
    if revision < ProtocolVersion::V2025_11_25
        && let Some(members) = message.as_object_mut()
    {
        members.remove("jsonrpc");
    }
    message
}

fn validator(revision: ProtocolVersion, definition: &str) -> Arc<Validator> {
    type Compiled = Mutex<HashMap<(ProtocolVersion, String), Arc<Validator>>>;
    static COMPILED: OnceLock<Compiled> = OnceLock::new();

    let mut compiled = COMPILED.get_or_init(Compiled::default).lock().expect("no test panics while compiling");
    let entry = compiled.entry((revision, definition.to_owned()));
    Arc::clone(entry.or_insert_with(|| Arc::new(compile(revision, definition))))
}

#[track_caller]
fn compile(revision: ProtocolVersion, definition: &str) -> Validator {
    let mut schema = schema(revision);
    let definitions = if schema.get("$defs").is_some() { "$defs" } else { "definitions" };
    let own = schema[definitions].as_object_mut().expect("definitions");
    assert!(own.contains_key(definition), "{revision} has no definition `{definition}`");
    let newer = (revision == ProtocolVersion::V2025_03_26).then(|| self::schema(ProtocolVersion::V2025_11_25));
    for (name, body) in own {
        if let Some(newer) = &newer {
            allow_members(name, body, &newer["$defs"][name]);
        }
        close(name, body);
    }
    schema["$ref"] = json!(format!("#/{definitions}/{definition}"));
    jsonschema::validator_for(&schema).expect("the specification's schemas compile")
}

/// Lets a definition have the members that it has in a newer revision. The client of a request that counts as 2025-03-26 may
/// speak a newer one (`ProtocolVersion::may_have`), unless it has named its revision.
fn allow_members(name: &str, definition: &mut Value, newer: &Value) {
    let is_negotiated = matches!(name, "Implementation" | "InitializeResult" | "ServerCapabilities");
    let own = definition.get_mut("properties").and_then(Value::as_object_mut);
    if let (Some(own), Some(newer), false) = (own, newer["properties"].as_object(), is_negotiated) {
        for member in newer.keys() {
            own.entry(member).or_insert(json!(true));
        }
    }
}

/// TypeScript's types are closed, the schemas made from them are not: a definition that lists members and does not
/// say that there may be more gets no more.
fn close(name: &str, definition: &mut Value) {
    let is_open = name.ends_with("MetaObject") || name == "Result" || name.starts_with("JSONRPC");
    if let Some(members) = definition.as_object_mut()
        && members.contains_key("properties")
        && !members.contains_key("additionalProperties")
        && !is_open
    {
        members.insert("additionalProperties".to_owned(), json!(false));
    }
}
