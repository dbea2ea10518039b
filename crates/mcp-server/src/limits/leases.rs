//! Blocks of requests that an execution environment leases from the store.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
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
    cooldown: Mutex<Cooldown>,
}

/// When the store may be asked again. One count can fail alone, because many environments increment it at the same time. That changes
/// nothing for other callers. When two counts have failed within the cooldown, the store is not asked for any.
#[derive(Default)]
struct Cooldown {
    /// The count that failed last.
    key: Key,
    /// End of its cooldown, in milliseconds since 1970.
    key_until: u64,
    /// End of the cooldown of all counts.
    all_until: u64,
}

impl Cooldown {
    /// Returns the time until the store may be asked for a count; `None` if it may be asked now.
    fn wait(&self, key: Key, now: u64) -> Option<u64> {
        let own = if self.key == key { self.key_until } else { 0 };
        left(self.all_until.max(own), now)
    }

    fn fail(&mut self, key: Key, now: u64) {
        let until = now.saturating_add(COOLDOWN);
        if self.key != key && left(self.key_until, now).is_some() {
            self.all_until = until;
        }
        (self.key, self.key_until) = (key, until);
    }
}

/// Returns what is left of a cooldown. One that is too long was begun before the clock was set back.
fn left(until: u64, now: u64) -> Option<u64> {
    until.checked_sub(now).filter(|wait| (1..=COOLDOWN).contains(wait))
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
        Self { store, cooldown: Mutex::default() }
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
        let wait = self.cooldown().wait(key, at.now);
        if let Some(wait) = wait {
            return Err(NotTaken::Unavailable(wait));
        }
        let Some(leased) = self.lease(invocation, caller, scope, limit).await else {
            self.cooldown().fail(key, at.now);
            return Err(NotTaken::Unavailable(COOLDOWN));
        };
        // The window ended later by the store's clock, by the time that the request had taken to reach it. A lease therefore never
        // outlives its window, unless the clock is set back.
        let ends_at = at.now.saturating_add(u64::try_from(leased.ends_in.as_millis()).unwrap_or(at.window));
        table.add(key, at, u32::try_from(leased.granted).unwrap_or(limit.requests), ends_at);
        if leased.granted > 0 { Ok(()) } else { Err(NotTaken::Exhausted(ends_at)) }
    }

    fn cooldown(&self) -> MutexGuard<'_, Cooldown> {
        self.cooldown.lock().unwrap_or_else(PoisonError::into_inner)
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
            Scope::Continuations => format!("continuations {}", limit.window.as_nanos()),
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
