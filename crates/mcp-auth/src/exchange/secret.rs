//! The client's secret or private key: from the configuration, or fetched from Secrets Manager on first use.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use mcp_aws::{AwsError, StoredSecret};
use zeroize::Zeroizing;

use super::ExchangeError;

/// Minimum time between two fetches of a secret that the issuer rejected.
const COOLDOWN: Duration = Duration::from_secs(30);

/// A secret whose memory is overwritten when it is dropped.
pub(crate) type SecretValue = Arc<Zeroizing<String>>;

/// Source of the secret.
#[derive(Clone)]
pub(crate) enum Secret {
    Fixed(SecretValue),
    Stored(Box<StoredSecret>),
}

/// Cache of the secret, fetched on first use. Single-flight: concurrent exchanges wait for one fetch.
pub(crate) struct ClientSecret {
    secret: Secret,
    fetched: tokio::sync::Mutex<Option<SecretValue>>,
    last_discard: Mutex<Option<SystemTime>>,
}

impl ClientSecret {
    pub(crate) fn new(secret: Secret) -> Self {
        Self { secret, fetched: tokio::sync::Mutex::default(), last_discard: Mutex::default() }
    }

    pub(crate) async fn get(&self, answer_by: Option<Instant>) -> Result<SecretValue, ExchangeError> {
        let stored = match &self.secret {
            Secret::Fixed(value) => return Ok(Arc::clone(value)),
            Secret::Stored(stored) => stored,
        };
        let mut fetched = self.fetched.lock().await;
        if let Some(value) = &*fetched {
            return Ok(Arc::clone(value));
        }
        let text = stored.current(answer_by).await?;
        let value = Arc::new(Zeroizing::new(text.as_str().to_owned()));
        Ok(Arc::clone(fetched.insert(value)))
    }

    /// Evicts a value that the issuer rejected. Returns whether a retry makes sense: another value is fetched, or may be
    /// fetched now.
    pub(crate) fn discard(&self, rejected: &SecretValue, now: SystemTime) -> bool {
        if matches!(self.secret, Secret::Fixed(_)) {
            return false;
        }
        let mut last_discard = self.last_discard.lock().unwrap_or_else(PoisonError::into_inner);
        if last_discard.is_some_and(|at| now.duration_since(at).is_ok_and(|since| since < COOLDOWN)) {
            return false;
        }
        // If the lock is held, another exchange fetches the secret: the retry waits for it.
        let Ok(mut fetched) = self.fetched.try_lock() else { return true };
        if fetched.as_ref().is_some_and(|own| Arc::ptr_eq(own, rejected)) {
            *fetched = None;
            *last_discard = Some(now);
        }
        true
    }
}

impl From<AwsError> for ExchangeError {
    fn from(error: AwsError) -> Self {
        match error {
            AwsError::Secret(reason) | AwsError::Credentials(reason) => Self::Secret(reason),
            AwsError::Signature(_) => Self::Secret("the request for it cannot be signed"),
            error => Self::Unavailable(error.into()),
        }
    }
}
