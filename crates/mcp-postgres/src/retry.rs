//! Retries: what may be repeated, the backoff, and when to give up.

use std::time::{Duration, SystemTime};

use mcp_server::error_chain;
use tokio::time::{Instant, sleep};

use crate::{DatabaseError, error::Failure};

/// The longest that one operation may take once it has its connection. Connecting may take what the deadline leaves: a
/// database that has slept takes half a minute.
const LONGEST: Duration = Duration::from_secs(10);
/// The time that is left to a handler for saying that an operation took too long.
const ANSWER_TIME: Duration = Duration::from_millis(300);
/// The first pause before a retry, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Whether a [write](crate::Database::write) may be repeated after it has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// It may: the second time changes nothing, since it writes under a key, for example.
    Idempotent,
    /// It must not. Only connecting is retried.
    Never,
}

/// The time that a call has for its database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// What the handler's deadline leaves, less the time for an answer; `None` for a call without a deadline.
    end: Option<Instant>,
}

impl Budget {
    pub(crate) fn new(deadline: Option<std::time::Instant>) -> Self {
        Self { end: deadline.map(|end| Instant::from_std(end.checked_sub(ANSWER_TIME).unwrap_or(end))) }
    }

    /// When an operation that begins now, on its connection, must have ended.
    pub(crate) fn done_by(self) -> Instant {
        let longest = Instant::now() + LONGEST;
        self.end.map_or(longest, |end| end.min(longest))
    }
}

/// The retries of one operation.
pub(crate) struct Retries {
    started: Instant,
    /// When the last attempt must have its connection.
    pub(crate) end: Instant,
    pause: Duration,
    last: Option<DatabaseError>,
}

impl Retries {
    pub(crate) fn new(budget: Budget) -> Self {
        let started = Instant::now();
        Self { started, end: budget.end.unwrap_or(started + LONGEST), pause: BACKOFF.0, last: None }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    ///
    /// The operation's error, if there is no further attempt.
    pub(crate) async fn wait(&mut self, failure: Failure, may_repeat: bool) -> Result<(), DatabaseError> {
        let Failure { error, class } = failure;
        // Time was over during a retry: the reason for it says more.
        if matches!(error, DatabaseError::TimedOut) && class.is_without_effect && self.last.is_some() {
            return Err(self.last.take().unwrap_or(error));
        }
        // A full database is no database that wakes up.
        let end = if class.is_full { self.end.min(self.started + LONGEST) } else { self.end };
        let wait = jitter(self.pause);
        if !may_repeat || !class.is_transient || Instant::now() + wait >= end {
            return Err(error);
        }
        tracing::info!(error = error_chain(&error), monotonic_counter.database_retries = 1, "trying again");
        self.last = Some(error);
        sleep(wait).await;
        self.pause = (self.pause * 2).min(BACKOFF.1);
        Ok(())
    }
}

/// Between half of a pause and all of it, so that environments that failed together do not come back together. After a
/// snapshot is restored the clock alone differs between them.
fn jitter(pause: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    pause / 2 + pause / 2 * (nanos % 1000) / 1000
}
