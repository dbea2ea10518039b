//! Errors by audience: [`CallError`] for clients, [`BuildError`] for authors, [`InitError`] for operators. Errors of
//! handlers are in `handler::error`.

use std::{borrow::Cow, error::Error};

use mcp_protocol::ClientCapabilities;

/// Any error, as a source.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The JSON-RPC error of a request. A transport translates each variant.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The method does not exist in this revision.
    #[error("unknown method: `{0}`")]
    MethodNotFound(String),
    /// The parameters do not match the method's schema.
    #[error("invalid params: {0}")]
    InvalidParams(String),
    /// `_meta` lacks a member that modern requests require, or one is malformed.
    #[error("invalid `_meta`: {0}")]
    InvalidMeta(String),
    /// No tool has this name.
    #[error("unknown tool: `{0}`")]
    UnknownTool(String),
    /// No prompt has this name.
    #[error("unknown prompt: `{0}`")]
    UnknownPrompt(String),
    /// No resource has this URI.
    #[error("resource not found")]
    ResourceNotFound {
        /// The URI.
        uri: String,
    },
    /// The parameters match the schema but are invalid.
    #[error("{0}")]
    InvalidInput(String),
    /// The `requestState` was not issued for this request, or has expired.
    #[error("`requestState` is not valid for this request, or has expired: start again without it")]
    RequestState,
    /// The caller is anonymous, and the request needs authentication.
    #[error("a token is needed for this request")]
    Unauthenticated {
        /// Scopes that the client must request from the issuer.
        scopes: Vec<String>,
    },
    /// The caller is authenticated and lacks scopes.
    #[error("the token lacks a scope: this request needs {}", scopes.join(" "))]
    InsufficientScope {
        /// All scopes that the request needs, as the client must request them from the issuer.
        scopes: Vec<String>,
    },
    /// The caller is authenticated but not authorized, and no scope would change that.
    #[error("the caller is not authorized for this request")]
    Forbidden,
    /// The cursor was not issued by this list.
    #[error("invalid cursor: start the list again without one")]
    InvalidCursor,
    /// A header does not match the body, or a required header is missing.
    #[error("header mismatch: {0}")]
    HeaderMismatch(String),
    /// The request needs capabilities that the client did not declare.
    #[error("the client did not declare a capability that this request needs")]
    MissingClientCapability(Box<ClientCapabilities>),
    /// The protocol version is not supported.
    #[error("protocol version `{requested}` is not supported")]
    UnsupportedVersion {
        /// The version that the client requested.
        requested: String,
    },
    /// The deadline passed before the result was available.
    #[error("the request did not finish before the function's deadline")]
    DeadlineExceeded,
    /// The result exceeds the transport's size limit.
    #[error("the result has {bytes} bytes, but at most {limit} can be sent")]
    TooLarge {
        /// Size of the result in bytes.
        bytes: usize,
        /// Maximum size in bytes.
        limit: usize,
    },
    /// The request is valid but cannot succeed in the current state.
    #[error("{0}")]
    Failed(String),
    /// A dependency is busy or unreachable.
    #[error("{0}")]
    Unavailable(Cow<'static, str>),
    /// An internal fault, whose detail is logged and not sent.
    #[error("internal error")]
    Internal,
}

impl CallError {
    /// Combines the authorization errors of several requests into one, which names all scopes that the client needs.
    #[must_use]
    pub fn combine(self, other: Self) -> Self {
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

    /// Reports whether this is an authentication or authorization error.
    pub(crate) fn is_authorization(&self) -> bool {
        matches!(self, Self::Unauthenticated { .. } | Self::InsufficientScope { .. } | Self::Forbidden)
    }
}

/// Why a server cannot be built. Messages name no setting, since the transport defines the configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An interactive item is registered, but no key is configured to encrypt `requestState`.
    #[error("the {item} sends requests to the client: the server needs a state key")]
    NoStateKey {
        /// Such as "tool `book`".
        item: String,
    },
    /// The server has a store, but no key is configured to seal its values.
    #[error("the server has a store: it needs a state key")]
    NoStoreKey,
    /// A tool's calls may become tasks, but the server has no store for them.
    #[error("calls of the tool `{tool}` may become tasks: the server needs a store")]
    NoTaskStore {
        /// The tool's name.
        tool: String,
    },
    /// Key derivation from the state key failed.
    #[error("could not derive a key from the state key")]
    UnusableStateKey,
    /// Access rules are declared, but no authentication is configured.
    #[error("the {item} declares access rules: the server needs a way to authenticate callers")]
    NoAuthentication {
        /// Such as "tool `purge`", or "server".
        item: String,
    },
    /// A resource template requires less than a resource or template that it matches.
    #[error(
        "the resource template `{template}` matches the {other} but requires less: give the template the same rules \
         (require_scope, require_claim), register it after narrower templates, or give one of them another URI"
    )]
    WeakerTemplate {
        /// The template's URI template.
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

/// Why the init phase of a function failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct InitError {
    message: Cow<'static, str>,
    #[source]
    source: Option<BoxError>,
}

