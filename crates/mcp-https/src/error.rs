//! Why a request has no response.

use std::{error::Error as StdError, io, time::Duration};

/// Why there is no response, or no whole body. No message repeats the query of a URL, which may hold a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client does not send requests to this URL.
    #[error("the URL cannot be used: {reason}")]
    Url {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The URL is foreign, and the host has an address that is not public; or it is an `http` URL that leads beyond loopback.
    #[error("`{place}` is rejected: its host has an address that this client does not connect to")]
    Address {
        /// The URL without its query.
        place: String,
    },
    /// A name or value of a header has characters that none may have.
    #[error("a header of the request cannot be sent")]
    Header,
    /// There are no root certificates.
    #[error("the root certificates of this machine cannot be read")]
    Certificates(#[source] io::Error),
    /// The time limit of the client or the deadline of the request came first.
    #[error("`{place}` did not respond within {} ms", limit.as_millis())]
    Timeout {
        /// The URL without its query.
        place: String,
        /// The time that the request had.
        limit: Duration,
    },
    /// No connection could be opened.
    #[error("could not connect to `{place}`")]
    Unreachable {
        /// The URL without its query.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The connection ended before the response did, or the response is not HTTP.
    #[error("`{place}` sent no complete response")]
    Incomplete {
        /// The URL without its query.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The body is larger than the client accepts.
    #[error("`{place}` sent more than {limit} bytes")]
    TooLarge {
        /// The URL without its query.
        place: String,
        /// The most that the client accepts.
        limit: usize,
    },
    /// The body is compressed, which the request did not ask for.
    #[error("`{place}` sent a compressed body, which was not asked for")]
    Compressed {
        /// The URL without its query.
        place: String,
    },
}

impl Error {
    /// Whether the same request may succeed later: the server is not reachable, slow, or ended the connection. Use it to
    /// return `HandlerError::unavailable`.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Unreachable { .. } | Self::Incomplete { .. })
    }
}
