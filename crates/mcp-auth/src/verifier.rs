//! From a token to a principal. All rules are in [`check`]; nothing is believed before the last one, the signature.

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
    claims::{self, client_id, strings, text},
    config::{GOOGLE, GOOGLE_BARE, IssuerConfig, Preset},
    keys::{Decision, Fetched, Keys},
    token::{TokenType, UnverifiedToken},
};

/// What clocks may differ by.
const LEEWAY: Duration = Duration::from_secs(60);
/// Tokens that are remembered, so that a client's second request need not be verified anew.
const REMEMBERED: usize = 256;

/// Verifies tokens of the configured issuers.
#[derive(Debug)]
pub struct Verifier {
    issuers: Vec<Issuer>,
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
    warm: bool,
    #[cfg(feature = "exchange")]
    exchange: Option<Arc<TokenExchange>>,
}

#[derive(Debug)]
struct Issuer {
    config: IssuerConfig,
    keys: Keys,
}

#[derive(Debug)]
struct Remembered {
    principal: Arc<Principal>,
    issuer: usize,
    keys: Arc<Fetched>,
    expires: SystemTime,
}

impl Verifier {
    /// A verifier without keys: they are fetched with the first token.
    pub fn new(config: OidcConfig) -> Self {
        #[cfg(feature = "exchange")]
        let exchange = config.exchange.and_then(|exchange| {
            let issuer = config.issuers.first()?.issuer.clone();
            Some(Arc::new(TokenExchange::new(issuer, exchange)))
        });
        let keys = |config: &IssuerConfig| Keys::new(config.issuer.clone(), config.jwks_uri.clone());
        let issuers = config.issuers.into_iter().map(|config| Issuer { keys: keys(&config), config });
        Self {
            issuers: issuers.collect(),
            remembered: Mutex::default(),
            warm: config.warm,
            #[cfg(feature = "exchange")]
            exchange,
        }
    }

    /// Fetches the keys of all issuers, if the configuration wants them before the first token (`OIDC_WARM=1`). A failure
    /// is logged, and no error: the first token tries again.
    pub async fn warm(&self) {
        if self.warm {
            join_all(self.issuers.iter().map(|issuer| issuer.keys.warm())).await;
        }
    }

    /// The issuers, for the metadata that leads clients to them.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.issuers.iter().map(|issuer| issuer.config.issuer.as_str())
    }

    /// The exchange of callers' tokens, if one is configured.
    #[cfg(feature = "exchange")]
    pub fn exchange(&self) -> Option<&Arc<TokenExchange>> {
        self.exchange.as_ref()
    }

    /// Verifies a token that came for the server at `base_url` (without a slash at its end), at the time `now`. Keys are
    /// not waited for beyond `answer_by`.
    ///
    /// # Errors
    ///
    /// When the token is not valid here, names a subject that is not on the list, or cannot be judged for lack of keys.
    pub async fn verify(
        &self,
        token: &str,
        base_url: &str,
        now: SystemTime,
        answer_by: Option<Instant>,
    ) -> Result<Arc<Principal>, VerifyError> {
        let span = tracing::info_span!("verify token", error.type = Empty, otel.status_code = Empty);
        let verified = self.judge(token, base_url, now, answer_by).instrument(span.clone()).await;
        if let Err(error) = &verified {
            span.record("error.type", error.kind());
            span.record("otel.status_code", "ERROR");
        }
        verified
    }

    async fn judge(
        &self,
        token: &str,
        base_url: &str,
        now: SystemTime,
        answer_by: Option<Instant>,
    ) -> Result<Arc<Principal>, VerifyError> {
        let digest = digest(token, base_url);
        if let Some(principal) = self.recall(&digest, now) {
            return Ok(principal);
        }
        let token = UnverifiedToken::parse(token)?;
        let (index, issuer) = self.issuer_of(&token)?;
        let expires = check(&token, &issuer.config, base_url, now)?;
        let keys = match issuer.keys.decide(&token, now, answer_by).await {
            Decision::Genuine(keys) => keys,
            Decision::Wrong => return Err(Reason::Signature.into()),
            Decision::UnknownKey => return Err(Reason::UnknownKey.into()),
            Decision::Unavailable { retry_after } => return Err(VerifyError::KeysUnavailable { retry_after }),
        };
        // From here on the claims are the issuer's.
        let principal = claims::principal(token.unverified_claims, &issuer.config)?;
        if !is_allowed(&principal, &issuer.config) {
            return Err(VerifyError::NotAllowed);
        }
        let principal = Arc::new(principal);
        self.remember(digest, Remembered { principal: Arc::clone(&principal), issuer: index, keys, expires }, now);
        Ok(principal)
    }

    fn issuer_of(&self, token: &UnverifiedToken<'_>) -> Result<(usize, &Issuer), Reason> {
        // A list of issuers would be another issuer's token for a reader of only one of them.
        let unverified_issuer = token.unverified_claims.get("iss").and_then(Value::as_str).ok_or(Reason::Issuer)?;
        let unverified_issuer = if unverified_issuer == GOOGLE_BARE { GOOGLE } else { unverified_issuer };
        let found = self.issuers.iter().enumerate().find(|(_, issuer)| issuer.config.issuer == unverified_issuer);
        found.ok_or(Reason::Issuer)
    }

    /// A token that was verified before, while it and the keys are good.
    fn recall(&self, digest: &[u8; 32], now: SystemTime) -> Option<Arc<Principal>> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = remembered.get(digest)?;
        let is_good = now < entry.expires && self.issuers[entry.issuer].keys.is_current(&entry.keys, now);
        is_good.then(|| Arc::clone(&entry.principal))
    }

    fn remember(&self, digest: [u8; 32], entry: Remembered, now: SystemTime) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, own| now < own.expires && self.issuers[own.issuer].keys.is_current(&own.keys, now));
        }
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(digest, entry);
    }
}

