//! The error of handlers, and errors that keep their meaning in any chain of sources.

use std::{borrow::Cow, error::Error, fmt, io, pin::Pin};

use crate::{BoxError, error_chain};

/// The error of a handler: of tools, prompts, resources, lists and completions.
///
/// `?` converts any error into an internal fault, which is logged with its sources and never sent. Two errors keep
/// their meaning, also as the source of another error: [`Unavailable`], which the errors of `mcp-postgres` contain,
/// and [`InvalidInput`].
///
/// | Error | Result of a tool | Response to any other request |
/// | --- | --- | --- |
/// | [`invalid_input`](Self::invalid_input) | `isError` with the text | `-32602` with the text |
/// | [`failed`](Self::failed) | `isError` with the text | `-32603` with the text |
/// | [`not_found`](Self::not_found) | `isError` with the text | of a resource: not found, with its URI; else `-32602` with the text |
/// | [`unavailable`](Self::unavailable) | `isError` with the message and the request id | `-32603` with both |
/// | [`internal`](Self::internal), `?` | `isError` with the request id | `-32603` with the request id |
/// | [`needs_scope`](Self::needs_scope) | a challenge | a challenge |
///
/// It does not implement [`Error`], so that `?` can convert every type that does. Convert a boxed error, such as that of `anyhow`,
/// with [`from_boxed`](Self::from_boxed).
///
/// ```
/// # use mcp_server as mcp_lambda;
/// use garde::Validate;
/// use mcp_lambda::{HandlerError, ToolContext};
/// use schemars::JsonSchema;
/// use serde::Deserialize;
///
/// #[derive(Deserialize, JsonSchema, Validate)]
/// struct ReadArgs {
///     /// Name of the note.
///     #[garde(length(chars, max = 100))]
///     name: String,
/// }
///
/// async fn read_note(_: ToolContext<()>, args: ReadArgs) -> Result<String, HandlerError> {
///     if args.name.contains(['/', '\\']) {
///         return Err(HandlerError::invalid_input("`name` must not contain slashes"));
///     }
///     // An I/O error becomes an internal fault, which is only logged.
///     let note = std::fs::read_to_string(format!("/opt/notes/{}", args.name))?;
///     Ok(note)
/// }
/// # let _ = mcp_server::Tool::new("read_note", read_note);
/// ```
pub struct HandlerError(pub(crate) Reason);

/// The meaning of a handler's error.
pub(crate) enum Reason {
    InvalidInput(String),
    Failed(String),
    NotFound(String),
    NeedsScopes(Vec<String>),
    Unavailable {
        message: Cow<'static, str>,
        source: BoxError,
    },
    Internal(BoxError),
    /// The handler's output cannot be serialized as JSON.
    Unserializable(serde_json::Error),
}

impl HandlerError {
    /// The caller can fix the request, for example with other arguments. The text is sent: say what to change.
    pub fn invalid_input(text: impl Into<String>) -> Self {
        Self(Reason::InvalidInput(text.into()))
    }

    /// The request is valid but cannot succeed in the current state. The text is sent.
    pub fn failed(text: impl Into<String>) -> Self {
        Self(Reason::Failed(text.into()))
    }

    /// No item has this name or URI.
    pub fn not_found() -> Self {
        Self::not_found_because("no item has this name")
    }

    /// As [`not_found`](Self::not_found), with a text that a tool or prompt sends. The response of a resource has its
    /// URI and no text.
    pub fn not_found_because(text: impl Into<String>) -> Self {
        Self(Reason::NotFound(text.into()))
    }

    /// A dependency is busy or unreachable, and a retry may succeed. The message is sent with the request id; the
    /// source is logged.
    pub fn unavailable(message: impl Into<Cow<'static, str>>, source: impl Into<BoxError>) -> Self {
        Self(Reason::Unavailable { message: message.into(), source: source.into() })
    }

    /// An internal fault, with any error as its source: logged with its sources, never sent. `?` does the same for
    /// errors without another meaning.
    pub fn internal(source: impl Into<BoxError>) -> Self {
        Self(Reason::Internal(source.into()))
    }

