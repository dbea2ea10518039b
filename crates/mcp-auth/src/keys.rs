//! Cache of an issuer's keys: fetched on demand, refreshed when they are stale.
//!
//! | Event | Behaviour |
//! | --- | --- |
//! | first token | discovery, then fetch of the keys |
//! | concurrent first tokens | one fetch; the other requests wait for it |
//! | the keys are stale (`Cache-Control`, 5 minutes to 24 hours; 1 hour by default) | fetched with the next token; a key that the issuer removed is then no longer accepted |
//! | token with an unknown key | fetched, at most once in 30 s |
//! | a fetch fails, or returns no usable key | the cached keys are used for up to 24 hours; no fetch for 30 s |
//! | a fetch fails, and no cached key can verify the token | [`Verification::Unavailable`]: the token may be valid |
//! | invalid signature for the key that the token names | rejected without a fetch; a new key with the id of an old one is found when the keys are stale |
//! | slow issuer | at the deadline the cached keys are used, if there are any |
//!
//! Ages are computed from the time of the request (`now`), because the process may be frozen, or restored from a snapshot,
//! between requests.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use mcp_server::error_chain;
use tracing::{Instrument, field::Empty};

use crate::{
    discovery::{self, DiscoveryError},
    fetch,
    jwks::{KeySet, SignatureCheck},
    token::UnverifiedToken,
};

/// Timeout of one refresh, discovery included. Together with the cold start it must be less than the 10 s after which Claude
/// gives up.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(6);
/// Timeout of the fetch before the first request. Together with [`REFRESH_TIMEOUT`] it is less than those 10 s.
const WARM_TIMEOUT: Duration = Duration::from_secs(3);
/// Minimum time after a failed fetch, and between two fetches for unknown keys.
const COOLDOWN: Duration = Duration::from_secs(30);
const MIN_AGE: Duration = Duration::from_secs(5 * 60);
const DEFAULT_AGE: Duration = Duration::from_secs(60 * 60);
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Cache of the keys of one issuer.
#[derive(Debug)]
pub(crate) struct KeyCache {
    issuer: String,
    /// Configured URL of the keys. `None`: found by discovery.
    jwks_uri: Option<String>,
    state: Mutex<State>,
    /// Held during a fetch (single-fetch_lock).
    fetch_lock: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Default)]
struct State {
    current: Option<Arc<CachedKeys>>,
    /// Found by discovery.
    jwks_uri: Option<String>,
    /// Start of the last fetch, if it failed.
    last_failure: Option<SystemTime>,
    /// Start of the last fetch for an unknown key.
    last_unknown_key: Option<SystemTime>,
}

/// A key set with its age and lifetime.
#[derive(Debug)]
pub(crate) struct CachedKeys {
    set: KeySet,
    fetched_at: SystemTime,
    max_age: Duration,
}

/// Result of the verification of a signature.
#[derive(Debug)]
pub(crate) enum Verification {
    /// The signature is valid for a key of this set.
    Valid(Arc<CachedKeys>),
    /// The signature is not valid for the key that the token names.
    Invalid,
    /// The issuer has no key that the signature could be from.
    UnknownKey,
    /// The keys are not available. They may be fetched again after `retry_after`.
    Unavailable { retry_after: Duration },
}

#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error(transparent)]
    Fetch(#[from] fetch::FetchError),
    #[error("`{url}` is not a JWK Set")]
    Malformed {
        url: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("`{url}` has no usable key")]
    Empty { url: String },
    #[error("discovery and fetch of the keys took longer than {} s", REFRESH_TIMEOUT.as_secs())]
    Timeout,
}

impl CachedKeys {
    /// Whether the keys need no refresh.
    pub(crate) fn is_fresh(&self, now: SystemTime) -> bool {
        match now.duration_since(self.fetched_at) {
            Ok(age) => age < self.max_age,
            // Fetched in the future: a concurrent request with a later `now` fetched them. If they are further in the future,
            // the clock was set back, and their age is unknown.
            Err(ahead) => ahead.duration() < COOLDOWN,
        }
    }

    /// Whether the keys are stale for less than the cooldown.
    fn is_barely_stale(&self, now: SystemTime) -> bool {
        now.duration_since(self.fetched_at).is_ok_and(|age| age < self.max_age + COOLDOWN)
    }

