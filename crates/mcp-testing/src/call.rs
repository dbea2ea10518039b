//! Calls of one tool, without HTTP or Lambda in between.

use std::{any::Any, fmt, future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use mcp_protocol::{
    CallToolResult, ClientCapabilities, InputRequest, InputRequiredResult, LoggingLevel, ProgressToken,
    ProtocolVersion, RequestId, RequestMeta, method,
};
use mcp_server::{
    Authorization, BuiltServer, Call, CallError, CallOutcome, Enforcement, Invocation, Principal, Server, Settings,
    Tool,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{schema, state_key};

/// A call of a tool, as a client of the newest revision makes it that can do everything; without HTTP or Lambda in between.
/// `.await` makes the call.
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
#[must_use = "a call is made by `.await`"]
pub struct TestCall<S> {
    tool: Tool<S>,
    state: Option<S>,
    arguments: Value,
    caller: Option<Principal>,
    time: Option<Duration>,
    cancel_after: Option<usize>,
    answer: Option<Box<Answer>>,
}

/// Returns the client's answer to a question, by the question's key.
type Answer = dyn FnMut(&str, &InputRequest) -> Value;

/// What became of a call.
#[derive(Debug)]
pub struct TestReply {
    /// The notifications, of progress and logging, in their order: JSON-RPC messages.
    pub notifications: Vec<Value>,
    ending: Ending,
    fault: Option<String>,
}

#[derive(Debug)]
enum Ending {
    Result(CallToolResult),
    Refused(CallError),
    Cancelled,
}

/// The rounds that a call may have.
const MAX_ROUNDS: usize = 20;
/// More than a call may send.
const MAX_NOTIFICATIONS: usize = 2000;
/// The time between the end of the handler's and that of the invocation.
const RESERVE: Duration = Duration::from_millis(500);

impl<S: Send + Sync + 'static> TestCall<S> {
    /// A call without arguments, by a server on which everyone may use everything.
    pub fn new(tool: Tool<S>) -> Self {
        Self { tool, state: None, arguments: json!({}), caller: None, time: None, cancel_after: None, answer: None }
    }

    /// What the function would have set up; only a tool with the state `()` does without.
    pub fn state(self, state: S) -> Self {
        Self { state: Some(state), ..self }
    }

    /// The arguments.
    pub fn arguments(self, arguments: Value) -> Self {
        Self { arguments, ..self }
    }

    /// The authenticated caller. The access rules of the tool are then enforced.
    pub fn caller(self, caller: Principal) -> Self {
        Self { caller: Some(caller), ..self }
    }

    /// The time that the handler has: what its context says is left. At its end the call is refused with
    /// [`CallError::DeadlineExceeded`], at once if it is zero. In a test with `start_paused = true` no time is spent on it.
    pub fn deadline(self, time: Duration) -> Self {
        Self { time: Some(time), ..self }
    }

    /// Cancels the call after so many notifications, as happens to the handler when its client stops reading the stream.
    ///
    /// It is counted, not timed: when the handler has sent so many, it is dropped where it next waits, which is at its next
    /// notification at the latest. A handler that ends before is not cancelled.
    pub fn cancel_after(self, notifications: usize) -> Self {
        Self { cancel_after: Some(notifications), ..self }
    }

    /// Answers what the tool asks: `answer` gets each question by its key, and returns the client's answer. The handler runs
    /// once for each round, as it does on Lambda.
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
    ///     .answering(|key, _| match key {
    ///         "name" => serde_json::json!({ "action": "accept", "content": { "name": "Ada" } }),
    ///         other => panic!("`{other}` was not expected"),
    ///     })
    ///     .await;
    ///
    /// assert_eq!(called.text(), "Hello, Ada!");
    /// # }
    /// ```
    pub fn answering(self, answer: impl FnMut(&str, &InputRequest) -> Value + 'static) -> Self {
        Self { answer: Some(Box::new(answer)), ..self }
    }

    /// Makes the call.
    ///
    /// # Panics
    ///
    /// When the tool has a state and the call has none; when the tool asks and the call does not answer, or it asks for more
    /// than twenty rounds; when a message breaks the schema of the protocol.
    pub async fn send(self) -> TestReply {
        let Self { tool, state, arguments, caller, time, cancel_after, mut answer } = self;
        let name = tool.name().to_owned();
        let authorization = match caller {
            Some(_) => Authorization::Required(Enforcement::default()),
            None => Authorization::DangerouslyOff,
        };
        let state =
            state.or_else(unit).unwrap_or_else(|| panic!("tool `{name}` has a state: give it one with `state`"));
        let server = Server::new("test", "0.0.0", state)
            .tool(tool)
            .build(Settings { state_key: Some(state_key()), authorization, ..Settings::default() })
            .unwrap_or_else(|error| panic!("{error}"));
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
                None => return TestReply { notifications, ending: Ending::Cancelled, fault: None },
            };
            let fault = outcome.fault.map(|fault| mcp_server::error_chain(&*fault));
            let result: Value = match outcome.result {
                Ok(result) => serde_json::from_str(result.as_str()).expect("a result is JSON"),
                Err(error) => return TestReply { notifications, ending: Ending::Refused(error), fault },
            };
            if result["resultType"] != "input_required" {
                check("CallToolResult", &result);
                let result = serde_json::from_value(result).expect("a CallToolResult");
                return TestReply { notifications, ending: Ending::Result(result), fault };
            }
            check("InputRequiredResult", &result);
            let asked: InputRequiredResult = serde_json::from_value(result).expect("an InputRequiredResult");
            let questions = asked.input_requests.unwrap_or_default();
            let answers = questions.iter().map(|(key, question)| match &mut answer {
                Some(answer) => (key.clone(), answer(key, question)),
                None => panic!("the tool asks `{key}`: answer it with `answering`: {question:?}"),
            });
            params["inputResponses"] = Value::Object(answers.collect());
            params["requestState"] = json!(asked.request_state);
        }
        panic!("after {MAX_ROUNDS} rounds there is still something to ask");
    }
}

