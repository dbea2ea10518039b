//! A server with one tool of each kind.

use std::{
    io::Write,
    num::NonZeroUsize,
    sync::{Arc, Mutex, Once},
    time::Duration,
};

use garde::Validate;
use mcp_lambda::{HttpConfig, LambdaContext as _, McpService, transport::InvokeMode};
use mcp_protocol::{ClientCapabilities, ContentBlock, LoggingLevel, ResourceContents};
use mcp_server::{HandlerError, Json, NoArguments, Server, Tool, ToolContext, ToolOutput};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) type Fixture = McpService;

/// The state of the tools.
#[derive(Debug, Default)]
pub(crate) struct State;

pub(crate) fn fixture() -> Fixture {
    McpService::new(server(), config()).expect("the configuration is whole")
}

pub(crate) fn streaming_fixture() -> Fixture {
    McpService::new(server(), HttpConfig { invoke_mode: InvokeMode::Stream, ..config() })
        .expect("the configuration is whole")
}

pub(crate) fn paged_fixture() -> Fixture {
    let size = NonZeroUsize::new(4).expect("4 is not 0");
    McpService::new(server().page_size(size), config()).expect("the configuration is whole")
}

pub(crate) fn config() -> HttpConfig {
    HttpConfig { state_key: Some(mcp_testing::state_key()), ..HttpConfig::default() }
}

pub(crate) fn server() -> Server<State> {
    Server::new("fixture", "1.2.3", State)
        .title("Fixture")
        .instructions("Use it in tests.")
        .icons([mcp_protocol::Icon::new("https://example.com/icon.png")])
        .tool(Tool::new("simple", simple).description("No arguments.").title("Simple").read_only())
        .tool(Tool::new("echo", echo).description("Returns its text."))
        .tool(Tool::new("length", length).description("Counts bytes."))
        .tool(Tool::new("count", count).description("Counts, with progress.").idempotent())
        .tool(Tool::new("gated", gated).description("Sends three notifications, each when it may."))
        .tool(Tool::new("blocks", blocks).description("One block of each kind."))
        .tool(Tool::new("structured", structured).description("An object.").destructive(true).open_world(false))
        .tool(Tool::new("list", list).description("An array."))
        .tool(Tool::new("large", large).description("As large as asked."))
        .tool(Tool::new("logs", logs).description("Logs to the client."))
        .tool(Tool::new("region", region).description("Has mirrored parameters."))
        .tool(Tool::new("fails", fails).description("Cannot succeed."))
        .tool(Tool::new("fails_inside", fails_inside).description("Has a fault."))
        .tool(Tool::new("fails_at_length", fails_at_length).description("Has a fault of many words."))
        .tool(Tool::new("panics", panics).description("Panics."))
        .tool(Tool::new("unserialisable", unserialisable).description("Returns what is no JSON."))
        .tool(Tool::new("checks", checks).description("Panics while its arguments are checked."))
        .tool(Tool::new("pretty", pretty).description("Returns JSON of several lines."))
        .tool(Tool::new("sleeps", sleeps).description("Never ends."))
        .tool(Tool::new("asks", simple).description("Asks.").requires_client(ClientCapabilities::sampling()))
        .tool(Tool::new("about", about).description("What the context holds."))
        .tool(Tool::raw("raw", raw_schema(), raw).description("Has a schema written by hand."))
        .tool(Tool::raw("anything", json!({ "type": "object" }), raw).description("Takes anything.").unvalidated())
}

