//! Requests to an issuer's endpoints: registration (RFC 7591) and tokens (RFC 6749, section 5).

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use aws_lc_rs::{digest, rand};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{StatusCode, header::HeaderValue};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::{
    PrivateKey, SigningAlgorithm,
    discovery::IssuerMetadata,
    dpop::ProofKey,
    http::{self, IssuerHttp},
};
use crate::{received, store::Client};

pub(super) const FORM: &str = "application/x-www-form-urlencoded";
/// Lifetime of a client assertion.
const ASSERTION_SECONDS: u64 = 300;

/// A token response (RFC 6749, section 5.1).
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct TokenResponse {
    pub(crate) access_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_type: Option<String>,
    /// Seconds. Some issuers write the number as text.
    #[serde(default, deserialize_with = "seconds", skip_serializing_if = "Option::is_none")]
    pub(crate) expires_in: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id_token: Option<String>,
    /// The type of an exchanged token (RFC 8693, section 2.2.1).
    #[serde(default, skip_serializing)]
    pub(crate) issued_token_type: Option<String>,
}

impl TokenResponse {
    /// Whether the token is bound to the key of the request's proof (RFC 9449, section 5).
    pub(super) fn is_bound(&self) -> bool {
        self.token_type.as_deref().is_some_and(|own| own.eq_ignore_ascii_case("dpop"))
    }
}

impl fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenResponse").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// Deserializes seconds from a number or a text; anything else is `None`.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = match Value::deserialize(deserializer)? {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text,
        _ => return Ok(None),
    };
    let text = text.trim();
    let of_fraction = |number: f64| {
        let largest = if number > 0.0 { u64::MAX } else { 0 };
        Duration::try_from_secs_f64(number).map_or(largest, |lifetime| lifetime.as_secs())
    };
    Ok(text.parse().ok().or_else(|| text.parse().ok().map(of_fraction)))
}

/// An error of the token endpoint.
#[derive(Debug)]
pub(super) enum GrantError {
    /// The code or the refresh token is void: sign in again.
    InvalidGrant(String),
    /// The issuer does not know the client, or not with this secret.
    InvalidClient(String),
    /// There is no such endpoint, or nothing listens there: the request was not read.
    NoEndpoint(anyhow::Error),
    /// Any other error.
    Other(anyhow::Error),
}

impl From<GrantError> for anyhow::Error {
    fn from(error: GrantError) -> Self {
        match error {
            GrantError::InvalidGrant(reason) | GrantError::InvalidClient(reason) => Self::msg(reason),
            GrantError::NoEndpoint(error) | GrantError::Other(error) => error,
        }
    }
}

/// Requests a token. `form` lacks the client's authentication, which is added; `key` is the DPoP key.
pub(super) async fn token(
    http: &IssuerHttp,
    endpoint: &str,
    client: &Client,
    form: &[(&str, &str)],
    key: Option<&ProofKey>,
) -> Result<TokenResponse, GrantError> {
    let (own, authorization) = authentication(client);
    request(http, endpoint, &[form, &own].concat(), authorization, key).await
}

/// The parameters and the header by which a client authenticates.
pub(super) fn authentication(client: &Client) -> (Vec<(&str, &str)>, Option<HeaderValue>) {
    match (&client.secret, client.auth_method.as_deref()) {
        (None, _) if client.id.is_empty() => (Vec::new(), None),
        (None, _) | (_, Some("none")) => (vec![("client_id", client.id.as_str())], None),
        (Some(secret), Some("client_secret_post")) => {
            (vec![("client_id", client.id.as_str()), ("client_secret", secret.as_str())], None)
        }
        (Some(secret), _) => (Vec::new(), Some(basic(&client.id, secret))),
    }
}

/// RFC 6749, section 2.3.1.
fn basic(id: &str, secret: &str) -> HeaderValue {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let credentials = BASE64_STANDARD.encode(format!("{}:{}", encode(id), encode(secret)));
    let mut value = HeaderValue::from_str(&format!("Basic {credentials}")).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// Requests a token for the client itself, authenticated by a signed assertion (RFC 7523).
pub(super) async fn token_by_assertion(
    http: &IssuerHttp,
    issuer: &IssuerMetadata,
    client_id: &str,
    private_key: &PrivateKey,
    form: &[(&str, &str)],
    key: Option<&ProofKey>,
) -> Result<TokenResponse, GrantError> {
    let assertion = assertion(issuer, client_id, private_key).map_err(GrantError::Other)?;
    // Without the client's id: the assertion has it.
    let own = [
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion.as_str()),
    ];
    request(http, &issuer.token_endpoint, &[form, &own].concat(), None, key).await
}

fn assertion(issuer: &IssuerMetadata, client_id: &str, key: &PrivateKey) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = json!({
        "iss": client_id, "sub": client_id, "aud": issuer.issuer, "iat": now, "exp": now + ASSERTION_SECONDS,
        "jti": random()?,
    });
    let (algorithm, encoding_key) = match key.algorithm {
        SigningAlgorithm::Es256 => (Algorithm::ES256, EncodingKey::from_ec_pem(key.pem.as_bytes())),
        SigningAlgorithm::Es384 => (Algorithm::ES384, EncodingKey::from_ec_pem(key.pem.as_bytes())),
        SigningAlgorithm::Rs256 => (Algorithm::RS256, EncodingKey::from_rsa_pem(key.pem.as_bytes())),
        SigningAlgorithm::Rs384 => (Algorithm::RS384, EncodingKey::from_rsa_pem(key.pem.as_bytes())),
        SigningAlgorithm::Rs512 => (Algorithm::RS512, EncodingKey::from_rsa_pem(key.pem.as_bytes())),
    };
    let mut header = Header::new(algorithm);
    header.typ = Some("client-authentication+jwt".to_owned());
    let encoding_key = encoding_key.context("`--private-key` is no key for the signing algorithm")?;
    jsonwebtoken::encode(&header, &claims, &encoding_key).context("could not sign with `--private-key`")
}