/// The state of a tool that has none.
fn unit<S: 'static>() -> Option<S> {
    let unit: Box<dyn Any> = Box::new(());
    unit.downcast().ok().map(|state| *state)
}

/// Runs the handler once; `None` if it was cancelled after so many notifications.
async fn round(
    server: &BuiltServer,
    invocation: &Arc<Invocation>,
    params: &Value,
    cancel_after: Option<usize>,
) -> (Option<CallOutcome>, Vec<Value>) {
    // One notification more than are read finds no place, so that the handler waits for it.
    let capacity = cancel_after.unwrap_or(MAX_NOTIFICATIONS);
    let (sender, mut receiver) = mpsc::channel(capacity.max(1));
    let taken = (capacity == 0).then(|| sender.clone().try_reserve_owned().expect("an empty channel"));
    let params = params.to_string();
    let call = Call {
        id: RequestId::from(1),
        meta: RequestMeta {
            client_capabilities: Some(everything()),
            progress_token: Some(ProgressToken::from(1)),
            log_level: Some(LoggingLevel::Debug),
            ..RequestMeta::default()
        },
        notifications: Some(sender),
    };
    let params = serde_json::from_str(&params).expect("parameters are an object");
    let resolved = server.resolve(ProtocolVersion::LATEST, method::TOOLS_CALL, params, invocation);
    let mut work = Box::pin(resolved.run(call).outcome());
    let outcome = poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending if cancel_after.is_some_and(|count| receiver.len() >= count) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await;
    drop((work, taken));
    let sent = std::iter::from_fn(|| receiver.try_recv().ok());
    let sent = sent.map(|message| {
        let message = serde_json::from_str(&message).expect("a notification is JSON");
        schema::check_from_server(ProtocolVersion::LATEST, method::TOOLS_CALL, &message)
            .unwrap_or_else(|mistake| panic!("{mistake}"));
        message
    });
    (outcome, sent.collect())
}

fn everything() -> ClientCapabilities {
    let everything =
        json!({ "sampling": { "tools": {}, "context": {} }, "elicitation": { "form": {}, "url": {} }, "roots": {} });
    serde_json::from_value(everything).expect("capabilities")
}

fn check(definition: &str, value: &Value) {
    schema::check(ProtocolVersion::LATEST, definition, value).unwrap_or_else(|mistake| panic!("{mistake}"));
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
    /// The result; one with `isError` is a result.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub fn result(&self) -> &CallToolResult {
        match &self.ending {
            Ending::Result(result) => result,
            Ending::Refused(error) => panic!("the call has no result: {error}: {:?}", self.fault),
            Ending::Cancelled => panic!("the call has no result: it was cancelled"),
        }
    }

    /// The text of the result, its blocks one a line.
    ///
    /// # Panics
    ///
    /// When there is no result.
    #[track_caller]
    pub fn text(&self) -> String {
        self.result().text()
    }

    /// The structured result.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub fn structured(&self) -> Value {
        let result = self.result();
        let Some(json) = &result.structured_content else { panic!("the result is not structured: {}", result.text()) };
        serde_json::from_str(json.get()).expect("structured content is JSON")
    }

    /// Why there is no result, if the call was refused.
    pub fn error(&self) -> Option<&CallError> {
        match &self.ending {
            Ending::Refused(error) => Some(error),
            Ending::Result(_) | Ending::Cancelled => None,
        }
    }

    /// What went wrong on the server's side, with its sources, as the log has it and the client does not.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Whether the handler was dropped before its end.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.ending, Ending::Cancelled)
    }

    /// The numbers of the progress notifications.
    pub fn progress(&self) -> Vec<f64> {
        let progress = self.notifications.iter().filter(|own| own["method"] == method::NOTIFICATIONS_PROGRESS);
        progress.filter_map(|own| own["params"]["progress"].as_f64()).collect()
    }
}
