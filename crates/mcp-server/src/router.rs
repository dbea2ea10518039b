//! One request in, one answer out.
//!
//! Whatever can be answered from what was rendered when the server was built is answered at once; a tool call is a
//! future. Nothing is remembered between requests.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use mcp_protocol::{
    CacheScope, CallToolRequestParams, CallToolResult, DiscoverResult, InitializeResult, JsonObject, ListToolsResult,
    LoggingLevel, PaginatedRequestParams, ProtocolVersion, RequestId, RequestMeta, ResultType, ServerCapabilities,
    ToolsCapability, meta, method,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    BoxError, CallError, Invocation, MirroredParameter, Server, Tool, ToolContext, ToolError, ToolOutput,
    context::CallContext,
    pages::{Pages, PerRevision},
    schema,
    server::CloseHook,
    tool::{Check, HandlerError},
};

/// The time between a handler's deadline and the platform's: enough to write an answer and send it.
const DEADLINE_RESERVE: Duration = Duration::from_millis(500);

/// A finished server. Cheap to clone.
pub struct Router<S> {
    inner: Arc<Inner<S>>,
}

struct Inner<S> {
    state: Arc<S>,
    tools: Vec<RegisteredTool<S>>,
    tools_by_name: HashMap<String, usize>,
    server_info: Value,
    initialize: PerRevision<Rendered>,
    discover: Rendered,
    tools_list: PerRevision<Pages<Rendered>>,
    close: Mutex<Option<CloseHook<S>>>,
}

struct RegisteredTool<S> {
    tool: Tool<S>,
    mirrored: Vec<MirroredParameter>,
    check: Option<Check>,
}

/// One request, with its era decided and its `_meta` read.
#[derive(Debug)]
pub struct Call<'a> {
    /// The revision that the request is made in.
    pub revision: ProtocolVersion,
    /// To be repeated in the response.
    pub id: RequestId,
    /// The method.
    pub method: &'a str,
    /// Its parameters, unread.
    pub params: Option<&'a RawValue>,
    /// `_meta` of the parameters.
    pub meta: RequestMeta,
    /// What it came in.
    pub invocation: Invocation,
    /// Where progress and log messages go, each a JSON-RPC notification on one line; `None` if the client cannot
    /// receive any.
    pub notifications: Option<mpsc::Sender<String>>,
}

/// The answer to a request.
pub enum Answer {
    /// There at once.
    Ready(Box<CallOutcome>),
    /// A handler is at work.
    Pending(Pin<Box<dyn Future<Output = CallOutcome> + Send>>),
}

/// How a request ended.
#[derive(Debug)]
pub struct CallOutcome {
    /// The JSON text of the `result`, or why there is none.
    pub result: Result<Rendered, CallError>,
    /// A fault on our side, for the log; the client does not see it.
    pub fault: Option<BoxError>,
}

/// JSON text: shared if it was rendered in advance.
#[derive(Debug, Clone)]
pub enum Rendered {
    /// Rendered once, for everyone.
    Shared(Arc<str>),
    /// Rendered for this request.
    Own(String),
}

impl Rendered {
    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Shared(text) => text,
            Self::Own(text) => text,
        }
    }
}

