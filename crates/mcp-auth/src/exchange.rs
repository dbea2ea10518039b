//! Token exchange ([RFC 8693]): a token for another service, on behalf of the caller, issued by the issuer of the caller's
//! token.
//!
//! | Event | Behaviour |
//! | --- | --- |
//! | first exchange of a token for a target and scopes | one request to the token endpoint |
//! | concurrent exchanges of the same token for the same target and scopes | one request; the others wait for it |
//! | further exchanges of that kind | the token is returned from the cache until a minute before it expires |
//! | `invalid_client` | the client's secret is fetched again, at most once in 30 s, and the request is retried once |
//! | the token endpoint is slow, unreachable, or responds with 404, 429 or 5xx | [`ExchangeError::Unavailable`] |
//!
//! [RFC 8693]: https://www.rfc-editor.org/rfc/rfc8693

mod client_authentication;
mod config;
mod response;
mod secret;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use aws_lc_rs::digest::{Context, SHA256};
use mcp_https::{Client, StatusCode, header};
use mcp_server::{HandlerError, Unavailable};
use zeroize::Zeroizing;

use crate::discovery::{self, DiscoveryError};
use client_authentication::Form;
pub(crate) use config::ExchangeConfig;
use response::Granted;
use secret::ClientSecret;

/// Timeout of one request to the token endpoint.
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_RESPONSE_BYTES: usize = 64 * 1024;
/// Maximum number of tokens in the cache, of all callers and targets.
const MAX_CACHED_TOKENS: usize = 256;
/// Maximum time in the cache, also if the issuer states a longer lifetime.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);
/// A token leaves the cache so long before it expires, because its use takes time and clocks differ.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);
const MAX_TARGET_BYTES: usize = 2048;
const MAX_SCOPES_BYTES: usize = 4096;
const USER_AGENT: &str = concat!("mcp-auth/", env!("CARGO_PKG_VERSION"));
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The service that an exchanged token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenTarget<'a> {
    /// The logical name of the service at the issuer (parameter `audience`): 1 to 2048 bytes, no control characters.
    Audience(&'a str),
    /// The URL of the service (parameter `resource`, RFC 8707): absolute, without a fragment, at most 2048 bytes.
    Resource(&'a str),
}

/// A bearer token for another service. `Debug` redacts it, and its memory is overwritten when it is dropped.
///
/// It is valid for at least a minute, unless the issuer states a shorter lifetime or none. Exchange again for each use
/// instead of storing it: [`TokenExchange`] has a cache.
#[derive(Clone, PartialEq, Eq)]
pub struct ExchangedToken {
    value: Arc<Zeroizing<String>>,
}

impl ExchangedToken {
    /// Returns the token, for the header `Authorization: Bearer`.
    pub fn as_str(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for ExchangedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExchangedToken(..)")
    }
}

/// The verified token of a caller, which is exchanged during its request (`subject_token`). `Debug` redacts it, and its
/// memory is overwritten when it is dropped.
#[derive(Clone)]
pub struct SubjectToken(Arc<Zeroizing<String>>);

impl SubjectToken {
    /// Copies a token. It must be one that a [`Verifier`](crate::Verifier) has accepted: an exchanged token is cached by its
    /// subject token, and returned without another check at the issuer.
    pub fn new(verified: &str) -> Self {
        Self(Arc::new(Zeroizing::new(verified.to_owned())))
    }
}

impl fmt::Debug for SubjectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectToken(..)")
    }
}

