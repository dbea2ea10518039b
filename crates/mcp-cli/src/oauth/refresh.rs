//! Refreshing tokens (RFC 6749, section 6): when, by one process of several, and how the result is stored.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use tokio::time::Instant;

use super::{
    DISCOVERY_TIMEOUT, OAuth, discovery,
    dpop::{ProofKey, Token},
    grants::{self, GrantError},
    http::{IssuerHttp, POST_TIMEOUT},
    now,
    revocation::revoke_unkept,
};
use crate::store::{Client, Credentials, ForgottenError, Generation, PendingError, Registration, Store, Turn};

/// A token is refreshed this long before it expires.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);
/// Timeout of waiting for a pending refresh when the program ends.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request with a token that has not expired waits for a new one.
const EARLY_PATIENCE: Duration = Duration::from_secs(10);
/// Cooldown after a failed refresh, during which a token that has not expired is sent without another refresh.
const COOLDOWN: Duration = Duration::from_secs(10);

impl OAuth {
    /// The stored token, refreshed if it is about to expire.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or if the refresh of an expired token fails for a temporary reason.
    pub(crate) async fn token(&self) -> anyhow::Result<Option<Token>> {
        let Some(credentials) = self.credentials()? else { return Ok(None) };
        let Some(token) = self.token_of(&credentials) else { return Ok(None) };
        let left = credentials.lifetime_left();
        if left.is_none_or(|left| left > margin(&credentials)) {
            return Ok(Some(token));
        }
        let Some(left) = left.filter(|left| !left.is_zero()) else {
            let refreshed = self.refreshed(&token.text).await.context("could not refresh the token")?;
            return Ok(Some(refreshed.unwrap_or(token)));
        };
        if self.failed_refresh().is_some_and(|failed_at| failed_at.elapsed() < COOLDOWN) {
            return Ok(Some(token));
        }
        let refreshed = tokio::time::timeout(EARLY_PATIENCE.min(left), self.refreshed(&token.text)).await;
        match refreshed.unwrap_or_else(|_| Err(anyhow!("the issuer has not answered yet"))) {
            Ok(refreshed) => Ok(Some(refreshed.unwrap_or(token))),
            Err(error) => {
                tracing::info!("could not refresh the token, which has not expired: {error:#}");
                *self.failed_refresh() = Some(Instant::now());
                Ok(Some(token))
            }
        }
    }

    fn failed_refresh(&self) -> MutexGuard<'_, Option<Instant>> {
        self.failed_refresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Describes which secret a client registered by hand uses, for an error; `None` for a dynamically registered client.
    fn secret_source(&self, client_id: &str) -> Option<&'static str> {
        let is_given = self.options.client_id.as_deref() == Some(client_id);
        let kept = self.store.registration().ok().flatten().filter(|own| own.client_id == client_id);
        if !is_given && kept.as_ref().is_none_or(Registration::is_dynamic) {
            return None;
        }
        Some(if is_given && self.options.client_secret.is_some() {
            "the client secret that was given"
        } else if kept.is_some_and(|own| own.client_secret.is_some()) {
            "the client secret that `mcpl install` has kept"
        } else {
            "no client secret"
        })
    }

    /// Refreshes a token; `None` if a new sign-in is needed. There is no discovery: a token is refreshed at the endpoint
    /// that issued it.
    ///
    /// # Errors
    ///
    /// If the refresh failed for another reason than an invalid refresh token or client, or if the issuer has
    /// not answered for [`POST_TIMEOUT`], or for as long as an answer may take.
    pub(super) async fn refreshed(&self, old: &str) -> anyhow::Result<Option<Token>> {
        let began = Instant::now();
        let turn = tokio::time::timeout(self.options.patience(), self.store.turn(Turn::Refresh)).await;
        let turn = turn.map_err(|_| pending(None, self.options.patience()))??;
        let generation = self.store.generation();
        let Some(credentials) = self.credentials()? else { return Ok(None) };
        // Another request, or another process, may have refreshed it.
        if let Some(token) = self.token_of(&credentials).filter(|token| token.text != old) {
            return Ok(Some(token));
        }
        let client = Client {
            id: credentials.client_id.clone(),
            secret: self.secret_of(&credentials.client_id).or(credentials.client_secret.clone()),
            auth_method: credentials.auth_method.clone(),
        };
        let (http, store) = (self.http.patient(), self.store.clone());
        let running = Arc::clone(&self.refreshing).lock_owned().await;
        let issuer = credentials.issuer.clone();
        let secret_source = self.secret_source(&client.id);
        // In a task of its own: a request may be cancelled, and what the issuer gives must be kept. An issuer that hangs has
        // the refresh token, and may end the grant when it gets it twice (RFC 9700, section 4.14.2): the task waits for longer
        // than a request does, and keeps its turn.
        let mut refreshing = tokio::spawn(async move {
            let _until_the_end = (turn, running);
            let mut refreshing =
                std::pin::pin!(refresh(&http, &store, &generation, credentials, &client, secret_source));
            let refreshed = match tokio::time::timeout(POST_TIMEOUT, &mut refreshing).await {
                Ok(refreshed) => refreshed,
                Err(_) => {
                    store.note_failure(Turn::Refresh, &pending(issuer.as_deref(), POST_TIMEOUT));
                    refreshing.await
                }
            };
            refreshed.inspect_err(|error| {
                if !error.is::<ForgottenError>() {
                    store.note_failure(Turn::Refresh, error);
                }
            })
        });
        let patience = self.options.patience().saturating_sub(began.elapsed()).min(POST_TIMEOUT);
        let answered = tokio::time::timeout(patience, &mut refreshing).await;
        let refreshed = match answered {
            Ok(refreshed) => refreshed.context("the refresh panicked")??,
            Err(_) => {
                let issuer = self.credentials()?.and_then(|own| own.issuer);
                return Err(pending(issuer.as_deref(), self.options.patience().min(POST_TIMEOUT)));
            }
        };
        Ok(refreshed.and_then(|own| self.token_of(&own)))
    }

    /// Waits for a pending refresh before the program ends.
    pub(crate) async fn settled(&self) {
        let _ = tokio::time::timeout(SETTLE_TIMEOUT, self.refreshing.lock()).await;
    }
}

