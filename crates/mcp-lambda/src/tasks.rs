//! Tasks on Lambda: the URL function wakes a second function of the same zip, which runs the handlers (`MCP_ROLE=tasks`).
//!
//! A wake-up is an event of an asynchronous invocation. The function that runs tasks accepts only wake-ups with the server's
//! authentication code, the event of its schedule, which has no content, and commands of the server, such as the deletion of a
//! person's rows. It serves no HTTP request.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    time::{Instant, SystemTime},
};

use mcp_aws::AsyncFunction;
use mcp_server::{
    BoxError, InitError, Invocation, TaskEnd, TaskRunner, WakeTask, WakeUp, error_chain,
    json::{self, Budget},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout_at;

use crate::{Env, McpService, invocations, logs::REJECTION};

const ROLE: &str = "MCP_ROLE";
/// The role of the function that runs tasks.
pub(crate) const WORKER: &str = "tasks";
const FUNCTION: &str = "MCP_TASKS_FUNCTION";
/// Maximum size of an event. A wake-up has 102 bytes.
const MAX_EVENT_BYTES: usize = 1024;
const EVENT_BUDGET: Budget = Budget::memory(16 * 1024);
/// Maximum number of due tasks that are woken after a run.
const DUE_AFTER_RUN: usize = 10;
/// Maximum number of due tasks that are woken by an event of the schedule.
const DUE_BY_SCHEDULE: usize = 200;

/// An event of the function that runs tasks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum TaskEvent {
    /// Run this task.
    #[serde(rename = "mcpTask")]
    Task(String),
    /// Wake tasks that are due: of the schedule.
    #[serde(rename = "mcpDueTasks")]
    Due {},
}

/// Reads the variables of tasks, so that they are known before the service is connected.
pub(crate) fn read_variables(env: &Env) {
    for name in [ROLE, FUNCTION] {
        env.get(name);
    }
}

/// Reports whether this process runs tasks, and serves no requests.
pub(crate) fn is_worker(env: &Env) -> bool {
    env.get(ROLE) == Some(WORKER)
}

impl McpService {
    /// Connects a server with tasks to the function that runs them: `MCP_TASKS_FUNCTION`. [`main`](crate::main) does so. Call it in a
    /// `main` of your own. Without it, tasks run in the process that creates them, which suits tests and development.
    ///
    /// # Errors
    ///
    /// When a variable is invalid, or `MCP_ROLE` is `tasks` for a server without tasks.
    pub fn connect_tasks(&self, env: &Env) -> Result<(), InitError> {
        match env.get(ROLE) {
            None | Some("serve" | WORKER) => {}
            Some(other) => return Err(InitError::setting(ROLE, "`serve` or `tasks`", other)),
        }
        let function = env.get(FUNCTION).map(|name| AsyncFunction::from_env(FUNCTION, name, |name| env.get(name)));
        let Some(runner) = self.server().tasks() else {
            let error = || InitError::new(format!("{ROLE}={WORKER}: no tool of the server has settings for tasks"));
            return if is_worker(env) { Err(error()) } else { Ok(()) };
        };
        match function.transpose()? {
            Some(function) => runner.wake_by(Arc::new(Invoker(function))),
            None if is_worker(env) => {
                return Err(InitError::new(format!("{FUNCTION} must be set for {ROLE}={WORKER}: its own name")));
            }
            None => tracing::warn!(
                "MCP_TASKS_FUNCTION is not set: tasks run in this process, only while it serves requests"
            ),
        }
        Ok(())
    }
}

/// Wakes tasks by asynchronous invocations.
struct Invoker(AsyncFunction);

impl WakeTask for Invoker {
    fn wake(&self, task: WakeUp) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + '_>> {
        Box::pin(async move {
            let event = serde_json::to_string(&TaskEvent::Task(task.encode()))?;
            Ok(self.0.invoke(&event).await?)
        })
    }
}

/// Serves wake-ups until the environment ends.
pub(crate) async fn run(service: McpService) -> Result<Infallible, BoxError> {
    let runner = service.server().tasks().ok_or("the server has no tasks")?;
    let job = |event: bytes::Bytes, invocation| {
        let (runner, service) = (runner.clone(), service.clone());
        async move {
            match service.command_of(&event, &invocation) {
                Some(command) => command.await,
                None => handle(&runner, &event, invocation).await,
            }
        }
    };
    invocations::run_job(job).await
}

