//! Errors of operations: their meaning for the caller of a tool, and whether a retry is permitted.

use std::{error::Error, fmt, io, sync::LazyLock};

use mcp_server::{BoxError, HandlerError, InvalidInput, Unavailable};
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// Why an operation failed. Converted from [`sqlx::Error`] by `?`.
///
/// In a handler, errors of availability are converted to [`mcp_server::Unavailable`], and [`InvalidText`](Self::InvalidText) to
/// [`mcp_server::InvalidInput`], also if another error wraps them. All others become internal faults.
#[derive(Debug)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The database is unreachable, closed the connection, or accepts no more connections.
    Unavailable(BoxError),
    /// The deadline passed before a response: a lock, a slow query, lost packets.
    TimedOut,
    /// The database became unavailable, or the deadline passed, after a write was sent: it may have been executed.
    OutcomeUnknown(BoxError),
    /// The database is a replica, or is failing over.
    ReadOnly(BoxError),
    /// A statement violates a constraint.
    Constraint {
        /// The constraint's name in the schema.
        name: String,
        /// The database's message, which repeats values.
        source: BoxError,
    },
    /// A text has a character that the database cannot store, such as U+0000: an invalid input of the caller.
    InvalidText,
    /// The call already holds a connection to this database.
    AlreadyHeld,
    /// Any other error: an internal fault.
    Other(BoxError),
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(_) => f.write_str("the database is not available"),
            Self::TimedOut => f.write_str("the database did not respond before the deadline"),
            Self::OutcomeUnknown(_) => f.write_str(
                "the connection to the database was lost before it confirmed the operation: it may have been executed",
            ),
            Self::ReadOnly(_) => f.write_str("the database is read-only"),
            Self::Constraint { name, .. } => write!(f, "the constraint `{name}` is violated"),
            Self::InvalidText => f.write_str("the database cannot store a character of the text"),
            Self::AlreadyHeld => f.write_str(
                "this call already holds a connection, and each call has one: use that one, or end it (`commit`, \
                 `rollback`, `drop`) before the next",
            ),
            Self::Other(_) => f.write_str("the database rejected the operation"),
        }
    }
}

impl Error for DatabaseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        static TIMED_OUT: LazyLock<Unavailable> =
            LazyLock::new(|| Unavailable::new(BUSY, "no response before the deadline"));
        static INVALID_TEXT: LazyLock<InvalidInput> = LazyLock::new(|| InvalidInput::new(UNSTORABLE));
        match self {
            Self::TimedOut => Some(&*TIMED_OUT),
            Self::InvalidText => Some(&*INVALID_TEXT),
            Self::AlreadyHeld => None,
            Self::Unavailable(source)
            | Self::OutcomeUnknown(source)
            | Self::ReadOnly(source)
            | Self::Constraint { source, .. }
            | Self::Other(source) => Some(&**source),
        }
    }
}

/// Message for a caller whose write may have been executed.
const UNKNOWN: &str = "The database did not respond. The change may have been made: check before you try again.";
/// Message for a caller who may retry.
const BUSY: &str = "The database is busy or not available. Try again in a moment.";
/// Message for a caller whose text cannot be stored.
const UNSTORABLE: &str = "text must not contain the character U+0000, nor one that the encoding of the database lacks";
const READ_ONLY: &str = "The database is read-only at the moment. Try again later.";

impl DatabaseError {
    /// Converts a violated constraint to the handler's error. `client_error` returns a message for the caller for
    /// each constraint name that it knows; other constraints are internal faults.
    ///
    /// ```
    /// # use mcp_postgres::DatabaseError;
    /// # use mcp_server::HandlerError;
    /// # let error = DatabaseError::Constraint { name: "events_name_check".to_owned(), source: "x".into() };
    /// let error = error.into_handler_error(|constraint| match constraint {
    ///     "events_name_check" => Some("`event_name` must not be blank".to_owned()),
    ///     _ => None,
    /// });
    ///
    /// assert_eq!(error.to_string(), "`event_name` must not be blank");
    /// ```
    pub fn into_handler_error(self, client_error: impl FnOnce(&str) -> Option<String>) -> HandlerError {
        match self {
            Self::Constraint { name, source } => match client_error(&name) {
                Some(text) => HandlerError::invalid_input(text),
                None => HandlerError::internal(Self::Constraint { name, source }),
            },
            other => other.into(),
        }
    }
}

