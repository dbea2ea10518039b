//! Questions to clients of 2025-11-25: each request reaches another execution environment, and all share a store.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use garde::Validate;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use mcp_lambda::{
    HttpConfig, McpService,
    transport::{Body, EventSource, InvokeMode, SourceAddress, Transport},
};
use mcp_protocol::{LoggingLevel, ProtocolVersion};
use mcp_server::{
    HandlerError, InteractiveContext, Invocation, NoArguments, Principal, Prompt, Resource, Server, StateKey, Tool,
    ToolContext, store::MemoryStore,
};
use mcp_testing::schema;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::capture_logs;

mod admission;
mod faults;
mod hostile;
#[cfg(feature = "limits")]
mod limited;
mod lost;
mod reply;
mod rotation;
mod store;

use reply::{Reply, events};
use store::{CountingStore, Health};

#[derive(Default)]
struct Effects {
    count: AtomicU32,
    /// That of the store.
    health: Arc<Mutex<Health>>,
}

type Context = InteractiveContext<Arc<Effects>>;

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct Name {
    /// Your name.
    #[garde(length(chars, min = 1, max = 100_000))]
    name: String,
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct GreetArgs {
    #[garde(skip)]
    #[serde(default)]
    greeting: String,
}

async fn greet(context: Context, args: GreetArgs) -> Result<String, HandlerError> {
    context.log(LoggingLevel::Info, None, "before").await;
    context.progress(1, 3, None).await;
    let name = context.elicit::<Name>("name", "Who are you?").await.accepted();
    let count = context.state().count.fetch_add(1, Ordering::SeqCst) + 1;
    context.log(LoggingLevel::Info, None, "after").await;
    context.progress(2, 3, None).await;
    Ok(format!("{} {} {count}", args.greeting, name.map_or("no name".to_owned(), |name| name.name)))
}

async fn twice(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let first = context.elicit::<Name>("first", "First name?").await.accepted();
    let second = context.elicit::<Name>("second", "Second name?").await.accepted();
    Ok(format!("{} {}", first.map_or(String::new(), |own| own.name), second.map_or(String::new(), |own| own.name)))
}

/// An effect in each round.
async fn cut(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    let first = context.elicit::<Name>("first", "First name?").await.accepted();
    let count = Arc::clone(context.state());
    context.once("first effect", async { Ok::<_, HandlerError>(count.count.fetch_add(1, Ordering::SeqCst)) }).await?;
    let second = context.elicit::<Name>("second", "Second name?").await.accepted();
    context.state().count.fetch_add(1, Ordering::SeqCst);
    Ok(format!("{} {}", first.map_or(String::new(), |own| own.name), second.map_or(String::new(), |own| own.name)))
}

/// The store is away when this ends.
async fn breaks(context: Context, args: GreetArgs) -> Result<String, HandlerError> {
    let effects = Arc::clone(context.state());
    let text = greet(context, args).await;
    *effects.health.lock().unwrap() = Health::Away;
    text
}

async fn chats(context: Context, args: GreetArgs) -> Result<String, HandlerError> {
    for _ in 0..90 {
        context.log(LoggingLevel::Info, None, "x".repeat(20_000)).await;
    }
    greet(context, args).await
}

/// Notifications and a result that consist of quotes.
async fn quotes(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    context.elicit::<Name>("name", "Who are you?").await;
    for _ in 0..90 {
        context.log(LoggingLevel::Info, None, "\"".repeat(10_000)).await;
    }
    Ok("\"".repeat(100_000))
}

async fn visit(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    Ok(format!("{:?}", context.elicit_url("page", "Pay, please.", "https://pay.example.com/1").await))
}

async fn roots(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    Ok(context.list_roots("roots").await.len().to_string())
}

async fn plain(_: ToolContext<Arc<Effects>>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("plain")
}

async fn write(context: Context, _: NoArguments) -> Result<String, HandlerError> {
    Ok(context.elicit::<Name>("name", "Who?").await.accepted().map_or(String::new(), |own| own.name))
}

async fn secret(context: Context) -> Result<String, HandlerError> {
    Ok(context.elicit::<Name>("name", "Who?").await.accepted().map_or(String::new(), |own| own.name))
}

/// Execution environments that share a store.
#[derive(Clone)]
struct World {
    store: CountingStore,
    effects: Arc<Effects>,
    mode: InvokeMode,
}

impl Default for World {
    fn default() -> Self {
        let store = CountingStore::default();
        let effects = Effects { health: Arc::clone(&store.health), ..Effects::default() };
        Self { store, effects: Arc::new(effects), mode: InvokeMode::default() }
    }
}

impl World {
    fn server(&self, name: &str) -> Server<Arc<Effects>> {
        Server::new(name, "1.2.3", Arc::clone(&self.effects))
            .tool(Tool::new("greet", greet))
            .tool(Tool::new("greet_again", greet).idempotent())
            .tool(Tool::new("twice", twice))
            .tool(Tool::new("cut", cut))
            .tool(Tool::new("breaks", breaks))
            .tool(Tool::new("chats", chats))
            .tool(Tool::new("quotes", quotes))
            .tool(Tool::new("visit", visit))
            .tool(Tool::new("roots", roots))
            .tool(Tool::new("plain", plain))
            .prompt(Prompt::new("write", write))
            .resource(Resource::new("asking://secret", "secret", secret))
    }

    /// A new environment.
    fn environment(&self) -> McpService {
        self.environment_of("asking", mcp_testing::state_key())
    }

    fn environment_of(&self, name: &str, key: StateKey) -> McpService {
        let config = HttpConfig { state_key: Some(key), invoke_mode: self.mode, ..HttpConfig::default() };
        McpService::new(self.server(name).store(self.store.clone()), config).unwrap()
    }

    fn effects(&self) -> u32 {
        self.effects.count.load(Ordering::SeqCst)
    }

    fn operations(&self) -> u32 {
        self.store.operations.load(Ordering::SeqCst)
    }

    async fn send(&self, client: &Client, request: http::request::Builder, body: String) -> Reply {
        send(&self.environment(), client, request, body).await
    }

    async fn post(&self, client: &Client, message: Value) -> Reply {
        self.send(client, client.request("POST"), message.to_string()).await
    }

    async fn resume(&self, client: &Client, id: &str) -> Reply {
        self.send(client, client.request("GET").header("last-event-id", id), String::new()).await
    }

    async fn answer(&self, client: &Client, id: &str, name: &str) -> Reply {
        let result = json!({ "action": "accept", "content": { "name": name } });
        self.post(client, json!({ "jsonrpc": "2.0", "id": id, "result": result })).await
    }

    /// A client that has sent `initialize`.
    async fn client(&self, subject: Option<&str>) -> Client {
        let mut client = Client { subject: subject.map(str::to_owned), ..Client::default() };
        let reply = self.post(&client, initialize("2025-11-25")).await;
        client.session = reply.headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
        client
    }
}

async fn send(service: &McpService, client: &Client, request: http::request::Builder, body: String) -> Reply {
    let mut request: Request<bytes::Bytes> = request.body(body.into()).unwrap();
    let principal = client.subject.as_ref().map(|subject| Arc::new(Principal::new("https://issuer.example", subject)));
    let received = SystemTime::now() + client.later;
    let deadline = client.time.map(|time| std::time::Instant::now() + time);
    request.extensions_mut().insert(Invocation { principal, received, deadline, ..Invocation::default() });
    if let Some(source) = client.source {
        request.extensions_mut().insert(Transport { source, domain_name: None, iam: None });
    }
    if let Some(address) = client.address {
        request.extensions_mut().insert(SourceAddress(address));
    }
    let response: Response<Body> = service.handle(request).await;
    let (parts, body) = response.into_parts();
    let Ok(body) = body.collect().await;
    Reply { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_bytes().to_vec()).unwrap() }
}

