//! Tasks over one store in memory, whose clones stand for environments. Time is paused; the clock of the store follows it.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{
    future::pending,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use garde::Validate;
use mcp_protocol::{ProtocolVersion, RequestId, RequestMeta, RequestParams, tasks};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::time::{Instant, advance, sleep, timeout};

use crate::{
    Authorization, BoxError, BuildError, BuiltServer, Call, CallError, Elicited, Enforcement, HandlerError,
    InteractiveContext, Invocation, NoArguments, Principal, Server, Settings, StateKey, Task, TaskEnd, Tool, WakeTask,
    WakeUp,
    store::{MemoryStore, RowKey, StoreError},
};
use test_store::{Operation, Outcome, TestStore};

mod bounds;
mod foreground;
mod hostile;
mod interleaved;
mod leases;
mod requests;
mod rotation;
mod runs;
mod slots;
mod test_store;
mod versions;
mod waking;

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const HOUR: Duration = Duration::from_secs(3600);

/// Effects of all environments, and wake-ups that were sent.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>, Arc<Mutex<Vec<RowKey>>>);

impl Log {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    fn effects(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn wakes(&self) -> Vec<RowKey> {
        std::mem::take(&mut *self.1.lock().unwrap())
    }
}

impl WakeTask for Log {
    fn wake(&self, task: WakeUp) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + '_>> {
        self.1.lock().unwrap().push(task.task());
        Box::pin(async { Ok(()) })
    }
}

#[derive(Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct Name {
    /// Name of the file; 3 characters or more.
    #[garde(length(chars, min = 3, max = 100))]
    name: String,
}

async fn steps(context: InteractiveContext<Log>, _: NoArguments) -> Result<String, HandlerError> {
    let log = context.state();
    let effect = async |text: &str| {
        log.note(text);
        Ok::<_, HandlerError>(text.len())
    };
    context.status("one of two");
    let one = context.once("one", effect("one")).await?;
    context.sleep("wait", Duration::from_secs(600)).await;
    let two = context.once("second", effect("second")).await?;
    Ok(format!("{one}+{two}"))
}

async fn asks(context: InteractiveContext<Log>, _: NoArguments) -> Result<String, HandlerError> {
    context.once("begin", async { Ok::<_, HandlerError>(()) }).await?;
    let (first, second) =
        tokio::join!(context.elicit::<Name>("first", "Which?"), context.elicit::<Name>("second", "And then?"));
    match (first, second) {
        (Elicited::Accepted(first), Elicited::Accepted(second)) => Ok(format!("{} {}", first.name, second.name)),
        _ => Err(HandlerError::failed("declined")),
    }
}

/// Asks two questions, one after the other.
async fn asks_twice(context: InteractiveContext<Log>, _: NoArguments) -> Result<String, HandlerError> {
    context.once("begin", async { Ok::<_, HandlerError>(()) }).await?;
    let mut names = Vec::new();
    for key in ["first", "second"] {
        let name = context.elicit::<Name>(key, "Which?").await.accepted();
        names.push(name.ok_or_else(|| HandlerError::failed("declined"))?.name);
    }
    Ok(names.join(" "))
}

/// A step that never ends in its first run, and shows its idempotency key.
async fn hangs(context: InteractiveContext<Log>, _: NoArguments) -> Result<String, HandlerError> {
    let log = context.state();
    let key = context.idempotency_key("slow").unwrap();
    let work = async {
        log.note(key);
        if log.effects().len() == 1 {
            pending::<()>().await;
        }
        Ok::<_, HandlerError>(())
    };
    context.once("slow", work).await?;
    Ok("done".to_owned())
}

/// Ten steps of a minute each.
async fn long(context: InteractiveContext<Log>, _: NoArguments) -> Result<String, HandlerError> {
    for step in 0..10 {
        let log = context.state().clone();
        let work = async move {
            sleep(Duration::from_secs(60)).await;
            log.note(step.to_string());
            Ok::<_, HandlerError>(())
        };
        context.once(&step.to_string(), work).await?;
    }
    Ok("done".to_owned())
}