    /// The caller's token lacks a scope that this request needs, beyond those that the item requires. Check it with
    /// [`has_scope`](crate::RequestContext::has_scope), for scopes that depend on arguments.
    ///
    /// The client gets a challenge for all scopes that the request needs, and can request a token with them. Before the handler has
    /// sent a notification, the whole request is rejected, with the challenge in `WWW-Authenticate`.
    /// Afterwards, a tool result has `isError` and the challenge in `_meta` (`mcp/www_authenticate`), and any other request ends with
    /// an error that has it in `data`. If callers are not authenticated, or the caller has the scope already, the error is an
    /// internal fault, because no token would help.
    ///
    /// ```
    /// # use mcp_server::{HandlerError, NoArguments, ToolContext};
    /// async fn purge(context: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
    ///     if !context.has_scope("events:purge") {
    ///         return Err(HandlerError::needs_scope("events:purge"));
    ///     }
    ///     Ok("purged")
    /// }
    /// # let _ = mcp_server::Tool::new("purge", purge);
    /// ```
    pub fn needs_scope(scope: impl Into<String>) -> Self {
        Self::needs_scopes([scope])
    }

    /// As [`needs_scope`](Self::needs_scope), for several scopes, all of which the request needs.
    pub fn needs_scopes<T: Into<String>>(scopes: impl IntoIterator<Item = T>) -> Self {
        Self(Reason::NeedsScopes(scopes.into_iter().map(Into::into).collect()))
    }

    /// Converts a boxed error as `?` does: `map_err(HandlerError::from_boxed)`.
    pub fn from_boxed(error: impl Into<BoxError>) -> Self {
        let error = error.into();
        let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
        while let Some(own) = cause {
            if let Some(UnavailableSource { message, .. }) = own.downcast_ref() {
                return Self::unavailable(message.clone(), error);
            }
            if let Some(InvalidInputSource(text)) = own.downcast_ref() {
                return Self::invalid_input(text.clone());
            }
            // `io::Error` returns the source of its inner error, never that error itself.
            let inner = own.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            cause = inner.map(|inner| -> &(dyn Error + 'static) { inner }).or_else(|| own.source());
        }
        Self::internal(error)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::from_boxed(error)
    }
}

impl fmt::Display for HandlerError {
    /// Prints only the text that is sent to the caller.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::InvalidInput(text) | Reason::Failed(text) | Reason::NotFound(text) => f.write_str(text),
            Reason::NeedsScopes(scopes) => write!(f, "the request needs the scopes {}", scopes.join(" ")),
            Reason::Unavailable { message, .. } => f.write_str(message),
            Reason::Internal(_) | Reason::Unserializable(_) => f.write_str("internal error"),
        }
    }
}

impl fmt::Debug for HandlerError {
    /// Prints the kind and the messages of all sources, not their `Debug`, which may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::InvalidInput(text) => f.debug_tuple("InvalidInput").field(text).finish(),
            Reason::Failed(text) => f.debug_tuple("Failed").field(text).finish(),
            Reason::NotFound(text) => f.debug_tuple("NotFound").field(text).finish(),
            Reason::NeedsScopes(scopes) => f.debug_tuple("NeedsScopes").field(scopes).finish(),
            Reason::Unavailable { message, source } => {
                let source = error_chain(&**source);
                f.debug_struct("Unavailable").field("message", message).field("source", &source).finish()
            }
            Reason::Internal(source) => f.debug_tuple("Internal").field(&error_chain(&**source)).finish(),
            Reason::Unserializable(source) => f.debug_tuple("Unserializable").field(&error_chain(source)).finish(),
        }
    }
}

