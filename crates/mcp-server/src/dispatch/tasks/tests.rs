//! Tasks over one store in memory, whose clones stand for environments. Time is paused; the clock of the store follows it.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{
    future::pending,
    pin::Pin,
    sync::{Arc, Mutex},
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
    store::{MemoryStore, RowKey},
};

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

struct World {
    store: MemoryStore,
    log: Log,
    begin: (SystemTime, Instant),
}

impl World {
    fn new() -> Self {
        let begin = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000), Instant::now());
        let store = MemoryStore::with_clock(Arc::new(move || begin.0 + begin.1.elapsed()));
        Self { store, log: Log::default(), begin }
    }

    fn builder(&self) -> Server<Log> {
        let task = || Task::ttl(HOUR);
        Server::new("tasks", "1", self.log.clone())
            .tool(Tool::new("steps", steps).task(task()))
            .tool(Tool::new("asks", asks).task(task()))
            .tool(Tool::new("hangs", hangs).task(task()))
            .tool(Tool::new("long", long).task(task().requires_extension()))
            .tool(Tool::new("asks_first", asks_first).task(task()))
            .tool(Tool::new("keeps_too_much", keeps_too_much).task(task()))
            .tool(Tool::new("secret", steps).task(task()).require_scope("secret:read"))
    }

    /// Another environment of the same server.
    fn environment(&self) -> BuiltServer {
        let settings = Settings {
            state_key: StateKey::parse(KEY),
            authorization: Authorization::Required(Enforcement::default()),
            ..Settings::default()
        };
        let built = self.builder().store(self.store.clone()).build(settings).unwrap();
        built.tasks().unwrap().wake_by(Arc::new(self.log.clone()));
        built
    }

    fn invocation(&self, caller: Option<Principal>) -> Invocation {
        Invocation {
            received: self.begin.0 + self.begin.1.elapsed(),
            principal: caller.map(Arc::new),
            ..Invocation::default()
        }
    }

    async fn request(
        &self,
        caller: Option<Principal>,
        method: &str,
        params: Value,
        is_extended: bool,
    ) -> Result<Value, CallError> {
        let built = self.environment();
        let raw = RawValue::from_string(params.to_string()).unwrap();
        let params = RequestParams::read(Some(&raw)).unwrap();
        let mut capabilities = mcp_protocol::ClientCapabilities::elicitation();
        if is_extended {
            capabilities.extensions = tasks::client_capabilities().extensions;
        }
        let meta = RequestMeta { client_capabilities: Some(capabilities), ..RequestMeta::default() };
        let invocation = Arc::new(self.invocation(caller));
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

#[tokio::test(start_paused = true)]
async fn a_task_goes_on_in_other_environments_and_runs_each_step_once() {
    let world = World::new();
    let (id, key) = world.create("steps").await;
    assert!(world.log.effects().is_empty(), "no step runs in the request");

    assert_eq!(world.run(key).await, TaskEnd::Parked);
    let waiting = world.get(&id).await;
    assert_eq!((&waiting["status"], &waiting["statusMessage"]), (&json!("working"), &json!("one of two")));
    assert_eq!(waiting["ttlMs"], 3_600_000);
    assert_eq!(waiting["createdAt"], "2023-11-14T22:13:20.000Z");
    assert_eq!(world.run(key).await, TaskEnd::Idle, "it sleeps");
    assert!(world.log.wakes().is_empty());

    advance(Duration::from_secs(601)).await;
    world.get(&id).await;
    assert_eq!(world.log.wakes(), [key], "a request wakes what is due");
    assert_eq!(world.run(key).await, TaskEnd::Ended);

    let done = world.get(&id).await;
    assert_eq!((&done["status"], &done["resultType"]), (&json!("completed"), &json!("complete")));
    assert_eq!(done["result"]["content"][0]["text"], "3+6");
    assert_eq!(world.log.effects(), ["one", "second"]);
    assert_eq!(world.run(key).await, TaskEnd::Idle);
    advance(HOUR).await;
    let expired = world.request(Some(ada()), "tasks/get", json!({ "taskId": id }), true).await;
    assert!(matches!(expired, Err(CallError::InvalidInput(_))));
}

#[tokio::test(start_paused = true)]
async fn answers_are_merged_and_a_question_that_is_repeated_has_another_key() {
    let world = World::new();
    let (id, key) = world.create("asks").await;
    assert_eq!(world.run(key).await, TaskEnd::Parked);
    let open = world.get(&id).await;
    assert_eq!(open["status"], "input_required");
    assert_eq!(open["inputRequests"]["first"]["method"], "elicitation/create");

    world.update(&id, json!({ "second": accept("Eve"), "other": accept("Bob") })).await;
    assert!(world.log.wakes().is_empty(), "a question is open");
    let open = world.get(&id).await;
    assert_eq!(open["inputRequests"].as_object().unwrap().keys().collect::<Vec<_>>(), ["first"]);
    world.update(&id, json!({ "second": accept("Bob") })).await;
    world.update(&id, json!({ "first": accept("ab") })).await;
    assert_eq!(world.log.wakes(), [key]);

    assert_eq!(world.run(key).await, TaskEnd::Parked, "the answer is too short");
    let open = world.get(&id).await;
    assert_eq!(open["inputRequests"].as_object().unwrap().keys().collect::<Vec<_>>(), ["first~2"]);
    world.update(&id, json!({ "first": accept("Ada"), "first~2": 12345 })).await;
    assert_eq!(world.run(key).await, TaskEnd::Parked, "the answer is malformed");
    world.update(&id, json!({ "first~3": accept("Ada") })).await;
    assert_eq!(world.run(key).await, TaskEnd::Ended);
    assert_eq!(world.get(&id).await["result"]["content"][0]["text"], "Ada Eve");
}

#[tokio::test(start_paused = true)]
async fn other_callers_get_the_error_of_an_unknown_id() {
    let world = World::new();
    let (id, key) = world.create("asks").await;
    world.run(key).await;
    let others = [
        None,
        Some(Principal { subject: "eve".to_owned(), ..ada() }),
        Some(Principal { issuer: "https://other".to_owned(), ..ada() }),
        Some(Principal { client_id: Some("phone".to_owned()), ..ada() }),
        Some(Principal { client_id: None, ..ada() }),
    ];
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let mut errors = Vec::new();
        for (caller, id) in others.iter().map(|other| (other.clone(), id.as_str())).chain([
            (Some(ada()), "AAAAAAAAAAAAAAAAAAAAAA"),
            (Some(ada()), ""),
            (Some(ada()), &"x".repeat(100_000)),
        ]) {
            let params = json!({ "taskId": id, "inputResponses": { "first": accept("Eve"), "second": accept("Eve") } });
            // An anonymous caller may use nothing here.
            match world.request(caller, method, params, true).await.unwrap_err() {
                CallError::Unauthenticated { .. } => {}
                error => errors.push(error.to_string()),
            }
        }
        assert_eq!(errors.len(), 7);
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
    }
    assert_eq!(world.get(&id).await["inputRequests"].as_object().unwrap().len(), 2, "nothing was changed");
}