async fn simple(_: ToolContext<State>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("simple")
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct TextArgs {
    /// Some text.
    #[garde(skip)]
    text: String,
}

async fn echo(_: ToolContext<State>, args: TextArgs) -> Result<String, HandlerError> {
    Ok(args.text)
}

async fn length(_: ToolContext<State>, args: TextArgs) -> Result<String, HandlerError> {
    Ok(args.text.len().to_string())
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct CountArgs {
    /// Where to stop.
    #[garde(range(max = 1000))]
    to: u32,
    /// Pause before each number, in milliseconds.
    #[serde(default)]
    #[garde(range(max = 1000))]
    pause_ms: u64,
}

async fn count(context: ToolContext<State>, args: CountArgs) -> Result<String, HandlerError> {
    for number in 1..=args.to {
        tokio::time::sleep(Duration::from_millis(args.pause_ms)).await;
        context.progress(number, args.to, Some("counting")).await;
        // Dropped, because progress must increase.
        context.progress(number, None, None).await;
        context.progress(f64::NAN, None, None).await;
    }
    Ok(format!("counted to {}", args.to))
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct GatedArgs {
    /// A folder in which files named 1, 2 and 3 appear.
    #[garde(skip)]
    folder: std::path::PathBuf,
}

async fn gated(context: ToolContext<State>, args: GatedArgs) -> Result<&'static str, HandlerError> {
    for number in 1..=3 {
        context.progress(number, 3, None).await;
        while !args.folder.join(number.to_string()).exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Ok("through all gates")
}

async fn blocks(_: ToolContext<State>, _: NoArguments) -> Result<Vec<ContentBlock>, HandlerError> {
    let annotations = mcp_protocol::Annotations {
        audience: vec![mcp_protocol::Role::User],
        priority: Some(0.5),
        last_modified: Some("2026-07-28T00:00:00Z".to_owned()),
    };
    Ok(vec![
        ContentBlock::text("text").with_annotations(annotations),
        ContentBlock::image([1, 2, 3], "image/png"),
        ContentBlock::audio([4, 5, 6], "audio/wav"),
        ContentBlock::resource(ResourceContents::text("test://text", "text/plain", "contents")),
        ContentBlock::resource(ResourceContents::blob("test://blob", "application/octet-stream", [7])),
        ContentBlock::resource_link("a name", "https://example.com/a"),
    ])
}

#[derive(Debug, Serialize, JsonSchema)]
struct Point {
    x: i64,
    /// Any JSON.
    label: Value,
}

async fn structured(_: ToolContext<State>, _: NoArguments) -> Result<Json<Point>, HandlerError> {
    Ok(Json(Point { x: 1, label: json!({ "a": [true] }) }))
}

async fn list(_: ToolContext<State>, _: NoArguments) -> Result<Json<Vec<u8>>, HandlerError> {
    Ok(Json(vec![1, 2, 3]))
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct LargeArgs {
    /// Size in bytes.
    #[garde(skip)]
    bytes: usize,
    /// What to repeat.
    #[serde(default = "x")]
    #[garde(skip)]
    of: String,
    /// Progress notifications to send first.
    #[serde(default)]
    #[garde(skip)]
    notifications: u32,
}

fn x() -> String {
    "x".to_owned()
}

async fn large(context: ToolContext<State>, args: LargeArgs) -> Result<String, HandlerError> {
    for number in 0..args.notifications {
        context.progress(number, None, Some(&"m".repeat(30_000))).await;
    }
    Ok(args.of.repeat(args.bytes / args.of.len()))
}

async fn logs(context: ToolContext<State>, _: NoArguments) -> Result<&'static str, HandlerError> {
    context.log(LoggingLevel::Debug, None, "debug").await;
    context.log(LoggingLevel::Info, Some("logs"), json!({ "number": 1 })).await;
    context.log(LoggingLevel::Error, None, "error").await;
    Ok("logged")
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct RegionArgs {
    /// Where.
    #[garde(skip)]
    #[schemars(extend("x-mcp-header" = "Region"))]
    region: String,
    /// How many.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(extend("x-mcp-header" = "Count"))]
    count: Option<i64>,
}

async fn region(_: ToolContext<State>, args: RegionArgs) -> Result<String, HandlerError> {
    Ok(format!("{} {:?}", args.region, args.count))
}

async fn fails(_: ToolContext<State>, _: NoArguments) -> Result<String, HandlerError> {
    Err(HandlerError::failed("the shop is closed"))
}

async fn fails_inside(_: ToolContext<State>, _: NoArguments) -> Result<String, HandlerError> {
    Err(HandlerError::internal("the disk is full"))
}

async fn fails_at_length(_: ToolContext<State>, _: NoArguments) -> Result<String, HandlerError> {
    Err(HandlerError::internal("full".repeat(500_000)))
}

async fn panics(_: ToolContext<State>, _: NoArguments) -> Result<String, HandlerError> {
    panic!("at once")
}

#[derive(Debug, JsonSchema)]
struct Unserialisable;

impl Serialize for Unserialisable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

async fn unserialisable(_: ToolContext<State>, _: NoArguments) -> Result<Json<Unserialisable>, HandlerError> {
    Ok(Json(Unserialisable))
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct CheckedArgs {
    /// Some text.
    #[garde(custom(|text: &String, _: &()| match &text[..1] {
        "" => Err(garde::Error::new("empty")),
        _ => Ok(()),
    }))]
    text: String,
}

async fn checks(_: ToolContext<State>, args: CheckedArgs) -> Result<String, HandlerError> {
    Ok(args.text)
}

async fn pretty(_: ToolContext<State>, _: NoArguments) -> Result<ToolOutput, HandlerError> {
    let raw = serde_json::value::RawValue::from_string("{\n  \"a\": [\n 1,\r\n \"\\n\"]\n}".to_owned());
    let structured_content = Some(raw?);
    Ok(ToolOutput { structured_content, ..ToolOutput::default() })
}

async fn sleeps(context: ToolContext<State>, _: NoArguments) -> Result<String, HandlerError> {
    context.progress(1.0, None, None).await;
    std::future::pending().await
}

#[derive(Debug, Serialize, JsonSchema)]
struct About {
    id: String,
    request_id: String,
    revision: String,
    client: Option<String>,
    samples: Option<bool>,
    traceparent: Option<String>,
    xray: Option<String>,
    has_deadline: bool,
}

async fn about(context: ToolContext<State>, _: NoArguments) -> Result<Json<About>, HandlerError> {
    Ok(Json(About {
        id: context.id().to_string(),
        request_id: context.request_id().to_owned(),
        revision: context.protocol_version().to_string(),
        client: context.client_info().map(|client| client.name.clone()),
        samples: context.client_capabilities().map(|capabilities| capabilities.sampling.is_some()),
        traceparent: context.traceparent().map(str::to_owned),
        xray: context.xray_trace_id().map(str::to_owned),
        has_deadline: context.remaining().is_some(),
    }))
}

fn raw_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": { "kind": { "enum": ["a", "b"] }, "size": { "type": "integer" }, "note": true },
        "required": ["kind"],
        "if": { "properties": { "kind": { "const": "b" } } },
        "then": { "required": ["size"] },
        "additionalProperties": false,
    })
}

