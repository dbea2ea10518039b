//! Execution of handlers: deadlines, panics, and rounds that end with a request to the client.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::{Instant, SystemTime},
};

use futures_util::FutureExt;
use mcp_protocol::{InputRequiredResult, ProtocolVersion, RequestParams, ResultType, json::JsonError};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::{
    built::Built,
    call::{Call, CallOutcome, CallResponse, ResultKind},
    render::{Renderer, outcome_of},
};
use crate::{
    BoxError, CallError, HandlerError, Invocation,
    handler::{
        context::CallContext,
        error::{HandlerFuture, Reason},
    },
    interaction::{
        request_state::{Binding, MAX_STATE_BYTES, NewCipher, RequestState, SealError},
        round::{Round, RoundEnd},
    },
    policy::requirement::Requirement,
};

/// An authorized request that is about to run.
pub(crate) struct Run<'a> {
    pub(crate) built: &'a Arc<Built>,
    pub(crate) revision: ProtocolVersion,
    pub(crate) invocation: Arc<Invocation>,
    pub(crate) call: Call,
    /// The access rule of the item, or of the server.
    pub(crate) requirement: &'a Requirement,
}

/// The kind of an item, which determines how an error is rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ItemKind {
    /// A tool, whose result reports the error to the model.
    Tool,
    /// A resource, which is reported as not found at this URI.
    Resource { uri: String },
    /// All others.
    Other,
}

/// A round and the binding of its state.
pub(crate) struct BoundRound {
    pub(crate) round: Round,
    pub(crate) binding: Binding,
    /// The task that the call is or may become.
    #[cfg(feature = "tasks")]
    pub(crate) task: Option<Arc<crate::tasks::task_run::TaskRun>>,
}

impl BoundRound {
    pub(crate) fn new(round: Round, binding: Binding) -> Self {
        Self {
            round,
            binding,
            #[cfg(feature = "tasks")]
            task: None,
        }
    }
}

/// A handler that is ready to run.
pub(crate) struct Prepared<T> {
    pub(crate) call: Arc<CallContext>,
    pub(crate) errors: ErrorRenderer,
    pub(crate) handler: HandlerFuture<T>,
    pub(crate) binding: Option<Binding>,
}

/// The end of a handler that was not dropped; `Err` after a panic.
pub(crate) type Done<T> = Result<Result<T, HandlerError>, Box<dyn Any + Send>>;