/// Refreshes credentials; `None` if the refresh token or the client is invalid.
async fn refresh(
    http: &IssuerHttp,
    store: &Store,
    generation: &Generation,
    credentials: Credentials,
    client: &Client,
    secret_source: Option<&str>,
) -> anyhow::Result<Option<Credentials>> {
    let (Some(refresh_token), Some(endpoint)) =
        (credentials.token_response.refresh_token.as_deref(), credentials.token_endpoint.as_deref())
    else {
        return Ok(None);
    };
    let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
    form.extend(credentials.resource.as_deref().map(|resource| ("resource", resource)));
    let key = credentials.proof_key.as_deref().and_then(|kept| ProofKey::of(kept).ok());
    // An issuer that rotates refresh tokens takes this one once: the next one must be saved.
    store.check_writable().context("the refresh token is not used")?;
    let mut endpoint = endpoint.to_owned();
    let mut granted = grants::token(http, &endpoint, client, &form, key.as_ref()).await;
    if matches!(granted, Err(GrantError::NoEndpoint(_)))
        && let Some(other) = other_endpoint(http, credentials.issuer.as_deref(), &endpoint).await
    {
        tracing::info!("the token endpoint {endpoint} has moved to {other}");
        endpoint = other;
        granted = grants::token(http, &endpoint, client, &form, key.as_ref()).await;
    }
    match granted {
        Ok(mut response) => {
            // RFC 6749, section 6: without a new refresh token the old one stays valid.
            response.refresh_token.get_or_insert(refresh_token.to_owned());
            let refreshed = Credentials {
                token_response: response,
                token_received_at: Some(now()),
                token_endpoint: Some(endpoint),
                ..credentials
            };
            if let Err(forgotten) = store.keep_granted(refreshed.clone(), generation) {
                revoke_unkept(http, &refreshed, client).await;
                return Err(forgotten.into());
            }
            Ok(Some(refreshed))
        }
        Err(GrantError::InvalidGrant(reason)) => {
            tracing::info!(reason, "the refresh token is void");
            store.drop_refresh_token()?;
            Ok(None)
        }
        Err(GrantError::InvalidClient(reason)) if let Some(source) = secret_source => bail!(
            "the issuer rejects the client {} with {source}: {reason}: give its secret by MCPL_CLIENT_SECRET, \
             `--client-secret-file` or `--ask-client-secret`",
            client.id
        ),
        Err(GrantError::InvalidClient(reason)) => {
            tracing::info!(reason, "the issuer does not know the client");
            store.drop_refresh_token()?;
            store.drop_registration(&client.id)?;
            Ok(None)
        }
        Err(GrantError::NoEndpoint(error) | GrantError::Other(error)) => Err(error),
    }
}

/// The token endpoint in the issuer's current metadata, if it has changed.
async fn other_endpoint(http: &IssuerHttp, issuer: Option<&str>, endpoint: &str) -> Option<String> {
    let found = tokio::time::timeout(DISCOVERY_TIMEOUT, discovery::identity_provider(http, issuer?)).await;
    let found = found.ok()?.inspect_err(|error| tracing::info!("{error:#}")).ok()?;
    Some(found.token_endpoint).filter(|own| own != endpoint)
}

/// The error of requests for which a refresh takes too long.
fn pending(issuer: Option<&str>, waited: Duration) -> anyhow::Error {
    PendingError(format!(
        "the issuer {} has not answered for {} s: mcpl waits for its answer and does not send the refresh token twice, try \
         again later",
        issuer.unwrap_or("without a name"),
        waited.as_secs()
    ))
    .into()
}

/// How long before its expiry a token is refreshed.
fn margin(credentials: &Credentials) -> Duration {
    let lifetime = Duration::from_secs(credentials.token_response.expires_in.unwrap_or(u64::MAX));
    EXPIRY_MARGIN.min(lifetime / 2)
}

impl Credentials {
    /// The rest of the token's lifetime; `None` if the issuer gave none: the server will reject the token.
    fn lifetime_left(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.expires_at()?.saturating_sub(now())))
    }

    /// The end of the token's lifetime in seconds since the epoch; `None` if the issuer gave none.
    pub(crate) fn expires_at(&self) -> Option<u64> {
        // The issuer's number is not bounded.
        Some(self.token_received_at?.saturating_add(self.token_response.expires_in?))
    }

    /// Whether the token has expired; `false` if the issuer gave no lifetime.
    pub(crate) fn has_expired(&self) -> bool {
        self.lifetime_left().is_some_and(|left| left.is_zero())
    }
}

#[cfg(test)]
mod tests;
