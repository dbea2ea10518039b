//! A handler at work: with a deadline, with panics caught, and with an end of its own when it asks the client something.

use std::{
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
    call::{Answer, Call, CallOutcome, ResultKind},
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

/// A request whose caller may make it, about to run.
pub(crate) struct Run<'a> {
    pub(crate) built: &'a Arc<Built>,
    pub(crate) revision: ProtocolVersion,
    pub(crate) invocation: Arc<Invocation>,
    pub(crate) call: Call,
    /// What the item requires of its callers, or the server of all.
    pub(crate) requirement: &'a Requirement,
}

/// The kind of item that runs, which decides how a failure is rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A tool tells the model, in a result.
    Tool,
    /// A resource reports that there is none at this URI.
    Resource { uri: String },
    /// Everything else.
    Other,
}

/// A round, and what its state is bound to.
pub(crate) struct BoundRound {
    round: Round,
    binding: Binding,
}

impl Run<'_> {
    /// The round of an item that may ask, with what the client has answered so far; `None` for one that never asks.
    ///
    /// # Errors
    ///
    /// When there is a state that was not given out for this request, or the answers are no object.
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
        if !is_modern {
            return Ok(Some(BoundRound { round: Round::new(None, RequestState::default(), None), binding }));
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
        Ok(Some(BoundRound { round: Round::new(capabilities, state, responses), binding }))
    }

    /// Starts a handler and answers with what becomes of it.
    ///
    /// `begin` gets the handler's context and reads its arguments; `render` writes what it returned. The handler runs in `span`.
    pub(crate) fn start<T: Send + 'static>(
        self,
        kind: Kind,
        round: Option<BoundRound>,
        span: Span,
        begin: impl FnOnce(Arc<CallContext>) -> Result<HandlerFuture<T>, String>,
        render: impl FnOnce(&Renderer, T) -> CallOutcome + Send + 'static,
    ) -> Answer {
        let Self { built, revision, invocation, call: Call { id, meta, notifications }, requirement } = self;
        let required_scopes = requirement.scopes.clone();
        let received = invocation.received;
        let deadline = invocation.answer_by();
        if is_over(deadline) {
            return Answer::ready(Err(CallError::DeadlineExceeded));
        }
        let (round, binding) = match round {
            Some(BoundRound { round, binding }) => (Some(round), Some(binding)),
            None => (None, None),
        };
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
        });
        let errors =
            ErrorRenderer { built: Arc::clone(built), kind, required_scopes, call: Arc::clone(&call), revision };

        // Reading arguments runs code of the author's too.
        let handler = match catch_unwind(AssertUnwindSafe(|| begin(Arc::clone(&call)))) {
            Ok(Ok(handler)) => handler,
            Ok(Err(complaint)) => return Answer::Ready(Box::new(errors.complain(complaint))),
            Err(_) => return Answer::Ready(Box::new(CallOutcome::fault("reading the arguments panicked"))),
        };
        Answer::Pending(Box::pin(async move {
            // What was spawned stops when this future ends early.
            let unless_done = call.cancellation.clone().drop_guard();
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
                        unless_done.disarm();
                    }
                    match done {
                        Ok(Ok(output)) => render(&errors.built.renderer, output),
                        Ok(Err(error)) => errors.failed(error),
                        // The panic hook has said where and why.
                        Err(_) => CallOutcome::fault("the handler panicked"),
                    }
                }
                Some(Err(end)) => errors.ended(end, binding.as_ref(), received),
                None => CallOutcome::from(Err(CallError::DeadlineExceeded)),
            }
        }))
    }
}

/// Parameters that cannot be read.
pub(crate) fn invalid(error: JsonError) -> CallError {
    CallError::InvalidParams(error.to_string())
}

/// Runs a future until a deadline. It is not polled after that: one that computes for long would go on, and so would each that
/// follows it in a batch.
async fn within<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    let Some(end) = deadline else {
        return Some(future.await);
    };
    let (mut future, mut timer) = (pin!(future), pin!(tokio::time::sleep_until(end.into())));
    poll_fn(|context| {
        if is_over(deadline) {
            return Poll::Ready(None);
        }
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => timer.as_mut().poll(context).map(|()| None),
        }
    })
    .await
}

