//! Retries: permission, backoff, deadlines.

use std::time::{Duration, SystemTime};

use mcp_server::error_chain;
use tokio::time::{Instant, sleep};

use crate::{DatabaseError, error::Failure};

/// Time limit of one operation once it has its connection. Connecting may take until the deadline: a paused database needs
/// half a minute to resume.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that remains for the handler to respond after an operation has timed out.
const RESPONSE_RESERVE: Duration = Duration::from_millis(300);
/// Minimum and maximum of the backoff.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Whether a [write](crate::Database::write) may be repeated after it has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// The write is idempotent, for example by a unique key: it may be repeated.
    Idempotent,
    /// A write that must not be retried. Only connecting is retried.
    Never,
}

/// Time limit of a call's operations on its database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// The handler's deadline less the time for a response; `None` for a call without a deadline.
    end: Option<Instant>,
}

impl Budget {
    pub(crate) fn new(deadline: Option<std::time::Instant>) -> Self {
        Self { end: deadline.map(|end| Instant::from_std(end.checked_sub(RESPONSE_RESERVE).unwrap_or(end))) }
    }

    /// Returns the deadline of an operation that begins now, with its connection.
    pub(crate) fn done_by(self) -> Instant {
        let longest = Instant::now() + OPERATION_TIMEOUT;
        self.end.map_or(longest, |end| end.min(longest))
    }
}

/// The retries of one operation.
pub(crate) struct Retries {
    started: Instant,
    /// The deadline by which the last attempt must have its connection.
    pub(crate) end: Instant,
    backoff: Duration,
    last: Option<DatabaseError>,
}

impl Retries {
    pub(crate) fn new(budget: Budget) -> Self {
        let started = Instant::now();
        Self { started, end: budget.end.unwrap_or(started + OPERATION_TIMEOUT), backoff: BACKOFF.0, last: None }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    ///
    /// The operation's error, if there is no further attempt.
    pub(crate) async fn wait(&mut self, failure: Failure, may_repeat: bool) -> Result<(), DatabaseError> {
        let Failure { error, class } = failure;
        // A retry timed out: the error before it is more specific.
        if matches!(error, DatabaseError::TimedOut) && class.is_without_effect && self.last.is_some() {
            return Err(self.last.take().unwrap_or(error));
        }
        // At its connection limit a database is not resuming.
        let end = if class.is_full { self.end.min(self.started + OPERATION_TIMEOUT) } else { self.end };
        let wait = jitter(self.backoff);
        if !may_repeat || !class.is_transient || Instant::now() + wait >= end {
            return Err(error);
        }
        tracing::info!(
            error = error_chain(&error),
            monotonic_counter.database_retries = 1,
            "retrying the database operation"
        );
        self.last = Some(error);
        sleep(wait).await;
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
        Ok(())
    }
}

/// Returns the backoff with jitter: a random duration from half of it to all of it, so that environments that failed together
/// do not retry together. The clock is the source of randomness, because environments that were restored from one snapshot
/// share all other state.
fn jitter(backoff: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    backoff / 2 + backoff / 2 * (nanos % 1000) / 1000
}
