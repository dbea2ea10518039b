//! Requests whose bodies cost more than they weigh, and what they may cost.

use bytes::Bytes;
use http::{HeaderValue, Request};
use mcp_lambda::{McpService, transport::respond_buffered};
use mcp_protocol::{ProtocolVersion, method};
use mcp_server::Invocation;
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};

use crate::{McpRequest, Via, event_of, exchange};

/// A request may take eight times its body, and this much more.
const FIXED_BYTES: usize = 4 * 1024 * 1024;
const PER_BODY_BYTE: usize = 8;

/// Sends bodies that are built to cost memory to a service, in every place where a caller's JSON is read, and stops the test at
/// the first that takes more than eight times its body and 4 MiB; returns how many there were.
///
/// The places are those of every server, and the arguments of each tool and prompt that `service` lists. Bodies have about
/// `bytes` bytes; those for an argument of the first tool are sent once more, with 2 MiB. The test's binary has [`PeakAlloc`] as its allocator, and no other test that could run beside.
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
/// When a request takes more, is answered with no response, or the allocator is not installed.
pub async fn assert_memory_is_bounded(service: &McpService, bytes: usize) -> usize {
    assert_ne!(PeakAlloc.current_usage(), 0, "the test's binary must have `PeakAlloc` as its global allocator");
    let requests = costly_requests(service, bytes).await;
    let count = requests.len();
    let mut exceeding = Vec::new();
    for (name, request) in requests {
        let body = request.body().len();
        let event = event_of(Via::FunctionUrl, &request).to_string();
        drop(request);
        // The event is there before the request is: it counts.
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

/// What the tests afford in a build without optimization; `make soak` sends 6 MB.
const LARGE_BYTES: usize = 2 * 1024 * 1024;

/// Every filling in every place.
async fn costly_requests(service: &McpService, bytes: usize) -> Vec<(String, Request<Bytes>)> {
    let places = places(service).await;
    let mut requests = Vec::new();
    let mut add = |filling: &str, value: &str, (place, request, before, after): &Place| {
        let body = format!("{before}{value}{after}");
        requests.push((format!("{filling} as {place}"), request.clone().body(body).into_http()));
    };
    for (filling, value) in fillings(bytes) {
        places.iter().for_each(|place| add(filling, &value, place));
    }
    let argument = places.iter().find(|(place, ..)| place.starts_with('`') && place.contains(" of tool "));
    for (filling, value) in fillings(LARGE_BYTES) {
        argument.into_iter().for_each(|place| add(filling, &value, place));
    }
    // What is small enough to be read, many times over.
    for (filling, value) in fillings(60 * 1024) {
        let message = |id: usize| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{{"_meta":{{"x":{value}}},"x":{value}}}}}"#
            )
        };
        let messages: Vec<String> = (0..bytes.div_ceil(2 * value.len())).map(message).collect();
        let batch = tools_list_of(ProtocolVersion::V2025_03_26).body(format!("[{}]", messages.join(",")));
        requests.push((format!("{filling} in each message of a batch"), batch.into_http()));
    }
    requests
}

