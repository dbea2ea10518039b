//! Admission of connections: their number, and their rate as a token bucket.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Limits, error_response::ErrorResponse};

/// Admits connections, and counts the rejected ones.
#[derive(Debug)]
pub(crate) struct Admission {
    open: Arc<Semaphore>,
    bucket: Mutex<Bucket>,
    pub(crate) admitted: AtomicU64,
    pub(crate) rejected: AtomicU64,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    capacity: f64,
    per_second: f64,
    filled: Instant,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        let capacity = limits.connection_burst.max(1.0);
        let bucket =
            Bucket { tokens: capacity, capacity, per_second: limits.connections_per_second, filled: Instant::now() };
        Self {
            open: Arc::new(Semaphore::new(limits.connections)),
            bucket: Mutex::new(bucket),
            admitted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
        }
    }

    /// Admits a connection until the permit is dropped.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, ErrorResponse> {
        let admitted = if self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            Arc::clone(&self.open).try_acquire_owned().map_err(|_| ErrorResponse::too_many_connections())
        } else {
            Err(ErrorResponse::rate_exceeded())
        };
        let counter = if admitted.is_ok() { &self.admitted } else { &self.rejected };
        counter.fetch_add(1, Ordering::Relaxed);
        admitted
    }
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.capacity);
        self.filled = now;
        let is_admitted = self.tokens >= 1.0;
        if is_admitted {
            self.tokens -= 1.0;
        }
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_burst_is_followed_by_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket { tokens: 10.0, capacity: 10.0, per_second: 100.0, filled: start };

        let admitted = |bucket: &mut Bucket, after: u64| {
            (0..1000).filter(|_| bucket.take(start + Duration::from_millis(after))).count()
        };

        assert_eq!(admitted(&mut bucket, 0), 10);
        assert_eq!(admitted(&mut bucket, 55), 5);
        assert_eq!(admitted(&mut bucket, 10_000), 10);
    }

    #[test]
    fn connections_are_limited_until_one_ends() {
        let admission = Admission::new(&Limits { connections: 1, ..Limits::default() });

        let first = admission.admit();
        assert_eq!(admission.admit().err(), Some(ErrorResponse::too_many_connections()));
        drop(first);

        assert!(admission.admit().is_ok());
        assert_eq!(admission.rejected.load(Ordering::Relaxed), 1);
    }
}
