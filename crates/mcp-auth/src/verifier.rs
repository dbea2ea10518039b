//! Token verification: claims are validated in [`validate_claims`], then the signature is verified. Only then are claims used.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;

use mcp_server::Principal;
use serde_json::{Map, Value};
use tracing::{Instrument, field::Empty};

#[cfg(feature = "exchange")]
use crate::TokenExchange;
use crate::{
    OidcConfig, Reason, VerifyError,
    claims::{self, client_id, string_claim, string_list},
    config::{GOOGLE, GOOGLE_WITHOUT_SCHEME, IssuerConfig, Preset},
    keys::{CachedKeys, KeyCache, Verification},
    token::{TokenType, UnverifiedToken},
};

/// Tolerated clock skew of `nbf` and `iat`.
const LEEWAY: Duration = Duration::from_secs(60);
/// Maximum number of verified tokens in the cache, which saves the verification of a client's further requests.
const MAX_CACHED_TOKENS: usize = 256;

/// Verifies access tokens, and ID tokens where they are accepted, of the configured issuers.
///
/// Create one per execution environment: it caches the issuers' keys, and up to 256 verified tokens until they expire.
#[derive(Debug)]
pub struct Verifier {
    issuers: Vec<Issuer>,
    token_cache: Mutex<HashMap<[u8; 32], CachedToken>>,
    warm: bool,
    #[cfg(feature = "exchange")]
    exchange: Option<Arc<TokenExchange>>,
}

#[derive(Debug)]
struct Issuer {
    config: IssuerConfig,
    keys: KeyCache,
}

#[derive(Debug)]
struct CachedToken {
    principal: Arc<Principal>,
    issuer: usize,
    keys: Arc<CachedKeys>,
    expires: SystemTime,
}

impl Verifier {
    /// Creates a verifier. It sends no request: the keys are fetched with the first token, or by [`warm`](Self::warm).
    pub fn new(config: OidcConfig) -> Self {
        #[cfg(feature = "exchange")]
        let exchange = config.exchange.and_then(|exchange| {
            let issuer = config.issuers.first()?.issuer.clone();
            Some(Arc::new(TokenExchange::new(issuer, exchange)))
        });
        let keys = |config: &IssuerConfig| KeyCache::new(config.issuer.clone(), config.jwks_uri.clone());
        let issuers = config.issuers.into_iter().map(|config| Issuer { keys: keys(&config), config });
        Self {
            issuers: issuers.collect(),
            token_cache: Mutex::default(),
            warm: config.warm,
            #[cfg(feature = "exchange")]
            exchange,
        }
    }

    /// Fetches the keys of all issuers with `OIDC_WARM=1`; otherwise it does nothing. Call it in the init phase. It takes at
    /// most three seconds. A failure is logged and is not an error: the keys are fetched again with the first token.
    pub async fn warm(&self) {
        if self.warm {
            join_all(self.issuers.iter().map(|issuer| issuer.keys.warm())).await;
        }
    }

