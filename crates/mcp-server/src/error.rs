//! Errors, apart by audience: [`CallError`] is what a request is refused with, [`BuildError`] why a server cannot
//! be built, [`InitError`] why a function cannot start.
//! What handlers return is in `handler::error`.

use std::{borrow::Cow, error::Error};

use mcp_protocol::ClientCapabilities;

/// Any error, as a source.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a request is answered with a JSON-RPC error rather than a result.
///
/// Each variant is a decision, which a transport translates.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server has no such method in this revision.
    #[error("method `{0}` is not known")]
    MethodNotFound(String),
    /// The parameters do not have the shape that the method needs.
    #[error("invalid params: {0}")]
    InvalidParams(String),
    /// `_meta` lacks a member that every modern request has, or one is malformed.
    #[error("invalid `_meta`: {0}")]
    InvalidMeta(String),
    /// No tool of that name.
    #[error("unknown tool: `{0}`")]
    UnknownTool(String),
    /// No prompt of that name.
    #[error("unknown prompt: `{0}`")]
    UnknownPrompt(String),
    /// No resource at that URI.
    #[error("resource not found")]
    ResourceNotFound {
        /// The URI.
        uri: String,
    },
    /// What was sent has the right shape, and cannot be used.
    #[error("{0}")]
    InvalidInput(String),
    /// The `requestState` was not given out for this request, or its time is over.
    #[error("`requestState` is not valid for this request, or has expired: start again without it")]
    RequestState,
    /// The caller is anonymous, and the request needs authentication.
    #[error("a token is needed for this request")]
    Unauthenticated {
        /// What a client must ask the issuer for.
        scopes: Vec<String>,
    },
    /// The caller is known and lacks scopes.
    #[error("the token lacks a scope: this request needs {}", scopes.join(" "))]
    InsufficientScope {
        /// All that the request needs, as a client must ask the issuer for them.
        scopes: Vec<String>,
    },
    /// The caller is authenticated and may not do this. No scope would help.
    #[error("this caller may not use this")]
    Forbidden,
    /// The cursor is not one that this list gave out.
    #[error("invalid cursor: start the list again without one")]
    InvalidCursor,
    /// A header and the body disagree, or a required header is missing.
    #[error("header mismatch: {0}")]
    HeaderMismatch(String),
    /// The request needs capabilities that the client did not declare.
    #[error("the client did not declare a capability that this request needs")]
    MissingClientCapability(Box<ClientCapabilities>),
    /// The client asked for a version that is not spoken here.
    #[error("protocol version `{requested}` is not supported")]
    UnsupportedVersion {
        /// What the client asked for.
        requested: String,
    },
    /// The invocation's time was over before the result was there.
    #[error("the request did not finish before the function's deadline")]
    DeadlineExceeded,
    /// The result is larger than what can be sent.
    #[error("the result has {bytes} bytes, but at most {limit} can be sent")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
    /// The request is valid, and cannot succeed as things stand.
    #[error("{0}")]
    Failed(String),
    /// Something that is needed is busy or cannot be reached.
    #[error("{0}")]
    Unavailable(Cow<'static, str>),
    /// A fault on our side; the detail is logged, not sent.
    #[error("internal error")]
    Internal,
}

impl CallError {
    /// One refusal for several requests, by which a client learns at once all that it needs; for refusals for who makes
    /// the request.
    #[must_use]
    pub fn together(self, other: Self) -> Self {
        let both = |mut scopes: Vec<String>, others: Vec<String>| {
            scopes.extend(others);
            scopes.sort();
            scopes.dedup();
            scopes
        };
        match (self, other) {
            (Self::Unauthenticated { scopes }, Self::Unauthenticated { scopes: others }) => {
                Self::Unauthenticated { scopes: both(scopes, others) }
            }
            (Self::InsufficientScope { scopes }, Self::InsufficientScope { scopes: others }) => {
                Self::InsufficientScope { scopes: both(scopes, others) }
            }
            // No scope would help.
            (Self::Forbidden, _) | (_, Self::Forbidden) => Self::Forbidden,
            (first, _) => first,
        }
    }

    /// Whether the request was refused for who makes it.
    pub(crate) fn is_authorization(&self) -> bool {
        matches!(self, Self::Unauthenticated { .. } | Self::InsufficientScope { .. } | Self::Forbidden)
    }
}

/// Why a server cannot be built. It names no setting: a transport knows how its deployments are configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An item asks the client, and there is no key to seal what is kept between the rounds.
    #[error("the {item} asks the client: the server needs a state key")]
    NoStateKey {
        /// Such as "tool `book`".
        item: String,
    },
    /// No key could be derived from the state key.
    #[error("could not derive a key from the state key")]
    UnusableStateKey,
    /// There are access rules, and callers are not authenticated.
    #[error("the {item} declares who may use it: the server needs a way to authenticate callers")]
    NoAuthentication {
        /// Such as "tool `purge`", or "server".
        item: String,
    },
    /// A resource template requires less than what it fits.
    #[error(
        "the resource template `{template}` fits the {other} but requires less: give the template the same rules \
         (require_scope, require_claim), register it after narrower templates, or give one of them another URI"
    )]
    WeakerTemplate {
        /// The template.
        template: String,
        /// Such as "resource `files://secret`".
        other: String,
    },
}

impl From<BuildError> for InitError {
    fn from(error: BuildError) -> Self {
        Self::new(error.to_string())
    }
}

/// Why a function cannot start.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct InitError {
    message: Cow<'static, str>,
    #[source]
    source: Option<BoxError>,
}

impl InitError {
    /// An error that says what to do, such as which variable to set.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// A setting that cannot be used: names the variable, what is expected, and what was found.
    pub fn setting(variable: &str, expected: &str, found: &str) -> Self {
        Self::new(format!("{variable} must be {expected}, not `{found}`"))
    }

    /// The same for a secret, which is not repeated.
    pub fn secret(variable: &str, expected: &str) -> Self {
        Self::new(format!("{variable} must be {expected}"))
    }

    /// Adds what led to it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// An error and what led to it, on one line, for the log.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut chain = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        chain.push_str(": ");
        chain.push_str(&cause.to_string());
        source = cause.source();
    }
    chain
}
