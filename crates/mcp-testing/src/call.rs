//! Unit tests of one tool, without HTTP and Lambda.

use std::{any::Any, fmt, future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use mcp_protocol::{
    CallToolResult, ClientCapabilities, InputRequest, InputRequiredResult, LoggingLevel, ProgressToken,
    ProtocolVersion, RequestId, RequestMeta, method,
};
use mcp_server::{
    Authorization, BuildError, BuiltServer, Call, CallError, CallOutcome, Enforcement, Invocation, Principal, Server,
    Settings, Tool,
};
#[cfg(feature = "tasks")]
use mcp_server::{Task, store::MemoryStore};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{schema, state_key};

/// Builder for a test call of one tool, without HTTP and Lambda. The client has the newest revision and all
/// capabilities. `.await` runs the call.
///
/// A tool with `Tool::task` needs the feature `tasks` of this crate. The call waits for the result, with a store of its own: steps, waits and
/// questions are part of it, and it has no deadline. In a test with `start_paused = true`, a `sleep` takes no time.
///
/// ```
/// # use mcp_server::{HandlerError, NoArguments, Tool, ToolContext};
/// async fn import(context: ToolContext<u32>, _: NoArguments) -> Result<String, HandlerError> {
///     let files = *context.state();
///     for done in 1..=files {
///         context.progress(done, files, None).await;
///     }
///     Ok(format!("imported {files} files"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use mcp_testing::TestCall;
///
/// let called = TestCall::new(Tool::new("import", import)).state(3).await;
///
/// assert_eq!(called.text(), "imported 3 files");
/// assert_eq!(called.progress(), [1.0, 2.0, 3.0]);
///
/// let cancelled = TestCall::new(Tool::new("import", import)).state(3).cancel_after(2).await;
///
/// assert!(cancelled.is_cancelled());
/// assert_eq!(cancelled.progress(), [1.0, 2.0]);
/// # }
/// ```
#[must_use = "`.await` runs the call"]
pub struct TestCall<S> {
    tool: Tool<S>,
    state: Option<S>,
    arguments: Value,
    caller: Option<Principal>,
    time: Option<Duration>,
    cancel_after: Option<usize>,
    respond: Option<Box<ResponseFn>>,
}

/// Returns the client's response to an input request; the first argument is its key.
type ResponseFn = dyn FnMut(&str, &InputRequest) -> Value;

/// Outcome of a test call.
#[derive(Debug)]
pub struct TestReply {
    /// Progress and log notifications in order, as JSON-RPC messages.
    pub notifications: Vec<Value>,
    outcome: TestOutcome,
    fault: Option<String>,
}

#[derive(Debug)]
enum TestOutcome {
    Result(CallToolResult),
    Rejected(CallError),
    Cancelled,
}

/// Maximum number of round trips of a call.
const MAX_ROUNDS: usize = 20;
/// Capacity for notifications, above the limit of a call.
const MAX_NOTIFICATIONS: usize = 2000;
/// Time in which the call of a tool with `Tool::task` runs within its request.
#[cfg(feature = "tasks")]
const LONGEST_TASK: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Time between the deadlines of handler and invocation.
const RESERVE: Duration = Duration::from_millis(500);

impl<S: Send + Sync + 'static> TestCall<S> {
    /// Creates a call without arguments, to a server without authorization.
    pub fn new(tool: Tool<S>) -> Self {
        Self { tool, state: None, arguments: json!({}), caller: None, time: None, cancel_after: None, respond: None }
    }

    /// Sets the state that the function would create. Required unless the state is `()`.
    pub fn state(self, state: S) -> Self {
        Self { state: Some(state), ..self }
    }

    /// Sets the arguments.
    pub fn arguments(self, arguments: Value) -> Self {
        Self { arguments, ..self }
    }

    /// Sets the authenticated caller, and enforces the access rules of the tool.
    pub fn caller(self, caller: Principal) -> Self {
        Self { caller: Some(caller), ..self }
    }

    /// Sets the remaining time of the handler, as its context reports it. After that time the call fails with
    /// [`CallError::DeadlineExceeded`]; at zero the handler does not run. A test with `start_paused = true` does not
    /// wait.
    pub fn deadline(self, time: Duration) -> Self {
        Self { time: Some(time), ..self }
    }

    /// Cancels the call after `notifications` notifications, as if the client closed the stream.
    ///
    /// The handler is dropped at its next await point after that number of notifications, at the latest at its next
    /// notification. A handler that completes earlier is not cancelled.
    pub fn cancel_after(self, notifications: usize) -> Self {
        Self { cancel_after: Some(notifications), ..self }
    }

    /// Responds to input requests of the tool. `respond` gets the key and the input request, and returns the client's
    /// response. The handler runs once per round trip, as on Lambda.
    ///
    /// ```
    /// # use garde::Validate;
    /// # use mcp_server::{HandlerError, InteractiveContext, NoArguments, Tool};
    /// # #[derive(serde::Deserialize, schemars::JsonSchema, Validate)]
    /// # #[garde(allow_unvalidated)]
    /// # struct Name { name: String }
    /// async fn greet(context: InteractiveContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    ///     let name = context.elicit::<Name>("name", "Who are you?").await.accepted();
    ///     Ok(format!("Hello, {}!", name.map_or_else(String::new, |name| name.name)))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use mcp_testing::TestCall;
    ///
    /// let called = TestCall::new(Tool::new("greet", greet))
    ///     .on_input_request(|key, _| match key {
    ///         "name" => serde_json::json!({ "action": "accept", "content": { "name": "Ada" } }),
    ///         other => panic!("`{other}` was not expected"),
    ///     })
    ///     .await;
    ///
    /// assert_eq!(called.text(), "Hello, Ada!");
    /// # }
    /// ```
    pub fn on_input_request(self, respond: impl FnMut(&str, &InputRequest) -> Value + 'static) -> Self {
        Self { respond: Some(Box::new(respond)), ..self }
    }

    /// Runs the call.
    ///
    /// # Panics
    ///
    /// Panics if the state is missing, if the tool sends an input request without [`on_input_request`](Self::on_input_request) or for
    /// more than 20 round trips, or if a message violates the schema of the protocol.
    pub async fn send(self) -> TestReply {
        let Self { tool, state, arguments, caller, time, cancel_after, mut respond } = self;
        let name = tool.name().to_owned();
        let authorization = match caller {
            Some(_) => Authorization::Required(Enforcement::default()),
            None => Authorization::DangerouslyOff,
        };
        let state = state.or_else(unit).unwrap_or_else(|| panic!("tool `{name}` needs a state: set it with `state`"));
        let server = Server::new("test", "0.0.0", state);
        #[cfg(feature = "tasks")]
        let (server, tool, time) = match tool.may_become_task() {
            true => {
                let within_call = Task::ttl(LONGEST_TASK).answer_within(LONGEST_TASK);
                (server.store(MemoryStore::new()), tool.task(within_call), None)
            }
            false => (server, tool, time),
        };
        let server = server
            .tool(tool)
            .build(Settings { state_key: Some(state_key()), authorization, ..Settings::default() })
            .unwrap_or_else(|error| panic!("{}", build_error(&error)));
        let invocation = Arc::new(Invocation {
            deadline: time.map(|time| tokio::time::Instant::now().into_std() + time + RESERVE),
            principal: caller.map(Arc::new),
            ..Invocation::default()
        });
        let mut params = json!({ "name": name, "arguments": arguments });
        let mut notifications = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let left = cancel_after.map(|count| count.saturating_sub(notifications.len()));
            let (round, sent) = round(&server, &invocation, &params, left).await;
            notifications.extend(sent);
            let outcome = match round {
                Some(outcome) => outcome,
                None => return TestReply { notifications, outcome: TestOutcome::Cancelled, fault: None },
            };
            let fault = outcome.fault.map(|fault| mcp_server::error_chain(&*fault));
            let result: Value = match outcome.result {
                Ok(result) => serde_json::from_str(result.as_str()).expect("the result is JSON"),
                Err(error) => return TestReply { notifications, outcome: TestOutcome::Rejected(error), fault },
            };
            if result["resultType"] != "input_required" {
                check("CallToolResult", &result);
                let result = serde_json::from_value(result).expect("a CallToolResult");
                return TestReply { notifications, outcome: TestOutcome::Result(result), fault };
            }
            check("InputRequiredResult", &result);
            let required: InputRequiredResult = serde_json::from_value(result).expect("an InputRequiredResult");
            let requests = required.input_requests.unwrap_or_default();
            let responses = requests.iter().map(|(key, request)| match &mut respond {
                Some(respond) => (key.clone(), respond(key, request)),
                None => panic!(
                    "the tool sent the input request `{key}`: respond to it with `on_input_request`: {request:?}"
                ),
            });
            params["inputResponses"] = Value::Object(responses.collect());
            params["requestState"] = json!(required.request_state);
        }
        panic!("the tool still sends input requests after {MAX_ROUNDS} round trips");
    }
}

