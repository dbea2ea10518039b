//! The keys of one issuer: fetched when they are needed, kept while they are good.
//!
//! What it does for what happens:
//!
//! | Event | What is done |
//! | --- | --- |
//! | first token | keys are found and fetched |
//! | several first tokens at once | one fetch, the others wait for it |
//! | keys grow old (`Cache-Control`, 5 minutes to 24 hours; 1 hour if the issuer says nothing) | fetched with the next token; a key that is gone then stops working |
//! | a token of an unknown key | fetched, at most once in 30 s |
//! | a fetch fails, or brings no usable key | the keys that are there stay good for up to 24 hours; no fetch for 30 s |
//! | a fetch fails and no key can decide | [`Decision::Unavailable`], which is not the token's fault |
//! | a signature is not that of the key that the token names | refused; an issuer that keeps a name for another key is noticed when the keys grow old |
//! | an issuer that is slow | the answer's time comes first: what the keys that are there say, if there are any |
//!
//! Time is the request's: the process may have been frozen, or restored from a snapshot, in between.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use mcp_server::error_chain;
use tracing::{Instrument, field::Empty};

use crate::{
    discovery::{self, DiscoveryError},
    fetch,
    jwks::{KeySet, Verdict},
    token::UnverifiedToken,
};

/// For one refresh, with all the documents that it takes: it must fit into the 10 s that Claude grants a cold start.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(6);
/// Timeout for keys that no request waits for yet. With what the first request may take it is less than those 10 s.
const WARM_TIMEOUT: Duration = Duration::from_secs(3);
const COOLDOWN: Duration = Duration::from_secs(30);
const MIN_AGE: Duration = Duration::from_secs(5 * 60);
const DEFAULT_AGE: Duration = Duration::from_secs(60 * 60);
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The keys of one issuer.
#[derive(Debug)]
pub(crate) struct Keys {
    issuer: String,
    /// Where the keys are, if the configuration says so.
    jwks_uri: Option<String>,
    state: Mutex<State>,
    /// Held by the task that fetches (single-flight).
    flight: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Default)]
struct State {
    current: Option<Arc<Fetched>>,
    /// Found by discovery.
    jwks_uri: Option<String>,
    /// When the last fetch began, if it failed.
    failed: Option<SystemTime>,
    /// When a token of an unknown key led to a fetch.
    asked_again: Option<SystemTime>,
}

/// A set of keys, and for how long it is good.
#[derive(Debug)]
pub(crate) struct Fetched {
    set: KeySet,
    at: SystemTime,
    max_age: Duration,
}

/// What the keys say.
#[derive(Debug)]
pub(crate) enum Decision {
    /// The issuer has signed the token, with a key of this set.
    Genuine(Arc<Fetched>),
    /// It has not, though the token names one of its keys.
    Wrong,
    /// The issuer has no such key.
    UnknownKey,
    /// The answer is unknown until this cooldown ends.
    Unavailable { retry_after: Duration },
}

#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error(transparent)]
    Fetch(#[from] fetch::FetchError),
    #[error("`{url}` is no set of keys")]
    Malformed {
        url: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("`{url}` has no key that can verify")]
    Empty { url: String },
    #[error("finding and fetching took longer than {} s", REFRESH_TIMEOUT.as_secs())]
    Timeout,
}

impl Fetched {
    /// Whether nothing newer is needed.
    pub(crate) fn is_fresh(&self, now: SystemTime) -> bool {
        match now.duration_since(self.at) {
            Ok(age) => age < self.max_age,
            // Another request, that came a little later, has fetched them. A clock that went back says nothing about age.
            Err(ahead) => ahead.duration() < COOLDOWN,
        }
    }

    fn is_just_old(&self, now: SystemTime) -> bool {
        now.duration_since(self.at).is_ok_and(|age| age < self.max_age + COOLDOWN)
    }

    fn is_usable(&self, now: SystemTime) -> bool {
        now.duration_since(self.at).map_or(true, |age| age < MAX_AGE)
    }
}

impl Keys {
    pub(crate) fn new(issuer: String, jwks_uri: Option<String>) -> Self {
        Self { issuer, jwks_uri, state: Mutex::default(), flight: tokio::sync::Mutex::default() }
    }

    /// Whether these are the newest keys there are.
    pub(crate) fn is_current(&self, fetched: &Arc<Fetched>, now: SystemTime) -> bool {
        fetched.is_fresh(now) && self.state().current.as_ref().is_some_and(|current| Arc::ptr_eq(current, fetched))
    }

    /// Fetches the keys before anyone needs them, if that is soon done: the first request must still have time to try
    /// again. A failure is logged.
    pub(crate) async fn warm(&self) {
        let flight = self.flight.lock().await;
        if self.view().current.is_none() {
            let refresh = self.refresh(SystemTime::now(), Wish::Keys, &flight);
            let _ = tokio::time::timeout(WARM_TIMEOUT, refresh).await;
            self.state().failed = None;
        }
    }