#[derive(Debug, Clone, Default)]
struct Client {
    subject: Option<String>,
    session: Option<String>,
    /// How much later its requests arrive.
    later: Duration,
    address: Option<IpAddr>,
    /// Until the platform's deadline.
    time: Option<Duration>,
    source: Option<EventSource>,
}

impl Client {
    fn request(&self, method: &str) -> http::request::Builder {
        let accept = if method == "GET" { "text/event-stream" } else { "application/json, text/event-stream" };
        let request = Request::builder().method(method).uri("/mcp").header("accept", accept);
        let request = request.header("content-type", "application/json").header("mcp-protocol-version", "2025-11-25");
        match &self.session {
            Some(id) => request.header("mcp-session-id", id),
            None => request,
        }
    }
}

fn initialize(revision: &str) -> Value {
    let capabilities = json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {} });
    let client = json!({ "name": "test", "version": "1" });
    let params = json!({ "protocolVersion": revision, "capabilities": capabilities, "clientInfo": client });
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })
}

fn call(id: u32, tool: &str) -> Value {
    let params = json!({ "name": tool, "arguments": {}, "_meta": { "progressToken": "p" } });
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
}

const MODES: [InvokeMode; 2] = [InvokeMode::Buffered, InvokeMode::Stream];

fn worlds() -> impl Iterator<Item = World> {
    MODES.into_iter().map(|mode| World { mode, ..World::default() })
}