impl Run<'_> {
    /// Returns the round of an interactive item, with the client's answers so far; `None` for other items.
    ///
    /// # Errors
    ///
    /// When the state was not issued for this request, or the answers are not an object.
    pub(crate) fn round(
        &self,
        cipher: Option<NewCipher>,
        method: &'static str,
        item: &str,
        params: &RequestParams<'_>,
    ) -> Result<Option<BoundRound>, CallError> {
        let is_modern = self.revision.is_modern();
        let (Some(_), Some(cipher)) = (cipher, &self.built.cipher) else {
            return match params.request_state {
                Some(_) if is_modern => Err(CallError::RequestState),
                _ => Ok(None),
            };
        };
        let binding = Binding::new(method, item, params.arguments, self.invocation.principal.as_deref());
        // A legacy client has capabilities here only if the transport can ask it.
        if !is_modern && self.call.meta.client_capabilities.is_none() {
            return Ok(Some(BoundRound::new(Round::new(None, RequestState::default(), None), binding)));
        }
        let state = match params.request_state().map_err(invalid)? {
            Some(sealed) => {
                let opened = (sealed.len() <= MAX_STATE_BYTES)
                    .then(|| cipher.open(&sealed, &binding, self.invocation.received))
                    .flatten();
                opened.ok_or(CallError::RequestState)?
            }
            None => RequestState::default(),
        };
        let responses = match params.input_responses {
            Some(raw) if raw.get().starts_with('{') => Some(RawValue::to_owned(raw)),
            Some(_) => return Err(CallError::InvalidParams("`inputResponses` must be an object".to_owned())),
            None => None,
        };
        let capabilities = Some(self.call.meta.client_capabilities.clone().unwrap_or_default());
        Ok(Some(BoundRound::new(Round::new(capabilities, state, responses), binding)))
    }

    /// Creates the context of a handler and parses its arguments.
    ///
    /// # Errors
    ///
    /// The response of a call that cannot run.
    pub(crate) fn prepare<T>(
        self,
        kind: ItemKind,
        round: Option<BoundRound>,
        begin: impl FnOnce(Arc<CallContext>) -> Result<HandlerFuture<T>, String>,
    ) -> Result<Prepared<T>, Box<CallOutcome>> {
        let Self { built, revision, invocation, call: Call { id, meta, notifications }, requirement } = self;
        let required_scopes = requirement.scopes.clone();
        let deadline = invocation.answer_by();
        if has_passed(deadline) {
            return Err(Box::new(CallOutcome::from(Err(CallError::DeadlineExceeded))));
        }
        #[cfg(feature = "tasks")]
        let (round, task) = match round {
            Some(mut bound) => (Some((bound.round, bound.binding)), bound.task.take()),
            None => (None, None),
        };
        #[cfg(not(feature = "tasks"))]
        let round = round.map(|bound| (bound.round, bound.binding));
        let (round, binding) = round.unzip();
        let call = Arc::new(CallContext {
            state: Arc::clone(&built.state),
            id,
            revision,
            meta,
            invocation,
            policy: Arc::clone(&built.policy),
            deadline,
            cancellation: CancellationToken::new(),
            notifications,
            sent: Mutex::default(),
            extensions: Mutex::default(),
            round,
            #[cfg(feature = "tasks")]
            task,
        });
        let errors =
            ErrorRenderer { built: Arc::clone(built), kind, required_scopes, call: Arc::clone(&call), revision };

        // Parsing arguments runs code of the author, which may panic.
        let handler = match catch_unwind(AssertUnwindSafe(|| begin(Arc::clone(&call)))) {
            Ok(Ok(handler)) => handler,
            Ok(Err(message)) => return Err(Box::new(errors.input_error(message))),
            Err(_) => return Err(Box::new(CallOutcome::fault("parsing the arguments panicked"))),
        };
        Ok(Prepared { call, errors, handler, binding })
    }

    /// Starts a handler and returns its response.
    ///
    /// `begin` receives the handler's context and parses its arguments; `render` serializes its output. The handler
    /// runs in `span`.
    pub(crate) fn start<T: Send + 'static>(
        self,
        kind: ItemKind,
        round: Option<BoundRound>,
        span: Span,
        begin: impl FnOnce(Arc<CallContext>) -> Result<HandlerFuture<T>, String>,
        render: impl FnOnce(&Renderer, T) -> CallOutcome + Send + 'static,
    ) -> CallResponse {
        let Prepared { call, errors, handler, binding } = match self.prepare(kind, round, begin) {
            Ok(prepared) => prepared,
            Err(outcome) => return CallResponse::Ready(outcome),
        };
        let (received, deadline) = (call.invocation.received, call.deadline);
        CallResponse::Pending(Box::pin(async move {
            // Cancels spawned work when this future is dropped.
            let cancel_guard = call.cancellation.clone().drop_guard();
            let work = AssertUnwindSafe(handler.instrument(span)).catch_unwind();
            let ended = within(deadline, async {
                match &call.round {
                    None => Ok(work.await),
                    Some(round) => tokio::select! {
                        biased;
                        done = work => Ok(done),
                        end = round.end() => Err(end),
                    },
                }
            });
            match ended.await {
                Some(Ok(done)) => {
                    if done.is_ok() {
                        cancel_guard.disarm();
                    }
                    errors.render_done(done, render)
                }
                Some(Err(end)) => errors.render_round_end(end, binding.as_ref(), received),
                None => CallOutcome::from(Err(CallError::DeadlineExceeded)),
            }
        }))
    }
}

/// Converts an error of parsing parameters.
pub(crate) fn invalid(error: JsonError) -> CallError {
    CallError::InvalidParams(error.to_string())
}

/// Runs a future until a deadline. It is not polled after the deadline: otherwise a blocking handler would continue, and so would
/// the other requests of its batch.
pub(crate) async fn within<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    let Some(end) = deadline else {
        return Some(future.await);
    };
    let (mut future, mut timer) = (pin!(future), pin!(tokio::time::sleep_until(end.into())));
    poll_fn(|context| {
        if has_passed(deadline) {
            return Poll::Ready(None);
        }
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => timer.as_mut().poll(context).map(|()| None),
        }
    })
    .await
}

/// Reports whether a deadline has passed, by the clock: a timer fires only between two polls.
fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|end| tokio::time::Instant::now() >= end.into())
}

/// Renders errors of handlers, by the kind of item.
pub(crate) struct ErrorRenderer {
    pub(crate) built: Arc<Built>,
    kind: ItemKind,
    required_scopes: Vec<String>,
    pub(crate) call: Arc<CallContext>,
    pub(crate) revision: ProtocolVersion,
}

impl ErrorRenderer {
    /// Renders the end of a handler.
    pub(crate) fn render_done<T>(
        &self,
        done: Done<T>,
        render: impl FnOnce(&Renderer, T) -> CallOutcome,
    ) -> CallOutcome {
        match done {
            Ok(Ok(output)) => render(&self.built.renderer, output),
            Ok(Err(error)) => self.render_error(error),
            // The panic hook has logged the location and the message.
            Err(_) => CallOutcome::fault("the handler panicked"),
        }
    }