    /// Asks the keys about a token, and the issuer for newer ones where that may help, by `answer_by`.
    pub(crate) async fn decide(
        &self,
        token: &UnverifiedToken<'_>,
        now: SystemTime,
        answer_by: Option<Instant>,
    ) -> Decision {
        let (decision, wish) = self.view().decide(token, now);
        match wish {
            Wish::Nothing => return decision,
            // Another task fetches already, and this token need not wait for it.
            Wish::Fresher { is_just_old: true } if self.flight.try_lock().is_err() => return decision,
            Wish::Fresher { .. } | Wish::Keys | Wish::OtherKeys => {}
        }
        let refreshed = async {
            let flight = self.flight.lock().await;
            // While this one waited, another may have fetched.
            let wish = self.view().decide(token, now).1;
            if wish != Wish::Nothing {
                self.refresh(now, wish, &flight).await;
            }
        };
        // What is decided already leaves the handler half of the time.
        let answer_by = answer_by.map(|end| match wish {
            Wish::Fresher { .. } => end - end.saturating_duration_since(Instant::now()) / 2,
            Wish::Nothing | Wish::Keys | Wish::OtherKeys => end,
        });
        match answer_by {
            Some(end) => _ = tokio::time::timeout_at(end.into(), refreshed).await,
            None => refreshed.await,
        }
        self.view().decide(token, now).0
    }

    async fn refresh(&self, now: SystemTime, wish: Wish, _: &tokio::sync::MutexGuard<'_, ()>) {
        let mut unless_done = FailedUnlessDone { state: &self.state, began: Some(now) };
        let span = tracing::info_span!("fetch keys", issuer = self.issuer, otel.status_code = Empty);
        let fetch = self.fetch(now, wish).instrument(span.clone());
        let fetched = tokio::time::timeout(REFRESH_TIMEOUT, fetch).await.unwrap_or(Err(RefreshError::Timeout));
        if fetched.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        match fetched {
            Ok(fetched) => {
                unless_done.began = None;
                let mut state = self.state();
                state.failed = None;
                if wish == Wish::OtherKeys {
                    // Not before: others who look for a key meanwhile wait for these.
                    state.asked_again = Some(now);
                }
                state.current = Some(Arc::new(fetched));
                drop(state);
                tracing::info!(
                    issuer = self.issuer,
                    monotonic_counter.key_refreshes = 1,
                    "the keys of an issuer were fetched"
                );
            }
            Err(error) => {
                let mut state = self.state();
                // Perhaps they have moved.
                state.jwks_uri = None;
                let has_keys = state.current.is_some();
                drop(state);
                tracing::warn!(
                    issuer = self.issuer,
                    has_keys,
                    error = error_chain(&error),
                    monotonic_counter.key_refresh_failures = 1,
                    "the keys of an issuer cannot be fetched; the next try is in {} s",
                    COOLDOWN.as_secs()
                );
            }
        }
    }

    async fn fetch(&self, now: SystemTime, wish: Wish) -> Result<Fetched, RefreshError> {
        // A key that is missing where the keys were may be where they are now.
        let found = || self.state().jwks_uri.clone().filter(|_| wish != Wish::OtherKeys);
        let jwks_uri = match self.jwks_uri.clone().or_else(found) {
            Some(jwks_uri) => jwks_uri,
            None => {
                let jwks_uri = discovery::jwks_uri(&self.issuer).await?;
                // Kept at once: where an issuer is slow, the keys may take another request.
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
        Ok(Fetched { set, at: now, max_age })
    }

    /// What there is now. Signatures are verified without holding the lock.
    fn view(&self) -> State {
        self.state().clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fetch that ends without keys has failed, also when its invocation ends first.
struct FailedUnlessDone<'a> {
    state: &'a Mutex<State>,
    began: Option<SystemTime>,
}

impl Drop for FailedUnlessDone<'_> {
    fn drop(&mut self) {
        if self.began.is_some() {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).failed = self.began;
        }
    }
}

/// What a fetch would be good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Nothing,
    /// There are no keys.
    Keys,
    /// The keys are old, and good enough for this token.
    Fresher {
        /// So little that a request need not wait while another fetches.
        is_just_old: bool,
    },
    /// The token's key is not among them.
    OtherKeys,
}

impl State {
    fn decide(&self, token: &UnverifiedToken<'_>, now: SystemTime) -> (Decision, Wish) {
        let cooldown = remaining(self.failed, now);
        let may_fetch = |wish| if cooldown.is_none() { wish } else { Wish::Nothing };
        let unavailable = || Decision::Unavailable { retry_after: cooldown.unwrap_or(Duration::from_secs(1)) };
        let Some(fetched) = self.current.as_ref().filter(|fetched| fetched.is_usable(now)) else {
            return (unavailable(), may_fetch(Wish::Keys));
        };
        let wish = match fetched.is_fresh(now) {
            true => Wish::Nothing,
            false => may_fetch(Wish::Fresher { is_just_old: fetched.is_just_old(now) }),
        };
        // Keys that were fetched for this very request are the newest there are.
        let is_settled = fetched.at >= now || remaining(self.asked_again, now).is_some();
        match fetched.set.verify(token) {
            Verdict::Genuine => (Decision::Genuine(Arc::clone(fetched)), wish),
            Verdict::Wrong => (Decision::Wrong, wish),
            Verdict::UnknownKey => match cooldown {
                // Perhaps the key is among those that could not be fetched.
                Some(_) => (unavailable(), Wish::Nothing),
                None if is_settled => (Decision::UnknownKey, wish),
                None => (unavailable(), Wish::OtherKeys),
            },
        }
    }
}

/// What is left of the cooldown that began then.
fn remaining(began: Option<SystemTime>, now: SystemTime) -> Option<Duration> {
    match now.duration_since(began?) {
        Ok(age) => COOLDOWN.checked_sub(age).filter(|left| !left.is_zero()),
        // It began for a request that came a little later.
        Err(ahead) => Some(COOLDOWN).filter(|cooldown| ahead.duration() < *cooldown),
    }
}