impl InitError {
    /// Creates an error. The message says what to do, such as which variable to set.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// Creates the error of an invalid setting, with the variable, the expected and the actual value. The user name,
    /// password and query of a URL are redacted. For other values that may be secret use [`secret`](Self::secret).
    pub fn setting(variable: &str, expected: &str, found: &str) -> Self {
        Self::new(format!("{variable} must be {expected}, not `{}`", redact_url(found)))
    }

    /// Creates the error of an invalid secret, without its value.
    pub fn secret(variable: &str, expected: &str) -> Self {
        Self::new(format!("{variable} must be {expected}"))
    }

    /// Adds the source of the error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// Formats an error and its sources on one line, separated by colons, for the log. A source is omitted if the text of the previous
/// error ends with it. Use it to log an error that is not returned.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut chain = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // Some errors, such as those of sqlx, end with the text of their source.
        let is_shown = chain.strip_suffix(&text).is_some_and(|rest| !rest.ends_with(char::is_alphanumeric));
        if !is_shown {
            chain.push_str(": ");
            chain.push_str(&text);
        }
        source = cause.source();
    }
    chain
}

/// Replaces user name, password and query of a URL by `…`. The value is invalid, so its parts may have delimiters in them:
/// all text before the last `@` counts as a user name and password, except the scheme.
fn redact_url(found: &str) -> Cow<'_, str> {
    let is_scheme = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let start = found.find("://").filter(|end| is_scheme(&found[..*end])).map_or(0, |end| end + 3);
    let (scheme, rest) = found.split_at(start);
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("…@", rest));
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?…"));
    if user.is_empty() && query.is_empty() { found.into() } else { format!("{scheme}{user}{rest}{query}").into() }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Link(&'static str, Option<Box<Link>>);

    impl fmt::Display for Link {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Link {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|own| own as _)
        }
    }

    #[test]
    fn a_chain_repeats_no_text() {
        for (texts, expected) in [
            (&["a", "b", "c"][..], "a: b: c"),
            (&["error returned from database: no", "no"], "error returned from database: no"),
            (&["x: no", "no", "more"], "x: no: more"),
            (&["status 15", "5"], "status 15: 5"),
            (&["no", "x: no"], "no: x: no"),
            (&["no", "no"], "no"),
        ] {
            let error = texts.iter().rev().fold(None, |source, text| Some(Box::new(Link(text, source)))).unwrap();

            assert_eq!(error_chain(&*error), expected);
        }
    }

    #[test]
    fn the_error_of_a_setting_has_no_password_and_no_query() {
        for (found, shown) in [
            ("", ""),
            ("on", "on"),
            ("https://api.example.com:8443/a#b", "https://api.example.com:8443/a#b"),
            ("https://user:s3cret@api.example.com/a", "https://…@api.example.com/a"),
            ("https://s3cret@api.example.com", "https://…@api.example.com"),
            ("WSS://user:s3cret@[::1]:80/", "WSS://…@[::1]:80/"),
            ("user:s3cret@api.example.com", "…@api.example.com"),
            ("//user:s3cret@api.example.com", "…@api.example.com"),
            ("https:/user:s3cret@api.example.com", "…@api.example.com"),
            ("https:\\\\user:s3cret@api.example.com", "…@api.example.com"),
            (" https://user:s3cret@api.example.com", "…@api.example.com"),
            ("https://user:s3cret/s3cret?s3cret#s3cret@s3cret@api.example.com", "https://…@api.example.com"),
            ("s3cret@https://user:s3cret@api.example.com", "…@api.example.com"),
            ("https://a.example,https://user:s3cret@b.example", "https://…@b.example"),
            ("https://user:s3cret@", "https://…@"),
            ("https://api.example.com/a?token=s3cret", "https://api.example.com/a?…"),
            ("https://ü:s3cret@api.example.com/?token=s3cret", "https://…@api.example.com/?…"),
        ] {
            let error = InitError::setting("URL", "an https URL", found).to_string();

            assert_eq!(error, format!("URL must be an https URL, not `{shown}`"));
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
