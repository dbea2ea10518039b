//! Errors of requests to AWS.

use mcp_server::BoxError;

/// Error of a request to AWS. Its messages quote no byte of a response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AwsError {
    /// The credentials cannot be loaded, or AWS rejects them.
    #[error("the function's AWS credentials cannot be used: {0}")]
    Credentials(&'static str),
    /// A request cannot be signed: the URL, a header or a credential has characters that are not allowed there.
    #[error("a request to AWS cannot be signed")]
    Signature(#[source] BoxError),
    /// The secret does not exist, may not be read, or is not text. A retry does not help.
    #[error("the secret cannot be read: {0}")]
    Secret(&'static str),
    /// The parameters may not be read, or are too many. A retry does not help.
    #[error("the parameters cannot be read: {0}")]
    Parameters(&'static str),
    /// The function cannot be invoked. A retry does not help.
    #[error("the function cannot be invoked: {0}")]
    Invocation(&'static str),
    /// The service is unreachable or slow, throttles requests, or has an internal error. A later attempt may succeed.
    #[error("{service} is not available")]
    Unavailable {
        /// Name of the service, for the message.
        service: &'static str,
        /// Error of the last attempt.
        #[source]
        source: BoxError,
    },
}

impl AwsError {
    /// Returns true if a retry may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