    /// Whether the keys may verify a token. Stale keys may, up to 24 hours.
    fn is_usable(&self, now: SystemTime) -> bool {
        now.duration_since(self.fetched_at).map_or(true, |age| age < MAX_AGE)
    }
}

impl KeyCache {
    pub(crate) fn new(issuer: String, jwks_uri: Option<String>) -> Self {
        Self { issuer, jwks_uri, state: Mutex::default(), fetch_lock: tokio::sync::Mutex::default() }
    }

    /// Whether these keys are in the cache and fresh.
    pub(crate) fn is_current(&self, keys: &Arc<CachedKeys>, now: SystemTime) -> bool {
        keys.is_fresh(now) && self.state().current.as_ref().is_some_and(|current| Arc::ptr_eq(current, keys))
    }

    /// Fetches the keys before the first token, with a short timeout. A failure is logged, and starts no cooldown: the first
    /// token fetches again.
    pub(crate) async fn warm(&self) {
        let fetch_lock = self.fetch_lock.lock().await;
        if self.snapshot().current.is_none() {
            let refresh = self.refresh(SystemTime::now(), RefreshReason::NoKeys, &fetch_lock);
            let _ = tokio::time::timeout(WARM_TIMEOUT, refresh).await;
            self.state().last_failure = None;
        }
    }

    /// Verifies the signature of a token. Refreshes the keys first if they are missing or stale, or if the token's key is
    /// unknown. Waits for the refresh until `answer_by` at the latest.
    pub(crate) async fn verify(
        &self,
        token: &UnverifiedToken<'_>,
        now: SystemTime,
        answer_by: Option<Instant>,
    ) -> Verification {
        let (verification, reason) = self.snapshot().verify(token, now);
        let Some(reason) = reason else { return verification };
        // Another task fetches, and the cached keys have verified this token.
        if matches!(reason, RefreshReason::Stale { is_barely_stale: true }) && self.fetch_lock.try_lock().is_err() {
            return verification;
        }
        let refreshed = async {
            let fetch_lock = self.fetch_lock.lock().await;
            // Another task may have fetched while this one waited.
            if let Some(reason) = self.snapshot().verify(token, now).1 {
                self.refresh(now, reason, &fetch_lock).await;
            }
        };
        // With stale keys the result is known without the refresh: leave half of the time to the handler.
        let answer_by = answer_by.map(|end| match reason {
            RefreshReason::Stale { .. } => end - end.saturating_duration_since(Instant::now()) / 2,
            RefreshReason::NoKeys | RefreshReason::UnknownKey => end,
        });
        match answer_by {
            Some(end) => _ = tokio::time::timeout_at(end.into(), refreshed).await,
            None => refreshed.await,
        }
        self.snapshot().verify(token, now).0
    }

    async fn refresh(&self, now: SystemTime, reason: RefreshReason, _: &tokio::sync::MutexGuard<'_, ()>) {
        let mut failure_on_drop = FailureOnDrop { state: &self.state, began: Some(now) };
        let span = tracing::info_span!("fetch keys", issuer = self.issuer, otel.status_code = Empty);
        let fetch = self.fetch(now, reason).instrument(span.clone());
        let fetched = tokio::time::timeout(REFRESH_TIMEOUT, fetch).await.unwrap_or(Err(RefreshError::Timeout));
        if fetched.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        match fetched {
            Ok(keys) => {
                failure_on_drop.began = None;
                let mut state = self.state();
                state.last_failure = None;
                if reason == RefreshReason::UnknownKey {
                    // Only now: concurrent requests for an unknown key must wait for this fetch.
                    state.last_unknown_key = Some(now);
                }
                state.current = Some(Arc::new(keys));
                drop(state);
                tracing::info!(
                    issuer = self.issuer,
                    monotonic_counter.key_refreshes = 1,
                    "the keys of an issuer were fetched"
                );
            }
            Err(error) => {
                let mut state = self.state();
                // Discovery is repeated: the URL may have changed.
                state.jwks_uri = None;
                let has_keys = state.current.is_some();
                drop(state);
                tracing::warn!(
                    issuer = self.issuer,
                    has_keys,
                    retry_after_seconds = COOLDOWN.as_secs(),
                    error = error_chain(&error),
                    monotonic_counter.key_refresh_failures = 1,
                    "the keys of an issuer cannot be fetched"
                );
            }
        }
    }