/// A dependency is busy or unreachable, and a retry may succeed.
///
/// An error with this in its chain of sources is converted by `?` to [`HandlerError::unavailable`] with this message:
/// the client receives the message with the request id, and the log the whole chain.
///
/// ```
/// # use mcp_server as mcp_lambda;
/// use mcp_lambda::{HandlerError, Unavailable};
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("no exchange rates")]
/// struct RatesError(#[source] Unavailable);
///
/// let timeout = std::io::Error::from(std::io::ErrorKind::TimedOut);
/// let error = RatesError(Unavailable::new("The exchange rates are unavailable. Try again in a minute.", timeout));
///
/// assert_eq!(HandlerError::from(error).to_string(), "The exchange rates are unavailable. Try again in a minute.");
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub struct Unavailable(#[source] UnavailableSource);

impl Unavailable {
    /// Creates the error. The message for the client says when to retry; the source is logged.
    pub fn new(message: impl Into<Cow<'static, str>>, source: impl Into<BoxError>) -> Self {
        Self(UnavailableSource { message: message.into(), source: source.into() })
    }

    /// Returns the source for the log. A chain of sources contains its own sources, since its text is that of this
    /// error.
    pub fn reason(&self) -> &(dyn Error + 'static) {
        &*self.0.source
    }
}

/// The source of [`Unavailable`], by which it is recognized: a `#[error(transparent)]` wrapper does not appear in a
/// chain of sources, but has the same source.
#[derive(Debug)]
struct UnavailableSource {
    message: Cow<'static, str>,
    source: BoxError,
}

impl fmt::Display for UnavailableSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for UnavailableSource {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

/// The caller sent or chose invalid input. The text is sent: it says what to change.
///
/// An error with this in its chain of sources is converted by `?` to [`HandlerError::invalid_input`] with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.0)]
pub struct InvalidInput(#[source] InvalidInputSource);

impl InvalidInput {
    /// Creates the error, with the text for the caller.
    pub fn new(text: impl Into<String>) -> Self {
        Self(InvalidInputSource(text.into()))
    }
}

/// The source of [`InvalidInput`], by which it is recognized.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid input")]
struct InvalidInputSource(String);

/// A running handler, whose arguments are parsed.
pub(crate) type HandlerFuture<T> = Pin<Box<dyn Future<Output = Result<T, HandlerError>> + Send>>;

#[cfg(test)]
mod tests {
    use super::*;

    /// An author's error type that wraps another error.
    #[derive(Debug, thiserror::Error)]
    #[error("the import failed")]
    struct Wrapped<E: Error + 'static>(#[source] E);

    /// A transparent wrapper: it has the source of the error that it wraps.
    #[derive(Debug, thiserror::Error)]
    enum Transparent {
        #[error(transparent)]
        Unavailable(#[from] Unavailable),
        #[error(transparent)]
        InvalidInput(#[from] InvalidInput),
    }

    fn unavailable() -> Unavailable {
        Unavailable::new("try again", io::Error::other("connection reset"))
    }

    #[test]
    fn other_errors_are_internal_faults_whose_text_is_not_shown() {
        let handler = || -> Result<u16, HandlerError> { Ok("secret".parse()?) };

        let error = handler().unwrap_err();

        assert_eq!(error.to_string(), "internal error");
        assert!(matches!(error.0, Reason::Internal(source) if source.to_string().contains("invalid digit")));
    }

    #[test]
    fn unavailable_is_recognized_in_any_chain() {
        let transparent = Wrapped(Transparent::from(unavailable()));
        let boxed: BoxError = Wrapped(Wrapped(unavailable())).into();
        for error in [
            HandlerError::from(unavailable()),
            HandlerError::from(Wrapped(unavailable())),
            HandlerError::from(transparent),
            HandlerError::from(io::Error::other(unavailable())),
            HandlerError::from_boxed(boxed),
        ] {
            let Reason::Unavailable { message, source } = error.0 else { panic!("{error:?}") };
            assert_eq!(message, "try again");
            assert!(error_chain(&*source).ends_with(": connection reset"), "{source:?}");
        }
    }

    #[test]
    fn invalid_input_is_recognized_in_any_chain() {
        for error in [
            HandlerError::from(InvalidInput::new("use 1 to 5")),
            HandlerError::from(Wrapped(InvalidInput::new("use 1 to 5"))),
            HandlerError::from(Transparent::from(InvalidInput::new("use 1 to 5"))),
        ] {
            assert!(matches!(&error.0, Reason::InvalidInput(text) if text == "use 1 to 5"), "{error:?}");
        }
    }

    #[test]
    fn internal_overrides_the_meaning_of_its_source() {
        assert!(matches!(HandlerError::internal(unavailable()).0, Reason::Internal(_)));
        assert!(matches!(HandlerError::internal("no reason").0, Reason::Internal(_)));
    }

    #[test]
    fn debug_shows_only_the_kind_and_messages() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot sign in")]
        struct SignIn {
            password: &'static str,
        }

        let error = HandlerError::from(Wrapped(SignIn { password: "hunter2" }));

        assert_eq!(format!("{error:?}"), r#"Internal("the import failed: cannot sign in")"#);
    }
}