#[tokio::test]
async fn only_a_server_that_can_ask_issues_session_ids() {
    let world = World::default();
    let client = world.client(None).await;
    let id = client.session.as_deref().unwrap();
    assert!(id.len() <= 512 && id.bytes().all(|byte| byte.is_ascii_graphic()));
    for revision in ["2025-06-18", "2025-03-26", "2024-11-05"] {
        let reply = world.post(&Client::default(), initialize(revision)).await;
        assert!(!reply.headers.contains_key("mcp-session-id"), "{revision}");
    }
    assert_eq!(world.operations(), 0, "a session is not stored");

    let server = Server::new("s", "1", Arc::clone(&world.effects));
    let config = || HttpConfig { state_key: Some(mcp_testing::state_key()), ..HttpConfig::default() };
    let without_store = McpService::new(world.server("s"), config()).unwrap();
    let without_questions =
        McpService::new(server.tool(Tool::new("plain", plain)).store(MemoryStore::new()), config()).unwrap();
    for service in [without_store, without_questions] {
        let body = initialize("2025-11-25").to_string();
        let reply = send(&service, &client, Client::default().request("POST"), body).await;
        assert!(reply.status == StatusCode::OK && !reply.headers.contains_key("mcp-session-id"));
        let reply = send(&service, &client, client.request("GET").header("last-event-id", "x"), String::new()).await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[tokio::test]
async fn pages_may_read_the_session_id_and_resume() {
    let world = World::default();
    let request = |method: &str| Client::default().request(method).header("origin", "http://localhost:6274");
    let config = HttpConfig {
        state_key: Some(mcp_testing::state_key()),
        allowed_origins: vec![mcp_lambda::transport::Origin::parse("http://localhost:6274").unwrap()],
        ..HttpConfig::default()
    };
    let service = McpService::new(world.server("asking").store(world.store.clone()), config).unwrap();

    let reply = send(&service, &Client::default(), request("OPTIONS"), String::new()).await;
    assert_eq!(reply.headers["access-control-allow-methods"], "GET, POST, OPTIONS");
    assert!(reply.headers["access-control-allow-headers"].to_str().unwrap().contains("last-event-id"));
    assert!(reply.headers["access-control-expose-headers"].to_str().unwrap().ends_with(", Mcp-Session-Id"));
}

#[tokio::test]
async fn a_client_answers_in_a_request_of_its_own() {
    for world in worlds() {
        let client = world.client(Some("ada")).await;
        let asked = world.post(&client, call(1, "greet")).await;
        let events = asked.events();
        assert_eq!(asked.headers["content-type"], "text/event-stream");
        assert!(events[0].id.is_some() && events[0].data.is_empty());
        let last = events.last().unwrap();
        assert!(last.id.is_some() && last.data.is_empty() && last.retry == Some(250));
        let messages = asked.messages();
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert_eq!(
            (&messages[0]["params"]["data"], &messages[1]["params"]["progress"]),
            (&json!("before"), &json!(1.0))
        );
        assert_eq!(messages[2]["method"], "elicitation/create");
        assert_eq!(messages[2]["params"]["message"], "Who are you?");
        schema::check(ProtocolVersion::V2025_11_25, "ElicitRequest", &messages[2]).unwrap();

        let waiting = world.resume(&client, &asked.last_id()).await;
        let messages = waiting.messages();
        assert_eq!((messages.len(), messages[0]["method"].as_str()), (1, Some("notifications/progress")));
        let progress = messages[0]["params"]["progress"].as_f64().unwrap();
        assert!(progress > 1.0 && progress < 1.1, "{progress}");
        assert_ne!(waiting.last_id(), asked.last_id());

        let answered = world.answer(&client, &asked.questions()[0], "Ada").await;
        assert_eq!((answered.status, answered.body.as_str()), (StatusCode::ACCEPTED, ""));
        assert_eq!(world.effects(), 0, "the handler runs with the next poll");
        let done = world.resume(&client, &waiting.last_id()).await;
        assert_eq!(done.text().as_deref(), Some(" Ada 1"));
        let messages = done.messages();
        assert_eq!(messages.len(), 3, "what was sent before the question is not repeated: {messages:?}");
        assert_eq!(
            (&messages[0]["params"]["data"], &messages[1]["params"]["progress"]),
            (&json!("after"), &json!(2.0))
        );
        assert_eq!(messages[2]["id"], 1);
    }
}

#[tokio::test]
async fn a_handler_asks_again_in_its_next_round() {
    for world in worlds() {
        let client = world.client(None).await;
        let first = world.post(&client, call(1, "twice")).await;
        world.answer(&client, &first.questions()[0], "Ada").await;
        let second = world.resume(&client, &first.last_id()).await;
        assert_eq!(second.messages().last().unwrap()["params"]["message"], "Second name?");
        let again = world.resume(&client, &first.last_id()).await;
        assert_eq!(again.questions().len(), 1, "the same round");
        world.answer(&client, &again.questions()[0], "Lovelace").await;
        world.answer(&client, &second.questions()[0], "Byron").await;

        for _ in 0..2 {
            assert_eq!(world.resume(&client, &second.last_id()).await.text().as_deref(), Some("Ada Lovelace"));
        }
    }
}

#[tokio::test]
async fn prompts_resources_and_pages_ask_too() {
    let world = World::default();
    let client = world.client(Some("ada")).await;
    let params = [("prompts/get", json!({ "name": "write" })), ("resources/read", json!({ "uri": "asking://secret" }))];
    for (method, params) in params {
        let asked = world.post(&client, json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })).await;
        world.answer(&client, &asked.questions()[0], "Ada").await;
        let done = world.resume(&client, &asked.last_id()).await;
        assert!(done.messages()[0]["result"].to_string().contains("Ada"), "{method}");
    }
    let asked = world.post(&client, call(1, "visit")).await;
    schema::check(ProtocolVersion::V2025_11_25, "ElicitRequest", &asked.messages()[0]).unwrap();
    let params = &asked.messages()[0]["params"];
    assert_eq!(params["url"], "https://pay.example.com/1");
    assert!(params["elicitationId"].as_str().is_some_and(|id| id.len() > 20), "{params}");
}

