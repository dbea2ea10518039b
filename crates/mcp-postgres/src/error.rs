//! What a failed operation means: for the caller of a tool, and for whether it may be repeated.

use std::{error::Error, fmt, io, sync::LazyLock};

use mcp_server::{BoxError, HandlerError, Unavailable};
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::Effect;

/// Why an operation has no result.
///
/// As the error of a handler, what is not available stays so ([`mcp_server::Unavailable`]), also in an error that wraps it;
/// everything else is a fault on our side.
#[derive(Debug)]
pub enum DatabaseError {
    /// The database broke off, is not there, or takes no more connections.
    Unavailable(BoxError),
    /// There was no answer in time: a lock, a slow query, a network that swallows packets.
    TimedOut,
    /// The same, after something was asked for: it may have been done.
    OutcomeUnknown(BoxError),
    /// It is a replica, or is failing over.
    ReadOnly(BoxError),
    /// A constraint is broken.
    Constraint {
        /// The constraint's name in the schema.
        name: String,
        /// What the database says; it repeats values.
        source: BoxError,
    },
    /// Anything else: a fault on our side.
    Other(BoxError),
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(_) => f.write_str("the database is not available"),
            Self::TimedOut => f.write_str("the database did not answer in time"),
            Self::OutcomeUnknown(_) => {
                f.write_str("the database did not answer, and it is not known whether it did what it was asked for")
            }
            Self::ReadOnly(_) => f.write_str("the database is read-only"),
            Self::Constraint { name, .. } => write!(f, "the constraint `{name}` is broken"),
            Self::Other(_) => f.write_str("the database refused"),
        }
    }
}

impl Error for DatabaseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        static TIMED_OUT: LazyLock<Unavailable> = LazyLock::new(|| Unavailable::new(BUSY, "no answer in time"));
        match self {
            Self::TimedOut => Some(&*TIMED_OUT),
            Self::Unavailable(source)
            | Self::OutcomeUnknown(source)
            | Self::ReadOnly(source)
            | Self::Constraint { source, .. }
            | Self::Other(source) => Some(&**source),
        }
    }
}

/// What the caller of a tool is told when what it wanted may have happened.
const UNKNOWN: &str =
    "The database did not answer. It is not known whether the change was made: look before you try again.";
/// What the caller of a tool is told when trying again may help.
const BUSY: &str = "The database is busy or not available. Try again in a moment.";
const READ_ONLY: &str = "The database takes no changes at the moment. Try again later.";

impl DatabaseError {
    /// The error that stands for broken constraints. `client_error` says in plain words what the caller did wrong, for the
    /// names that it knows; other constraints are faults on our side.
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
    /// The kind, for a span: what the database says may repeat values.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::TimedOut => "timed_out",
            Self::OutcomeUnknown(_) => "outcome_unknown",
            Self::ReadOnly(_) => "read_only",
            Self::Constraint { .. } => "constraint",
            Self::Other(_) => "_OTHER",
        }
    }
}

/// A source that says that the database is not available at the moment.
pub(crate) fn busy(source: impl Into<BoxError>) -> BoxError {
    Unavailable::new(BUSY, source).into()
}

/// What became of an attempt that failed.
pub(crate) struct Failure {
    pub(crate) error: DatabaseError,
    /// The same may succeed in a moment.
    pub(crate) is_transient: bool,
    /// The connection cannot be used again.
    pub(crate) is_connection_lost: bool,
    /// Nothing of it can have happened.
    pub(crate) is_without_effect: bool,
    /// The password is wrong, perhaps since it was rotated.
    pub(crate) is_authentication: bool,
    /// All connections are taken.
    pub(crate) is_full: bool,
}

impl Failure {
    /// The connection broke off; what was asked for may have been done.
    pub(crate) fn lost(error: DatabaseError) -> Self {
        let is_transient = matches!(error, DatabaseError::Unavailable(_));
        Self {
            error,
            is_transient,
            is_connection_lost: true,
            is_without_effect: false,
            is_authentication: false,
            is_full: false,
        }
    }