fn build_error(error: &BuildError) -> String {
    let is_task = cfg!(not(feature = "tasks")) && error.to_string().contains("may become tasks");
    let hint = if is_task { ". In a test: add the feature `tasks` of `mcp-testing`" } else { "" };
    format!("{error}{hint}")
}

/// Returns the state `()` if that is the type.
fn unit<S: 'static>() -> Option<S> {
    let unit: Box<dyn Any> = Box::new(());
    unit.downcast().ok().map(|state| *state)
}

/// Runs the handler once; `None` if it was cancelled after `cancel_after` notifications.
async fn round(
    server: &BuiltServer,
    invocation: &Arc<Invocation>,
    params: &Value,
    cancel_after: Option<usize>,
) -> (Option<CallOutcome>, Vec<Value>) {
    // The channel has no capacity for a further notification, so the handler awaits there.
    let capacity = cancel_after.unwrap_or(MAX_NOTIFICATIONS);
    let (sender, mut receiver) = mpsc::channel(capacity.max(1));
    let reserved = (capacity == 0).then(|| sender.clone().try_reserve_owned().expect("an empty channel"));
    let params = params.to_string();
    let call = Call {
        id: RequestId::from(1),
        meta: RequestMeta {
            client_capabilities: Some(all_capabilities()),
            progress_token: Some(ProgressToken::from(1)),
            log_level: Some(LoggingLevel::Debug),
            ..RequestMeta::default()
        },
        notifications: Some(sender),
    };
    let params = serde_json::from_str(&params).expect("parameters are an object");
    let resolved = server.resolve(ProtocolVersion::LATEST, method::TOOLS_CALL, params, invocation);
    let mut handler = Box::pin(resolved.run(call).outcome());
    let outcome = poll_fn(|context| match handler.as_mut().poll(context) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending if cancel_after.is_some_and(|count| receiver.len() >= count) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await;
    drop((handler, reserved));
    let sent = std::iter::from_fn(|| receiver.try_recv().ok());
    let sent = sent.map(|message| {
        let message = serde_json::from_str(&message).expect("a notification is JSON");
        schema::check_from_server(ProtocolVersion::LATEST, method::TOOLS_CALL, &message)
            .unwrap_or_else(|error| panic!("{error}"));
        message
    });
    (outcome, sent.collect())
}

fn all_capabilities() -> ClientCapabilities {
    let capabilities =
        json!({ "sampling": { "tools": {}, "context": {} }, "elicitation": { "form": {}, "url": {} }, "roots": {} });
    serde_json::from_value(capabilities).expect("capabilities")
}

fn check(definition: &str, value: &Value) {
    schema::check(ProtocolVersion::LATEST, definition, value).unwrap_or_else(|error| panic!("{error}"));
}

impl<S: Send + Sync + 'static> IntoFuture for TestCall<S> {
    type Output = TestReply;
    type IntoFuture = Pin<Box<dyn Future<Output = TestReply>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl<S> fmt::Debug for TestCall<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestCall").field("tool", &self.tool).field("arguments", &self.arguments).finish_non_exhaustive()
    }
}