#[tokio::test]
async fn a_client_that_cannot_be_asked_gets_an_error_that_says_so() {
    let world = World::default();
    let client = world.client(Some("ada")).await;
    let foreign = Client { session: Some("abc".to_owned()), ..client.clone() };
    for (client, tool, expected) in [
        (&Client::default(), "greet", "MCP 2026-07-28"),
        (&foreign, "greet", "MCP 2026-07-28"),
        (&client, "roots", "did not declare the capability"),
    ] {
        let reply = world.post(client, call(1, tool)).await;
        let text = reply.text().unwrap();
        assert!(reply.status == StatusCode::OK && text.contains(expected), "{text}");
    }
    let old = client.request("POST");
    let mut old = old.body(()).unwrap().into_parts().0;
    old.headers.insert("mcp-protocol-version", http::HeaderValue::from_static("2025-06-18"));
    let mut request = Request::builder().method("POST").uri("/mcp");
    for (name, value) in &old.headers {
        request = request.header(name, value);
    }
    let reply = world.send(&client, request, call(1, "greet").to_string()).await;
    assert!(reply.text().unwrap().contains("2025-06-18"), "{}", reply.body);
    assert_eq!(world.post(&foreign, call(1, "plain")).await.text().as_deref(), Some("plain"));
}

#[tokio::test]
async fn an_error_of_the_client_ends_the_call() {
    let world = World::default();
    let client = world.client(Some("ada")).await;
    let asked = world.post(&client, call(1, "greet")).await;
    let error = json!({ "code": -1, "message": "User rejected" });
    world.post(&client, json!({ "jsonrpc": "2.0", "id": asked.questions()[0], "error": error })).await;

    let done = world.resume(&client, &asked.last_id()).await;

    assert!(done.text().unwrap().contains("could not answer the question: User rejected"), "{}", done.body);
    assert_eq!(world.effects(), 0);
}