    /// The database refused, and nothing was done.
    fn refused(error: DatabaseError) -> Self {
        Self { is_connection_lost: false, is_without_effect: true, ..Self::lost(error) }
    }

    /// The error, for someone who wanted an effect.
    pub(crate) fn into_error(self, effect: Effect) -> DatabaseError {
        match self.error {
            error @ (DatabaseError::Unavailable(_) | DatabaseError::TimedOut)
                if effect != Effect::None && !self.is_without_effect =>
            {
                DatabaseError::OutcomeUnknown(Unavailable::new(UNKNOWN, error).into())
            }
            error => error,
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &error else {
            return match &error {
                // A certificate that does not verify arrives as this, and will not verify the next time.
                sqlx::Error::Io(own) if own.kind() == io::ErrorKind::InvalidData => {
                    Self::lost(DatabaseError::Other(error.into()))
                }
                sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => Self::lost(DatabaseError::Unavailable(busy(error))),
                // What was read does not fit its type, or is not there.
                sqlx::Error::RowNotFound
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. }
                | sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_)
                | sqlx::Error::TypeNotFound { .. } => Self::refused(DatabaseError::Other(error.into())),
                _ => Self::lost(DatabaseError::Other(error.into())),
            };
        };
        let own = database.try_downcast_ref::<PgDatabaseError>();
        let code = own.map(|own| own.code().to_owned()).unwrap_or_default();
        let constraint = own.and_then(|own| own.constraint()).map(str::to_owned);
        let is_session_over = own.is_some_and(|own| matches!(own.severity(), PgSeverity::Fatal | PgSeverity::Panic));
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        let failure = match code.as_str() {
            // Rolled back: a serialization failure, a deadlock.
            "40001" | "40P01" => Self::refused(DatabaseError::Unavailable(busy(error))),
            // Another deployment changed a table: the statement is prepared anew on another connection. Everything
            // else that is not supported is permanent.
            code if code == "26000" || code == "0A000" && own.is_some_and(is_stale_plan) => Self {
                is_transient: true,
                is_connection_lost: true,
                ..Self::refused(DatabaseError::Other(error.into()))
            },
            // A pooler's session has a prepared statement of this name, which another client left: the next has another.
            "42P05" => Self { is_transient: true, ..Self::refused(DatabaseError::Other(error.into())) },
            // The server comes up or goes down, or is full: nobody was let in.
            code @ ("57P03" | "53300" | "53400") => Self {
                is_without_effect: true,
                is_full: code != "57P03",
                ..Self::lost(DatabaseError::Unavailable(busy(error)))
            },
            // The session was ended. Whether a commit was on its way is not known.
            "57P01" | "57P02" | "57P05" | "25P03" | "25P04" => Self::lost(DatabaseError::Unavailable(busy(error))),
            code if code.starts_with("08") => Self::lost(DatabaseError::Unavailable(busy(error))),
            "25006" => Self {
                is_connection_lost: true,
                ..Self::refused(DatabaseError::ReadOnly(Unavailable::new(READ_ONLY, error).into()))
            },
            "57014" | "55P03" => Self::refused(DatabaseError::TimedOut),
            "28P01" | "28000" => Self {
                is_authentication: true,
                is_connection_lost: true,
                ..Self::refused(DatabaseError::Unavailable(busy(error)))
            },
            code if code.starts_with("23") && constraint.is_some() => {
                let name = constraint.unwrap_or_default();
                Self::refused(DatabaseError::Constraint { name, source: error.into() })
            }
            _ => Self::refused(DatabaseError::Other(error.into())),
        };
        Self { is_connection_lost: failure.is_connection_lost || is_session_over, ..failure }
    }
}

/// `cached plan must not change result type`, in the language of the server.
fn is_stale_plan(error: &PgDatabaseError) -> bool {
    error.routine() == Some("RevalidateCachedQuery") || error.message() == "cached plan must not change result type"
}

/// Whether a pooler rejects settings in the startup message: PgBouncer as an unsupported startup parameter, RDS Proxy as a
/// feature that is not supported.
pub(crate) fn refuses_settings(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| matches!(error.code().as_deref(), Some("08P01" | "0A000")))
}
