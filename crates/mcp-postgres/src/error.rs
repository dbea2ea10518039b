//! What a failed operation means: for the caller of a tool, and for whether it may be repeated.

use std::io;

use mcp_server::{BoxError, RequestError, ToolError};
use sqlx::postgres::PgDatabaseError;

/// Why an operation has no result.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The database broke off, is not there, or takes no more connections.
    #[error("the database is not available")]
    Unavailable(#[source] BoxError),
    /// There was no answer in time: a lock, a slow query, a network that swallows packets.
    #[error("the database did not answer in time")]
    TimedOut,
    /// It is a replica, or is failing over.
    #[error("the database is read-only")]
    ReadOnly(#[source] BoxError),
    /// A constraint is broken.
    #[error("the constraint `{name}` is broken")]
    Constraint {
        /// The constraint's name in the schema.
        name: String,
        /// What the database says; it repeats values.
        #[source]
        source: BoxError,
    },
    /// Anything else: a fault on our side.
    #[error("the database refused")]
    Other(#[source] BoxError),
}

/// What the caller of a tool is told when trying again may help.
const BUSY: &str = "The database is busy or not available. Try again in a moment.";
const READ_ONLY: &str = "The database takes no changes at the moment. Try again later.";

impl DatabaseError {
    /// The error that stands for broken constraints. `client_error` says in plain words what the caller did wrong, for the
    /// names that it knows; other constraints are faults on our side.
    ///
    /// ```
    /// # use mcp_postgres::DatabaseError;
    /// # use mcp_server::ToolError;
    /// # let error = DatabaseError::Constraint { name: "events_name_check".to_owned(), source: "x".into() };
    /// let error = error.into_tool_error(|constraint| match constraint {
    ///     "events_name_check" => Some("`event_name` must not be blank".to_owned()),
    ///     _ => None,
    /// });
    ///
    /// assert!(matches!(error, ToolError::InvalidInput(text) if text.contains("blank")));
    /// ```
    pub fn into_tool_error(self, client_error: impl FnOnce(&str) -> Option<String>) -> ToolError {
        match self {
            Self::Constraint { name, source } => match client_error(&name) {
                Some(text) => ToolError::InvalidInput(text),
                None => ToolError::internal(Self::Constraint { name, source }),
            },
            other => other.into(),
        }
    }

    /// Whether the same may succeed in a moment.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<DatabaseError> for ToolError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Unavailable(_) | DatabaseError::TimedOut => {
                Self::Unavailable { message: BUSY, source: error.into() }
            }
            DatabaseError::ReadOnly(_) => Self::Unavailable { message: READ_ONLY, source: error.into() },
            DatabaseError::Constraint { .. } | DatabaseError::Other(_) => Self::internal(error),
        }
    }
}

impl From<DatabaseError> for RequestError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Unavailable(_) | DatabaseError::TimedOut => {
                Self::Unavailable { message: BUSY, source: error.into() }
            }
            DatabaseError::ReadOnly(_) => Self::Unavailable { message: READ_ONLY, source: error.into() },
            DatabaseError::Constraint { .. } | DatabaseError::Other(_) => Self::internal(error),
        }
    }
}

/// What became of an attempt that failed.
pub(crate) struct Failure {
    pub(crate) error: DatabaseError,
    /// The connection cannot be used again.
    pub(crate) is_connection_lost: bool,
    /// Nothing of it can have happened.
    pub(crate) is_without_effect: bool,
    /// The password is wrong, perhaps since it was rotated.
    pub(crate) is_authentication: bool,
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(database) => database
                .try_downcast_ref::<PgDatabaseError>()
                .map(|own| (own.code().to_owned(), own.constraint().map(str::to_owned))),
            _ => None,
        };
        let is_io = match &error {
            // A certificate that does not verify arrives as this too, and will not verify the next time.
            sqlx::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
            sqlx::Error::Protocol(_) => true,
            _ => false,
        };
        let (code, constraint) = code.unwrap_or_default();
        let failure = |error, is_connection_lost, is_without_effect| Self {
            error,
            is_connection_lost,
            is_without_effect,
            is_authentication: false,
        };
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        match code.as_str() {
            "" if is_io => failure(DatabaseError::Unavailable(error.into()), true, false),
            // Rolled back: a serialization failure, a deadlock.
            "40001" | "40P01" => failure(DatabaseError::Unavailable(error.into()), false, true),
            // The administrator ended the session, or the server goes down, or comes up. Whether a commit was on its way is
            // not known.
            "57P01" | "57P02" | "57P05" | "25P03" | "25P04" => {
                failure(DatabaseError::Unavailable(error.into()), true, false)
            }
            "57P03" | "53300" | "53400" => failure(DatabaseError::Unavailable(error.into()), true, true),
            code if code.starts_with("08") => failure(DatabaseError::Unavailable(error.into()), true, false),
            "25006" => failure(DatabaseError::ReadOnly(error.into()), true, true),
            "57014" | "55P03" => failure(DatabaseError::TimedOut, false, true),
            "28P01" | "28000" => {
                Self { is_authentication: true, ..failure(DatabaseError::Unavailable(error.into()), true, true) }
            }
            code if code.starts_with("23") && constraint.is_some() => {
                let name = constraint.unwrap_or_default();
                failure(DatabaseError::Constraint { name, source: error.into() }, false, true)
            }
            _ => failure(DatabaseError::Other(error.into()), false, false),
        }
    }
}
