//! Access tokens (RFC 9068).

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::{
    KeyRing, KeyRingError,
    clock::unix_seconds,
    random::{self, RandomError},
};

/// Why a token could not be signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error(transparent)]
    Key(#[from] KeyRingError),
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Content of an access token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessToken<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) subject: &'a str,
    /// URL of the resource: the only audience.
    pub(crate) resource: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) scopes: &'a [String],
}

impl AccessToken<'_> {
    /// Signs a token that expires after `lifetime`.
    ///
    /// # Errors
    ///
    /// When there are no random numbers, or the key cannot sign.
    pub(crate) fn sign(&self, keys: &KeyRing, lifetime: Duration, now: SystemTime) -> Result<String, SignError> {
        let Self { issuer, subject, resource, client_id, scopes } = *self;
        let issued_at = unix_seconds(now);
        let token_id = random::text::<16>()?;
        let mut claims = json!({
            "iss": issuer, "sub": subject, "aud": resource, "client_id": client_id,
            "iat": issued_at, "exp": issued_at + lifetime.as_secs(), "jti": token_id,
        });
        if !scopes.is_empty() {
            claims["scope"] = scopes.join(" ").into();
        }
        Ok(keys.sign("at+jwt", &claims, now)?)
    }
}
