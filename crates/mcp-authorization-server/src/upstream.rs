//! Sign-in at the identity provider, as a confidential OpenID client: code flow with PKCE and `nonce`.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use mcp_auth::{OidcConfig, Verifier, VerifyError};
use mcp_https::{Client as HttpsClient, StatusCode, header};
use mcp_server::{
    BoxError, InitError, Principal,
    json::{self, Budget},
    uri::SecureUrl,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    Provider, Source,
    parameters::{append, encode, encode_value},
};

/// Timeout of a request: hosted clients give up after ten seconds.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Maximum size of a response, in bytes.
const MAX_RESPONSE_BYTES: usize = 256 * 1024;
/// How long the provider's metadata are used.
const METADATA_AGE: Duration = Duration::from_secs(60 * 60);
/// Maximum length of a refresh token, in bytes. Those of Entra have about 2 KiB.
const MAX_REFRESH_TOKEN_BYTES: usize = 16 * 1024;
/// Maximum length of a subject (OpenID Connect Core, section 2).
const MAX_SUBJECT_BYTES: usize = 255;

/// The identity provider, and this server's registration there.
pub struct UpstreamConfig {
    /// The provider's issuer identifier, exactly as in its metadata.
    pub issuer: String,
    /// This server's client id.
    pub client_id: String,
    /// This server's client secret: a provider may replace it.
    pub client_secret: Source<String>,
    /// The kind of provider.
    pub provider: Provider,
}

/// The identity provider. Keep one for each execution environment: it caches metadata and keys.
pub struct Upstream {
    config: UpstreamConfig,
    verifier: Verifier,
    client: HttpsClient,
    metadata: Mutex<Option<(Arc<Metadata>, SystemTime)>>,
}