    async fn fetch(&self, now: SystemTime, reason: RefreshReason) -> Result<CachedKeys, RefreshError> {
        // For an unknown key discovery is repeated: the URL of the keys may have changed.
        let discovered = || self.state().jwks_uri.clone().filter(|_| reason != RefreshReason::UnknownKey);
        let jwks_uri = match self.jwks_uri.clone().or_else(discovered) {
            Some(jwks_uri) => jwks_uri,
            None => {
                let jwks_uri = discovery::jwks_uri(&self.issuer).await?;
                // Cached before the keys are fetched: if the issuer is slow, the next attempt needs no discovery.
                self.state().jwks_uri = Some(jwks_uri.clone());
                jwks_uri
            }
        };
        let document = fetch::get(&jwks_uri).await?;
        let set = KeySet::parse(&self.issuer, &document.body)
            .map_err(|source| RefreshError::Malformed { url: jwks_uri.clone(), source })?;
        if set.is_empty() {
            return Err(RefreshError::Empty { url: jwks_uri });
        }
        let max_age = document.max_age.map_or(DEFAULT_AGE, |age| age.clamp(MIN_AGE, MAX_AGE));
        Ok(CachedKeys { set, fetched_at: now, max_age })
    }

    /// Returns a copy of the state, so that signatures are verified without holding the lock.
    fn snapshot(&self) -> State {
        self.state().clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records a failed fetch when it is dropped, unless `began` is `None`. It also covers a fetch that is cancelled because its
/// invocation ends.
struct FailureOnDrop<'a> {
    state: &'a Mutex<State>,
    began: Option<SystemTime>,
}

impl Drop for FailureOnDrop<'_> {
    fn drop(&mut self) {
        if self.began.is_some() {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).last_failure = self.began;
        }
    }
}

/// Why the keys are to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RefreshReason {
    /// There are no usable keys.
    NoKeys,
    /// The keys are stale, but can verify this token.
    Stale {
        /// A request need not wait while another one fetches.
        is_barely_stale: bool,
    },
    /// The token's key is not in the set.
    UnknownKey,
}

impl State {
    /// Verifies the signature with the cached keys. Also returns why the keys are to be fetched; `None` if they are fresh, or
    /// during the cooldown.
    fn verify(&self, token: &UnverifiedToken<'_>, now: SystemTime) -> (Verification, Option<RefreshReason>) {
        let cooldown = remaining_cooldown(self.last_failure, now);
        let unless_cooldown = |reason| if cooldown.is_none() { Some(reason) } else { None };
        let unavailable = || Verification::Unavailable { retry_after: cooldown.unwrap_or(Duration::from_secs(1)) };
        let Some(keys) = self.current.as_ref().filter(|keys| keys.is_usable(now)) else {
            return (unavailable(), unless_cooldown(RefreshReason::NoKeys));
        };
        let reason = match keys.is_fresh(now) {
            true => None,
            false => unless_cooldown(RefreshReason::Stale { is_barely_stale: keys.is_barely_stale(now) }),
        };
        // Whether a fetch for the unknown key is of no use: the keys were fetched for this request, or the cooldown lasts.
        let is_up_to_date = keys.fetched_at >= now || remaining_cooldown(self.last_unknown_key, now).is_some();
        match keys.set.verify(token) {
            SignatureCheck::Valid => (Verification::Valid(Arc::clone(keys)), reason),
            SignatureCheck::Invalid => (Verification::Invalid, reason),
            SignatureCheck::UnknownKey => match cooldown {
                // The failed fetch might have returned the key.
                Some(_) => (unavailable(), None),
                None if is_up_to_date => (Verification::UnknownKey, reason),
                None => (unavailable(), Some(RefreshReason::UnknownKey)),
            },
        }
    }
}

/// Returns the rest of a cooldown, or `None` if it has ended.
fn remaining_cooldown(began: Option<SystemTime>, now: SystemTime) -> Option<Duration> {
    match now.duration_since(began?) {
        Ok(age) => COOLDOWN.checked_sub(age).filter(|left| !left.is_zero()),
        // It began in the future: for a concurrent request with a later `now`.
        Err(ahead) => Some(COOLDOWN).filter(|cooldown| ahead.duration() < *cooldown),
    }
}