    /// Renders an error that the caller can fix.
    pub(crate) fn input_error(&self, text: String) -> CallOutcome {
        match self.kind {
            ItemKind::Tool => self.built.renderer.tool_error(text, self.revision),
            ItemKind::Resource { .. } | ItemKind::Other => CallOutcome::from(Err(CallError::InvalidInput(text))),
        }
    }

    pub(crate) fn fault(&self, source: BoxError) -> CallOutcome {
        self.internal_error("The tool failed.", CallError::Internal, source)
    }

    /// Renders an error whose detail is logged. The caller receives only the request id.
    fn internal_error(&self, tool_message: &str, call_error: CallError, source: BoxError) -> CallOutcome {
        let outcome = match (&self.kind, self.call.invocation.request_id.as_str()) {
            (ItemKind::Tool, "") => self.built.renderer.tool_error(tool_message.to_owned(), self.revision),
            (ItemKind::Tool, id) => {
                self.built.renderer.tool_error(format!("{tool_message} Request id: {id}"), self.revision)
            }
            (ItemKind::Resource { .. } | ItemKind::Other, _) => CallOutcome::from(Err(call_error)),
        };
        CallOutcome { fault: Some(source), ..outcome }
    }

    fn render_error(&self, HandlerError(reason): HandlerError) -> CallOutcome {
        match reason {
            Reason::InvalidInput(text) => self.input_error(text),
            Reason::Failed(text) => match self.kind {
                ItemKind::Tool => self.input_error(text),
                ItemKind::Resource { .. } | ItemKind::Other => CallOutcome::from(Err(CallError::Failed(text))),
            },
            Reason::NotFound(text) => match &self.kind {
                ItemKind::Resource { uri } => CallOutcome::from(Err(CallError::ResourceNotFound { uri: uri.clone() })),
                ItemKind::Tool | ItemKind::Other => self.input_error(text),
            },
            Reason::Unavailable { message, source } => {
                let error = CallError::Unavailable(message.clone());
                self.internal_error(&message, error, source).of_kind(ResultKind::Unavailable)
            }
            Reason::NeedsScopes(scopes) => {
                let caller = self.call.invocation.principal.as_deref();
                match self.built.policy.scope_error(&self.required_scopes, scopes, caller) {
                    Ok(error) => CallOutcome::from(Err(error)),
                    Err(fault) => self.fault(fault.into()),
                }
            }
            Reason::Internal(source) => self.fault(source),
            Reason::Unserializable(error) => CallOutcome::fault(error),
        }
    }

    /// Renders the end of a round before the handler's.
    pub(crate) fn render_round_end(&self, end: RoundEnd, binding: Option<&Binding>, now: SystemTime) -> CallOutcome {
        let (questions, mut state) = match end {
            RoundEnd::Questions(questions, state) => (questions, state),
            RoundEnd::Rejected(CallError::MissingClientCapability(_)) if !self.revision.is_modern() => {
                return self.input_error(needs_capability());
            }
            RoundEnd::Rejected(error) => return CallOutcome::from(Err(error)),
            // Legacy revisions send a separate request to the client, whose response may reach another execution environment.
            RoundEnd::ClientUnsupported => return self.input_error(needs_modern_client(self.revision)),
            RoundEnd::Fault(fault) => return self.fault(fault),
        };
        let (Some(cipher), Some(binding)) = (&self.built.cipher, binding) else {
            return CallOutcome::fault("a handler without a cipher sent a request to the client");
        };
        let request_state = match cipher.seal(&mut state, binding, now) {
            Ok(sealed) => sealed,
            // The client can send a shorter answer.
            Err(error @ SealError::AnswersTooLarge) => return self.input_error(error.to_string()),
            Err(error) => return self.fault(error.into()),
        };
        let result = InputRequiredResult {
            result_type: ResultType::InputRequired,
            input_requests: Some(questions),
            request_state: Some(request_state),
            meta: Some(self.built.renderer.meta()),
        };
        outcome_of(&result).of_kind(ResultKind::InputRequired)
    }
}

/// Returns the error message for a legacy client that did not declare what a question needs.
fn needs_capability() -> String {
    "This call needs an answer of the client, which did not declare the capability for it in `initialize`.".to_owned()
}

/// Returns the error message for a legacy client, which cannot receive requests.
pub(crate) fn needs_modern_client(revision: ProtocolVersion) -> String {
    format!(
        "This call sends a request to the client, which clients of MCP {} or newer support; the client uses {revision}.",
        ProtocolVersion::V2026_07_28,
    )
}