    /// Returns the issuers, for `authorization_servers` of the protected-resource metadata.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.issuers.iter().map(|issuer| issuer.config.issuer.as_str())
    }

    /// Returns the token exchange, if it is configured.
    #[cfg(feature = "exchange")]
    pub fn exchange(&self) -> Option<&Arc<TokenExchange>> {
        self.exchange.as_ref()
    }

    /// Verifies a token, at the time `now`, that was sent to the server at `base_url`. The URL has no slash at the end.
    /// Waits for a fetch of keys until `answer_by` at the latest.
    ///
    /// # Errors
    ///
    /// When the token is not valid for this server, its account is not allowed, or the issuer's keys are unavailable.
    pub async fn verify(
        &self,
        token: &str,
        base_url: &str,
        now: SystemTime,
        answer_by: Option<Instant>,
    ) -> Result<Arc<Principal>, VerifyError> {
        let span = tracing::info_span!("verify token", error.type = Empty, otel.status_code = Empty);
        let verified = self.verify_in_span(token, base_url, now, answer_by).instrument(span.clone()).await;
        if let Err(error) = &verified {
            span.record("error.type", error.kind());
            span.record("otel.status_code", "ERROR");
        }
        verified
    }

    async fn verify_in_span(
        &self,
        token: &str,
        base_url: &str,
        now: SystemTime,
        answer_by: Option<Instant>,
    ) -> Result<Arc<Principal>, VerifyError> {
        let key = cache_key(token, base_url);
        if let Some(principal) = self.cached(&key, now) {
            return Ok(principal);
        }
        let token = UnverifiedToken::parse(token)?;
        let (index, issuer) = self.configured_issuer(&token)?;
        let expires = validate_claims(&token, &issuer.config, base_url, now)?;
        let keys = match issuer.keys.verify(&token, now, answer_by).await {
            Verification::Valid(keys) => keys,
            Verification::Invalid => return Err(Reason::Signature.into()),
            Verification::UnknownKey => return Err(Reason::UnknownKey.into()),
            Verification::Unavailable { retry_after } => return Err(VerifyError::KeysUnavailable { retry_after }),
        };
        // The claims are verified.
        let principal = claims::principal(token.unverified_claims, &issuer.config)?;
        if !is_allowed(&principal, &issuer.config) {
            return Err(VerifyError::NotAllowed);
        }
        let principal = Arc::new(principal);
        self.cache(key, CachedToken { principal: Arc::clone(&principal), issuer: index, keys, expires }, now);
        Ok(principal)
    }

    fn configured_issuer(&self, token: &UnverifiedToken<'_>) -> Result<(usize, &Issuer), Reason> {
        // An array is rejected: with several issuers it would be ambiguous whose keys must verify the token.
        let unverified_issuer = token.unverified_claims.get("iss").and_then(Value::as_str).ok_or(Reason::Issuer)?;
        let unverified_issuer = if unverified_issuer == GOOGLE_WITHOUT_SCHEME { GOOGLE } else { unverified_issuer };
        let found = self.issuers.iter().enumerate().find(|(_, issuer)| issuer.config.issuer == unverified_issuer);
        found.ok_or(Reason::Issuer)
    }

    /// Returns the principal of a token in the cache. An entry is valid until the token expires, or the keys are stale or
    /// replaced.
    fn cached(&self, key: &[u8; 32], now: SystemTime) -> Option<Arc<Principal>> {
        let token_cache = self.token_cache.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = token_cache.get(key)?;
        self.is_valid(entry, now).then(|| Arc::clone(&entry.principal))
    }

    fn is_valid(&self, entry: &CachedToken, now: SystemTime) -> bool {
        now < entry.expires && self.issuers[entry.issuer].keys.is_current(&entry.keys, now)
    }

    fn cache(&self, key: [u8; 32], entry: CachedToken, now: SystemTime) {
        let mut token_cache = self.token_cache.lock().unwrap_or_else(PoisonError::into_inner);
        if token_cache.len() >= MAX_CACHED_TOKENS {
            token_cache.retain(|_, own| self.is_valid(own, now));
        }
        if token_cache.len() >= MAX_CACHED_TOKENS {
            token_cache.clear();
        }
        token_cache.insert(key, entry);
    }
}

/// Returns the digest of a token and the server's URL. The URL is part of the key, because a function may have several names,
/// and a token may have the audience of only one.
fn cache_key(token: &str, base_url: &str) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(base_url.as_bytes());
    context.update(&[0]);
    context.update(token.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// Validates the claims of a token, and returns its expiry.
///
/// - `exp`, `iss` and `sub` are present (RFC 9068, section 2.2). `iss` is validated before.
/// - `exp` is in the future. `nbf` and `iat` are not, with a leeway of one minute.
/// - The token is of a type that is accepted from the issuer: [`token_kind`].
/// - Its audience is this server: [`check_audience`].
/// - There is no `cnf`: a sender-constrained token is valid only with a proof of possession of its key (RFC 7800, RFC 8705,
///   RFC 9449), which this server does not verify.
fn validate_claims(
    token: &UnverifiedToken<'_>,
    config: &IssuerConfig,
    base_url: &str,
    now: SystemTime,
) -> Result<SystemTime, Reason> {
    let claims = &token.unverified_claims;
    if string_claim(claims, "sub").is_none_or(str::is_empty) {
        return Err(Reason::Subject);
    }
    let expires = numeric_date(claims, "exp").map_err(|_| Reason::Expired)?.ok_or(Reason::Expired)?;
    if expires <= now {
        return Err(Reason::Expired);
    }
    for name in ["nbf", "iat"] {
        let since = numeric_date(claims, name).map_err(|_| Reason::NotYetValid)?;
        if since.is_some_and(|since| since > now + LEEWAY) {
            return Err(Reason::NotYetValid);
        }
    }
    if claims.contains_key("cnf") {
        return Err(Reason::BoundToAKey);
    }
    let kind = token_kind(token, config)?;
    match (kind, config.preset) {
        (TokenKind::Access, Preset::Google) => return Err(Reason::AccessToken),
        (TokenKind::Id, _) if !config.accepts_id_tokens => return Err(Reason::IdToken),
        (TokenKind::Access | TokenKind::Id | TokenKind::Assertion, _) => {}
    }
    check_audience(claims, kind, config, base_url)?;
    Ok(expires)
}

/// Whether a token is an access token, an ID token or an identity assertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    Access,
    Id,
    Assertion,
}

