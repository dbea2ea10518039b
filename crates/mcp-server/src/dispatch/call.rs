//! A request and its answer, as a transport sees both.

use std::{fmt, pin::Pin, sync::Arc};

use mcp_protocol::{RequestId, RequestMeta};
use tokio::sync::mpsc;

use crate::{BoxError, CallError};

/// What a request brings apart from its method and parameters.
#[derive(Debug)]
pub struct Call {
    /// To be repeated in the response.
    pub id: RequestId,
    /// `_meta` of the parameters.
    pub meta: RequestMeta,
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
    /// What kind of result there is, if there is one.
    pub kind: ResultKind,
}

/// What a result says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResultKind {
    /// The request is done.
    #[default]
    Complete,
    /// A tool has failed, and tells the model so (`isError`).
    Failed,
    /// The client is asked something (`input_required`).
    InputRequired,
    /// A tool was refused to a caller, with a challenge.
    Challenged,
    /// A tool has failed, since something that it needs is not available at the moment.
    Unavailable,
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

    pub(crate) fn empty() -> Self {
        Self::Own("{}".to_owned())
    }
}

impl Answer {
    pub(crate) fn ready(result: Result<Rendered, CallError>) -> Self {
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
    /// Why the caller may not make this request, if that is why there is no result.
    pub fn authorization_refusal(&self) -> Option<&CallError> {
        self.result.as_ref().err().filter(|error| error.is_authorization())
    }

    /// One whose result says something else than that all is done.
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

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(outcome) => f.debug_tuple("Ready").field(outcome).finish(),
            Self::Pending(_) => f.write_str("Pending"),
        }
    }
}