impl<S: Send + Sync + 'static> Router<S> {
    #[track_caller]
    pub(crate) fn new(server: Server<S>) -> Self {
        let server_info = to_value(&server.info);
        let capabilities = ServerCapabilities {
            logging: Some(JsonObject::new()),
            tools: (!server.tools.is_empty()).then(ToolsCapability::default),
            ..ServerCapabilities::default()
        };
        let list_ttl_ms = u64::try_from(server.list_ttl.as_millis()).unwrap_or(u64::MAX);
        let definitions: Vec<&mcp_protocol::Tool> = server.tools.iter().map(|tool| &tool.definition).collect();

        let initialize = PerRevision::new(|revision| {
            shared(&InitializeResult {
                protocol_version: revision.as_str().to_owned(),
                capabilities: capabilities.clone(),
                server_info: server.info.for_revision(revision),
                instructions: server.instructions.clone(),
            })
        });
        let discover = shared(&DiscoverResult {
            result_type: ResultType::Complete,
            supported_versions: ProtocolVersion::ALL.map(|version| version.as_str().to_owned()).to_vec(),
            capabilities: capabilities.clone(),
            instructions: server.instructions.clone(),
            ttl_ms: list_ttl_ms,
            cache_scope: CacheScope::Public,
            meta: Some(result_meta(&server_info)),
        });
        let tools_list = PerRevision::new(|revision| {
            let is_modern = revision.is_modern();
            Pages::new(&definitions, server.page_size.map(Into::into), |tools, next_cursor| {
                shared(&ListToolsResult {
                    result_type: is_modern.then_some(ResultType::Complete),
                    tools: tools.iter().map(|tool| tool.for_revision(revision)).collect(),
                    next_cursor,
                    ttl_ms: is_modern.then_some(list_ttl_ms),
                    cache_scope: is_modern.then_some(CacheScope::Public),
                    meta: is_modern.then(|| result_meta(&server_info)),
                })
            })
        });
        let tools_by_name = definitions.iter().enumerate().map(|(index, tool)| (tool.name.clone(), index)).collect();
        let tools = server.tools.into_iter().map(RegisteredTool::new).collect();
        Self {
            inner: Arc::new(Inner {
                state: server.state,
                tools,
                tools_by_name,
                server_info,
                initialize,
                discover,
                tools_list,
                close: Mutex::new(server.close),
            }),
        }
    }

    /// The parameters of a tool that clients mirror into headers; empty for an unknown tool.
    pub fn mirrored_parameters(&self, tool: &str) -> &[MirroredParameter] {
        self.inner.tool(tool).map_or(&[], |registered| &registered.mirrored)
    }

    /// Whether something wants to run before the process ends.
    pub fn has_close_hook(&self) -> bool {
        self.inner.close.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Runs the close hook, the first time it is called.
    pub async fn close(&self) {
        let hook = self.inner.close.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(hook) = hook {
            hook(Arc::clone(&self.inner.state)).await;
        }
    }

    /// Answers one request.
    pub fn answer(&self, call: Call<'_>) -> Answer {
        let modern = call.revision.is_modern();
        let result = match call.method {
            method::SERVER_DISCOVER if modern => Ok(self.inner.discover.clone()),
            method::INITIALIZE if !modern => self.initialize(&call),
            method::PING if !modern => Ok(Rendered::Own("{}".to_owned())),
            method::LOGGING_SET_LEVEL if !modern => set_level(&call),
            method::TOOLS_LIST if !self.inner.tools.is_empty() => self.list_tools(&call),
            method::TOOLS_CALL if !self.inner.tools.is_empty() => return self.call_tool(call),
            unknown => Err(CallError::MethodNotFound(unknown.to_owned())),
        };
        Answer::ready(result)
    }

    /// The answer instead of a result that is too large to carry: for a tool, one that the model can act on.
    pub fn too_large(
        &self,
        method: &str,
        revision: ProtocolVersion,
        bytes: usize,
        limit: usize,
    ) -> Result<Rendered, CallError> {
        if method != method::TOOLS_CALL {
            return Err(CallError::Internal);
        }
        let text = format!(
            "The result has {bytes} bytes, but at most {limit} can be sent. Ask for less, for example with a filter \
             or a smaller limit."
        );
        self.inner.render(ToolOutput::error(text), revision).map_err(|_| CallError::Internal)
    }

    fn initialize(&self, call: &Call<'_>) -> Result<Rendered, CallError> {
        // What else it says is for display; it is read nowhere, so that it refuses nobody.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct RequestedVersion {
            protocol_version: String,
        }
        let params: RequestedVersion = required_params(call.params)?;
        let version = ProtocolVersion::parse(&params.protocol_version).filter(|version| !version.is_modern());
        Ok(self.inner.initialize.get(version.unwrap_or(ProtocolVersion::LATEST_LEGACY)).clone())
    }

    fn list_tools(&self, call: &Call<'_>) -> Result<Rendered, CallError> {
        let params: PaginatedRequestParams = optional_params(call.params)?;
        let pages = self.inner.tools_list.get(call.revision);
        pages.get(params.cursor.as_deref()).cloned().ok_or(CallError::InvalidCursor)
    }

    fn call_tool(&self, call: Call<'_>) -> Answer {
        let params: CallToolRequestParams<'_> = match required_params(call.params) {
            Ok(params) => params,
            Err(error) => return Answer::ready(Err(error)),
        };
        let Some(registered) = self.inner.tool(&params.name) else {
            return Answer::ready(Err(CallError::UnknownTool(params.name.into_owned())));
        };
        let revision = call.revision;
        match registered.refuse_client(&call) {
            Some(Refusal::Error(error)) => return Answer::ready(Err(error)),
            Some(Refusal::Result(text)) => return Answer::ready(self.inner.render_error(text, revision)),
            None => {}
        }

        let deadline = call.invocation.deadline.map(|end| end.checked_sub(DEADLINE_RESERVE).unwrap_or(end));
        let request_id = call.invocation.request_id.clone();
        let context = Arc::new(CallContext {
            id: call.id,
            revision,
            meta: call.meta,
            invocation: call.invocation,
            deadline,
            cancellation: CancellationToken::new(),
            notifications: call.notifications,
            last_progress: Mutex::new(f64::NEG_INFINITY),
        });
        let cancellation = context.cancellation.clone();
        let context = ToolContext::new(Arc::clone(&self.inner.state), context);

        // Reading arguments runs code of the author's too.
        let started = catch_unwind(AssertUnwindSafe(|| registered.start(context, params.arguments)));
        let handler = match started {
            Ok(Ok(handler)) => handler,
            Ok(Err(complaint)) => return Answer::ready(self.inner.render_error(complaint, revision)),
            Err(_) => return Answer::Ready(Box::new(CallOutcome::fault("reading the tool's arguments panicked"))),
        };
        let inner = Arc::clone(&self.inner);
        Answer::Pending(Box::pin(async move {
            // Whoever was spawned stops when this future ends early, for whatever reason.
            let unless_done = cancellation.drop_guard();
            let guarded = AssertUnwindSafe(handler).catch_unwind();
            let ended = within(deadline, guarded).await;
            if let Some(Ok(_)) = &ended {
                unless_done.disarm();
            }
            match ended {
                Some(Ok(Ok(output))) => match inner.render(output, revision) {
                    Ok(rendered) => CallOutcome::from(Ok(rendered)),
                    Err(error) => CallOutcome::fault(error),
                },
                Some(Ok(Err(HandlerError::Tool(error)))) => inner.failed(error, &request_id, revision),
                Some(Ok(Err(HandlerError::Unserialisable(error)))) => CallOutcome::fault(error),
                // The panic hook has printed where and why.
                Some(Err(_)) => CallOutcome::fault("the tool panicked"),
                None => CallOutcome::from(Err(CallError::DeadlineExceeded)),
            }
        }))
    }
}

