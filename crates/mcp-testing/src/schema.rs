//! JSON Schemas of the protocol revisions, and validation of messages against them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
};

use jsonschema::Validator;
use mcp_protocol::{ProtocolVersion, jsonrpc, method};
use serde_json::{Value, json};

/// Returns the schema of a revision.
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

/// Validates a value against a definition of a revision's schema. Members that the definition does not list are errors,
/// unless it allows additional members.
///
/// # Errors
///
/// Returns all violations with their paths.
pub fn check(revision: ProtocolVersion, definition: &str, value: &Value) -> Result<(), String> {
    let validator = validator(revision, definition);
    let errors: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{} at `{}`", error, error.instance_path())).collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(format!("not a {definition} of {revision}: {}\n{value:#}", errors.join("; ")))
}

/// Validates a message that a server sent in response to a request with `method`.
///
/// An error without an id is validated against the newest revision, since older revisions do not allow a missing id.
///
/// # Errors
///
/// Returns all violations with their paths.
pub fn check_from_server(revision: ProtocolVersion, method: &str, message: &Value) -> Result<(), String> {
    if let Some(notification) = message.get("method").and_then(Value::as_str) {
        let definition = match notification {
            method::NOTIFICATIONS_PROGRESS => "ProgressNotification",
            method::NOTIFICATIONS_MESSAGE => "LoggingMessageNotification",
            other => return Err(format!("unsupported notification `{other}`")),
        };
        check(revision, "JSONRPCNotification", message)?;
        return check(revision, definition, &strip_envelope(revision, message));
    }
    if message.get("error").is_some() {
        return check_error(if message.get("id").is_some() { revision } else { ProtocolVersion::LATEST }, message);
    }
    let needs_input = revision.is_modern() && message["result"]["resultType"] == "input_required";
    let definition = match method {
        method::TOOLS_CALL | method::PROMPTS_GET | method::RESOURCES_READ if needs_input => "InputRequiredResult",
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
        other => return Err(format!("unsupported method `{other}`")),
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
        -32019..=-32000 => return Err(format!("the specification closes code {code} to new implementations")),
        -32099..=-32023 => return Err(format!("the specification reserves code {code}")),
        _ => None,
    };
    match typed {
        Some(definition) if revision.is_modern() => check(revision, definition, message),
        _ => Ok(()),
    }
}

/// Removes the JSON-RPC envelope, which notification schemas do not define until 2025-06-18.
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

/// Allows the members that a definition has in a newer revision. The client of a request that counts as 2025-03-26 may
/// use a newer revision (`ProtocolVersion::may_have`), unless it has declared its revision.
fn allow_members(name: &str, definition: &mut Value, newer: &Value) {
    let is_negotiated = matches!(name, "Implementation" | "InitializeResult" | "ServerCapabilities");
    let own = definition.get_mut("properties").and_then(Value::as_object_mut);
    if let (Some(own), Some(newer), false) = (own, newer["properties"].as_object(), is_negotiated) {
        for member in newer.keys() {
            own.entry(member).or_insert(json!(true));
        }
    }
}

/// Disallows additional members in a definition that lists members and does not allow others. The TypeScript types of
/// the specification are closed; the schemas generated from them are not.
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
