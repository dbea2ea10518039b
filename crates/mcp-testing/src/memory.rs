//! Memory amplification tests: requests whose bodies take many times their size in memory.

use bytes::Bytes;
use http::{HeaderValue, Request};
use mcp_lambda::{McpService, transport::respond_buffered};
use mcp_protocol::{ProtocolVersion, method};
use mcp_server::Invocation;
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};

use crate::{McpRequest, Via, event_of, exchange};

/// A request may take eight times its body plus this amount.
const FIXED_BYTES: usize = 4 * 1024 * 1024;
const PER_BODY_BYTE: usize = 8;

/// Asserts that no request takes more memory than eight times its body plus 4 MiB. Sends bodies with high memory
/// amplification in every location where a client's JSON is parsed. Returns the number of requests.
///
/// The locations are those of every server, and the arguments of each tool and prompt that `service` lists. Bodies have
/// about `bytes` bytes; those for an argument of the first tool are also sent with 2 MiB. The test binary must have
/// [`PeakAlloc`] as its allocator and no other test that could run in parallel.
///
/// ```no_run
/// use mcp_testing::{PeakAlloc, assert_memory_is_bounded};
///
/// #[global_allocator]
/// static ALLOCATOR: PeakAlloc = PeakAlloc;
///
/// # async fn example(service: mcp_lambda::McpService) {
/// assert_memory_is_bounded(&service, 256 * 1024).await;
/// # }
/// ```
///
/// # Panics
///
/// Panics if a request takes more memory or has no response, or if the allocator is not installed.
pub async fn assert_memory_is_bounded(service: &McpService, bytes: usize) -> usize {
    assert_ne!(PeakAlloc.current_usage(), 0, "the test's binary must have `PeakAlloc` as its global allocator");
    let requests = amplified_requests(service, bytes).await;
    let count = requests.len();
    let mut exceeding = Vec::new();
    for (name, request) in requests {
        let body = request.body().len();
        let event = event_of(Via::FunctionUrl, &request).to_string();
        drop(request);
        // The event exists before the request and counts as its memory.
        let before = PeakAlloc.current_usage() - event.len();
        PeakAlloc.reset_peak_usage();

        let response = respond_buffered(service, event.as_bytes(), Invocation::default()).await;
        let response = serde_json::to_vec(&response.expect("an HTTP event")).expect("a response is JSON");

        let peak = PeakAlloc.peak_usage().saturating_sub(before);
        assert!(!response.is_empty(), "{name}");
        if peak > PER_BODY_BYTE * body + FIXED_BYTES {
            exceeding.push(format!("{name}: {peak} bytes for a body of {body}"));
        }
    }
    assert!(exceeding.is_empty(), "{} of {count}:\n{}", exceeding.len(), exceeding.join("\n"));
    count
}

/// Size for tests in unoptimized builds; `make soak` sends 6 MB.
const LARGE_BYTES: usize = 2 * 1024 * 1024;

/// Returns requests with each payload in each location.
async fn amplified_requests(service: &McpService, bytes: usize) -> Vec<(String, Request<Bytes>)> {
    let locations = locations(service).await;
    let mut requests = Vec::new();
    let mut add = |payload: &str, value: &str, (location, request, before, after): &Location| {
        let body = format!("{before}{value}{after}");
        requests.push((format!("{payload} as {location}"), request.clone().body(body).into_http()));
    };
    for (payload, value) in payloads(bytes) {
        locations.iter().for_each(|location| add(payload, &value, location));
    }
    let argument = locations.iter().find(|(location, ..)| location.starts_with('`') && location.contains(" of tool "));
    for (payload, value) in payloads(LARGE_BYTES) {
        argument.into_iter().for_each(|location| add(payload, &value, location));
    }
    // Payloads that are small enough to be parsed, many times.
    for (payload, value) in payloads(60 * 1024) {
        let message = |id: usize| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{{"_meta":{{"x":{value}}},"x":{value}}}}}"#
            )
        };
        let messages: Vec<String> = (0..bytes.div_ceil(2 * value.len())).map(message).collect();
        let batch = tools_list_of(ProtocolVersion::V2025_03_26).body(format!("[{}]", messages.join(",")));
        requests.push((format!("{payload} in each message of a batch"), batch.into_http()));
    }
    requests
}

