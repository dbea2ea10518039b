//! The error of handlers, and errors that keep their meaning in the chain of any other.

use std::{borrow::Cow, error::Error, fmt, io, pin::Pin};

use crate::{BoxError, error_chain};

/// Why a handler has no output: of tools, prompts, resources, lists and completions alike.
///
/// `?` turns any error into one: an internal fault, which is logged with its sources and never sent to the client. Two
/// errors keep their meaning, also as the source of another error: [`Unavailable`], which the errors of `mcp-postgres`
/// contain, and [`InvalidInput`].
///
/// | Error | Result of a tool | Answer to any other request |
/// | --- | --- | --- |
/// | [`invalid_input`](Self::invalid_input) | `isError` with the text | `-32602` with the text |
/// | [`failed`](Self::failed) | `isError` with the text | `-32603` with the text |
/// | [`not_found`](Self::not_found) | `isError` with the text | of a resource: not found, with its URI; else `-32602` with the text |
/// | [`unavailable`](Self::unavailable) | `isError` with the message and the request id | `-32603` with both |
/// | [`internal`](Self::internal), `?` | `isError` with the request id | `-32603` with the request id |
/// | [`needs_scope`](Self::needs_scope) | a challenge | a challenge |
///
/// It does not implement [`Error`], so that `?` may take every type that does. An error in a box, as
/// `anyhow` has it, is converted with [`from_boxed`](Self::from_boxed).
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
///     // What goes wrong here is for the log.
///     let note = std::fs::read_to_string(format!("/opt/notes/{}", args.name))?;
///     Ok(note)
/// }
/// # let _ = mcp_server::Tool::new("read_note", read_note);
/// ```
pub struct HandlerError(pub(crate) Reason);

/// What an error of a handler means.
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
    /// What the handler returned cannot be serialized as JSON.
    Unserializable(serde_json::Error),
}

impl HandlerError {
    /// The caller can fix this, for example with other arguments. The text is sent: say what to change.
    pub fn invalid_input(text: impl Into<String>) -> Self {
        Self(Reason::InvalidInput(text.into()))
    }

    /// The request is valid but cannot succeed as things stand. The text is sent.
    pub fn failed(text: impl Into<String>) -> Self {
        Self(Reason::Failed(text.into()))
    }

    /// There is nothing by that name, or at that URI.
    pub fn not_found() -> Self {
        Self::not_found_because("there is nothing of that name")
    }

    /// The same with a text, which a tool or prompt sends. The answer of a resource names its URI and has no text.
    pub fn not_found_because(text: impl Into<String>) -> Self {
        Self(Reason::NotFound(text.into()))
    }

    /// Something that the handler needs is busy or cannot be reached, and the same request may succeed later. The message is
    /// sent with the request id; the source is logged.
    pub fn unavailable(message: impl Into<Cow<'static, str>>, source: impl Into<BoxError>) -> Self {
        Self(Reason::Unavailable { message: message.into(), source: source.into() })
    }

    /// A fault on our side, with any error as its source: logged with its sources, never sent. `?` does the same for an
    /// error that has no other meaning.
    pub fn internal(source: impl Into<BoxError>) -> Self {
        Self(Reason::Internal(source.into()))
    }

    /// The caller's token lacks a scope that this request needs, beyond those that the item requires: checked by
    /// [`has_scope`](crate::RequestContext::has_scope), for what depends on arguments.
    ///
    /// The client gets a challenge for all scopes that the request needs, and can ask its user for more. As long as the
    /// handler has sent no notification it is a 403 with `WWW-Authenticate` (401 for an anonymous caller of a public item);
    /// afterwards the result of a tool has `isError` and the challenge in `_meta` (`mcp/www_authenticate`), and any other
    /// request ends with an error that has it in `data`. It is an internal fault where callers are not authenticated, or have
    /// the scope already, since no token would help.
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

    /// The same for several scopes, of which the request needs all.
    pub fn needs_scopes<T: Into<String>>(scopes: impl IntoIterator<Item = T>) -> Self {
        Self(Reason::NeedsScopes(scopes.into_iter().map(Into::into).collect()))
    }