/// Asks before its first step.
async fn asks_first(context: InteractiveContext<Log>, _: NoArguments) -> Result<String, HandlerError> {
    let Elicited::Accepted(name) = context.elicit::<Name>("name", "Who?").await else {
        return Err(HandlerError::failed("declined"));
    };
    context.once("greet", async { Ok::<_, HandlerError>(()) }).await?;
    Ok(format!("Hello, {}!", name.name))
}

/// Keeps more than a row can have.
async fn keeps_too_much(context: InteractiveContext<Log>, _: NoArguments) -> Result<String, HandlerError> {
    let log = context.state();
    for step in 0..10 {
        let work = async {
            log.note(step.to_string());
            Ok::<_, HandlerError>("x".repeat(300_000))
        };
        context.once(&step.to_string(), work).await?;
    }
    Ok("done".to_owned())
}

#[derive(Deserialize, JsonSchema, Validate)]
struct Text {
    /// Any text.
    #[garde(length(chars, max = 2_000_000))]
    text: String,
}

/// Keeps the length of its argument.
async fn measures(context: InteractiveContext<Log>, args: Text) -> Result<String, HandlerError> {
    let length = context.once("length", async { Ok::<_, HandlerError>(args.text.len()) }).await?;
    Ok(length.to_string())
}

/// Asks two questions, and looks after a minute whether they have answers.
async fn asks_for_a_minute(context: InteractiveContext<Log>, _: NoArguments) -> Result<String, HandlerError> {
    context.once("begin", async { Ok::<_, HandlerError>(()) }).await?;
    let (first, second, ()) = tokio::join!(
        context.elicit::<Name>("first", "Which?"),
        context.elicit::<Name>("second", "And then?"),
        context.sleep("minute", Duration::from_secs(60))
    );
    match (first, second) {
        (Elicited::Accepted(first), Elicited::Accepted(second)) => Ok(format!("{} {}", first.name, second.name)),
        _ => Err(HandlerError::failed("declined")),
    }
}

#[derive(Clone)]
struct World {
    store: TestStore,
    log: Log,
    begin: (SystemTime, Instant),
}