async fn request(
    http: &IssuerHttp,
    endpoint: &str,
    form: &[(&str, &str)],
    authorization: Option<HeaderValue>,
    key: Option<&ProofKey>,
) -> Result<TokenResponse, GrantError> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let answer = http.post(endpoint, FORM, &body, authorization.as_ref(), key).await;
    let answer = answer.map_err(|error| match http::is_unconnected(&error) {
        true => GrantError::NoEndpoint(error),
        false => GrantError::Other(error),
    })?;
    // Some issuers answer 200 with an error.
    match answer.error_code().as_deref() {
        Some("invalid_grant") => return Err(GrantError::InvalidGrant(answer.reason())),
        Some("invalid_client") => return Err(GrantError::InvalidClient(answer.reason())),
        Some(_) => return Err(GrantError::Other(anyhow::Error::msg(answer.reason()))),
        None if matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::GONE) => {
            return Err(GrantError::NoEndpoint(anyhow::Error::msg(answer.reason())));
        }
        None if !answer.status.is_success() => return Err(GrantError::Other(anyhow::Error::msg(answer.reason()))),
        None => {}
    }
    let response = received::read(&answer.body).map_err(anyhow::Error::new);
    let why = || format!("the issuer's answer has no token: {}", answer.description());
    response.with_context(why).map_err(GrantError::Other)
}

/// Registers this client dynamically (RFC 7591).
pub(super) async fn register(http: &IssuerHttp, issuer: &IssuerMetadata, redirect_uri: &str) -> anyhow::Result<Client> {
    let endpoint = issuer.registration_endpoint.as_deref().context("the issuer registers no clients by itself")?;
    let request = json!({
        "client_name": "mcpl",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        // Without scopes: some issuers never grant a client others than it has registered.
        "token_endpoint_auth_method": wanted_auth_method(issuer),
        "application_type": "native",
    });
    let answer = http.post(endpoint, "application/json", &request.to_string(), None, None).await?;
    if !answer.status.is_success() {
        bail!("{}", answer.reason());
    }
    let registered: Registered = received::read(&answer.body)
        .with_context(|| format!("the issuer's answer is no registration: {}", answer.description()))?;
    // An empty secret is none.
    let secret = registered.client_secret.filter(|secret| !secret.is_empty());
    let auth_method = registered.token_endpoint_auth_method.or_else(|| auth_method(issuer));
    Ok(Client { id: registered.client_id, secret, auth_method })
}

#[derive(Deserialize)]
struct Registered {
    client_id: String,
    client_secret: Option<String>,
    token_endpoint_auth_method: Option<String>,
}

/// The authentication method to register with: none, unless the issuer requires a secret.
fn wanted_auth_method(issuer: &IssuerMetadata) -> &str {
    const KNOWN: [&str; 3] = ["none", "client_secret_basic", "client_secret_post"];
    let supported = issuer.token_endpoint_auth_methods_supported.as_deref().unwrap_or_default();
    KNOWN.into_iter().find(|known| supported.iter().any(|own| own == known)).unwrap_or("none")
}

/// The authentication method of a client whose secret was configured.
pub(super) fn auth_method(issuer: &IssuerMetadata) -> Option<String> {
    let supported = issuer.token_endpoint_auth_methods_supported.as_deref().unwrap_or_default();
    let has = |name: &str| supported.iter().any(|own| own == name);
    (has("client_secret_post") && !has("client_secret_basic")).then(|| "client_secret_post".to_owned())
}

/// A random token of 256 bits, for `state` and PKCE verifiers.
pub(crate) fn random() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).ok().context("there are no random numbers")?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// The PKCE challenge for a verifier (RFC 7636, section 4.2).
pub(super) fn code_challenge(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_be_text_o09() {
        let lifetime = |written: &str| {
            let text = format!(r#"{{"access_token":"t","token_type":"Bearer","expires_in":{written}}}"#);
            received::read::<TokenResponse>(&text).unwrap().expires_in
        };
        for written in ["3600", "\"3600\"", "3600.0", "\" 3600 \""] {
            assert_eq!(lifetime(written), Some(3600), "{written}");
        }
        assert_eq!((lifetime("null"), lifetime("\"soon\""), lifetime("-1")), (None, None, Some(0)));
        assert_eq!((lifetime("18446744073709551615"), lifetime("1e300")), (Some(u64::MAX), Some(u64::MAX)));
    }

    #[test]
    fn a_challenge_is_that_of_rfc_7636() {
        // Appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(code_challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn a_registration_asks_for_a_method_that_the_issuer_has_o01() {
        let issuer = |methods: &[&str]| IssuerMetadata {
            token_endpoint_auth_methods_supported: Some(methods.iter().map(|own| (*own).to_owned()).collect()),
            ..IssuerMetadata::default()
        };
        for (methods, wanted, shown) in [
            (vec![], "none", None),
            (vec!["client_secret_basic", "none"], "none", None),
            (vec!["client_secret_post"], "client_secret_post", Some("client_secret_post")),
            (vec!["client_secret_post", "client_secret_basic"], "client_secret_basic", None),
            (vec!["private_key_jwt"], "none", None),
        ] {
            assert_eq!(wanted_auth_method(&issuer(&methods)), wanted, "{methods:?}");
            assert_eq!(auth_method(&issuer(&methods)).as_deref(), shown, "{methods:?}");
        }
    }
}