/// Why a token exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The target or a scope is malformed.
    #[error("the {what} of a token exchange cannot be used: empty, too long, or with characters that are not allowed")]
    Argument {
        /// `target` or `scopes`.
        what: &'static str,
    },
    /// The issuer issues no token for this caller, target and scopes.
    #[error("{message}")]
    Refused {
        /// Text for the caller.
        message: &'static str,
        /// Error code of the issuer.
        code: &'static str,
    },
    /// The issuer grants the caller fewer scopes than were requested.
    #[error("the issuer did not grant the scope `{scope}`")]
    ScopeNotGranted {
        /// The first requested scope that is not granted.
        scope: String,
    },
    /// The token endpoint cannot be reached in time, or throttles requests. A retry may succeed.
    #[error("the token endpoint is not available")]
    Unavailable(#[source] mcp_server::BoxError),
    /// The issuer rejects the client or the grant type, with this error code.
    #[error("the issuer rejected the token exchange with `{0}`: check the client's configuration at the issuer")]
    Configuration(&'static str),
    /// The response is not a valid response of RFC 8693.
    #[error("the token endpoint's response cannot be used: {0}")]
    Malformed(&'static str),
    /// The client's secret or key cannot be read, or is not usable.
    #[error("the secret for the token exchange cannot be used: {0}")]
    Secret(&'static str),
}

impl ExchangeError {
    /// Converts the error to that of a handler. `Refused` and `ScopeNotGranted` become a failure whose text the caller sees,
    /// `Unavailable` becomes [`Unavailable`], and the others become an internal error, whose text is only logged.
    pub fn into_handler_error(self) -> HandlerError {
        match self {
            Self::Refused { message, .. } => HandlerError::failed(message),
            Self::ScopeNotGranted { scope } => HandlerError::failed(format!(
                "The authorization server does not grant you the scope `{scope}`, which this request needs at the other service."
            )),
            Self::Unavailable(source) => {
                Unavailable::new("The authorization server is not available. Try again in a minute.", source).into()
            }
            other => other.into(),
        }
    }
}

/// Exchanges callers' tokens at the token endpoint of their issuer, and caches up to 256 issued tokens.
pub struct TokenExchange {
    config: Arc<ExchangeConfig>,
    issuer: String,
    client: Client,
    secret: ClientSecret,
    /// Found by discovery.
    endpoint: Mutex<Option<String>>,
    cache: Mutex<HashMap<[u8; 32], CacheEntry>>,
}

#[derive(Default)]
struct CacheEntry {
    /// Held during a request to the token endpoint (single-flight).
    request_lock: Arc<tokio::sync::Mutex<()>>,
    /// A token, and the time at which it leaves the cache.
    token: Option<(ExchangedToken, SystemTime)>,
}

impl TokenExchange {
    pub(crate) fn new(issuer: String, config: Arc<ExchangeConfig>) -> Self {
        let client = Client::trusted().user_agent(USER_AGENT).timeout(TIMEOUT).max_response_bytes(MAX_RESPONSE_BYTES);
        let secret = ClientSecret::new(config.secret.clone());
        Self { config, issuer, client, secret, endpoint: Mutex::default(), cache: Mutex::default() }
    }

    /// Returns a token for a target on behalf of the caller, from the cache or from the issuer.
    ///
    /// With an empty list of scopes the issuer decides which scopes the token has. Scopes have at most 4096 bytes in all.
    /// `clock` returns the current time: it is read several times, because a handler may run for minutes. The exchange ends
    /// at `answer_by`; one request has a timeout of five seconds.
    ///
    /// # Errors
    ///
    /// See the variants of [`ExchangeError`].
    pub async fn exchange(
        &self,
        subject: &SubjectToken,
        target: TokenTarget<'_>,
        scopes: &[&str],
        clock: impl Fn() -> SystemTime + Send + Sync,
        answer_by: Option<Instant>,
    ) -> Result<ExchangedToken, ExchangeError> {
        let scope = scope_parameter(target, scopes)?;
        let now = clock();
        let key = cache_key(subject, target, &scope);
        let request_lock = {
            let mut cache = self.cache();
            evict_for(&mut cache, &key, now);
            let entry = cache.entry(key).or_default();
            if let Some(token) = entry.fresh(now) {
                return Ok(token);
            }
            Arc::clone(&entry.request_lock)
        };
        let exchange = async {
            let _guard = request_lock.lock().await;
            // Another exchange may have fetched the token while this one waited.
            let now = clock();
            if let Some(token) = self.cache().get(&key).and_then(|entry| entry.fresh(now)) {
                return Ok(token);
            }
            let granted = self.request(subject, target, &scope, &clock, answer_by).await?;
            check_granted(&granted, subject, &scope)?;
            let lifetime = granted.expires_in.saturating_sub(EXPIRY_MARGIN);
            if let Some(ends) = now.checked_add(lifetime).filter(|ends| *ends > now) {
                let mut cache = self.cache();
                evict_for(&mut cache, &key, now);
                cache.entry(key).or_default().token = Some((granted.token.clone(), ends));
            }
            Ok(granted.token)
        };
        match answer_by {
            Some(deadline) => tokio::time::timeout_at(deadline.into(), exchange)
                .await
                .unwrap_or_else(|_| Err(ExchangeError::Unavailable("the deadline of the request was reached".into()))),
            None => exchange.await,
        }
    }

    async fn request(
        &self,
        subject: &SubjectToken,
        target: TokenTarget<'_>,
        scope: &str,
        clock: &(impl Fn() -> SystemTime + Send + Sync),
        answer_by: Option<Instant>,
    ) -> Result<Granted, ExchangeError> {
        let endpoint = self.endpoint().await?;
        let mut is_retry = false;
        loop {
            let mut form = Form::new(&[
                ("grant_type", GRANT_TYPE),
                ("subject_token", &subject.0),
                ("subject_token_type", ACCESS_TOKEN),
                ("requested_token_type", ACCESS_TOKEN),
            ]);
            match target {
                TokenTarget::Audience(audience) => form.push("audience", audience),
                TokenTarget::Resource(resource) => form.push("resource", resource),
            }
            if !scope.is_empty() {
                form.push("scope", scope);
            }
            let secret = self.secret.get(answer_by).await?;
            let now = clock();
            // Idempotent: a retry only issues another token.
            let request = self.client.post(&endpoint).answer_by(answer_by).idempotent();
            let request = self.config.authenticate(request, &mut form, &secret, &self.issuer, now)?;
            let request = request
                .header(header::ACCEPT, "application/json")
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.into_bytes());
            let response = request.send().await.map_err(request_error)?;
            let status = response.status();
            if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::NOT_FOUND {
                // The next exchange repeats discovery: the URL may have changed.
                *self.endpoint.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return Err(ExchangeError::Unavailable(format!("it responded with {status}").into()));
            }
            let body = response.bytes().await.map_err(request_error)?;
            match response::parse(status, &body) {
                // The secret may have been rotated.
                Err(ExchangeError::Configuration("invalid_client"))
                    if !is_retry && self.secret.discard(&secret, now) =>
                {
                    is_retry = true;
                }
                result => return result,
            }
        }
    }

    async fn endpoint(&self) -> Result<String, ExchangeError> {
        if let Some(endpoint) = &self.config.endpoint {
            return Ok(endpoint.clone());
        }
        if let Some(endpoint) = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(endpoint);
        }
        let found = discovery::token_endpoint(&self.issuer).await.map_err(|error| match error {
            DiscoveryError::Missing { .. } => ExchangeError::Malformed(
                "the issuer's metadata has no `token_endpoint`: set OIDC_EXCHANGE_TOKEN_ENDPOINT",
            ),
            error => ExchangeError::Unavailable(error.into()),
        })?;
        *self.endpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
        Ok(found)
    }

    fn cache(&self) -> MutexGuard<'_, HashMap<[u8; 32], CacheEntry>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for TokenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenExchange")
            .field("issuer", &self.issuer)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl CacheEntry {
    /// Returns the token if it has not expired.
    fn fresh(&self, now: SystemTime) -> Option<ExchangedToken> {
        self.token.as_ref().filter(|(_, ends)| now < *ends).map(|(token, _)| token.clone())
    }

    /// Returns when the token expires. `None` if there is no token, or it has expired.
    fn expires(&self, now: SystemTime) -> Option<SystemTime> {
        self.token.as_ref().map(|(_, ends)| *ends).filter(|ends| now < *ends)
    }

    /// Whether an exchange holds the lock of the entry, or waits for it.
    fn is_in_flight(&self) -> bool {
        Arc::strong_count(&self.request_lock) > 1
    }
}

/// Validates target and scopes, and returns the value of the parameter `scope`: sorted, without duplicates.
fn scope_parameter(target: TokenTarget<'_>, scopes: &[&str]) -> Result<String, ExchangeError> {
    let (TokenTarget::Audience(name) | TokenTarget::Resource(name)) = target;
    let is_target = !name.is_empty() && name.len() <= MAX_TARGET_BYTES && !name.chars().any(char::is_control);
    let is_resource = matches!(target, TokenTarget::Audience(_)) || (name.contains(':') && !name.contains('#'));
    if !is_target || !is_resource {
        return Err(ExchangeError::Argument { what: "target" });
    }
    // RFC 6749, section 3.3.
    let is_scope_byte = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let is_scope = |scope: &&str| !scope.is_empty() && scope.bytes().all(is_scope_byte);
    let mut scopes = scopes.to_vec();
    scopes.sort_unstable();
    scopes.dedup();
    let text = scopes.join(" ");
    if text.len() > MAX_SCOPES_BYTES || !scopes.iter().all(is_scope) {
        return Err(ExchangeError::Argument { what: "scopes" });
    }
    Ok(text)
}

/// Checks that the issued token is not the caller's own, and that all requested scopes are granted. A response without
/// `scope` grants them (RFC 8693, section 2.2.1).
fn check_granted(granted: &Granted, subject: &SubjectToken, scope: &str) -> Result<(), ExchangeError> {
    if granted.token.value == subject.0 {
        return Err(ExchangeError::Malformed("`access_token` is the caller's own token"));
    }
    let Some(own) = &granted.scope else { return Ok(()) };
    match scope.split_terminator(' ').find(|scope| !own.split(' ').any(|own| own == *scope)) {
        Some(missing) => Err(ExchangeError::ScopeNotGranted { scope: missing.to_owned() }),
        None => Ok(()),
    }
}

/// Returns the digest of token, target and scopes. Each part is prefixed with its length, so that no two combinations are
/// equal.
fn cache_key(subject: &SubjectToken, target: TokenTarget<'_>, scope: &str) -> [u8; 32] {
    let (kind, name) = match target {
        TokenTarget::Audience(name) => ("a", name),
        TokenTarget::Resource(name) => ("r", name),
    };
    let mut context = Context::new(&SHA256);
    for part in [subject.0.as_str(), kind, name, scope] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// Evicts entries if the cache is full and does not contain the key: all that have expired, or else the one that expires
/// first.
fn evict_for(cache: &mut HashMap<[u8; 32], CacheEntry>, key: &[u8; 32], now: SystemTime) {
    if cache.len() < MAX_CACHED_TOKENS || cache.contains_key(key) {
        return;
    }
    cache.retain(|_, entry| entry.expires(now).is_some() || entry.is_in_flight());
    if cache.len() < MAX_CACHED_TOKENS {
        return;
    }
    // Entries in flight are evicted last. Such an exchange inserts its token again.
    let order = |entry: &CacheEntry| (entry.expires(now).is_none(), entry.expires(now));
    if let Some(first) = cache.iter().min_by_key(|(_, entry)| order(entry)).map(|(key, _)| *key) {
        cache.remove(&first);
    }
}

fn request_error(error: mcp_https::Error) -> ExchangeError {
    match error {
        mcp_https::Error::TooLarge { .. } => ExchangeError::Malformed("it is too large"),
        mcp_https::Error::Compressed { .. } => ExchangeError::Malformed("it is compressed"),
        error => ExchangeError::Unavailable(error.into()),
    }
}

#[cfg(test)]
mod tests;
