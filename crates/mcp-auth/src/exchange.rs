//! Token exchange ([RFC 8693]): a token for another service, issued for the caller by the issuer of the caller's token.
//!
//! | Event | What is done |
//! | --- | --- |
//! | first exchange of a token for a target | one request to the token endpoint |
//! | several at once for the same token, target and scopes | one request, the others wait for it |
//! | the same again | the token is returned from memory until a minute before it expires |
//! | `invalid_client` | the client's secret is fetched again, at most once in 30 s, and the request is repeated |
//! | the token endpoint is slow, unreachable, or responds 429 or 5xx | [`ExchangeError::Unavailable`] |
//!
//! [RFC 8693]: https://www.rfc-editor.org/rfc/rfc8693

mod answer;
mod client_authentication;
mod config;
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
use answer::Granted;
use client_authentication::Form;
pub(crate) use config::ExchangeConfig;
use secret::ClientSecret;

const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Tokens that are kept, over all callers and targets.
const MAX_KEPT: usize = 256;
/// Maximum use of an exchanged token, also if the issuer states a longer lifetime.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);
/// A token is not returned in the time before it expires: its use takes time, and clocks differ.
const RESERVE: Duration = Duration::from_secs(60);
const MAX_TARGET_BYTES: usize = 2048;
const MAX_SCOPES_BYTES: usize = 4096;
const USER_AGENT: &str = concat!("mcp-auth/", env!("CARGO_PKG_VERSION"));
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What an exchanged token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenTarget<'a> {
    /// The logical name of a service, as the issuer knows it (`audience`).
    Audience(&'a str),
    /// The URL of a service (`resource`, RFC 8707).
    Resource(&'a str),
}

/// A token for another service, as a bearer token. `Debug` does not show it, and its memory is overwritten when it is
/// dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct ExchangedToken {
    value: Arc<Zeroizing<String>>,
}

impl ExchangedToken {
    /// The token.
    pub fn as_str(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for ExchangedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExchangedToken(..)")
    }
}

/// The verified token of a caller, kept for an exchange during one request. `Debug` does not show it, and its memory is
/// overwritten when it is dropped.
#[derive(Clone)]
pub struct SubjectToken(Arc<Zeroizing<String>>);

impl SubjectToken {
    /// Keeps a token that was verified.
    pub fn new(verified: &str) -> Self {
        Self(Arc::new(Zeroizing::new(verified.to_owned())))
    }
}

