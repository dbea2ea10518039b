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
use mcp_protocol::{InputRequiredResult, ProtocolVersion, ResultType};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::{
    Answer, BoxError, Call, CallError, CallOutcome, RequestContext, RequestError, ResultKind, ToolError,
    dispatch::routes::{Inner, outcome_of, result_meta},
    handler::context::CallContext,
    handler::error::{HandlerError, HandlerFuture},
    handler::interactive::{Ending, Interaction},
    interaction::request_state::{Binding, SealError},
};

/// What is worked on, which decides how a failure is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// A tool tells the model, in a result.
    Tool,
    /// Whatever is not there was not found at this URI.
    Resource { uri: String },
    /// Everything else.
    Other,
}

/// A question and its answers need these two.
pub(crate) struct Rounds {
    pub(crate) interaction: Interaction,
    pub(crate) binding: Binding,
}

/// Starts a handler and answers with what becomes of it.
///
/// `start` gets the handler's context and reads its arguments; `render` writes what it returned. The handler runs in `span`.
pub(crate) fn start<S, T>(
    inner: &Arc<Inner<S>>,
    call: Call<'_>,
    item: Item,
    rounds: Option<Rounds>,
    span: Span,
    start: impl FnOnce(RequestContext<S>) -> Result<HandlerFuture<T>, String>,
    render: impl FnOnce(&Inner<S>, T) -> CallOutcome + Send + 'static,
) -> Answer
where
    S: Send + Sync + 'static,
    T: Send + 'static,
{
    let received = call.invocation.received;
    let revision = call.revision;
    let deadline = call.invocation.answer_by();
    if is_over(deadline) {
        return Answer::ready(Err(CallError::DeadlineExceeded));
    }
    let (interaction, binding) = match rounds {
        Some(Rounds { interaction, binding }) => (Some(interaction), Some(binding)),
        None => (None, None),
    };
    let call = Arc::new(CallContext {
        id: call.id,
        revision,
        meta: call.meta,
        invocation: call.invocation,
        policy: Arc::clone(&inner.policy),
        deadline,
        cancellation: CancellationToken::new(),
        notifications: call.notifications,
        sent: Mutex::default(),
        interaction,
    });
    let context = RequestContext::new(Arc::clone(&inner.state), Arc::clone(&call));
    let teller = Teller { inner: Arc::clone(inner), item, call: Arc::clone(&call), revision };

    // Reading arguments runs code of the author's too.
    let handler = match catch_unwind(AssertUnwindSafe(|| start(context))) {
        Ok(Ok(handler)) => handler,
        Ok(Err(complaint)) => return Answer::Ready(Box::new(teller.complain(complaint))),
        Err(_) => return Answer::Ready(Box::new(CallOutcome::fault("reading the arguments panicked"))),
    };
    Answer::Pending(Box::pin(async move {
        // Whoever was spawned stops when this future ends early, for whatever reason.
        let unless_done = call.cancellation.clone().drop_guard();
        let work = AssertUnwindSafe(handler.instrument(span)).catch_unwind();
        let ended = within(deadline, async {
            match &call.interaction {
                None => Ok(work.await),
                Some(interaction) => tokio::select! {
                    biased;
                    done = work => Ok(done),
                    ending = interaction.ending() => Err(ending),
                },
            }
        });
        match ended.await {
            Some(Ok(done)) => {
                if done.is_ok() {
                    unless_done.disarm();
                }
                match done {
                    Ok(Ok(output)) => render(&teller.inner, output),
                    Ok(Err(error)) => teller.failed(error),
                    // The panic hook has said where and why.
                    Err(_) => CallOutcome::fault("the handler panicked"),
                }
            }
            Some(Err(ending)) => teller.ended(ending, binding.as_ref(), received),
            None => CallOutcome::from(Err(CallError::DeadlineExceeded)),
        }
    }))
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

/// Says in the right words why there is no output.
struct Teller<S> {
    inner: Arc<Inner<S>>,
    item: Item,
    call: Arc<CallContext>,
    revision: ProtocolVersion,
}

impl<S> Teller<S> {
    /// Something that the caller can mend.
    fn complain(&self, text: String) -> CallOutcome {
        match self.item {
            Item::Tool => self.inner.tool_error(text, self.revision),
            Item::Resource { .. } | Item::Other => CallOutcome::from(Err(CallError::InvalidInput(text))),
        }
    }

    fn fault(&self, source: BoxError) -> CallOutcome {
        self.logged("The tool failed.", CallError::Internal, source)
    }

    /// Something for the log, of which the caller learns only the request id that finds it there.
    fn logged(&self, tool_says: &str, otherwise: CallError, source: BoxError) -> CallOutcome {
        let outcome = match (&self.item, self.call.invocation.request_id.as_str()) {
            (Item::Tool, "") => self.inner.tool_error(tool_says.to_owned(), self.revision),
            (Item::Tool, id) => self.inner.tool_error(format!("{tool_says} Request id: {id}"), self.revision),
            (Item::Resource { .. } | Item::Other, _) => CallOutcome::from(Err(otherwise)),
        };
        CallOutcome { fault: Some(source), ..outcome }
    }

    fn failed(&self, error: HandlerError) -> CallOutcome {
        match error {
            HandlerError::Tool(ToolError::InvalidInput(text) | ToolError::Failed(text))
            | HandlerError::Request(RequestError::InvalidInput(text)) => self.complain(text),
            HandlerError::Tool(ToolError::Internal(source)) | HandlerError::Request(RequestError::Internal(source)) => {
                self.fault(source)
            }
            HandlerError::Tool(ToolError::Unavailable { message, source })
            | HandlerError::Request(RequestError::Unavailable { message, source }) => {
                self.logged(message, CallError::Unavailable(message), source).of_kind(ResultKind::Unavailable)
            }
            HandlerError::Request(RequestError::NotFound) => match &self.item {
                Item::Resource { uri } => CallOutcome::from(Err(CallError::ResourceNotFound { uri: uri.clone() })),
                Item::Tool | Item::Other => self.complain("there is nothing of that name".to_owned()),
            },
            HandlerError::Unserialisable(error) => CallOutcome::fault(error),
        }
    }

    /// A round that ended before the handler did.
    fn ended(&self, ending: Ending, binding: Option<&Binding>, now: SystemTime) -> CallOutcome {
        let (questions, mut state) = match ending {
            Ending::Questions(questions, state) => (questions, state),
            Ending::Refused(refusal) => return CallOutcome::from(Err(refusal)),
            // It would take a request of ours, whose answer reaches another environment than the one that waits.
            Ending::Unasked => return self.complain(needs_modern_client(self.revision)),
            Ending::Fault(fault) => return self.fault(fault),
        };
        let (Some(cipher), Some(binding)) = (&self.inner.cipher, binding) else {
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
            meta: Some(result_meta(&self.inner.server_info)),
        };
        outcome_of(&result).of_kind(ResultKind::InputRequired)
    }
}

/// What a client of an older revision is told in place of a question.
pub(crate) fn needs_modern_client(revision: ProtocolVersion) -> String {
    format!(
        "The client has to be asked something here, which this server can do only for clients that speak MCP {} or \
         newer; this request was made in {revision}.",
        ProtocolVersion::V2026_07_28,
    )
}
