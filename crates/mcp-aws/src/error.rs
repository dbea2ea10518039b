//! Errors of requests to AWS.

use mcp_server::BoxError;

/// Error of a request to AWS. Its messages repeat no byte of a response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AwsError {
    /// There are no usable credentials.
    #[error("the function's AWS credentials cannot be used: {0}")]
    Credentials(&'static str),
    /// A request cannot be signed: a credential or the URL has characters that no signed request can have.
    #[error("a request to AWS cannot be signed")]
    Signature(#[source] BoxError),
    /// The secret does not exist, is not readable, or is not text. A retry does not help.
    #[error("the secret cannot be read: {0}")]
    Secret(&'static str),
    /// The service is unreachable, slow, throttles, or has an internal error. A later attempt may succeed.
    #[error("{service} is not available")]
    Unavailable {
        /// The service.
        service: &'static str,
        /// The last attempt's error.
        #[source]
        source: BoxError,
    },
}

impl AwsError {
    /// Returns true for an error that a retry may resolve.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