async fn raw(_: ToolContext<State>, args: serde_json::Map<String, Value>) -> Result<ToolOutput, HandlerError> {
    Ok(ToolOutput { content: vec![ContentBlock::text(Value::from(args).to_string())], ..ToolOutput::default() })
}

/// Collects what this thread logs.
pub(crate) fn capture_logs() -> Logs {
    // Without a global subscriber, a call site that another test reaches first is cached as disabled
    // (`tracing_core::callsite` asks the thread's own when there is just one).
    static EVERYWHERE: Once = Once::new();
    EVERYWHERE.call_once(|| {
        let nowhere =
            tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(std::io::sink).finish();
        tracing::subscriber::set_global_default(nowhere).expect("nobody else sets one");
    });
    let buffer = Arc::new(Mutex::new(Vec::new()));
    let writer = Writer(Arc::clone(&buffer));
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    Logs { buffer, _guard: tracing::subscriber::set_default(subscriber) }
}

pub(crate) struct Logs {
    buffer: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Logs {
    pub(crate) fn read(&self) -> String {
        String::from_utf8(self.buffer.lock().expect("no panic while logging").clone()).expect("text")
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        self.read().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// The log events of calls.
    pub(crate) fn calls(&self) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["target"] == "mcp_lambda::call").collect()
    }
}

#[derive(Clone)]
struct Writer(Arc<Mutex<Vec<u8>>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic while logging").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A tool with a name that is already registered.
pub(crate) fn second_simple() -> Tool<State> {
    Tool::new("simple", simple)
}