async fn within<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), future).await.ok(),
        None => Some(future.await),
    }
}

fn set_level(call: &Call<'_>) -> Result<Rendered, CallError> {
    #[derive(Deserialize)]
    struct SetLevelRequestParams {
        #[serde(rename = "level")]
        _level: LoggingLevel,
    }
    // Nothing can be remembered for the next request; the default level is what such clients get.
    required_params::<SetLevelRequestParams>(call.params).map(|_| Rendered::Own("{}".to_owned()))
}

fn required_params<'a, P: Deserialize<'a>>(params: Option<&'a RawValue>) -> Result<P, CallError> {
    let text = params.map_or("{}", RawValue::get);
    serde_json::from_str(text).map_err(|error| CallError::InvalidParams(error.to_string()))
}

fn optional_params<'a, P: Deserialize<'a> + Default>(params: Option<&'a RawValue>) -> Result<P, CallError> {
    params.map_or_else(|| Ok(P::default()), |params| required_params(Some(params)))
}

impl<S: Send + Sync + 'static> RegisteredTool<S> {
    #[track_caller]
    fn new(tool: Tool<S>) -> Self {
        let name = tool.name();
        let check = tool.compile_check().unwrap_or_else(|mistake| panic!("tool `{name}`: its schema: {mistake}"));
        // `Tool::new` has refused whatever could fail here.
        let mirrored = schema::mirrored_parameters(&tool.definition.input_schema).unwrap_or_default();
        Self { mirrored, check, tool }
    }

    /// Why this client cannot use the tool, if it cannot.
    fn refuse_client(&self, call: &Call<'_>) -> Option<Refusal> {
        let required = &self.tool.required_capabilities;
        if required.is_empty() {
            return None;
        }
        if !call.revision.is_modern() {
            // It would take a request of ours, whose answer reaches another environment than the one that waits.
            return Some(Refusal::Result(format!(
                "This tool has to ask the client something, which this server can do only for clients that speak MCP \
                 {} or newer; this request was made in {}.",
                ProtocolVersion::V2026_07_28,
                call.revision
            )));
        }
        let declared = call.meta.client_capabilities.clone().unwrap_or_default();
        let missing = declared.missing(required);
        (!missing.is_empty()).then(|| Refusal::Error(CallError::MissingClientCapability(Box::new(missing))))
    }

    fn start(
        &self,
        context: ToolContext<S>,
        arguments: Option<&RawValue>,
    ) -> Result<crate::tool::HandlerFuture, String> {
        if let Some(check) = &self.check {
            let text = crate::arguments::as_object(arguments)?;
            let value = serde_json::from_str(text).map_err(|error| format!("invalid arguments: {error}"))?;
            check(&value)?;
        }
        (self.tool.handler)(context, arguments, &self.tool.definition.input_schema)
    }
}