    /// What `?` does, for an error in a box: `map_err(HandlerError::from_boxed)`.
    pub fn from_boxed(error: impl Into<BoxError>) -> Self {
        let error = error.into();
        let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
        while let Some(own) = cause {
            if let Some(Outage { message, .. }) = own.downcast_ref() {
                return Self::unavailable(message.clone(), error);
            }
            if let Some(WrongInput(text)) = own.downcast_ref() {
                return Self::invalid_input(text.clone());
            }
            // An error in an `io::Error` is no source of it; only the source of that error is.
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
    /// What the caller may know of it.
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
    /// The kind, and the messages of all sources, as the log has them. Their own `Debug` may hold what messages leave out.
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

/// Something that the server needs is busy or cannot be reached, and the same request may succeed later.
///
/// An error that has this in its chain of sources turns into [`HandlerError::unavailable`] by `?`, with this message: the
/// client gets it with the request id, and the log gets the whole chain.
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
/// let error = RatesError(Unavailable::new("The exchange does not answer. Try again in a minute.", timeout));
///
/// assert_eq!(HandlerError::from(error).to_string(), "The exchange does not answer. Try again in a minute.");
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub struct Unavailable(#[source] Outage);

impl Unavailable {
    /// The message for the client, which says when to try again, and the reason for the log.
    pub fn new(message: impl Into<Cow<'static, str>>, source: impl Into<BoxError>) -> Self {
        Self(Outage { message: message.into(), source: source.into() })
    }

    /// The reason for the log. A chain of sources has what led to it, since its text is that of this error.
    pub fn reason(&self) -> &(dyn Error + 'static) {
        &*self.0.source
    }
}

/// The reason of [`Unavailable`], by which it is recognized: a wrapper that is `#[error(transparent)]` is not its own error in a
/// chain, but it has the same source.
#[derive(Debug)]
struct Outage {
    message: Cow<'static, str>,
    source: BoxError,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for Outage {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

/// The caller sent, or chose, what cannot be used. The text is sent: it says what to change.
///
/// An error that has this in its chain of sources turns into [`HandlerError::invalid_input`] by `?`, with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.0)]
pub struct InvalidInput(#[source] WrongInput);

impl InvalidInput {
    /// The text for the caller.
    pub fn new(text: impl Into<String>) -> Self {
        Self(WrongInput(text.into()))
    }
}

/// What [`InvalidInput`] is recognized by, for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid input")]
struct WrongInput(String);

/// A running handler, which has its arguments.
pub(crate) type HandlerFuture<T> = Pin<Box<dyn Future<Output = Result<T, HandlerError>> + Send>>;

#[cfg(test)]
mod tests {
    use super::*;

    /// An error of an author's, around another.
    #[derive(Debug, thiserror::Error)]
    #[error("the import failed")]
    struct Wrapped<E: Error + 'static>(#[source] E);

    /// As `#[error(transparent)]` makes it: it has the source of the error that it wraps.
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
    fn an_error_that_is_not_known_is_a_fault_whose_text_is_not_shown() {
        let handler = || -> Result<u16, HandlerError> { Ok("secret".parse()?) };

        let error = handler().unwrap_err();

        assert_eq!(error.to_string(), "internal error");
        assert!(matches!(error.0, Reason::Internal(source) if source.to_string().contains("invalid digit")));
    }

    #[test]
    fn what_is_unavailable_stays_so_in_any_chain() {
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
    fn wrong_input_stays_so_in_any_chain() {
        for error in [
            HandlerError::from(InvalidInput::new("use 1 to 5")),
            HandlerError::from(Wrapped(InvalidInput::new("use 1 to 5"))),
            HandlerError::from(Transparent::from(InvalidInput::new("use 1 to 5"))),
        ] {
            assert!(matches!(&error.0, Reason::InvalidInput(text) if text == "use 1 to 5"), "{error:?}");
        }
    }

    #[test]
    fn internal_means_internal() {
        assert!(matches!(HandlerError::internal(unavailable()).0, Reason::Internal(_)));
        assert!(matches!(HandlerError::internal("no reason").0, Reason::Internal(_)));
    }

    #[test]
    fn debug_shows_the_kind_and_messages_alone() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot sign in")]
        struct SignIn {
            password: &'static str,
        }

        let error = HandlerError::from(Wrapped(SignIn { password: "hunter2" }));

        assert_eq!(format!("{error:?}"), r#"Internal("the import failed: cannot sign in")"#);
    }
}
