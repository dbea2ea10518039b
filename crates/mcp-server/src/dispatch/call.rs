//! A request and its response, as a transport handles them.

use std::{fmt, pin::Pin, sync::Arc};

use mcp_protocol::{RequestId, RequestMeta};
use tokio::sync::mpsc;

use crate::{BoxError, CallError};

/// A request apart from its method and parameters.
#[derive(Debug)]
pub struct Call {
    /// The id, which the response repeats.
    pub id: RequestId,
    /// `_meta` of the parameters.
    pub meta: RequestMeta,
    /// Receiver of progress and log messages, each a JSON-RPC notification on one line; `None` if the client cannot
    /// receive any.
    pub notifications: Option<mpsc::Sender<String>>,
}

/// The response to a request: an outcome that is available, or a running handler.
pub enum CallResponse {
    /// The outcome is available: a rendered result or an error.
    Ready(Box<CallOutcome>),
    /// The handler is running. Dropping the future cancels it.
    Pending(Pin<Box<dyn Future<Output = CallOutcome> + Send>>),
}

/// The outcome of a request.
#[derive(Debug)]
pub struct CallOutcome {
    /// JSON text of the `result`, or the error.
    pub result: Result<Rendered, CallError>,
    /// An internal fault, which is logged and not sent.
    pub fault: Option<BoxError>,
    /// The kind of the result, if there is one.
    pub kind: ResultKind,
}

/// The kind of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResultKind {
    /// The request is complete.
    #[default]
    Complete,
    /// A tool failed, which its result reports to the model (`isError`).
    Failed,
    /// The result is a request to the client (`input_required`).
    InputRequired,
    /// A tool call was not authorized; the result has a challenge.
    Challenged,
    /// A tool failed because a dependency is not available.
    Unavailable,
}

/// JSON text, shared if it was rendered in advance.
#[derive(Debug, Clone)]
pub enum Rendered {
    /// Rendered once, for all requests.
    Shared(Arc<str>),
    /// Rendered for this request.
    Own(String),
}

impl Rendered {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Shared(text) => text,
            Self::Own(text) => text,
        }
    }

    pub(crate) fn empty() -> Self {
        Self::Own("{}".to_owned())
    }
}

impl CallResponse {
    pub(crate) fn ready(result: Result<Rendered, CallError>) -> Self {
        Self::Ready(Box::new(CallOutcome::from(result)))
    }

    /// Waits for the outcome, and drives the handler if it is running.
    pub async fn outcome(self) -> CallOutcome {
        match self {
            Self::Ready(outcome) => *outcome,
            Self::Pending(future) => future.await,
        }
    }
}

impl CallOutcome {
    /// Returns the authentication or authorization error, if the request has one.
    pub fn authorization_error(&self) -> Option<&CallError> {
        self.result.as_ref().err().filter(|error| error.is_authorization())
    }

    /// Sets the kind of the result.
    pub(crate) fn of_kind(self, kind: ResultKind) -> Self {
        Self { kind, ..self }
    }

    pub(crate) fn fault(source: impl Into<BoxError>) -> Self {
        Self { fault: Some(source.into()), ..Self::from(Err(CallError::Internal)) }
    }
}

impl From<Result<Rendered, CallError>> for CallOutcome {
    fn from(result: Result<Rendered, CallError>) -> Self {
        Self { result, fault: None, kind: ResultKind::Complete }
    }
}

impl fmt::Debug for CallResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(outcome) => f.debug_tuple("Ready").field(outcome).finish(),
            Self::Pending(_) => f.write_str("Pending"),
        }
    }
}