enum Refusal {
    Error(CallError),
    Result(String),
}

impl<S> Inner<S> {
    fn tool(&self, name: &str) -> Option<&RegisteredTool<S>> {
        self.tools_by_name.get(name).map(|index| &self.tools[*index])
    }

    fn failed(&self, error: ToolError, request_id: &str, revision: ProtocolVersion) -> CallOutcome {
        match error {
            ToolError::InvalidInput(text) | ToolError::Failed(text) => {
                CallOutcome::from(self.render_error(text, revision))
            }
            ToolError::Internal(source) => {
                let text = match request_id {
                    "" => "The tool failed.".to_owned(),
                    id => format!("The tool failed. Request id: {id}"),
                };
                CallOutcome { result: self.render_error(text, revision), fault: Some(source) }
            }
        }
    }

    fn render_error(&self, text: String, revision: ProtocolVersion) -> Result<Rendered, CallError> {
        self.render(ToolOutput::error(text), revision).map_err(|_| CallError::Internal)
    }

    fn render(&self, output: ToolOutput, revision: ProtocolVersion) -> Result<Rendered, serde_json::Error> {
        let meta = match (revision.is_modern(), output.meta) {
            (true, own) => {
                let mut meta = result_meta(&self.server_info);
                meta.extend(own.unwrap_or_default());
                Some(meta)
            }
            (false, own) => own,
        };
        let result = CallToolResult {
            result_type: Some(ResultType::Complete),
            content: output.content,
            structured_content: output.structured_content,
            is_error: output.is_error.then_some(true),
            meta,
        };
        let mut json = serde_json::to_string(&result.for_revision(revision))?;
        // An author's raw JSON may have line ends between its tokens; an event of a stream may not.
        if json.contains(['\n', '\r']) {
            json = json.replace(['\n', '\r'], " ");
        }
        Ok(Rendered::Own(json))
    }
}

fn result_meta(server_info: &Value) -> JsonObject {
    JsonObject::from_iter([(meta::SERVER_INFO.to_owned(), server_info.clone())])
}

/// Serialises a type of ours that holds only strings, numbers, lists and JSON, which cannot fail.
fn shared<T: serde::Serialize>(value: &T) -> Rendered {
    Rendered::Shared(serde_json::to_string(value).unwrap_or_default().into())
}

fn to_value<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

impl Answer {
    fn ready(result: Result<Rendered, CallError>) -> Self {
        Self::Ready(Box::new(CallOutcome::from(result)))
    }

    /// Waits for the outcome.
    pub async fn outcome(self) -> CallOutcome {
        match self {
            Self::Ready(outcome) => *outcome,
            Self::Pending(future) => future.await,
        }
    }
}

impl CallOutcome {
    fn fault(source: impl Into<BoxError>) -> Self {
        Self { result: Err(CallError::Internal), fault: Some(source.into()) }
    }
}

impl From<Result<Rendered, CallError>> for CallOutcome {
    fn from(result: Result<Rendered, CallError>) -> Self {
        Self { result, fault: None }
    }
}

impl<S> Clone for Router<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<S> fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("server_info", &self.inner.server_info).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(outcome) => f.debug_tuple("Ready").field(outcome).finish(),
            Self::Pending(_) => f.write_str("Pending"),
        }
    }
}