/// JSON values of about `bytes` bytes that cost much more as a tree, in an error, or when they are written again.
fn fillings(bytes: usize) -> Vec<(&'static str, String)> {
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

/// A place where a caller's JSON is read: its name, the request, and its body before and after the filling.
type Place = (String, McpRequest, String, String);

async fn places(service: &McpService) -> Vec<Place> {
    const HOLE: &str = "hole";
    let mut places = Vec::new();
    let mut add = |name: String, request: McpRequest| {
        let message = request.message().to_string();
        let (before, after) = message.split_once(&format!("\"{HOLE}\"")).expect("a place for the filling");
        places.push((name, request.clone(), before.to_owned(), after.to_owned()));
    };

    // Anywhere.
    let list = || McpRequest::new(method::TOOLS_LIST, json!({}));
    add("a parameter that is not known".to_owned(), list().param("x", json!(HOLE)));
    add("a cursor".to_owned(), list().param("cursor", json!(HOLE)));
    add("an id".to_owned(), list().id(json!(HOLE)));
    for member in ["x", "progressToken", "traceparent", "io.modelcontextprotocol/logLevel"] {
        add(format!("`{member}` in `_meta`"), list().meta(member, json!(HOLE)));
    }
    for member in ["clientCapabilities", "clientInfo", "protocolVersion"] {
        add(format!("the {member}"), list().meta(&format!("io.modelcontextprotocol/{member}"), json!(HOLE)));
    }
    add("a capability".to_owned(), list().capabilities(json!({ "experimental": { "x": HOLE } })));
    let legacy = |method: &str, params: Value| McpRequest::new(method, params).revision(ProtocolVersion::V2025_11_25);
    for member in ["capabilities", "clientInfo", "protocolVersion"] {
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {} });
        add(format!("the {member} of a handshake"), legacy(method::INITIALIZE, params).param(member, json!(HOLE)));
    }
    add("a level".to_owned(), legacy(method::LOGGING_SET_LEVEL, json!({ "level": HOLE })));
    let uris = [method::RESOURCES_READ, method::RESOURCES_SUBSCRIBE];
    for method in uris {
        add(format!("the URI of {method}"), legacy(method, json!({ "uri": HOLE })));
    }
    let reference = json!({ "type": "ref/prompt", "name": "x" });
    let context = json!({ "arguments": HOLE });
    for (name, value) in [("ref", json!(HOLE)), ("argument", json!(HOLE)), ("context", context)] {
        let params = json!({ "ref": reference, "argument": { "name": "x", "value": "" } });
        let request = legacy(method::COMPLETION_COMPLETE, params).param(name, value);
        add(format!("`{name}` of a completion"), request);
    }

    // In what this server has.
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
            add(format!("the arguments of {what} {name}"), modern(json!(HOLE)));
            add(format!("another argument of {what} {name}"), modern(json!({ "x": HOLE })));
            for argument in arguments {
                add(format!("`{argument}` of {what} {name}"), modern(json!({ argument.clone(): HOLE })));
                let mirrored = modern(json!({ argument.clone(): HOLE }));
                if HeaderValue::from_str(&argument).is_ok() && argument.bytes().all(|byte| byte.is_ascii_alphanumeric())
                {
                    let mirrored = mirrored.header(&format!("mcp-param-{argument}"), "a");
                    add(format!("`{argument}` of {what} {name}, mirrored"), mirrored);
                }
            }
            add(format!("the answers to {what} {name}"), modern(json!({})).param("inputResponses", json!(HOLE)));
            let answer = json!({ "confirm": HOLE });
            add(format!("an answer to {what} {name}"), modern(json!({})).param("inputResponses", answer));
            add(format!("the state of {what} {name}"), modern(json!({})).param("requestState", json!(HOLE)));
        }
    }

    // Around all of it.
    let bare = |before: &str, after: &str| (before.to_owned(), after.to_owned());
    for (name, (before, after)) in [
        ("a whole body", bare("", "")),
        ("a method", bare(r#"{"jsonrpc":"2.0","id":1,"method":"#, "}")),
        ("a member that is not known", bare(r#"{"jsonrpc":"2.0","id":1,"method":"ping","x":"#, "}")),
        ("the name of a tool", bare(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"#, "}}")),
        ("a result", bare(r#"{"jsonrpc":"2.0","id":1,"result":"#, "}")),
        ("an error", bare(r#"{"jsonrpc":"2.0","id":1,"error":"#, "}")),
        ("half a body", bare(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":"#, "")),
        ("a notification's parameter", bare(r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"x":"#, "}}")),
    ] {
        places.push((name.to_owned(), tools_list_of(ProtocolVersion::V2025_03_26), before, after));
    }
    places
}