#[tokio::test(start_paused = true)]
async fn the_rule_of_the_tool_is_checked_for_each_request() {
    let world = World::new();
    let (id, _) = world.create("secret").await;
    let caller = Principal { scopes: Default::default(), ..ada() };

    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let params = json!({ "taskId": id, "inputResponses": {} });
        let refused = world.request(Some(caller.clone()), method, params, true).await;
        assert!(matches!(refused, Err(CallError::InsufficientScope { .. })), "{refused:?}");
    }
    let params = json!({ "name": "get_task_result", "arguments": { "task_id": id } });
    let refused = world.request(Some(caller), "tools/call", params, true).await;
    assert!(matches!(refused, Err(CallError::InsufficientScope { .. })), "{refused:?}");
    assert_eq!(world.get(&id).await["status"], "working");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_killed_is_repeated_when_its_lease_has_ended() {
    let world = World::new();
    let (id, key) = world.create("hangs").await;
    let killed = timeout(Duration::from_secs(10), world.run(key)).await;
    assert!(killed.is_err(), "the future was dropped in the step");

    assert_eq!(world.run(key).await, TaskEnd::Leased);
    let runner = world.environment().tasks().unwrap();
    assert_eq!(runner.wake_due(100).await.unwrap(), 0);
    advance(Duration::from_secs(61)).await;
    assert_eq!(runner.wake_due(100).await.unwrap(), 1);
    assert_eq!(world.log.wakes(), [key]);
    assert_eq!(world.run(key).await, TaskEnd::Ended);

    assert_eq!(world.get(&id).await["status"], "completed");
    let effects = world.log.effects();
    assert_eq!(effects.len(), 2);
    assert_eq!(effects[0], effects[1], "the idempotency key stays the same");
    assert!(!effects[0].contains(&id));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_frozen_writes_nothing_after_another_has_begun() {
    let world = World::new();
    let (id, key) = world.create("long").await;
    // An environment that is frozen polls nothing.
    let mut frozen = Box::pin(world.run(key));
    assert!(timeout(Duration::from_millis(1), &mut frozen).await.is_err());
    advance(Duration::from_secs(31)).await;
    let mut other = Box::pin(world.run(key));
    assert!(timeout(Duration::from_secs(90), &mut other).await.is_err(), "it has recorded a step");

    assert_eq!(frozen.await, TaskEnd::Lost);
    assert_eq!(other.await, TaskEnd::Ended);
    assert_eq!(world.get(&id).await["status"], "completed");
    let mut effects = world.log.effects();
    effects.sort();
    effects.dedup();
    assert_eq!(effects.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn duplicate_wake_ups_run_a_task_once() {
    let world = World::new();
    let (_, key) = world.create("long").await;

    let (one, two, three) = tokio::join!(world.run(key), world.run(key), world.run(key));

    let mut ends = [one, two, three].map(TaskEnd::as_str);
    ends.sort_unstable();
    assert_eq!(ends, ["ended", "leased", "leased"]);
    assert_eq!(world.log.effects(), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_before_its_deadline_and_goes_on_in_another() {
    let world = World::new();
    let (id, key) = world.create("long").await;
    let mut ends = Vec::new();
    loop {
        let runner = world.environment().tasks().unwrap();
        let deadline = std::time::Instant::from(Instant::now() + Duration::from_secs(200));
        let invocation = Invocation { deadline: Some(deadline), ..world.invocation(None) };
        ends.push(runner.run(key, invocation).await.unwrap());
        if world.log.wakes().is_empty() {
            break;
        }
    }

    assert_eq!(ends.len(), 4, "three steps in each run: {ends:?}");
    assert_eq!((ends[0], ends[3]), (TaskEnd::Continued, TaskEnd::Ended));
    assert_eq!(world.get(&id).await["status"], "completed");
    assert_eq!(world.log.effects().len(), 10, "each step has run once");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_never_fits_into_a_run_fails_the_task() {
    let world = World::new();
    let (id, key) = world.create("long").await;
    for _ in 0..30 {
        let runner = world.environment().tasks().unwrap();
        let deadline = std::time::Instant::from(Instant::now() + Duration::from_secs(30));
        let invocation = Invocation { deadline: Some(deadline), ..world.invocation(None) };
        runner.run(key, invocation).await.unwrap();
    }

    let failed = world.get(&id).await;
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!(-32603)));
    assert!(failed.get("result").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_keeps_too_much_fails_at_once() {
    let world = World::new();
    let (id, key) = world.create("keeps_too_much").await;

    assert_eq!(world.run(key).await, TaskEnd::Lost);

    let failed = world.get(&id).await;
    assert_eq!(failed["status"], "failed");
    assert!(failed["error"]["message"].as_str().unwrap().contains("too large"), "{failed}");
    assert_eq!(world.run(key).await, TaskEnd::Idle);
    assert_eq!(world.log.effects(), ["0", "1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_stops_at_the_next_renewal() {
    let world = World::new();
    let (id, key) = world.create("long").await;
    let run = async { (world.run(key).await, Instant::now()) };
    let cancel = async {
        sleep(Duration::from_secs(10)).await;
        let params = json!({ "taskId": id });
        world.request(Some(ada()), "tasks/cancel", params.clone(), true).await.unwrap();
        let at = Instant::now();
        let again = world.request(Some(ada()), "tasks/cancel", params, true).await.unwrap();
        assert_eq!(again["resultType"], "complete");
        at
    };

    let ((end, stopped), cancelled) = tokio::join!(run, cancel);

    assert_eq!(end, TaskEnd::Lost);
    assert!(stopped - cancelled <= Duration::from_secs(3));
    assert_eq!(world.get(&id).await["status"], "cancelled");
    assert_eq!(world.run(key).await, TaskEnd::Idle);
    assert!(world.log.effects().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_caller_has_twenty_live_tasks_at_most() {
    let world = World::new();
    let mut made = Vec::new();
    for _ in 0..20 {
        made.push(world.create("steps").await);
    }

    let refused = world.call("steps").await;
    assert_eq!(refused["isError"], true, "{refused}");
    let other = Principal { subject: "eve".to_owned(), ..ada() };
    let params = json!({ "name": "steps", "arguments": {} });
    let allowed = world.request(Some(other), "tools/call", params, true).await.unwrap();
    assert_eq!(allowed["resultType"], "task");
    world.log.wakes();

    world.request(Some(ada()), "tasks/cancel", json!({ "taskId": made[7].0 }), true).await.unwrap();
    world.create("steps").await;
    assert_eq!(world.call("steps").await["isError"], true);
    advance(HOUR).await;
    world.create("steps").await;
}

#[tokio::test(start_paused = true)]
async fn a_client_without_the_extension_gets_the_result_or_a_handle() {
    let world = World::new();
    let call = |name: &str, arguments: Value| {
        world.request(Some(ada()), "tools/call", json!({ "name": name, "arguments": arguments }), false)
    };
    let begin = Instant::now();
    let handle = call("steps", json!({})).await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO, "the wait is longer than the request may take");
    assert_eq!(world.log.effects(), ["one"], "a step runs in the request");
    assert_eq!(handle["isError"], true);
    assert!(handle.get("structuredContent").is_none());
    let text = handle["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("get_task_result"), "{text}");
    let id = text.split('`').nth(3).unwrap().to_owned();

    let waiting = call("get_task_result", json!({ "task_id": id })).await.unwrap();
    assert_eq!(waiting["isError"], true);
    assert!(world.log.wakes().is_empty(), "it sleeps");
    advance(Duration::from_secs(600)).await;
    call("get_task_result", json!({ "task_id": id })).await.unwrap();
    let key = world.log.wakes()[0];
    assert_eq!(world.run(key).await, TaskEnd::Ended);
    let done = call("get_task_result", json!({ "task_id": id })).await.unwrap();
    assert_eq!((&done["content"][0]["text"], done.get("isError")), (&json!("3+6"), None));
    assert_eq!(world.log.effects(), ["one", "second"]);
    let unknown = call("get_task_result", json!({ "task_id": "other" })).await.unwrap();
    assert_eq!(unknown["isError"], true);

    let refused = call("long", json!({})).await;
    assert!(matches!(refused, Err(CallError::MissingClientCapability(_))), "{refused:?}");
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let refused = world.request(Some(ada()), method, json!({ "taskId": id, "inputResponses": {} }), false).await;
        assert!(matches!(refused, Err(CallError::MissingClientCapability(_))), "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn questions_before_the_first_step_are_asked_in_the_request() {
    let world = World::new();
    let asked = world.call("asks_first").await;
    assert_eq!(asked["resultType"], "input_required");
    assert!(world.log.wakes().is_empty());

    let params = json!({
        "name": "asks_first", "arguments": {}, "requestState": asked["requestState"],
        "inputResponses": { "name": accept("Alice") },
    });
    let created = world.request(Some(ada()), "tools/call", params, true).await.unwrap();
    assert_eq!(created["resultType"], "task");
    assert_eq!(world.run(world.log.wakes()[0]).await, TaskEnd::Ended);
    let id = created["taskId"].as_str().unwrap();
    assert_eq!(world.get(id).await["result"]["content"][0]["text"], "Hello, Alice!");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_too_large_is_refused() {
    let world = World::new();
    let (id, key) = world.create("asks").await;
    world.run(key).await;
    for bytes in [64 * 1024, 600 * 1024] {
        let params = json!({ "taskId": id, "inputResponses": { "first": accept(&"x".repeat(bytes)) } });
        let refused = world.request(Some(ada()), "tasks/update", params, true).await;
        assert!(matches!(refused, Err(CallError::InvalidInput(_))), "{refused:?}");
    }
    for responses in [json!([]), json!("first"), Value::Null] {
        let params = json!({ "taskId": id, "inputResponses": responses });
        let refused = world.request(Some(ada()), "tasks/update", params, true).await;
        assert!(matches!(refused, Err(CallError::InvalidParams(_))), "{refused:?}");
    }
    assert_eq!(world.get(&id).await["inputRequests"].as_object().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_the_server_makes_wake_ups() {
    let world = World::new();
    let (_, key) = world.create("steps").await;
    let runner = world.environment().tasks().unwrap();
    let text = WakeUp::new(world.environment().store().unwrap(), key).encode();
    assert_eq!(runner.verify(&text).unwrap().task(), key);

    let other = Server::new("other", "1", world.log.clone()).store(world.store.clone());
    let other = other.tool(Tool::new("steps", steps).task(Task::ttl(HOUR)));
    let other = other.build(Settings { state_key: StateKey::parse(KEY), ..Settings::default() }).unwrap();
    assert_eq!(other.tasks().unwrap().verify(&text), None, "of another server");
    let (task, code) = text.split_once('.').unwrap();
    let forged = [
        String::new(),
        task.to_owned(),
        format!("{task}."),
        format!("{task}.{task}"),
        format!("{code}.{code}"),
        format!("{code}.{task}"),
        format!("{}.{code}", RowKey::from_bytes([0; 32]).encode()),
        format!("{text}="),
        format!(" {text}"),
        "x".repeat(100_000),
    ];
    for forged in forged {
        assert_eq!(runner.verify(&forged), None, "{forged:.100}");
    }
    for position in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[position] = if changed[position] == b'A' { b'Q' } else { b'A' };
        assert_eq!(runner.verify(&String::from_utf8(changed).unwrap()), None, "{position}");
    }
}

#[tokio::test]
async fn tasks_need_a_store_and_are_advertised_by_servers_that_have_them() {
    let world = World::new();
    let settings = || Settings {
        state_key: StateKey::parse(KEY),
        authorization: Authorization::Required(Enforcement::default()),
        ..Settings::default()
    };
    let error = world.builder().build(settings()).unwrap_err();
    assert!(matches!(error, BuildError::NoTaskStore { .. }), "{error}");

    let discover = world.request(Some(ada()), "server/discover", json!({}), false).await.unwrap();
    assert_eq!(discover["capabilities"]["extensions"], json!({ "io.modelcontextprotocol/tasks": {} }));
    let plain = Server::new("s", "1", ()).store(MemoryStore::new()).build(settings()).unwrap();
    assert!(plain.tasks().is_none());
    let invocation = Arc::new(Invocation { principal: Some(Arc::new(ada())), ..Invocation::default() });
    let resolved = plain.resolve(ProtocolVersion::LATEST, "tasks/get", RequestParams::default(), &invocation);
    let call = Call { id: RequestId::Integer("1".into()), meta: RequestMeta::default(), notifications: None };
    let outcome = resolved.run(call).outcome().await;
    assert!(matches!(outcome.result, Err(CallError::MethodNotFound(_))));
}