/// Of the token and of where it came: the same token may be for one of a function's names and not for another.
fn digest(token: &str, base_url: &str) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(base_url.as_bytes());
    context.update(&[0]);
    context.update(token.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// The rules that a token's claims must keep; in return, when it expires.
///
/// - `exp`, `iss` and `sub` are there (RFC 9068, section 2.2); `iss` has been looked up already.
/// - `exp` is ahead; `nbf` and `iat` are not, give or take a minute.
/// - It is of a kind that the issuer is believed about, see [`kind`].
/// - Its audience is this server: [`check_audience`].
/// - No `cnf`: such a token is worth something only with the key that it names (RFC 7800, RFC 8705, RFC 9449), and no caller
///   proves here to have it.
fn check(
    token: &UnverifiedToken<'_>,
    config: &IssuerConfig,
    base_url: &str,
    now: SystemTime,
) -> Result<SystemTime, Reason> {
    let claims = &token.unverified_claims;
    if text(claims, "sub").is_none_or(str::is_empty) {
        return Err(Reason::Subject);
    }
    let expires = time(claims, "exp").map_err(|_| Reason::Expired)?.ok_or(Reason::Expired)?;
    if expires <= now {
        return Err(Reason::Expired);
    }
    for name in ["nbf", "iat"] {
        let since = time(claims, name).map_err(|_| Reason::NotYetValid)?;
        if since.is_some_and(|since| since > now + LEEWAY) {
            return Err(Reason::NotYetValid);
        }
    }
    if claims.contains_key("cnf") {
        return Err(Reason::BoundToAKey);
    }
    let kind = kind(token, config)?;
    match (kind, config.preset) {
        (Kind::Access, Preset::Google) => return Err(Reason::AccessToken),
        (Kind::Id, _) if !config.accepts_id_tokens => return Err(Reason::IdToken),
        (Kind::Access | Kind::Id, _) => {}
    }
    check_audience(claims, kind, config, base_url)?;
    Ok(expires)
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// To be shown to a server.
    Access,
    /// To tell a client who has signed in.
    Id,
}

/// Tells an ID token by what issuers say of it, `token_use` (Cognito) or the claim `typ` (Keycloak); where they say nothing,
/// by what no access token has, `nonce`, `at_hash` or `c_hash` (OpenID Connect Core, section 2). What bears no mark is an
/// access token, except Google's.
fn kind(token: &UnverifiedToken<'_>, config: &IssuerConfig) -> Result<Kind, Reason> {
    let claims = &token.unverified_claims;
    let token_use = match claims.get("token_use") {
        None => None,
        Some(Value::String(name)) if name == "access" => Some(Kind::Access),
        Some(Value::String(name)) if name == "id" => Some(Kind::Id),
        Some(_) => return Err(Reason::OtherToken),
    };
    let own_type = match claims.get("typ") {
        None => None,
        Some(Value::String(name)) if name == "Bearer" => Some(Kind::Access),
        Some(Value::String(name)) if name == "ID" => Some(Kind::Id),
        // Keycloak's refresh, offline and logout tokens.
        Some(_) => return Err(Reason::OtherToken),
    };
    // A logout token, or another security event (RFC 8417).
    if claims.contains_key("events") {
        return Err(Reason::OtherToken);
    }
    let is_typed = token.token_type == Some(TokenType::AccessToken);
    let mut said = [token_use, own_type, is_typed.then_some(Kind::Access)].into_iter().flatten();
    if let Some(kind) = said.next() {
        // An issuer does not contradict itself. Where it says what the token is, a mark says no more: Keycloak has put a
        // `nonce` into access tokens too.
        return if said.all(|other| other == kind) { Ok(kind) } else { Err(Reason::OtherToken) };
    }
    let is_marked = ["nonce", "at_hash", "c_hash"].iter().any(|mark| claims.contains_key(*mark));
    match config.preset {
        Preset::Google => Ok(Kind::Id),
        // Each of its tokens says what it is.
        Preset::Cognito => Err(Reason::OtherToken),
        Preset::Other if is_marked => Ok(Kind::Id),
        // Entra's access tokens name the client that they were issued to, its ID tokens do not (Microsoft identity
        // platform, "Access token claims reference").
        Preset::Other if config.is_entra() && client_id(claims).is_none() => Ok(Kind::Id),
        Preset::Other => Ok(Kind::Access),
    }
}

/// Whether a token is meant for this server (RFC 8707, RFC 9068 section 4).
///
/// An access token names one of the server's own identifiers, or what is configured in their place; an ID token names the
/// client. Cognito's access tokens have no audience unless the client asked for one: there the client stands for it.
fn check_audience(
    claims: &Map<String, Value>,
    kind: Kind,
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
        (Preset::Google, _) | (Preset::Cognito, Kind::Id) if names_client => Ok(()),
        (Preset::Google, _) | (Preset::Cognito, Kind::Id) => Err(Reason::Audience),
        (Preset::Cognito, Kind::Access) if audiences.is_some() && !names_server => Err(Reason::Audience),
        (Preset::Other, _) if !names_server => Err(Reason::Audience),
        // An ID token's audience is its client.
        (Preset::Other, kind) if config.client_ids.is_empty() || kind == Kind::Id => Ok(()),
        (Preset::Cognito | Preset::Other, _) if client_id(claims).as_ref().is_some_and(is_client) => Ok(()),
        (Preset::Cognito | Preset::Other, _) => Err(Reason::Client),
    }
}