/// Handles an event, and returns the response of the invocation. Lambda repeats an asynchronous invocation that fails.
///
/// A rejected event fails too, although a repetition does not help: it means that the two functions have different state keys, so that no
/// task runs, or that a principal of the account sends events that it should not. The alarm on failures must show both.
///
/// The event of the schedule has no authentication code, since it has no content: each due task is claimed, and so woken once,
/// however often it is sent.
async fn handle(runner: &TaskRunner, event: &[u8], invocation: Invocation) -> Result<Vec<u8>, BoxError> {
    let request_id = invocation.request_id.clone();
    let parsed = if event.len() > MAX_EVENT_BYTES { None } else { json::read_bytes(event, EVENT_BUDGET).ok() };
    let task = match parsed {
        Some(TaskEvent::Due {}) => {
            let woken = runner.wake_due(DUE_BY_SCHEDULE, SystemTime::now()).await.inspect_err(|error| {
                tracing::error!(request_id, error = error_chain(error), "could not wake tasks that are due");
            })?;
            tracing::info!(request_id, woken, "tasks that were due have been woken");
            return Ok(serde_json::to_vec(&json!({ "woken": woken }))?);
        }
        Some(TaskEvent::Task(text)) => runner.verify(&text),
        None => None,
    };
    let Some(task) = task else {
        tracing::info!(name: REJECTION, request_id, "event rejected: not a wake-up of this server");
        return Err("the event is not a wake-up of this server".into());
    };
    let (begin, answer_by) = (Instant::now(), invocation.answer_by());
    let end = runner.run(task.task(), invocation).await.inspect_err(|error| {
        tracing::error!(request_id, error = error_chain(error), "could not run a task");
    })?;
    let duration_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(request_id, end = end.as_str(), duration_ms, "a run of a task has ended");
    if matches!(end, TaskEnd::Parked | TaskEnd::Ended) {
        let due = runner.wake_due(DUE_AFTER_RUN, SystemTime::now());
        let woken = match answer_by {
            // The schedule wakes the rest: the run itself has succeeded.
            Some(end) => timeout_at(end.into(), due).await.unwrap_or(Ok(0)),
            None => due.await,
        };
        if let Err(error) = woken {
            tracing::warn!(request_id, error = error_chain(&error), "could not wake tasks that are due");
        }
    }
    Ok(serde_json::to_vec(&json!({ "end": end.as_str() }))?)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Mutex,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use mcp_server::{HandlerError, InteractiveContext, NoArguments, Server, StateKey, Task, Tool, store::MemoryStore};
    use tower::ServiceExt;

    use super::*;
    use crate::HttpConfig;

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    async fn job(context: InteractiveContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
        context.once("step", async { Ok::<_, HandlerError>(()) }).await?;
        Ok("done")
    }

    /// Wake-ups that were sent, as events.
    #[derive(Default)]
    struct Events(Mutex<Vec<String>>);

    impl WakeTask for Events {
        fn wake(&self, task: WakeUp) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + '_>> {
            self.0.lock().unwrap().push(serde_json::to_string(&TaskEvent::Task(task.encode())).unwrap());
            Box::pin(async { Ok(()) })
        }
    }

    fn service(name: &str, store: &MemoryStore) -> McpService {
        let tool = Tool::new("job", job).task(Task::ttl(Duration::from_secs(3600)));
        let config = HttpConfig { state_key: StateKey::parse(KEY), ..HttpConfig::default() };
        McpService::new(Server::new(name, "1", ()).tool(tool).store(store.clone()), config).unwrap()
    }

    async fn request(service: &McpService, method: &str, name: &str, params: serde_json::Value) -> serde_json::Value {
        let capabilities = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
        let mut params = params;
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let request = http::Request::post("/mcp")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method)
            .header("mcp-name", name)
            .body(bytes::Bytes::from(body))
            .unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn the_worker_runs_only_wake_ups_of_its_server() {
        let (store, events) = (MemoryStore::new(), Arc::new(Events::default()));
        let (front, worker) = (service("tasks", &store), service("tasks", &store));
        front.server().tasks().unwrap().wake_by(Arc::clone(&events) as _);
        let runner = worker.server().tasks().unwrap();
        let created = request(&front, "tools/call", "job", json!({ "name": "job", "arguments": {} })).await;
        let id = created["result"]["taskId"].as_str().unwrap().to_owned();
        let event = events.0.lock().unwrap()[0].clone();
        assert!(event.len() < MAX_EVENT_BYTES && !event.contains(&id), "{event}");

        let other = service("other", &store);
        assert!(handle(&other.server().tasks().unwrap(), event.as_bytes(), Invocation::default()).await.is_err());
        let http = json!({ "version": "2.0", "rawPath": "/mcp", "requestContext": { "http": { "method": "POST" } } });
        for forged in [
            event.replace("mcpTask\":\"", "mcpTask\":\"A"),
            event.replace("mcpTask", "task"),
            event.replace('}', ",\"mcpDueTasks\":{}}"),
            json!({ "mcpDueTasks": { "limit": 500 } }).to_string(),
            json!({ "mcpDueTasks": null }).to_string(),
            json!({ "mcpDueTasks": {}, "limit": 500 }).to_string(),
            json!({ "mcpTask": id }).to_string(),
            http.to_string(),
            String::new(),
            "[".repeat(1_000_000),
        ] {
            assert!(handle(&runner, forged.as_bytes(), Invocation::default()).await.is_err(), "{forged:.200}");
        }
        let waits = request(&front, "tasks/get", &id, json!({ "taskId": id })).await;
        assert_eq!(waits["result"]["status"], "working");

        let ended = handle(&runner, event.as_bytes(), Invocation::default()).await.unwrap();
        assert_eq!(ended, br#"{"end":"ended"}"#);
        let again = handle(&runner, event.as_bytes(), Invocation::default()).await.unwrap();
        assert_eq!(again, br#"{"end":"idle"}"#);
        let woken = handle(&runner, br#"{"mcpDueTasks":{}}"#, Invocation::default()).await.unwrap();
        assert_eq!(woken, br#"{"woken":0}"#);
        let done = request(&front, "tasks/get", &id, json!({ "taskId": id })).await;
        assert_eq!(done["result"]["result"]["content"][0]["text"], "done");
        let mismatch = request(&front, "tasks/get", "other", json!({ "taskId": id })).await;
        assert_eq!(mismatch["error"]["code"], -32020);
        let event = crate::transport::respond_buffered(&front, event.as_bytes(), Invocation::default()).await;
        assert!(event.is_err(), "the function with the URL takes HTTP events only");
    }

    /// A store whose clock a test moves, with tasks that are due then.
    async fn due_tasks(count: usize) -> (McpService, Arc<Events>, impl Fn(u64)) {
        let ahead = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&ahead);
        let now = move || SystemTime::now() + Duration::from_secs(clock.load(Ordering::Relaxed));
        let (store, events) = (MemoryStore::with_clock(Arc::new(now)), Arc::new(Events::default()));
        let service = service("tasks", &store);
        service.server().tasks().unwrap().wake_by(Arc::clone(&events) as _);
        for _ in 0..count {
            request(&service, "tools/call", "job", json!({ "name": "job", "arguments": {} })).await;
        }
        (service, events, move |seconds| {
            ahead.fetch_add(seconds, Ordering::Relaxed);
        })
    }

    #[tokio::test]
    async fn any_number_of_events_of_the_schedule_wakes_each_due_task_once() {
        let (service, events, move_clock) = due_tasks(5).await;
        let runner = service.server().tasks().unwrap();
        let created = std::mem::take(&mut *events.0.lock().unwrap());
        move_clock(6);

        let mut responses = Vec::new();
        for _ in 0..10 {
            responses.push(handle(&runner, br#"{"mcpDueTasks":{}}"#, Invocation::default()).await.unwrap());
        }

        assert_eq!(responses[0], br#"{"woken":5}"#);
        assert!(responses[1..].iter().all(|response| response == br#"{"woken":0}"#));
        let mut woken = events.0.lock().unwrap().clone();
        woken.sort();
        let mut expected = created;
        expected.sort();
        assert_eq!(woken, expected);
    }

    /// A platform that does not respond.
    struct Silent;

    impl WakeTask for Silent {
        fn wake(&self, _: WakeUp) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + '_>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn a_run_that_has_ended_does_not_wait_for_wake_ups_beyond_its_invocation() {
        let (service, events, move_clock) = due_tasks(2).await;
        let runner = service.server().tasks().unwrap();
        runner.wake_by(Arc::new(Silent));
        move_clock(6);
        let event = events.0.lock().unwrap()[0].clone();
        let deadline = Some(Instant::now() + Duration::from_secs(7));

        let invocation = Invocation { deadline, ..Invocation::default() };
        let ended = tokio::time::timeout(Duration::from_secs(60), handle(&runner, event.as_bytes(), invocation)).await;

        assert_eq!(ended.unwrap().unwrap(), br#"{"end":"ended"}"#);
    }

    #[tokio::test]
    async fn without_a_function_tasks_run_in_this_process() {
        let service = service("tasks", &MemoryStore::new());
        let created = request(&service, "tools/call", "job", json!({ "name": "job", "arguments": {} })).await;
        let id = created["result"]["taskId"].as_str().unwrap().to_owned();

        for _ in 0..1000 {
            let state = request(&service, "tasks/get", &id, json!({ "taskId": id })).await;
            if state["result"]["status"] == "completed" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the task did not end");
    }

    #[test]
    fn a_wrong_setting_is_an_error_that_names_the_variable() {
        let with = service("tasks", &MemoryStore::new());
        let without = McpService::new(Server::new("s", "1", ()), HttpConfig::default()).unwrap();
        for (service, pairs, expected) in [
            (&with, &[("MCP_ROLE", "worker")][..], "MCP_ROLE"),
            (&with, &[("MCP_TASKS_FUNCTION", "a/b")], "MCP_TASKS_FUNCTION"),
            (&with, &[("MCP_TASKS_FUNCTION", "a")], "AWS_REGION"),
            (&with, &[("MCP_ROLE", "tasks")], "MCP_TASKS_FUNCTION must be set"),
            (&without, &[("MCP_ROLE", "tasks")], "no tool"),
        ] {
            let error = service.connect_tasks(&Env::from_pairs(pairs.iter().copied())).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        without.connect_tasks(&Env::from_pairs([("MCP_ROLE", "serve")])).unwrap();
    }
}