#[tokio::test]
async fn a_cancelled_call_ends_with_the_next_poll() {
    let world = World::default();
    let client = world.client(Some("ada")).await;
    let asked = world.post(&client, call(1, "greet")).await;
    let cancelled =
        |id: u32| json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } });
    assert_eq!(world.post(&client, cancelled(2)).await.status, StatusCode::ACCEPTED);
    assert!(world.resume(&client, &asked.last_id()).await.events().last().unwrap().retry.is_some());

    assert_eq!(world.post(&client, cancelled(1)).await.status, StatusCode::ACCEPTED);
    world.answer(&client, &asked.questions()[0], "Ada").await;

    let ended = world.resume(&client, &asked.last_id()).await.messages();
    assert_eq!((&ended[0]["id"], &ended[0]["error"]["message"]), (&json!(1), &json!("the request was cancelled")));
    assert_eq!(world.effects(), 0);
}

#[tokio::test]
async fn ids_are_not_logged() {
    let logs = capture_logs();
    let world = World::default();
    let client = world.client(Some("ada")).await;
    let asked = world.post(&client, call(1, "greet")).await;
    world.resume(&client, &asked.last_id()).await;
    world.answer(&client, &asked.questions()[0], "Ada").await;
    world.resume(&client, &asked.last_id()).await;
    world.resume(&client, &format!("x{}", asked.last_id())).await;

    let text = logs.read();
    assert!(text.contains("a request was answered"));
    let ids = asked.events().into_iter().filter_map(|event| event.id).chain(asked.questions()).chain(client.session);
    for id in ids {
        assert!(!text.contains(&id[..40]), "{text}");
    }
    // The call, its answer and its end are logged; the poll is not.
    let outcomes: Vec<_> = logs.calls().iter().map(|call| call["outcome"].as_str().unwrap().to_owned()).collect();
    assert_eq!(outcomes, ["ok", "input_required", "ok", "ok", "invalid"]);
}
