//! [`Error`]: why a request has no complete response.

use std::{error::Error as StdError, io, time::Duration};

/// Why a request failed: there is no response, or its body is not complete. Messages do not contain the query of the URL, because it
/// may hold a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL is invalid, or not allowed for this client.
    #[error("the URL is rejected: {reason}")]
    Url {
        /// The reason.
        reason: &'static str,
    },
    /// The host has an address that is not allowed: one that is not public for a [`foreign`](crate::Client::foreign) client, or one
    /// beyond loopback for an `http` URL.
    #[error("`{place}` is rejected: its host has an address that is not allowed")]
    Address {
        /// The URL without its query.
        place: String,
    },
    /// The name or value of a header has invalid characters.
    #[error("a header of the request has invalid characters")]
    Header,
    /// The root certificates cannot be loaded.
    #[error("the root certificates of this machine cannot be loaded")]
    Certificates(#[source] io::Error),
    /// The timeout of the client or the deadline of the request has passed.
    #[error("`{place}` did not respond within {} ms", limit.as_millis())]
    Timeout {
        /// The URL without its query.
        place: String,
        /// The time limit of the request.
        limit: Duration,
    },
    /// No connection could be opened.
    #[error("could not connect to `{place}`")]
    Unreachable {
        /// The URL without its query.
        place: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The connection was closed before the response was complete, or the response is not valid HTTP.
    #[error("`{place}` sent no complete response")]
    Incomplete {
        /// The URL without its query.
        place: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The body exceeds the size limit.
    #[error("`{place}` sent more than {limit} bytes")]
    TooLarge {
        /// The URL without its query.
        place: String,
        /// The size limit in bytes.
        limit: usize,
    },
    /// The body is compressed, although the request has no `Accept-Encoding`.
    #[error("`{place}` sent a compressed body, but the request has no `Accept-Encoding`")]
    Compressed {
        /// The URL without its query.
        place: String,
    },
}

impl Error {
    /// Whether the same request may succeed later: the server is unreachable, slow, or closed the connection. In a handler, return
    /// `HandlerError::unavailable` then.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Unreachable { .. } | Self::Incomplete { .. })
    }
}
