//! DPoP proofs (RFC 9449): the sender of a token has the key that the token is bound to.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{CommonParameters, Jwk},
};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use url::Url;

use super::{grants, now};

/// The header that has the proof.
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");
const DPOP_NONCE: &str = "dpop-nonce";
/// The algorithm of all proofs, as issuers list it.
pub(super) const ALGORITHM: &str = "ES256";
const MAX_NONCE_BYTES: usize = 1024;

/// An access token with its DPoP key.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// The key that it is bound to.
    pub(crate) key: Option<ProofKey>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("key", &self.key).finish_non_exhaustive()
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self { text, key: None }
    }
}

/// A private key that tokens are bound to.
#[derive(Clone)]
pub(crate) struct ProofKey {
    /// PKCS #8 in Base64, as it is kept with the tokens.
    kept: String,
    key: EncodingKey,
    /// Its public part.
    jwk: Jwk,
}

impl ProofKey {
    pub(super) fn generate() -> anyhow::Result<Self> {
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let pair = pair.ok().context("could not make a key for the tokens")?;
        Self::of(&BASE64_STANDARD.encode(pair))
    }

    /// Parses a stored key.
    pub(super) fn of(kept: &str) -> anyhow::Result<Self> {
        let key = EncodingKey::from_ec_der(&BASE64_STANDARD.decode(kept)?);
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256)?;
        jwk.common = CommonParameters::default();
        Ok(Self { kept: kept.to_owned(), key, jwk })
    }

    pub(super) fn kept(&self) -> &str {
        &self.kept
    }

    /// Signs the proof for one request (RFC 9449, section 4.2).
    pub(crate) fn proof(
        &self,
        method: &str,
        url: &Url,
        token: Option<&str>,
        nonce: Option<&str>,
    ) -> anyhow::Result<HeaderValue> {
        let mut target = url.clone();
        target.set_query(None);
        target.set_fragment(None);
        let mut claims = json!({ "jti": grants::random()?, "htm": method, "htu": target.as_str(), "iat": now() });
        if let Some(token) = token {
            claims["ath"] = json!(BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes())));
        }
        if let Some(nonce) = nonce {
            claims["nonce"] = json!(nonce);
        }
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("dpop+jwt".to_owned());
        header.jwk = Some(self.jwk.clone());
        let proof = jsonwebtoken::encode(&header, &claims, &self.key).context("could not sign with the tokens' key")?;
        Ok(HeaderValue::from_str(&proof)?)
    }
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProofKey").finish_non_exhaustive()
    }
}

/// The nonce that one server requires in proofs (RFC 9449, sections 8 and 9).
#[derive(Debug, Default)]
pub(crate) struct Nonce(Mutex<Option<String>>);

impl Nonce {
    pub(crate) fn current(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the nonce of a response for later proofs.
    pub(crate) fn learn(&self, headers: &HeaderMap) {
        let nonce = headers.get(DPOP_NONCE).and_then(|nonce| nonce.to_str().ok());
        if let Some(nonce) = nonce.filter(|nonce| !nonce.is_empty() && nonce.len() <= MAX_NONCE_BYTES) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(nonce.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, jwk::ThumbprintHash};
    use serde_json::Value;

    use super::*;

    fn opened(proof: &HeaderValue) -> (Header, Value) {
        let proof = proof.to_str().unwrap();
        let jwk = jsonwebtoken::decode_header(proof).unwrap().jwk.unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let opened = jsonwebtoken::decode::<Value>(proof, &DecodingKey::from_jwk(&jwk).unwrap(), &validation).unwrap();
        (opened.header, opened.claims)
    }

    #[test]
    fn a_proof_is_for_one_request_and_has_no_private_key() {
        let key = ProofKey::generate().unwrap();
        let url = Url::parse("https://mcp.example.com/mcp?a=b#c").unwrap();

        let (header, claims) = opened(&key.proof("POST", &url, Some("token"), Some("n")).unwrap());
        let (_, other) = opened(&key.proof("GET", &url, None, None).unwrap());

        assert_eq!(header.typ.as_deref(), Some("dpop+jwt"));
        let jwk = serde_json::to_value(header.jwk.unwrap()).unwrap();
        let names: Vec<&String> = jwk.as_object().unwrap().keys().collect();
        assert_eq!(names, ["crv", "kty", "x", "y"]);
        assert_eq!((&claims["htm"], &claims["htu"]), (&json!("POST"), &json!("https://mcp.example.com/mcp")));
        // The digest of `token`.
        assert_eq!(claims["ath"], "PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A");
        assert_eq!(claims["nonce"], "n");
        assert_ne!(claims["jti"], other["jti"]);
        assert!(other["ath"].is_null() && other["nonce"].is_null());
    }

    #[test]
    fn a_key_is_the_same_when_it_is_read_again() {
        let key = ProofKey::generate().unwrap();
        let again = ProofKey::of(key.kept()).unwrap();

        let thumbprint = |key: &ProofKey| key.jwk.thumbprint(ThumbprintHash::SHA256).unwrap();
        assert_eq!(thumbprint(&key), thumbprint(&again));
        assert_ne!(thumbprint(&key), thumbprint(&ProofKey::generate().unwrap()));
        assert!(ProofKey::of("AAAA").is_err() && ProofKey::of("%").is_err());
    }

    #[test]
    fn a_nonce_is_bounded() {
        let nonce = Nonce::default();
        let answer = |text: &str| HeaderMap::from_iter([(HeaderName::from_static(DPOP_NONCE), text.parse().unwrap())]);
        nonce.learn(&answer("one"));
        nonce.learn(&HeaderMap::new());
        nonce.learn(&answer(""));
        nonce.learn(&answer(&"x".repeat(MAX_NONCE_BYTES + 1)));
        assert_eq!(nonce.current().as_deref(), Some("one"));
    }
}