impl fmt::Debug for SubjectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectToken(..)")
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The target or a scope has a form that no request can have.
    #[error(
        "the {what} of a token exchange cannot be used: it is empty, too long, or has characters that none may have"
    )]
    Argument {
        /// `target` or `scopes`.
        what: &'static str,
    },
    /// The issuer issues no token for this caller, target and scopes.
    #[error("{message}")]
    Refused {
        /// What the caller may know.
        message: &'static str,
        /// The issuer's code.
        code: &'static str,
    },
    /// The issuer grants the caller less than was requested.
    #[error("the issuer did not grant the scope `{scope}`")]
    ScopeNotGranted {
        /// The first requested scope that is missing.
        scope: String,
    },
    /// The token endpoint cannot be reached or asked at the moment.
    #[error("the token endpoint is not available")]
    Unavailable(#[source] mcp_server::BoxError),
    /// The function's configuration, or the issuer's, does not allow an exchange.
    #[error("the issuer rejected the token exchange with `{0}`: check the client and its rights at the issuer")]
    Configuration(&'static str),
    /// The response is not one of RFC 8693.
    #[error("the token endpoint's response cannot be used: {0}")]
    Malformed(&'static str),
    /// The client's secret cannot be read, or is not usable.
    #[error("the secret for the token exchange cannot be used: {0}")]
    Secret(&'static str),
}

impl ExchangeError {
    /// What a handler returns: a text about the caller's rights, [`Unavailable`], or an internal fault.
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

/// Exchanges callers' tokens at the token endpoint of their issuer.
pub struct TokenExchange {
    config: Arc<ExchangeConfig>,
    issuer: String,
    client: Client,
    secret: ClientSecret,
    /// Found by discovery.
    endpoint: Mutex<Option<String>>,
    kept: Mutex<HashMap<[u8; 32], Slot>>,
}

#[derive(Default)]
struct Slot {
    /// Held during a request to the token endpoint.
    flight: Arc<tokio::sync::Mutex<()>>,
    token: Option<(ExchangedToken, SystemTime)>,
}

impl TokenExchange {
    pub(crate) fn new(issuer: String, config: Arc<ExchangeConfig>) -> Self {
        let client = Client::trusted().user_agent(USER_AGENT).timeout(TIMEOUT).max_response_bytes(MAX_ANSWER_BYTES);
        let secret = ClientSecret::new(config.secret.clone());
        Self { config, issuer, client, secret, endpoint: Mutex::default(), kept: Mutex::default() }
    }

    /// A token for a target, issued for the caller whose token was verified, by `answer_by`. `clock` is the current time: a
    /// handler may run for minutes. Without
    /// scopes the issuer decides which it has.
    ///
    /// # Errors
    ///
    /// When the issuer refuses, is not available, or the configuration is wrong.
    pub async fn exchange(
        &self,
        subject: &SubjectToken,
        target: TokenTarget<'_>,
        scopes: &[&str],
        clock: impl Fn() -> SystemTime + Send + Sync,
        answer_by: Option<Instant>,
    ) -> Result<ExchangedToken, ExchangeError> {
        let scope = check(target, scopes)?;
        let now = clock();
        let key = key(subject, target, &scope);
        let flight = {
            let mut kept = self.kept();
            make_room(&mut kept, &key, now);
            let slot = kept.entry(key).or_default();
            if let Some(token) = slot.fresh(now) {
                return Ok(token);
            }
            Arc::clone(&slot.flight)
        };
        let exchange = async {
            let _flight = flight.lock().await;
            // While this one waited, another may have got it; and time has passed.
            let now = clock();
            if let Some(token) = self.kept().get(&key).and_then(|slot| slot.fresh(now)) {
                return Ok(token);
            }
            let granted = self.request(subject, target, &scope, &clock, answer_by).await?;
            check_granted(&granted, subject, &scope)?;
            let lifetime = granted.expires_in.saturating_sub(RESERVE);
            if let Some(ends) = now.checked_add(lifetime).filter(|ends| *ends > now) {
                let mut kept = self.kept();
                make_room(&mut kept, &key, now);
                kept.entry(key).or_default().token = Some((granted.token.clone(), ends));
            }
            Ok(granted.token)
        };
        match answer_by {
            Some(deadline) => tokio::time::timeout_at(deadline.into(), exchange)
                .await
                .unwrap_or_else(|_| Err(ExchangeError::Unavailable("the request's deadline came first".into()))),
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
        let mut is_repeated = false;
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
            // A repeated exchange issues another token, and changes nothing else.
            let request = self.client.post(&endpoint).answer_by(answer_by).idempotent();
            let request = self.config.authenticate(request, &mut form, &secret, &self.issuer, now)?;
            let request = request
                .header(header::ACCEPT, "application/json")
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.into_bytes());
            let response = request.send().await.map_err(request_error)?;
            let status = response.status();
            if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::NOT_FOUND {
                // Perhaps it has moved.
                *self.endpoint.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return Err(ExchangeError::Unavailable(format!("it responded with {status}").into()));
            }
            let body = response.bytes().await.map_err(request_error)?;
            match answer::read(status, &body) {
                // A secret that was rotated.
                Err(ExchangeError::Configuration("invalid_client"))
                    if !is_repeated && self.secret.discard(&secret, now) =>
                {
                    is_repeated = true;
                }
                answer => return answer,
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

    fn kept(&self) -> MutexGuard<'_, HashMap<[u8; 32], Slot>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Slot {
    fn fresh(&self, now: SystemTime) -> Option<ExchangedToken> {
        self.token.as_ref().filter(|(_, ends)| now < *ends).map(|(token, _)| token.clone())
    }

    /// When the token expires; `None` without one that is fresh.
    fn expires(&self, now: SystemTime) -> Option<SystemTime> {
        self.token.as_ref().map(|(_, ends)| *ends).filter(|ends| now < *ends)
    }

    /// Whether a request holds the slot's lock, or waits for it.
    fn is_in_flight(&self) -> bool {
        Arc::strong_count(&self.flight) > 1
    }
}

/// The scopes as one text.
fn check(target: TokenTarget<'_>, scopes: &[&str]) -> Result<String, ExchangeError> {
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

/// Checks that a response has another token with all requested scopes. A response without `scope` grants them
/// (RFC 8693, section 2.2.1).
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

fn key(subject: &SubjectToken, target: TokenTarget<'_>, scope: &str) -> [u8; 32] {
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

/// Evicts what has expired if there is no room for a key, and if nothing has, the token that expires first.
fn make_room(kept: &mut HashMap<[u8; 32], Slot>, key: &[u8; 32], now: SystemTime) {
    if kept.len() < MAX_KEPT || kept.contains_key(key) {
        return;
    }
    kept.retain(|_, slot| slot.expires(now).is_some() || slot.is_in_flight());
    if kept.len() < MAX_KEPT {
        return;
    }
    // A request in flight is evicted last. It keeps its token under its key again.
    let order = |slot: &Slot| (slot.expires(now).is_none(), slot.expires(now));
    if let Some(first) = kept.iter().min_by_key(|(_, slot)| order(slot)).map(|(key, _)| *key) {
        kept.remove(&first);
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
