//! Retries: permission, backoff, deadlines.

use std::time::{Duration, SystemTime};

use mcp_server::error_chain;
use tokio::time::{Instant, sleep};

use crate::{
    DatabaseError,
    error::{Failure, outcome_unknown},
};

/// Time limit of one operation once it has its connection. Connecting may take until the deadline: a paused database needs
/// half a minute to resume.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that remains for the handler to respond after an operation has timed out.
const RESPONSE_RESERVE: Duration = Duration::from_millis(300);
/// Minimum and maximum of the backoff.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// The same after a connection was rejected for the rate of new ones. When 1,000 environments connect at once and 100 a second are
/// admitted, each needs four attempts in place of nine, and the last one waits a second longer.
const RATE_BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));
/// Remaining time that is too short for another attempt.
const LAST_ATTEMPT: Duration = Duration::from_millis(100);

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
    /// An attempt may have been executed.
    is_unknown: bool,
}

impl Retries {
    pub(crate) fn new(budget: Budget) -> Self {
        let started = Instant::now();
        let end = budget.end.unwrap_or(started + OPERATION_TIMEOUT);
        Self { started, end, backoff: BACKOFF.0, last: None, is_unknown: false }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    ///
    /// The operation's error, if there is no further attempt: [`DatabaseError::OutcomeUnknown`] if any attempt may have been
    /// executed.
    pub(crate) async fn wait(&mut self, failure: Failure, may_repeat: bool) -> Result<(), DatabaseError> {
        self.is_unknown |= matches!(failure.error, DatabaseError::OutcomeUnknown(_));
        let waited = self.wait_unless_over(failure, may_repeat).await;
        waited.map_err(|error| self.overall(error))
    }

    /// The error of the whole operation, of which this is the last one.
    pub(crate) fn overall(&self, error: DatabaseError) -> DatabaseError {
        match error {
            error @ DatabaseError::OutcomeUnknown(_) => error,
            error if self.is_unknown => outcome_unknown(error),
            error => error,
        }
    }

    async fn wait_unless_over(&mut self, failure: Failure, may_repeat: bool) -> Result<(), DatabaseError> {
        let Failure { error, class } = failure;
        // A retry timed out: the error before it is more specific.
        if matches!(error, DatabaseError::TimedOut) && class.is_without_effect && self.last.is_some() {
            return Err(self.last.take().unwrap_or(error));
        }
        // At its connection limit a database is not resuming.
        let end = if class.is_full { self.end.min(self.started + OPERATION_TIMEOUT) } else { self.end };
        let remaining = end.saturating_duration_since(Instant::now());
        if !may_repeat || !class.is_transient || remaining < LAST_ATTEMPT {
            return Err(error);
        }
        let (minimum, maximum) = if class.is_rate_exceeded { RATE_BACKOFF } else { BACKOFF };
        let backoff = self.backoff.clamp(minimum, maximum);
        // Not beyond the deadline: the attempts go on until it.
        let wait = jitter(backoff).min(remaining / 2);
        tracing::info!(
            error = error_chain(&error),
            wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            monotonic_counter.database_retries = 1,
            "retrying the database operation"
        );
        self.last = Some(error);
        sleep(wait).await;
        self.backoff = backoff * 2;
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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use futures_util::future::join_all;

    use super::*;
    use crate::error::Class;

    /// A failure to connect.
    fn refused(is_rate_exceeded: bool) -> Failure {
        let class = Class {
            is_transient: true,
            is_connection_lost: true,
            is_without_effect: true,
            is_rate_exceeded,
            ..Class::default()
        };
        Failure { error: DatabaseError::Unavailable("refused".into()), class }
    }

    fn retries(limit: Duration) -> Retries {
        Retries::new(Budget { end: Some(Instant::now() + limit) })
    }

    /// Aurora DSQL admits 100 connections a second after a burst. Time is simulated, so that the result is that of the backoff alone.
    #[tokio::test(start_paused = true)]
    async fn a_thousand_environments_use_the_rate_of_admissions_without_a_storm_of_attempts() {
        const COUNT: usize = 1000;
        const RATE: f64 = 100.0;
        let started = Instant::now();
        let (bucket, attempts) = (Cell::new((RATE, started)), RefCell::new(Vec::new()));
        let is_admitted = || {
            let now = Instant::now();
            attempts.borrow_mut().push(now - started);
            let (tokens, filled) = bucket.get();
            let tokens = (tokens + (now - filled).as_secs_f64() * RATE).min(RATE);
            bucket.set((if tokens >= 1.0 { tokens - 1.0 } else { tokens }, now));
            tokens >= 1.0
        };

        let environments = (0..COUNT).map(async |_| {
            let mut retries = retries(Duration::from_secs(30));
            while !is_admitted() {
                retries.wait(refused(true), true).await?;
            }
            Ok::<_, DatabaseError>(started.elapsed())
        });
        let admitted: Result<Vec<Duration>, _> = join_all(environments).await.into_iter().collect();

        let last = admitted.unwrap().into_iter().max().unwrap();
        // At full use of the rate the last one is admitted after nine seconds.
        assert!(last < Duration::from_secs(13), "{last:?}");
        let attempts = attempts.into_inner();
        assert!(attempts.len() < COUNT * 6, "{} attempts", attempts.len());
        let most = attempts.chunk_by(|a, b| a.as_millis() / 100 == b.as_millis() / 100).skip(1).map(<[_]>::len).max();
        assert!(most.unwrap() < COUNT / 2, "{most:?} attempts within 100 ms");
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_go_on_until_the_deadline() {
        for is_rate_exceeded in [false, true] {
            let (started, limit) = (Instant::now(), Duration::from_secs(20));
            let (mut retries, mut waits) = (retries(limit), Vec::new());

            while retries.wait(refused(is_rate_exceeded), true).await.is_ok() {
                waits.push(started.elapsed());
            }

            let last = started.elapsed();
            assert!(last > limit - LAST_ATTEMPT && last < limit, "{last:?}");
            let first = waits[0];
            let minimum = if is_rate_exceeded { RATE_BACKOFF.0 } else { BACKOFF.0 };
            assert!((minimum / 2..=minimum + Duration::from_millis(1)).contains(&first), "{first:?}");
            assert!(waits.len() < 40, "{waits:?}");
        }
    }

    /// Otherwise the caller repeats a write that was executed, since the last attempt could not connect.
    #[tokio::test(start_paused = true)]
    async fn an_attempt_of_unknown_outcome_decides_the_error_of_later_ones() {
        let mut retries = retries(Duration::from_secs(2));
        let lost = Class { is_transient: true, is_connection_lost: true, ..Class::default() };
        let unknown = Failure { error: DatabaseError::Unavailable("lost".into()), class: lost }.into_write_failure();

        retries.wait(unknown, true).await.unwrap();
        let error = loop {
            if let Err(error) = retries.wait(refused(false), true).await {
                break error;
            }
        };

        assert!(matches!(error, DatabaseError::OutcomeUnknown(_)), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_that_may_not_be_retried_end_the_operation() {
        let mut retries = retries(Duration::from_secs(20));

        assert!(retries.wait(refused(false), false).await.is_err());
        assert!(retries.wait(Failure::permanent(DatabaseError::AlreadyHeld), true).await.is_err());

        assert_eq!(retries.started.elapsed(), Duration::ZERO);
    }
}