/// Returns JSON values of about `bytes` bytes that take much more memory as a tree, in an error, or when serialized.
fn payloads(bytes: usize) -> Vec<(&'static str, String)> {
    let list = |element: &str| format!("[{}{element}]", format!("{element},").repeat(bytes / (element.len() + 1)));
    let nested = |open: &str, close: &str| {
        let depth = bytes / (open.len() + close.len());
        format!("{}0{}", open.repeat(depth), close.repeat(depth))
    };
    let text = |part: &str| format!("\"{}\"", part.repeat(bytes / part.len()));
    let members = |count: usize, value: &str| {
        let members: Vec<String> = (0..count).map(|index| format!("\"{index:x}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    };
    vec![
        ("numbers", list("0")),
        ("fractions", list("0.1")),
        ("literals", list("null")),
        ("empty texts", list("\"\"")),
        ("empty lists", list("[]")),
        ("empty objects", list("{}")),
        ("objects of one member", list(r#"{"":0}"#)),
        ("objects of twelve members", list(&members(12, "0"))),
        ("chains of objects", list(&format!("{}0{}", r#"{"":"#.repeat(80), "}".repeat(80)))),
        ("nested objects", nested(r#"{"":"#, "}")),
        ("nested lists", nested("[", "]")),
        ("members", members(bytes / 9, "0")),
        ("members that are objects", members(bytes / 12, "{}")),
        ("a name", format!("{{{}:0}}", text("a"))),
        ("the private name", format!(r#"{{"$serde_json::private::RawValue":"{}"}}"#, "[[],[]]".repeat(bytes / 7))),
        ("a plain text", text("a")),
        ("characters that are escaped in messages", text("\u{7f}")),
        ("combining characters", text("\u{e31}")),
        ("escaped control characters", text("\\u0001")),
        ("escaped quotes", text("\\\"")),
        ("a number", "1".repeat(bytes)),
    ]
}

fn tools_list_of(revision: ProtocolVersion) -> McpRequest {
    McpRequest::new(method::TOOLS_LIST, json!({})).revision(revision)
}

/// Location where a client's JSON is parsed: name, request, and body before and after the payload.
type Location = (String, McpRequest, String, String);

async fn locations(service: &McpService) -> Vec<Location> {
    const PLACEHOLDER: &str = "placeholder";
    let mut locations = Vec::new();
    let mut add = |name: String, request: McpRequest| {
        let message = request.message().to_string();
        let (before, after) = message.split_once(&format!("\"{PLACEHOLDER}\"")).expect("a placeholder for the payload");
        locations.push((name, request.clone(), before.to_owned(), after.to_owned()));
    };

    // Locations of every server.
    let list = || McpRequest::new(method::TOOLS_LIST, json!({}));
    add("an unknown parameter".to_owned(), list().param("x", json!(PLACEHOLDER)));
    add("a cursor".to_owned(), list().param("cursor", json!(PLACEHOLDER)));
    add("an id".to_owned(), list().id(json!(PLACEHOLDER)));
    for member in ["x", "progressToken", "traceparent", "io.modelcontextprotocol/logLevel"] {
        add(format!("`{member}` in `_meta`"), list().meta(member, json!(PLACEHOLDER)));
    }
    for member in ["clientCapabilities", "clientInfo", "protocolVersion"] {
        add(format!("the {member}"), list().meta(&format!("io.modelcontextprotocol/{member}"), json!(PLACEHOLDER)));
    }
    add("a capability".to_owned(), list().capabilities(json!({ "experimental": { "x": PLACEHOLDER } })));
    let legacy = |method: &str, params: Value| McpRequest::new(method, params).revision(ProtocolVersion::V2025_11_25);
    for member in ["capabilities", "clientInfo", "protocolVersion"] {
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {} });
        add(
            format!("the {member} of a handshake"),
            legacy(method::INITIALIZE, params).param(member, json!(PLACEHOLDER)),
        );
    }
    add("a level".to_owned(), legacy(method::LOGGING_SET_LEVEL, json!({ "level": PLACEHOLDER })));
    let uris = [method::RESOURCES_READ, method::RESOURCES_SUBSCRIBE];
    for method in uris {
        add(format!("the URI of {method}"), legacy(method, json!({ "uri": PLACEHOLDER })));
    }
    let reference = json!({ "type": "ref/prompt", "name": "x" });
    let context = json!({ "arguments": PLACEHOLDER });
    for (name, value) in [("ref", json!(PLACEHOLDER)), ("argument", json!(PLACEHOLDER)), ("context", context)] {
        let params = json!({ "ref": reference, "argument": { "name": "x", "value": "" } });
        let request = legacy(method::COMPLETION_COMPLETE, params).param(name, value);
        add(format!("`{name}` of a completion"), request);
    }

    // Locations of this server.
    for (what, method, list) in
        [("tool", method::TOOLS_CALL, method::TOOLS_LIST), ("prompt", method::PROMPTS_GET, method::PROMPTS_LIST)]
    {
        let listed = exchange(service, McpRequest::new(list, json!({}))).await;
        let members = listed.messages[0]["result"][format!("{what}s")].as_array().cloned().unwrap_or_default();
        for item in members {
            let name = item["name"].as_str().expect("a name");
            let properties = item["inputSchema"]["properties"].as_object().into_iter().flatten();
            let of_tool = properties.map(|(name, _)| name.clone());
            let of_prompt = item["arguments"].as_array().into_iter().flatten();
            let arguments: Vec<String> =
                of_tool.chain(of_prompt.filter_map(|own| Some(own["name"].as_str()?.to_owned()))).collect();
            let modern = |arguments: Value| {
                McpRequest::new(method, json!({ "name": name, "arguments": arguments })).header("mcp-name", name)
            };
            add(format!("the arguments of {what} {name}"), modern(json!(PLACEHOLDER)));
            add(format!("another argument of {what} {name}"), modern(json!({ "x": PLACEHOLDER })));
            for argument in arguments {
                add(format!("`{argument}` of {what} {name}"), modern(json!({ argument.clone(): PLACEHOLDER })));
                let mirrored = modern(json!({ argument.clone(): PLACEHOLDER }));
                if HeaderValue::from_str(&argument).is_ok() && argument.bytes().all(|byte| byte.is_ascii_alphanumeric())
                {
                    let mirrored = mirrored.header(&format!("mcp-param-{argument}"), "a");
                    add(format!("`{argument}` of {what} {name}, mirrored"), mirrored);
                }
            }
            add(
                format!("the input responses of {what} {name}"),
                modern(json!({})).param("inputResponses", json!(PLACEHOLDER)),
            );
            let answer = json!({ "confirm": PLACEHOLDER });
            add(format!("an input response of {what} {name}"), modern(json!({})).param("inputResponses", answer));
            add(format!("the state of {what} {name}"), modern(json!({})).param("requestState", json!(PLACEHOLDER)));
        }
    }

    // Envelopes and whole bodies.
    let bare = |before: &str, after: &str| (before.to_owned(), after.to_owned());
    for (name, (before, after)) in [
        ("a whole body", bare("", "")),
        ("a method", bare(r#"{"jsonrpc":"2.0","id":1,"method":"#, "}")),
        ("an unknown member", bare(r#"{"jsonrpc":"2.0","id":1,"method":"ping","x":"#, "}")),
        ("the name of a tool", bare(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"#, "}}")),
        ("a result", bare(r#"{"jsonrpc":"2.0","id":1,"result":"#, "}")),
        ("an error", bare(r#"{"jsonrpc":"2.0","id":1,"error":"#, "}")),
        ("half a body", bare(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":"#, "")),
        ("a notification's parameter", bare(r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"x":"#, "}}")),
    ] {
        locations.push((name.to_owned(), tools_list_of(ProtocolVersion::V2025_03_26), before, after));
    }
    locations
}
