//! Errors that handlers return.

use std::pin::Pin;

use crate::BoxError;

/// Why a tool call did not produce a result.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The model can fix this by changing its arguments; the text is sent to it.
    #[error("{0}")]
    InvalidInput(String),
    /// The request is valid but cannot succeed as things stand; the text is sent.
    #[error("{0}")]
    Failed(String),
    /// Something that the tool needs is busy or away, and the same call may succeed later: the message is sent with the
    /// request id, the sources are logged.
    #[error("{message}")]
    Unavailable {
        /// What the caller is told.
        message: &'static str,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// A fault on our side: logged with its sources, never sent to the client.
    #[error("the tool failed")]
    Internal(#[source] BoxError),
}

impl ToolError {
    /// A fault on our side; for `map_err`.
    ///
    /// ```
    /// # use mcp_server::ToolError;
    /// fn read_setting() -> Result<u16, ToolError> {
    ///     "80".parse().map_err(ToolError::internal)
    /// }
    /// # assert_eq!(read_setting().unwrap(), 80);
    /// ```
    pub fn internal(source: impl Into<BoxError>) -> Self {
        Self::Internal(source.into())
    }
}

/// Why there is no prompt, resource, list or completion.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is nothing by that name, or at that URI.
    #[error("not found")]
    NotFound,
    /// The client can mend this; the text is sent to it.
    #[error("{0}")]
    InvalidInput(String),
    /// Something that is needed is busy or away, and the same request may succeed later: the message is sent with the
    /// request id, the sources are logged.
    #[error("{message}")]
    Unavailable {
        /// What the caller is told.
        message: &'static str,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// A fault on our side: logged with its sources, never sent to the client.
    #[error("the request failed")]
    Internal(#[source] BoxError),
}

impl RequestError {
    /// A fault on our side; for `map_err`.
    pub fn internal(source: impl Into<BoxError>) -> Self {
        Self::Internal(source.into())
    }
}

/// A running handler, which has its arguments.
pub(crate) type HandlerFuture<T> = Pin<Box<dyn Future<Output = Result<T, HandlerError>> + Send>>;

/// Why a handler yields no output.
pub(crate) enum HandlerError {
    Tool(ToolError),
    Request(RequestError),
    /// What it returned cannot be written as JSON.
    Unserialisable(serde_json::Error),
}

impl From<ToolError> for HandlerError {
    fn from(error: ToolError) -> Self {
        Self::Tool(error)
    }
}

impl From<RequestError> for HandlerError {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}