impl World {
    fn new() -> Self {
        let begin = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000), Instant::now());
        // Time passes between two operations, but less than any time that a test measures.
        let readings = AtomicU64::new(0);
        let tick = move || Duration::from_micros(readings.fetch_add(1, Ordering::Relaxed));
        let store = TestStore::new(Arc::new(move || begin.0 + begin.1.elapsed() + tick()));
        Self { store, log: Log::default(), begin }
    }

    fn builder(&self) -> Server<Log> {
        let task = || Task::ttl(HOUR);
        Server::new("tasks", "1", self.log.clone())
            .tool(Tool::new("steps", steps).task(task()))
            .tool(Tool::new("asks", asks).task(task()))
            .tool(Tool::new("asks_twice", asks_twice).task(task()))
            .tool(Tool::new("hangs", hangs).task(task()))
            .tool(Tool::new("long", long).task(task().requires_extension()))
            .tool(Tool::new("asks_first", asks_first).task(task()))
            .tool(Tool::new("keeps_too_much", keeps_too_much).task(task()))
            .tool(Tool::new("measures", measures).task(task()))
            .tool(Tool::new("asks_for_a_minute", asks_for_a_minute).task(task()))
            .tool(Tool::new("secret", steps).task(task()).require_scope("secret:read"))
    }

    /// Another environment of the same server.
    fn environment(&self) -> BuiltServer {
        self.environment_of(self.builder())
    }

    /// An environment of another version of the server.
    fn environment_of(&self, server: Server<Log>) -> BuiltServer {
        self.environment_with(server, KEY)
    }

    fn environment_with(&self, server: Server<Log>, key: &str) -> BuiltServer {
        let settings = Settings {
            state_key: StateKey::parse(key),
            authorization: Authorization::Required(Enforcement::default()),
            ..Settings::default()
        };
        let built = server.store(self.store.clone()).build(settings).unwrap();
        built.tasks().unwrap().wake_by(Arc::new(self.log.clone()));
        built
    }

    fn now(&self) -> SystemTime {
        self.begin.0 + self.begin.1.elapsed()
    }

    fn invocation(&self, caller: Option<Principal>) -> Invocation {
        Invocation { received: self.now(), principal: caller.map(Arc::new), ..Invocation::default() }
    }

    async fn request(
        &self,
        caller: Option<Principal>,
        method: &str,
        params: Value,
        is_extended: bool,
    ) -> Result<Value, CallError> {
        self.request_to(&self.environment(), caller, method, params, is_extended).await
    }

    async fn request_to(
        &self,
        built: &BuiltServer,
        caller: Option<Principal>,
        method: &str,
        params: Value,
        is_extended: bool,
    ) -> Result<Value, CallError> {
        self.send(built, self.invocation(caller), method, params, is_extended).await
    }

    async fn send(
        &self,
        built: &BuiltServer,
        invocation: Invocation,
        method: &str,
        params: Value,
        is_extended: bool,
    ) -> Result<Value, CallError> {
        let raw = RawValue::from_string(params.to_string()).unwrap();
        let params = RequestParams::read(Some(&raw)).unwrap();
        let mut capabilities = mcp_protocol::ClientCapabilities::elicitation();
        if is_extended {
            capabilities.extensions = tasks::client_capabilities().extensions;
        }
        let meta = RequestMeta { client_capabilities: Some(capabilities), ..RequestMeta::default() };
        let invocation = Arc::new(invocation);
        let resolved = built.resolve(ProtocolVersion::LATEST, method, params, &invocation);
        let call = Call { id: RequestId::Integer("1".into()), meta, notifications: None };
        let outcome = resolved.run(call).outcome().await;
        outcome.result.map(|rendered| serde_json::from_str(rendered.as_str()).unwrap())
    }

    async fn call(&self, tool: &str) -> Value {
        let params = json!({ "name": tool, "arguments": {} });
        self.request(Some(ada()), "tools/call", params, true).await.unwrap()
    }

    async fn get(&self, id: &str) -> Value {
        self.request(Some(ada()), "tasks/get", json!({ "taskId": id }), true).await.unwrap()
    }

    async fn update(&self, id: &str, responses: Value) {
        let params = json!({ "taskId": id, "inputResponses": responses });
        let answer = self.request(Some(ada()), "tasks/update", params, true).await.unwrap();
        assert_eq!(answer["resultType"], "complete");
        assert_eq!(answer.as_object().unwrap().len(), 2, "and `_meta`: {answer}");
    }

    async fn wake_due(&self, limit: usize) -> Result<usize, StoreError> {
        self.environment().tasks().unwrap().wake_due(limit, self.now()).await
    }

    async fn run(&self, key: RowKey) -> TaskEnd {
        self.environment().tasks().unwrap().run(key, self.invocation(None)).await.unwrap()
    }

    /// Creates a task. Returns its id and key.
    async fn create(&self, tool: &str) -> (String, RowKey) {
        let created = self.call(tool).await;
        assert_eq!(created["resultType"], "task", "{created}");
        let keys = self.log.wakes();
        assert_eq!(keys.len(), 1);
        (created["taskId"].as_str().unwrap().to_owned(), keys[0])
    }
}

fn ada() -> Principal {
    let scopes = ["secret:read"];
    Principal { client_id: Some("desktop".to_owned()), ..Principal::new("https://issuer", "ada").with_scopes(scopes) }
}

fn accept(name: &str) -> Value {
    json!({ "action": "accept", "content": { "name": name } })
}