impl DatabaseError {
    /// Returns the kind of the error, for a span. Messages of the database may repeat values.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::TimedOut => "timed_out",
            Self::OutcomeUnknown(_) => "outcome_unknown",
            Self::ReadOnly(_) => "read_only",
            Self::Constraint { .. } => "constraint",
            Self::InvalidText => "invalid_text",
            Self::AlreadyHeld => "already_held",
            Self::Other(_) => "_OTHER",
        }
    }
}

/// Wraps a source as [`Unavailable`].
pub(crate) fn busy(source: impl Into<BoxError>) -> BoxError {
    Unavailable::new(BUSY, source).into()
}

impl From<sqlx::Error> for DatabaseError {
    /// Restores an error of this crate that was passed through sqlx.
    fn from(error: sqlx::Error) -> Self {
        let error = match error {
            sqlx::Error::Io(error) => match error.downcast::<Self>() {
                Ok(own) => return own,
                Err(other) => sqlx::Error::Io(other),
            },
            other => other,
        };
        let (kind, _) = classify(&error);
        match kind {
            Kind::Unavailable => Self::Unavailable(busy(error)),
            Kind::TimedOut => Self::TimedOut,
            Kind::ReadOnly => Self::ReadOnly(Unavailable::new(READ_ONLY, error).into()),
            Kind::Constraint(name) => Self::Constraint { name, source: error.into() },
            Kind::InvalidText => Self::InvalidText,
            Kind::Other => Self::Other(error.into()),
        }
    }
}

/// Marks an error whose statement may have been executed.
pub(crate) fn outcome_unknown(error: DatabaseError) -> DatabaseError {
    DatabaseError::OutcomeUnknown(Unavailable::new(UNKNOWN, error).into())
}

/// A connection that Aurora DSQL has denied. The reason is in its hint, which sqlx does not show.
#[derive(Debug, thiserror::Error)]
#[error("access denied: {hint}")]
struct AccessDenied {
    hint: String,
    source: BoxError,
}

/// Adds the hint to the error of a connection that the database has denied.
pub(crate) fn access_denied(error: DatabaseError) -> DatabaseError {
    let database = sqlx_error(&error).and_then(sqlx::Error::as_database_error);
    let hint = database.and_then(|own| own.try_downcast_ref::<PgDatabaseError>()).and_then(PgDatabaseError::hint);
    match (hint.map(str::to_owned), error) {
        (Some(hint), DatabaseError::Other(source)) => DatabaseError::Other(AccessDenied { hint, source }.into()),
        (_, error) => error,
    }
}

/// Returns the error of sqlx from which an error was converted.
fn sqlx_error(error: &DatabaseError) -> Option<&sqlx::Error> {
    let source = Error::source(error)?;
    source.downcast_ref().map(Unavailable::reason).unwrap_or(source).downcast_ref()
}

/// Wraps the error so that an executor of sqlx can return it.
pub(crate) fn through_sqlx(error: DatabaseError) -> sqlx::Error {
    sqlx::Error::Io(io::Error::other(error))
}

/// Reports whether the connection cannot be used after this error.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    classify(error).1.is_connection_lost
}

/// Converts the error of a statement that commits by itself: if the connection was lost, it may have been executed.
pub(crate) fn convert_autocommit_error(error: sqlx::Error) -> sqlx::Error {
    match classify(&error) {
        (Kind::Unavailable, Class { is_without_effect: false, .. })
        | (Kind::Other, Class { is_without_effect: false, is_connection_lost: true, .. }) => {
            through_sqlx(outcome_unknown(DatabaseError::from(error)))
        }
        _ => convert_guard_error(error),
    }
}