/// Returns the kind of a token.
///
/// A type that the issuer states decides: the claim `token_use` (Cognito), the claim `typ` (Keycloak), or the header's `typ`.
/// Without one, a token with `nonce`, `at_hash` or `c_hash` is an ID token (OpenID Connect Core, section 2), as are all of
/// Google's tokens. Every other token is an access token.
///
/// An identity assertion has a type of its own, and is the only kind for an authorization server.
fn token_kind(token: &UnverifiedToken<'_>, config: &IssuerConfig) -> Result<TokenKind, Reason> {
    match (token.token_type == Some(TokenType::IdentityAssertion), config.is_for_assertions) {
        (true, true) => return Ok(TokenKind::Assertion),
        (false, false) => {}
        (true, false) | (false, true) => return Err(Reason::TokenType),
    }
    let claims = &token.unverified_claims;
    let token_use = match claims.get("token_use") {
        None => None,
        Some(Value::String(name)) if name == "access" => Some(TokenKind::Access),
        Some(Value::String(name)) if name == "id" => Some(TokenKind::Id),
        Some(_) => return Err(Reason::OtherToken),
    };
    let typ_claim = match claims.get("typ") {
        None => None,
        Some(Value::String(name)) if name == "Bearer" => Some(TokenKind::Access),
        Some(Value::String(name)) if name == "ID" => Some(TokenKind::Id),
        // Keycloak's refresh, offline and logout tokens.
        Some(_) => return Err(Reason::OtherToken),
    };
    // A logout token, or another security event token (RFC 8417).
    if claims.contains_key("events") {
        return Err(Reason::OtherToken);
    }
    let is_at_jwt = token.token_type == Some(TokenType::AccessToken);
    let mut stated = [token_use, typ_claim, is_at_jwt.then_some(TokenKind::Access)].into_iter().flatten();
    if let Some(kind) = stated.next() {
        // Contradicting types are rejected. ID token claims are not considered: Keycloak has put `nonce` into access tokens.
        return if stated.all(|other| other == kind) { Ok(kind) } else { Err(Reason::OtherToken) };
    }
    let has_id_token_claim = ["nonce", "at_hash", "c_hash"].iter().any(|name| claims.contains_key(*name));
    match config.preset {
        Preset::Google => Ok(TokenKind::Id),
        // Each of Cognito's tokens has `token_use`.
        Preset::Cognito => Err(Reason::OtherToken),
        Preset::Other if has_id_token_claim => Ok(TokenKind::Id),
        // Only Entra's access tokens have a claim for the client (Microsoft identity platform, "Access token claims
        // reference").
        Preset::Other if config.is_entra() && client_id(claims).is_none() => Ok(TokenKind::Id),
        Preset::Other => Ok(TokenKind::Access),
    }
}

/// Checks that a token is for this server (RFC 8707; RFC 9068, section 4).
///
/// The audience of an access token is one of the configured audiences, or else one of the server's own URLs. The audience of
/// an ID token is the client. Cognito's access tokens have no audience unless the client requested one; their client is
/// checked instead.
fn check_audience(
    claims: &Map<String, Value>,
    kind: TokenKind,
    config: &IssuerConfig,
    base_url: &str,
) -> Result<(), Reason> {
    let audiences = match claims.get("aud") {
        None => None,
        Some(Value::String(audience)) => Some(vec![audience.as_str()]),
        Some(Value::Array(list)) => {
            let list: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
            Some(list.ok_or(Reason::Audience)?)
        }
        Some(_) => return Err(Reason::Audience),
    };
    let is_server = |audience: &&str| match &config.audiences[..] {
        [] => is_own_identifier(audience, base_url),
        configured => configured.iter().any(|own| own == audience),
    };
    let is_client = |client: &&str| config.client_ids.iter().any(|own| own == client);
    let names_server = audiences.as_ref().is_some_and(|list| list.iter().any(is_server));
    let names_client = audiences.as_ref().is_some_and(|list| list.iter().any(is_client));
    match (config.preset, kind) {
        (Preset::Google, _) | (Preset::Cognito, TokenKind::Id) if names_client => Ok(()),
        (Preset::Google, _) | (Preset::Cognito, TokenKind::Id) => Err(Reason::Audience),
        (Preset::Cognito, TokenKind::Access) if audiences.is_some() && !names_server => Err(Reason::Audience),
        (Preset::Other, _) if !names_server => Err(Reason::Audience),
        // The audience of an ID token is its client, so the list of clients adds nothing.
        (Preset::Other, kind) if config.client_ids.is_empty() || kind == TokenKind::Id => Ok(()),
        (Preset::Cognito | Preset::Other, _) if client_id(claims).as_ref().is_some_and(is_client) => Ok(()),
        (Preset::Cognito | Preset::Other, _) => Err(Reason::Client),
    }
}