/// Why a person could not sign in.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The provider cannot be reached, or its response is malformed.
    #[error("the identity provider did not respond as expected: {reason}")]
    Unavailable {
        /// The reason.
        reason: &'static str,
        /// The cause.
        #[source]
        source: Option<mcp_https::Error>,
    },
    /// The client secret cannot be read.
    #[error("the client secret could not be read")]
    ClientSecret(#[source] BoxError),
    /// The provider rejected the code or refresh token: it is expired, revoked or was used.
    #[error("the identity provider rejected the code or refresh token")]
    Rejected,
    /// The ID token is not valid.
    #[error("the ID token is not valid")]
    IdToken(#[source] VerifyError),
    /// The ID token belongs to another sign-in: the code may be that of another one.
    #[error("the ID token is not for this sign-in: its nonce is missing or another one")]
    OtherSignIn,
    /// The ID token belongs to another client, or is not usable.
    #[error("the ID token is not for this client: {0}")]
    OtherClient(&'static str),
}

/// Random values of one sign-in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SignInSecrets<'a> {
    pub(crate) nonce: &'a str,
    pub(crate) code_verifier: &'a str,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(default)]
    code_challenge_methods_supported: Vec<String>,
    #[serde(default)]
    scopes_supported: Vec<String>,
    /// Whether each authorization response has `iss` (RFC 9207).
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

#[derive(Deserialize)]
struct TokenResponse {
    id_token: Option<String>,
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct ErrorResponse {
    error: String,
}

/// A person who has signed in.
#[derive(Debug)]
pub(crate) struct Person {
    /// The claims of the verified ID token.
    pub(crate) principal: Arc<Principal>,
    /// The provider's refresh token, if it issues one.
    pub(crate) refresh_token: Option<RefreshToken>,
}

/// A person whom the provider still signs in.
#[derive(Debug)]
pub(crate) struct Refreshed {
    /// The next refresh token; `None` if the last one stays valid.
    pub(crate) refresh_token: Option<RefreshToken>,
    /// The claims of the ID token, if the response has one.
    pub(crate) principal: Option<Result<Arc<Principal>, UpstreamError>>,
}

/// A refresh token of the provider. `Debug` redacts it.
pub(crate) struct RefreshToken(pub(crate) String);

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken(..)")
    }
}

impl Upstream {
    /// Creates the client. It sends no request before the first sign-in.
    ///
    /// # Errors
    ///
    /// When the issuer is not an `https` URL (`http` on loopback).
    pub fn new(config: UpstreamConfig) -> Result<Self, InitError> {
        // The audience of an ID token is the client.
        let entry = json!([{ "issuer": config.issuer, "audience": config.client_id, "id_tokens": true }]).to_string();
        let oidc = OidcConfig::from_env(|name| (name == "OIDC_ISSUERS").then_some(entry.as_str()))?;
        let oidc = oidc.ok_or_else(|| InitError::new("no identity provider is configured"))?;
        Ok(Self {
            config,
            verifier: Verifier::new(oidc),
            client: HttpsClient::trusted().timeout(TIMEOUT).max_response_bytes(MAX_RESPONSE_BYTES),
            metadata: Mutex::default(),
        })
    }

    /// Returns the issuer identifier.
    pub(crate) fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// Returns the URL of the sign-in.
    ///
    /// # Errors
    ///
    /// When the provider's metadata cannot be read.
    pub(crate) async fn authorization_url(
        &self,
        state: &str,
        secrets: &SignInSecrets<'_>,
        redirect_uri: &str,
        now: SystemTime,
        deadline: Option<Instant>,
    ) -> Result<String, UpstreamError> {
        let metadata = self.metadata(now, deadline).await?;
        let challenge = digest::digest(&digest::SHA256, secrets.code_verifier.as_bytes());
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(challenge);
        let pkce = |value| self.uses_pkce(&metadata).then_some(value);
        let scope = self.config.provider.scope(&metadata.scopes_supported);
        let more = self.config.provider.parameters(&metadata.scopes_supported);
        let mut parameters = vec![
            ("response_type", Some("code")),
            ("client_id", Some(self.config.client_id.as_str())),
            ("redirect_uri", Some(redirect_uri)),
            ("scope", Some(scope.as_str())),
            ("state", Some(state)),
            ("nonce", Some(secrets.nonce)),
            ("code_challenge", pkce(challenge.as_str())),
            ("code_challenge_method", pkce("S256")),
        ];
        parameters.extend(more.iter().map(|(name, value)| (*name, Some(*value))));
        Ok(append(&metadata.authorization_endpoint, &parameters))
    }

    /// Whether a response with this parameter `iss` is one of the provider (RFC 9207, section 2.4). Without metadata, a missing `iss` says
    /// nothing.
    pub(crate) async fn has_sent(&self, iss: Option<&str>, now: SystemTime, deadline: Option<Instant>) -> bool {
        match iss {
            Some(iss) => iss == self.issuer(),
            None => {
                let metadata = self.metadata(now, deadline).await;
                metadata.map_or(true, |own| !own.authorization_response_iss_parameter_supported)
            }
        }
    }

    /// Redeems a code, and returns the person of the verified ID token.
    ///
    /// # Errors
    ///
    /// When the provider cannot be reached or rejects the code, or the ID token is not valid for this client and sign-in.
    pub(crate) async fn person(
        &self,
        code: &str,
        secrets: &SignInSecrets<'_>,
        redirect_uri: &str,
        now: SystemTime,
        deadline: Option<Instant>,
    ) -> Result<Person, UpstreamError> {
        let metadata = self.metadata(now, deadline).await?;
        let verifier = self.uses_pkce(&metadata).then_some(secrets.code_verifier);
        let parameters = [
            ("grant_type", Some("authorization_code")),
            ("code", Some(code)),
            ("redirect_uri", Some(redirect_uri)),
            ("code_verifier", verifier),
        ];
        let response = self.token_request(&metadata, &parameters, now, deadline).await?;
        let id_token = response.id_token.ok_or(unexpected("its token response has no id_token"))?;
        let principal = self.verifier.verify(&id_token, "", now, deadline).await.map_err(UpstreamError::IdToken)?;
        self.check_sign_in(&principal, secrets.nonce)?;
        Ok(Person { principal, refresh_token: response.refresh_token.map(RefreshToken) })
    }

    /// Asks whether a person may still sign in, by a refresh token.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Rejected`] when the person may not: the provider rejects the token as `invalid_grant`. Other errors say nothing of
    /// the person.
    pub(crate) async fn refresh(
        &self,
        refresh_token: &str,
        now: SystemTime,
        deadline: Option<Instant>,
    ) -> Result<Refreshed, UpstreamError> {
        let metadata = self.metadata(now, deadline).await?;
        let parameters = [("grant_type", Some("refresh_token")), ("refresh_token", Some(refresh_token))];
        let response = self.token_request(&metadata, &parameters, now, deadline).await?;
        let principal = match response.id_token {
            Some(id_token) => Some(self.refreshed_person(&id_token, now, deadline).await),
            None => None,
        };
        let next = response.refresh_token.filter(|next| next != refresh_token);
        Ok(Refreshed { refresh_token: next.map(RefreshToken), principal })
    }

    /// Verifies an ID token that was refreshed. It has no nonce (OpenID Connect Core, section 12.2).
    async fn refreshed_person(
        &self,
        id_token: &str,
        now: SystemTime,
        deadline: Option<Instant>,
    ) -> Result<Arc<Principal>, UpstreamError> {
        let principal = self.verifier.verify(id_token, "", now, deadline).await.map_err(UpstreamError::IdToken)?;
        self.check_client(&principal)?;
        Ok(principal)
    }

    /// Sends a request to the token endpoint, as the confidential client.
    async fn token_request(
        &self,
        metadata: &Metadata,
        parameters: &[(&str, Option<&str>)],
        now: SystemTime,
        deadline: Option<Instant>,
    ) -> Result<TokenResponse, UpstreamError> {
        let UpstreamConfig { client_id, client_secret, .. } = &self.config;
        let client_secret = client_secret.get(now).await.map_err(UpstreamError::ClientSecret)?;
        let methods = &metadata.token_endpoint_auth_methods_supported;
        let has = |name: &str| methods.iter().any(|own| own == name);
        // The default is `client_secret_basic` (OpenID Connect Discovery, section 3).
        let posts = has("client_secret_post") && !has("client_secret_basic");
        let posted = |value| posts.then_some(value);
        let credentials =
            [("client_id", posted(client_id.as_str())), ("client_secret", posted(client_secret.as_str()))];
        let body = encode(&[parameters, &credentials].concat());
        let mut request = self.client.post(&metadata.token_endpoint).answer_by(deadline).body(body);
        request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        request = request.header(header::ACCEPT, "application/json");
        if !posts {
            // Both parts are encoded first (RFC 6749, section 2.3.1).
            let credentials = format!("{}:{}", encode_value(client_id), encode_value(&client_secret));
            request = request.header(header::AUTHORIZATION, format!("Basic {}", BASE64_STANDARD.encode(credentials)));
        }
        let response = request.send().await.map_err(|error| unreachable("its token endpoint", error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| unreachable("its token endpoint", error))?;
        if status != StatusCode::OK {
            return Err(token_error(status, &body));
        }
        let response: TokenResponse = read(&body).ok_or(unexpected("its token response is malformed"))?;
        match &response.refresh_token {
            Some(token) if token.len() > MAX_REFRESH_TOKEN_BYTES => {
                Err(unexpected("its refresh token has more than 16 KiB"))
            }
            _ => Ok(response),
        }
    }

    /// Checks that a verified token is the ID token of this sign-in (OpenID Connect Core, section 3.1.3.7).
    fn check_sign_in(&self, person: &Principal, nonce: &str) -> Result<(), UpstreamError> {
        let text = |name: &str| person.claims.get(name).and_then(Value::as_str);
        let is_own = text("nonce").is_some_and(|own| verify_slices_are_equal(own.as_bytes(), nonce.as_bytes()).is_ok());
        if !is_own {
            return Err(UpstreamError::OtherSignIn);
        }
        self.check_client(person)
    }

    fn check_client(&self, person: &Principal) -> Result<(), UpstreamError> {
        let text = |name: &str| person.claims.get(name).and_then(Value::as_str);
        let is_audience = match person.claims.get("aud") {
            Some(Value::Array(list)) => list.len() == 1 || text("azp").is_some(),
            _ => true,
        };
        if !is_audience || text("azp").is_some_and(|own| own != self.config.client_id) {
            return Err(UpstreamError::OtherClient("it was issued to another client"));
        }
        if person.subject.len() > MAX_SUBJECT_BYTES {
            return Err(UpstreamError::OtherClient("its subject is too long"));
        }
        Ok(())
    }

    fn uses_pkce(&self, metadata: &Metadata) -> bool {
        self.config.provider.has_pkce() || metadata.code_challenge_methods_supported.iter().any(|own| own == "S256")
    }

    async fn metadata(&self, now: SystemTime, deadline: Option<Instant>) -> Result<Arc<Metadata>, UpstreamError> {
        if let Some((metadata, read)) = &*self.metadata.lock().unwrap_or_else(PoisonError::into_inner)
            && now.duration_since(*read).is_ok_and(|age| age < METADATA_AGE)
        {
            return Ok(Arc::clone(metadata));
        }
        let url = format!("{}/.well-known/openid-configuration", self.config.issuer.trim_end_matches('/'));
        let response = self.client.get(&url).answer_by(deadline).send().await;
        let response = response.map_err(|error| unreachable("its metadata", error))?;
        if response.status() != StatusCode::OK {
            return Err(unexpected("it has no metadata at /.well-known/openid-configuration"));
        }
        let body = response.bytes().await.map_err(|error| unreachable("its metadata", error))?;
        let metadata: Metadata = read(&body).ok_or(unexpected("its metadata is malformed"))?;
        if metadata.issuer != self.config.issuer {
            return Err(unexpected(
                "its metadata has another issuer: configure that one, with the same slash at the end",
            ));
        }
        // An `http` endpoint is on loopback: allowed only if the issuer is, too.
        let may_be_http = SecureUrl::parse(&self.config.issuer).is_some_and(|issuer| !issuer.is_https);
        for endpoint in [&metadata.authorization_endpoint, &metadata.token_endpoint] {
            let url = SecureUrl::parse(endpoint).filter(|url| url.fragment.is_none() && (url.is_https || may_be_http));
            url.ok_or(unexpected("an endpoint in its metadata is not an https URL"))?;
        }
        let metadata = Arc::new(metadata);
        let mut cached = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        *cached = Some((Arc::clone(&metadata), now));
        Ok(metadata)
    }
}

impl fmt::Debug for UpstreamConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issuer, client_id, provider, .. } = self;
        let mut debug = f.debug_struct("UpstreamConfig");
        debug.field("issuer", issuer).field("client_id", client_id).field("provider", provider).finish_non_exhaustive()
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Returns the subject of this server's tokens for a person of an identity provider: a URI that names both, so that equal subjects of
/// two providers differ.
pub fn subject(issuer: &str, subject: &str) -> String {
    format!("{issuer}#{}", encode_value(subject))
}

/// Returns the error of an error response (RFC 6749, section 5.2).
fn token_error(status: StatusCode, body: &[u8]) -> UpstreamError {
    let code = read::<ErrorResponse>(body).map(|own| own.error);
    match (status, code.as_deref()) {
        // Auth0 responds with 403.
        (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some("invalid_grant")) => {
            UpstreamError::Rejected
        }
        // Cognito responds with 400.
        (StatusCode::UNAUTHORIZED, _) | (_, Some("invalid_client")) => {
            unexpected("its token endpoint rejected the client secret")
        }
        _ => unexpected("its token endpoint returned an error"),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    json::read_bytes(body, Budget::memory(4 * 1024 * 1024)).ok()
}

fn unexpected(reason: &'static str) -> UpstreamError {
    UpstreamError::Unavailable { reason, source: None }
}

fn unreachable(reason: &'static str, source: mcp_https::Error) -> UpstreamError {
    UpstreamError::Unavailable { reason, source: Some(source) }
}

#[cfg(test)]
mod tests;