/// Converts the error of a guard's statement: an outage or a text that cannot be stored is a [`DatabaseError`], so that `?` in a
/// handler returns [`HandlerError::unavailable`] or [`HandlerError::invalid_input`]. Others stay errors of sqlx, for authors who
/// inspect them.
pub(crate) fn convert_guard_error(error: sqlx::Error) -> sqlx::Error {
    match classify(&error).0 {
        Kind::Unavailable | Kind::TimedOut | Kind::ReadOnly | Kind::InvalidText => {
            through_sqlx(DatabaseError::from(error))
        }
        Kind::Constraint(_) | Kind::Other => error,
    }
}

/// A failed attempt.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: DatabaseError,
    pub(crate) class: Class,
}

/// The meaning of a failure for the connection and for a retry.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Class {
    /// A retry may succeed.
    pub(crate) is_transient: bool,
    /// The connection cannot be used again.
    pub(crate) is_connection_lost: bool,
    /// The failed operation had no effect.
    pub(crate) is_without_effect: bool,
    /// The password was rejected, perhaps because it was rotated.
    pub(crate) is_authentication: bool,
    /// The connection limit is reached.
    pub(crate) is_full: bool,
    /// The rate of new connections is exceeded.
    pub(crate) is_rate_exceeded: bool,
}

impl Failure {
    /// A timeout. A statement may still be running on the connection.
    pub(crate) fn timed_out() -> Self {
        let class = Class { is_connection_lost: true, ..Class::default() };
        Self { error: DatabaseError::TimedOut, class }
    }

    /// A failure that a retry cannot fix.
    pub(crate) fn permanent(error: DatabaseError) -> Self {
        Self { error, class: Class { is_connection_lost: true, is_without_effect: true, ..Class::default() } }
    }

    /// Marks the failed operation as one without effect.
    pub(crate) fn without_effect(self) -> Self {
        Self { class: Class { is_without_effect: true, ..self.class }, ..self }
    }

    /// Marks the failure of a write: it may have had an effect.
    pub(crate) fn into_write_failure(self) -> Self {
        let Self { error, class } = self;
        let error = match error {
            error @ (DatabaseError::Unavailable(_) | DatabaseError::TimedOut) if !class.is_without_effect => {
                outcome_unknown(error)
            }
            error @ DatabaseError::Other(_) if class.is_connection_lost && !class.is_without_effect => {
                outcome_unknown(error)
            }
            error => error,
        };
        Self { error, class }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        DatabaseError::from(error).into()
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        // Others: a statement that the server has cancelled, or the author's own error.
        let rejected = Class { is_without_effect: true, ..Class::default() };
        let class = sqlx_error(&error).map_or(rejected, |source| classify(source).1);
        Self { error, class }
    }
}

enum Kind {
    Unavailable,
    TimedOut,
    ReadOnly,
    Constraint(String),
    InvalidText,
    Other,
}