/// Whether an audience is the URL of the server or of its MCP endpoint, with or without a slash at the end.
fn is_own_identifier(audience: &str, base_url: &str) -> bool {
    matches!(audience.strip_prefix(base_url), Some("" | "/" | "/mcp" | "/mcp/"))
}

fn is_allowed(principal: &Principal, config: &IssuerConfig) -> bool {
    let is_listed = config.allowed_emails.is_empty()
        || config.allowed_emails.iter().any(|address| principal.has_verified_email(address));
    let is_of_domain = config
        .hosted_domain
        .as_ref()
        .is_none_or(|domain| string_claim(&principal.claims, "hd").is_some_and(|own| own.eq_ignore_ascii_case(domain)));
    is_listed && is_of_domain
}

/// Returns a claim of the type `NumericDate` (RFC 7519, section 2): seconds since 1970, also with a fraction.
///
/// # Errors
///
/// When the claim has another type or is out of range.
fn numeric_date(claims: &Map<String, Value>, name: &str) -> Result<Option<SystemTime>, ()> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = Duration::try_from_secs_f64(value.as_f64().ok_or(())?).map_err(|_| ())?;
    UNIX_EPOCH.checked_add(seconds).map(Some).ok_or(())
}

/// Returns the scopes of a token without the issuer's prefix, and the scopes that the configuration grants to every caller.
/// A scope without the prefix is ignored, except at Entra, whose tokens never have the prefix.
pub(crate) fn scopes(claims: &Map<String, Value>, config: &IssuerConfig) -> Vec<String> {
    let without_prefix = |scope: &str| match scope.strip_prefix(config.scope_prefix.as_str()) {
        Some(name) => Some(name.to_owned()),
        None => config.is_entra().then(|| scope.to_owned()),
    };
    let listed = ["scope", "scp"].into_iter().filter_map(|name| claims.get(name)).flat_map(|value| match value {
        Value::String(text) => text.split(' ').map(str::to_owned).collect(),
        other => string_list(other),
    });
    let granted = config.grant_scopes.iter().cloned();
    listed.filter_map(|scope| without_prefix(&scope)).filter(|scope| !scope.is_empty()).chain(granted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audience_is_the_url_of_the_server_or_of_its_mcp_endpoint() {
        for (audience, base_url, is_own) in [
            ("https://a.example/mcp", "https://a.example", true),
            ("https://a.example", "https://a.example", true),
            ("https://a.example/", "https://a.example", true),
            ("https://a.example/mcp/", "https://a.example", true),
            ("https://a.example/mcp//", "https://a.example", false),
            ("https://a.example//", "https://a.example", false),
            ("https://a.example/other", "https://a.example", false),
            ("https://a.example.evil.example", "https://a.example", false),
            ("https://a.example/mcp?x", "https://a.example", false),
            ("http://a.example/mcp", "https://a.example", false),
            ("https://A.example/mcp", "https://a.example", false),
            ("https://a.example/tools/mcp", "https://a.example/tools", true),
            ("https://a.example/tools", "https://a.example/tools", true),
            ("https://a.example/tools/", "https://a.example/tools", true),
            ("https://a.example/tools/mcp/", "https://a.example/tools", true),
            ("https://a.example", "https://a.example/tools", false),
            ("", "https://a.example", false),
        ] {
            assert_eq!(is_own_identifier(audience, base_url), is_own, "{audience} at {base_url}");
        }
    }

    #[test]
    fn the_cache_key_depends_on_token_and_server() {
        assert_ne!(cache_key("t", "https://a.example"), cache_key("t", "https://b.example"));
        assert_ne!(cache_key("bt", "a"), cache_key("t", "ab"));
    }
}
