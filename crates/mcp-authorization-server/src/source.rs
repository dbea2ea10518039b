//! Values that are read again while an environment runs: signing keys, resources.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use mcp_server::{BoxError, error_chain};

/// How old a value may be before it is read again.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);
/// Pause between attempts that fail.
const COOLDOWN: Duration = Duration::from_secs(10);

/// The future of a read.
pub type LoadFuture<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// A value that is read on demand, at most five minutes old while reads succeed.
///
/// If a read fails, the last value is used for as long as `max_stale` allows. Nothing runs in the background.
pub struct Source<T> {
    load: Box<dyn Fn() -> LoadFuture<T> + Send + Sync>,
    max_stale: Duration,
    cached: Mutex<Cached<T>>,
}

struct Cached<T> {
    /// The value, and the time at which it was read.
    value: Option<(Arc<T>, SystemTime)>,
    failed: Option<SystemTime>,
}

impl<T: Send + Sync + 'static> Source<T> {
    /// Creates a source that reads by a function.
    pub fn new(max_stale: Duration, load: impl Fn() -> LoadFuture<T> + Send + Sync + 'static) -> Self {
        Self { load: Box::new(load), max_stale, cached: Mutex::new(Cached { value: None, failed: None }) }
    }

    /// Returns the value.
    ///
    /// # Errors
    ///
    /// When it cannot be read, and the last value is too old.
    pub async fn get(&self, now: SystemTime) -> Result<Arc<T>, BoxError> {
        // A clock that was set back counts as a long time.
        let is_within = |since: SystemTime, limit| now.duration_since(since).is_ok_and(|age| age < limit);
        let stale = {
            let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
            match &cached.value {
                Some((value, read)) if is_within(*read, MAX_AGE) => return Ok(Arc::clone(value)),
                Some((value, read)) if is_within(*read, self.max_stale) => {
                    if cached.failed.is_some_and(|failed| is_within(failed, COOLDOWN)) {
                        return Ok(Arc::clone(value));
                    }
                    Some(Arc::clone(value))
                }
                Some(_) | None => None,
            }
        };
        let loaded = (self.load)().await;
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        match (loaded, stale) {
            (Ok(value), _) => {
                let value = Arc::new(value);
                *cached = Cached { value: Some((Arc::clone(&value), now)), failed: None };
                Ok(value)
            }
            (Err(error), Some(value)) => {
                cached.failed = Some(now);
                tracing::warn!(
                    error = error_chain(error.as_ref()),
                    "a setting could not be read again: the last value is used"
                );
                Ok(value)
            }
            (Err(error), None) => Err(error),
        }
    }
}

impl<T> fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("max_stale", &self.max_stale).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::test_support::at;

    #[tokio::test]
    async fn a_value_is_read_again_after_five_minutes_and_kept_while_reads_fail() {
        let reads = Arc::new(AtomicU64::new(0));
        let own = Arc::clone(&reads);
        // The second and the third read fail.
        let source = Source::new(Duration::from_secs(3000), move || {
            let number = own.fetch_add(1, Ordering::SeqCst) + 1;
            Box::pin(async move { if (2..=4).contains(&number) { Err("down".into()) } else { Ok(number) } })
        });

        for (now, value, count) in [
            (0, Some(1), 1),
            (299, Some(1), 1),
            (300, Some(1), 2),
            (309, Some(1), 2),
            (310, Some(1), 3),
            (3000, None, 4),
            (3000, Some(5), 5),
            (3001, Some(5), 5),
        ] {
            assert_eq!(source.get(at(now)).await.ok().map(|own| *own), value, "{now}");
            assert_eq!(reads.load(Ordering::SeqCst), count, "{now}");
        }
    }
}
