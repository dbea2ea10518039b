//! Times as numbers.

use std::time::SystemTime;

/// Returns a time in seconds since 1970; 0 for an earlier time.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
