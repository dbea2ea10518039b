//! State of a session's transaction, and the rules of Aurora DSQL for it.
//!
//! | Rule | Source |
//! | --- | --- |
//! | one DDL statement in a transaction | DDL, TROUBLESHOOTING (`multiple ddl statements not supported in a transaction`) |
//! | no DML beside DDL | DDL (`ddl and dml are not supported in the same transaction`); reads count as DML: STRICT |
//! | 3,000 rows, 10 MiB, five minutes | QUOTAS |
//!
//! The sources are those of the modules `policy` and `error_response`.

use std::time::{Duration, Instant};

use crate::{
    Limits,
    error_response::ErrorResponse,
    policy::{Kind, Statement},
};

/// The transaction of a session, explicit or implicit.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// `BEGIN` was executed.
    pub(crate) is_explicit: bool,
    /// A statement has failed.
    pub(crate) has_failed: bool,
    /// It was ended because it was too old. The next statement fails with the error.
    pub(crate) is_expired: bool,
    has_ddl: bool,
    has_dml: bool,
    writes: bool,
    rows: u64,
    bytes: u64,
    started: Option<Instant>,
}

impl Transaction {
    /// Begins an explicit transaction.
    pub(crate) fn begin(&mut self) {
        *self = Self { is_explicit: true, started: Some(Instant::now()), ..Self::default() };
    }

    /// Returns the time at which the transaction exceeds its maximum duration.
    pub(crate) fn ends_at(&self, limits: &Limits) -> Option<Instant> {
        self.started.filter(|_| !self.has_failed).map(|started| started + limits.transaction_time)
    }

    /// Reports whether the transaction has writes or DDL.
    pub(crate) fn writes(&self) -> bool {
        self.writes
    }

    /// Checks a statement against the rules and the size limit before it is executed, and counts its bytes.
    pub(crate) fn check(&mut self, statement: &Statement, bytes: usize, limits: &Limits) -> Result<(), ErrorResponse> {
        let is_ddl = match &statement.kind {
            Kind::Read | Kind::Write => false,
            Kind::Ddl | Kind::Job(_) => true,
            _ => return Ok(()),
        };
        if is_ddl && self.has_ddl {
            return Err(ErrorResponse::unsupported("multiple ddl statements not supported in a transaction"));
        }
        if is_ddl && self.has_dml || !is_ddl && self.has_ddl {
            return Err(ErrorResponse::unsupported("ddl and dml are not supported in the same transaction"));
        }
        self.has_ddl |= is_ddl;
        self.has_dml |= !is_ddl;
        self.writes |= statement.kind != Kind::Read;
        if statement.kind == Kind::Write {
            self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
            if self.bytes > limits.transaction_bytes {
                return Err(ErrorResponse::too_much_data(self.bytes));
            }
        }
        Ok(())
    }

    /// Counts the rows that a statement has changed.
    pub(crate) fn count(&mut self, statement: &Statement, tag: &str, limits: &Limits) -> Result<(), ErrorResponse> {
        if statement.kind != Kind::Write {
            return Ok(());
        }
        self.rows += tag.rsplit(' ').next().and_then(|rows| rows.parse::<u64>().ok()).unwrap_or_default();
        if self.rows > limits.transaction_rows { Err(ErrorResponse::too_many_rows()) } else { Ok(()) }
    }

    /// Ends the transaction because it is too old.
    pub(crate) fn expire(&mut self) {
        self.has_failed = true;
        self.is_expired = true;
    }

    /// Takes the error for the first statement after it has expired.
    pub(crate) fn take_expiry(&mut self, limits: &Limits) -> Option<ErrorResponse> {
        std::mem::take(&mut self.is_expired).then(|| ErrorResponse::too_old(limits.transaction_time))
    }
}

/// Returns the time until a deadline, or zero after it.
pub(crate) fn until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