impl TestReply {
    /// Returns the result. A result with `isError` is a result.
    ///
    /// # Panics
    ///
    /// Panics if there is none.
    #[track_caller]
    pub fn result(&self) -> &CallToolResult {
        match &self.outcome {
            TestOutcome::Result(result) => result,
            TestOutcome::Rejected(error) => panic!("the call was rejected: {error}: {:?}", self.fault),
            TestOutcome::Cancelled => panic!("the call was cancelled"),
        }
    }

    /// Returns the text blocks of the result, joined by newlines.
    ///
    /// # Panics
    ///
    /// Panics if there is no result.
    #[track_caller]
    pub fn text(&self) -> String {
        self.result().text()
    }

    /// Returns the structured content of the result.
    ///
    /// # Panics
    ///
    /// Panics if there is none.
    #[track_caller]
    pub fn structured(&self) -> Value {
        let result = self.result();
        let Some(json) = &result.structured_content else {
            panic!("the result has no structured content: {}", result.text())
        };
        serde_json::from_str(json.get()).expect("structured content is JSON")
    }

    /// Returns the error of a rejected call.
    pub fn error(&self) -> Option<&CallError> {
        match &self.outcome {
            TestOutcome::Rejected(error) => Some(error),
            TestOutcome::Result(_) | TestOutcome::Cancelled => None,
        }
    }

    /// Returns the internal error with its sources, which is logged and not sent to the client.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Returns whether the call was cancelled: the handler was dropped before it completed.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.outcome, TestOutcome::Cancelled)
    }

    /// Returns the `progress` values of the progress notifications.
    pub fn progress(&self) -> Vec<f64> {
        let progress = self.notifications.iter().filter(|own| own["method"] == method::NOTIFICATIONS_PROGRESS);
        progress.filter_map(|own| own["params"]["progress"].as_f64()).collect()
    }
}