/// The MCP endpoint or the server's base, with or without a slash at the end.
fn is_own_identifier(audience: &str, base_url: &str) -> bool {
    matches!(audience.strip_prefix(base_url), Some("" | "/" | "/mcp" | "/mcp/"))
}

fn is_allowed(principal: &Principal, config: &IssuerConfig) -> bool {
    let is_listed = config.allowed_emails.is_empty()
        || config.allowed_emails.iter().any(|address| principal.has_verified_email(address));
    let is_of_domain = config
        .hosted_domain
        .as_ref()
        .is_none_or(|domain| text(&principal.claims, "hd").is_some_and(|own| own.eq_ignore_ascii_case(domain)));
    is_listed && is_of_domain
}

/// A claim in seconds since 1970 (RFC 7519, section 2, `NumericDate`).
///
/// # Errors
///
/// When it is something else.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<SystemTime>, ()> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = Duration::try_from_secs_f64(value.as_f64().ok_or(())?).map_err(|_| ())?;
    UNIX_EPOCH.checked_add(seconds).map(Some).ok_or(())
}

/// Scopes as the server calls them.
pub(crate) fn scopes(claims: &Map<String, Value>, config: &IssuerConfig) -> Vec<String> {
    let own_name = |scope: &str| match scope.strip_prefix(config.scope_prefix.as_str()) {
        Some(name) => Some(name.to_owned()),
        None => config.is_entra().then(|| scope.to_owned()),
    };
    let listed = ["scope", "scp"].into_iter().filter_map(|name| claims.get(name)).flat_map(|value| match value {
        Value::String(text) => text.split(' ').map(str::to_owned).collect(),
        other => strings(other),
    });
    let granted = config.grant_scopes.iter().cloned();
    listed.filter_map(|scope| own_name(&scope)).filter(|scope| !scope.is_empty()).chain(granted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    /// 3.1 is the slash at the end.
    fn exactly_the_servers_own_identifiers_are_its_audience() {
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
    fn a_token_is_remembered_for_the_name_that_it_came_to() {
        assert_ne!(digest("t", "https://a.example"), digest("t", "https://b.example"));
        assert_ne!(digest("bt", "a"), digest("t", "ab"));
    }
}
