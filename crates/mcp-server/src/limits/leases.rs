//! Blocks of requests that an execution environment leases from the store.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::{
    rate_limit::{RateLimit, Scope},
    table::{At, Key, Lease, Table},
};
use crate::{
    Invocation, Principal, error_chain,
    store::{Granted, Increment, Kind, SealedStore, StoreId},
};

/// The kind of the counters.
const KIND: Kind = Kind::new("rate-limit");
/// The longest time that a request waits for the store before its limit counts as not available.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Time in milliseconds after a failure in which the store is not asked again.
const COOLDOWN: u64 = 5_000;

/// The store, and when it may be asked again.
pub(super) struct Leases {
    store: SealedStore,
    /// End of the cooldown, in milliseconds since 1970.
    retry_at: AtomicU64,
}

/// Why no request was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// The limit is reached until this time.
    Exhausted(u64),
    /// The store is not available. It is asked again after this time, in milliseconds.
    Unavailable(u64),
}

impl Leases {
    pub(super) fn new(store: SealedStore) -> Self {
        Self { store, retry_at: AtomicU64::new(0) }
    }

    /// Takes a request of the block in hand, or leases another block.
    #[expect(clippy::too_many_arguments, reason = "the request, its caller and its limit")]
    pub(super) async fn take(
        &self,
        table: &Table,
        key: Key,
        invocation: &Invocation,
        caller: &Principal,
        scope: Scope<'_>,
        limit: &RateLimit,
        at: At,
    ) -> Result<(), NotTaken> {
        match table.take(key, at) {
            Lease::Taken => return Ok(()),
            Lease::Exhausted(end) => return Err(NotTaken::Exhausted(end)),
            Lease::Empty => {}
        }
        let retry_at = self.retry_at.load(Ordering::Relaxed);
        // A cooldown that is too long was begun before the clock was set back.
        if let Some(wait) = retry_at.checked_sub(at.now).filter(|wait| (1..=COOLDOWN).contains(wait)) {
            return Err(NotTaken::Unavailable(wait));
        }
        let Some(leased) = self.lease(invocation, caller, scope, limit).await else {
            self.retry_at.store(at.now.saturating_add(COOLDOWN), Ordering::Relaxed);
            return Err(NotTaken::Unavailable(COOLDOWN));
        };
        // The window ended later by the store's clock, by the time that the request had taken to reach it. A lease therefore never
        // outlives its window, unless the clock is set back.
        let ends_at = at.now.saturating_add(u64::try_from(leased.ends_in.as_millis()).unwrap_or(at.window));
        table.add(key, at, u32::try_from(leased.granted).unwrap_or(limit.requests), ends_at);
        if leased.granted > 0 { Ok(()) } else { Err(NotTaken::Exhausted(ends_at)) }
    }

    /// Leases a block; `None` if the store is not available. A block whose confirmation is lost is lost: the limit is never exceeded
    /// by it.
    async fn lease(
        &self,
        invocation: &Invocation,
        caller: &Principal,
        scope: Scope<'_>,
        limit: &RateLimit,
    ) -> Option<Granted> {
        let remaining = invocation.answer_by().map(|end| end.saturating_duration_since(Instant::now()));
        // Without the client id, which is part of a row's key: all clients of a person share one count.
        let caller = Principal::new(caller.issuer.as_str(), caller.subject.as_str());
        // A counter keeps the length of its window. Another length is another counter.
        let id = match scope {
            Scope::Server => format!("server {}", limit.window.as_nanos()),
            Scope::Tool(name) => format!("tool {} {name}", limit.window.as_nanos()),
        };
        let increment = Increment {
            amount: u64::from(limit.block_size()),
            ceiling: u64::from(limit.requests),
            window: limit.window,
        };
        let id = StoreId { kind: KIND, caller: Some(&caller), id: id.as_bytes() };
        let leasing = self.store.increment(&id, increment);
        let error = match tokio::time::timeout(remaining.unwrap_or(TIMEOUT).min(TIMEOUT), leasing).await {
            Ok(Ok(granted)) => return Some(granted),
            Ok(Err(error)) => error_chain(&error),
            Err(_) => "timeout".to_owned(),
        };
        let decision = if limit.fails_closed { "closed" } else { "open" };
        tracing::warn!(
            request_id = invocation.request_id,
            error,
            decision,
            "a rate limit cannot be checked in the store"
        );
        None
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases").finish_non_exhaustive()
    }
}
