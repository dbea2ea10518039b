//! Asynchronous invocations: the operation Invoke with `X-Amz-Invocation-Type: Event`.
//!
//! The queue is shared with the function's other invocations: an event waits while all environments are busy.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use tokio::time::{Instant, sleep};

use crate::{
    AsynchronousConfig,
    environment::Outcome,
    function::{Function, RoutingError, new_request_id},
};

const PREFIX: &str = "/2015-03-31/functions/";
const SUFFIX: &str = "/invocations";
const TYPE: &str = "x-amz-invocation-type";
/// Maximum size of an event: 1 MB.
const MAX_EVENT_BYTES: usize = 1024 * 1024;
/// Number of retries after an error of the function.
const RETRIES: u32 = 2;
/// Interval of attempts while all environments are busy.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);

/// Queue of a function's asynchronous invocations.
#[derive(Debug)]
pub(crate) struct Queue {
    config: AsynchronousConfig,
    events: AtomicU64,
    duplicates: AtomicU64,
    retries: AtomicU64,
    dropped: AtomicU64,
}

/// Counts of asynchronous invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsynchronousReport {
    /// Number of accepted events.
    pub events: u64,
    /// Number of events that were delivered twice.
    pub duplicates: u64,
    /// Number of repeated deliveries after an error of the function.
    pub retries: u64,
    /// Number of deliveries that were given up: the function failed three times, or the event was too old.
    pub dropped: u64,
}

impl Queue {
    pub(crate) fn new(config: AsynchronousConfig) -> Self {
        let zero = || AtomicU64::new(0);
        Self { config, events: zero(), duplicates: zero(), retries: zero(), dropped: zero() }
    }

    pub(crate) fn report(&self) -> AsynchronousReport {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AsynchronousReport {
            events: count(&self.events),
            duplicates: count(&self.duplicates),
            retries: count(&self.retries),
            dropped: count(&self.dropped),
        }
    }

    /// Queues an event, and returns the status of the response.
    pub(crate) fn accept(&self, function: &Arc<Function>, path: &str, headers: &HeaderMap, event: Bytes) -> StatusCode {
        let name = path.strip_prefix(PREFIX).and_then(|path| path.strip_suffix(SUFFIX)).unwrap_or_default();
        if !headers.contains_key(header::AUTHORIZATION) {
            return StatusCode::FORBIDDEN;
        }
        if name != function.config.name {
            return StatusCode::NOT_FOUND;
        }
        if headers.get(TYPE).is_none_or(|value| value != "Event") {
            return StatusCode::NOT_IMPLEMENTED;
        }
        if event.len() > MAX_EVENT_BYTES {
            return StatusCode::PAYLOAD_TOO_LARGE;
        }
        let number = self.events.fetch_add(1, Ordering::Relaxed) + 1;
        let is_duplicated = self.config.duplicate_every.is_some_and(|every| number.is_multiple_of(every.get()));
        if is_duplicated {
            self.duplicates.fetch_add(1, Ordering::Relaxed);
        }
        let request_id = new_request_id();
        for _ in 0..=u8::from(is_duplicated) {
            tokio::spawn(deliver(Arc::clone(function), self.config, request_id.clone(), event.clone()));
        }
        StatusCode::ACCEPTED
    }
}

/// Reports whether a request is the operation Invoke.
pub(crate) fn is_invoke(path: &str) -> bool {
    path.starts_with(PREFIX) && path.ends_with(SUFFIX)
}

/// Invokes the function until it returns a result, and counts what happens.
async fn deliver(function: Arc<Function>, config: AsynchronousConfig, request_id: String, event: Bytes) {
    let Some(queue) = &function.queue else { return };
    let ends = Instant::now() + config.maximum_event_age;
    let mut failures = 0;
    while Instant::now() < ends {
        let trace_id = "Root=1-00000000-000000000000000000000000".to_owned();
        match function.invoke(request_id.clone(), trace_id, event.clone()).await {
            Ok((_, Outcome::Response(_) | Outcome::Stream { .. })) => return,
            Err(RoutingError::Throttled) => sleep(BUSY_INTERVAL).await,
            Err(RoutingError::CannotStart(_)) => break,
            Ok(_) if failures == RETRIES => break,
            Ok(_) => {
                failures += 1;
                sleep(config.retry_after * failures).await;
                queue.retries.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    queue.dropped.fetch_add(1, Ordering::Relaxed);
}