/// Whether a deadline has passed, by the clock itself: a timer learns of it only between two polls.
fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|end| tokio::time::Instant::now() >= end.into())
}

/// Renders why there is no output, as the kind of item needs it.
struct ErrorRenderer {
    built: Arc<Built>,
    kind: Kind,
    required_scopes: Vec<String>,
    call: Arc<CallContext>,
    revision: ProtocolVersion,
}

impl ErrorRenderer {
    /// A mistake that the caller can fix.
    fn complain(&self, text: String) -> CallOutcome {
        match self.kind {
            Kind::Tool => self.built.renderer.tool_error(text, self.revision),
            Kind::Resource { .. } | Kind::Other => CallOutcome::from(Err(CallError::InvalidInput(text))),
        }
    }

    fn fault(&self, source: BoxError) -> CallOutcome {
        self.logged("The tool failed.", CallError::Internal, source)
    }

    /// Something for the log, of which the caller learns only the request id that finds it there.
    fn logged(&self, tool_says: &str, otherwise: CallError, source: BoxError) -> CallOutcome {
        let outcome = match (&self.kind, self.call.invocation.request_id.as_str()) {
            (Kind::Tool, "") => self.built.renderer.tool_error(tool_says.to_owned(), self.revision),
            (Kind::Tool, id) => self.built.renderer.tool_error(format!("{tool_says} Request id: {id}"), self.revision),
            (Kind::Resource { .. } | Kind::Other, _) => CallOutcome::from(Err(otherwise)),
        };
        CallOutcome { fault: Some(source), ..outcome }
    }

    fn failed(&self, HandlerError(reason): HandlerError) -> CallOutcome {
        match reason {
            Reason::InvalidInput(text) => self.complain(text),
            Reason::Failed(text) => match self.kind {
                Kind::Tool => self.complain(text),
                Kind::Resource { .. } | Kind::Other => CallOutcome::from(Err(CallError::Failed(text))),
            },
            Reason::NotFound(text) => match &self.kind {
                Kind::Resource { uri } => CallOutcome::from(Err(CallError::ResourceNotFound { uri: uri.clone() })),
                Kind::Tool | Kind::Other => self.complain(text),
            },
            Reason::Unavailable { message, source } => {
                let error = CallError::Unavailable(message.clone());
                self.logged(&message, error, source).of_kind(ResultKind::Unavailable)
            }
            Reason::NeedsScopes(scopes) => {
                let caller = self.call.invocation.principal.as_deref();
                match self.built.policy.refusal(&self.required_scopes, scopes, caller) {
                    Ok(refusal) => CallOutcome::from(Err(refusal)),
                    Err(mistake) => self.fault(mistake.into()),
                }
            }
            Reason::Internal(source) => self.fault(source),
            Reason::Unserializable(error) => CallOutcome::fault(error),
        }
    }

    /// A round that ended before the handler did.
    fn ended(&self, end: RoundEnd, binding: Option<&Binding>, now: SystemTime) -> CallOutcome {
        let (questions, mut state) = match end {
            RoundEnd::Questions(questions, state) => (questions, state),
            RoundEnd::Refused(refusal) => return CallOutcome::from(Err(refusal)),
            // It would take a request of ours, whose answer reaches another environment than the one that waits.
            RoundEnd::Unasked => return self.complain(needs_modern_client(self.revision)),
            RoundEnd::Fault(fault) => return self.fault(fault),
        };
        let (Some(cipher), Some(binding)) = (&self.built.cipher, binding) else {
            return CallOutcome::fault("a handler asked that was not expected to");
        };
        let request_state = match cipher.seal(&mut state, binding, now) {
            Ok(sealed) => sealed,
            // The client can answer with less.
            Err(error @ SealError::AnswersTooLarge) => return self.complain(error.to_string()),
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

/// The error for a client of an older revision, in place of a question.
pub(crate) fn needs_modern_client(revision: ProtocolVersion) -> String {
    format!(
        "The client has to be asked something here, which this server can do only for clients that speak MCP {} or \
         newer; this request was made in {revision}.",
        ProtocolVersion::V2026_07_28,
    )
}