/// Classifies an error of sqlx.
fn classify(error: &sqlx::Error) -> (Kind, Class) {
    let is_transient = |kind: &Kind| matches!(kind, Kind::Unavailable);
    // The connection was lost; the statement may have been executed.
    let lost = |kind: Kind| {
        let class = Class { is_transient: is_transient(&kind), is_connection_lost: true, ..Class::default() };
        (kind, class)
    };
    // The database rejected the statement, which had no effect.
    let rejected = |kind: Kind| {
        let class = Class { is_transient: is_transient(&kind), is_without_effect: true, ..Class::default() };
        (kind, class)
    };
    let sqlx::Error::Database(database) = error else {
        return match error {
            // An invalid certificate is reported as this error, and stays invalid.
            sqlx::Error::Io(own) if own.kind() == io::ErrorKind::InvalidData => lost(Kind::Other),
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => lost(Kind::Unavailable),
            // A row is missing, or a value does not fit its Rust type.
            sqlx::Error::RowNotFound
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::TypeNotFound { .. } => rejected(Kind::Other),
            _ => lost(Kind::Other),
        };
    };
    let own = database.try_downcast_ref::<PgDatabaseError>();
    let code = own.map(PgDatabaseError::code).unwrap_or_default();
    let constraint = own.and_then(PgDatabaseError::constraint);
    let is_session_over = own.is_some_and(|own| matches!(own.severity(), PgSeverity::Fatal | PgSeverity::Panic));
    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    let (kind, class) = match code {
        // Rolled back: a serialization failure, a deadlock.
        // Some drivers and versions report Aurora DSQL's markers (OC000: data conflict, OC001: outdated schema) as the code.
        "40001" | "40P01" | "OC000" | "OC001" => rejected(Kind::Unavailable),
        // Aurora DSQL: the outcome of a commit is unknown. The connection can be used.
        "XX000" if own.is_some_and(|own| own.message() == "server unavailable") => {
            (Kind::Unavailable, Class { is_transient: true, ..Class::default() })
        }
        // Aurora DSQL rejected the token.
        "08006" if own.is_some_and(|own| own.message().ends_with("access denied")) => {
            let (kind, class) = rejected(Kind::Other);
            (kind, Class { is_transient: true, is_authentication: true, is_connection_lost: true, ..class })
        }
        // A deployment changed a table: the statement is prepared again on another connection. Other unsupported features are
        // permanent errors.
        code if code == "26000" || code == "0A000" && own.is_some_and(is_stale_plan) => {
            let (kind, class) = rejected(Kind::Other);
            (kind, Class { is_transient: true, is_connection_lost: true, ..class })
        }
        // A pooler's session has a prepared statement of this name from another client: the retry gets another session.
        "42P05" => {
            let (kind, class) = rejected(Kind::Other);
            (kind, Class { is_transient: true, ..class })
        }
        // The server starts, stops, or is at its connection limit: no session was opened.
        code @ ("57P03" | "53300" | "53400") => {
            let (kind, class) = lost(Kind::Unavailable);
            // `53400` is the connection rate of Aurora DSQL, which a later attempt does not exceed.
            let class = Class { is_full: code == "53300", is_rate_exceeded: code == "53400", ..class };
            (kind, Class { is_without_effect: true, ..class })
        }
        // The session was terminated. Whether a commit was executed is unknown.
        "57P01" | "57P02" | "57P05" | "25P03" | "25P04" => lost(Kind::Unavailable),
        code if code.starts_with("08") => lost(Kind::Unavailable),
        "25006" => {
            let (kind, class) = rejected(Kind::ReadOnly);
            (kind, Class { is_connection_lost: true, ..class })
        }
        "57014" | "55P03" => rejected(Kind::TimedOut),
        // U+0000 in a text, `\u0000` in JSON, a character that the encoding lacks.
        "22021" | "22P05" => rejected(Kind::InvalidText),
        "28P01" | "28000" => {
            let (kind, class) = rejected(Kind::Other);
            (kind, Class { is_transient: true, is_authentication: true, is_connection_lost: true, ..class })
        }
        code if code.starts_with("23") => rejected(match constraint {
            Some(name) => Kind::Constraint(name.to_owned()),
            None => Kind::Other,
        }),
        // Any other end of the session, such as a panic: whether a commit was executed is unknown.
        _ if is_session_over => lost(Kind::Other),
        _ => rejected(Kind::Other),
    };
    (kind, Class { is_connection_lost: class.is_connection_lost || is_session_over, ..class })
}

/// Reports whether a statement was prepared before a change of its table: `cached plan must not change result type`, which the server
/// may translate.
fn is_stale_plan(error: &PgDatabaseError) -> bool {
    error.routine() == Some("RevalidateCachedQuery") || error.message() == "cached plan must not change result type"
}

/// Reports whether a pooler rejected settings in the startup message: PgBouncer as an unsupported startup parameter, RDS
/// Proxy as an unsupported feature.
pub(crate) fn rejects_settings(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| matches!(error.code().as_deref(), Some("08P01" | "0A000")))
}
