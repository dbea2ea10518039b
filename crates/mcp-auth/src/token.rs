//! Strict parser of signed JWTs (RFC 7515, RFC 7519), which follows the recommendations of RFC 8725. It does not verify the
//! signature.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use mcp_server::json::{self, Budget};
use serde_json::{Map, Value};

use crate::Reason;

/// Maximum length of a token.
pub(crate) const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Memory budget of the header, and of the claims. Both are parsed before the signature is verified.
const UNVERIFIED_BUDGET: Budget = Budget::memory(512 * 1024);

/// A parsed token. Nothing in it may be trusted before [`signature`](Self::signature) is verified.
pub(crate) struct UnverifiedToken<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
    pub(crate) token_type: Option<TokenType>,
    pub(crate) unverified_claims: Map<String, Value>,
    /// The signed bytes: header and claims, as received.
    pub(crate) message: &'a [u8],
    /// In Base64url.
    pub(crate) signature: &'a str,
}

/// The header's `typ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenType {
    Jwt,
    /// An access token (RFC 9068).
    AccessToken,
    /// An identity assertion for an authorization server (draft-ietf-oauth-identity-assertion-authz-grant).
    IdentityAssertion,
}

impl<'a> UnverifiedToken<'a> {
    /// Parses a token.
    ///
    /// # Errors
    ///
    /// When the text is not a signed JWT, or its header has an algorithm, type or extension that is not supported.
    pub(crate) fn parse(token: &'a str) -> Result<Self, Reason> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Reason::TooLong);
        }
        // Three parts: a JWE has five.
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Reason::NotAJwt);
        };
        if signature.is_empty() {
            return Err(Reason::NotAJwt);
        }
        let header_object = decode(header)?;
        let algorithm = algorithm(&header_object)?;
        // `crit` lists extensions that a verifier must support; none is supported. `b64` is such an extension (RFC 7797).
        if header_object.contains_key("crit") || header_object.get("b64").is_some_and(|b64| *b64 != Value::Bool(true)) {
            return Err(Reason::CriticalHeader);
        }
        let token_type = match header_object.get("typ") {
            None => None,
            Some(Value::String(name)) => Some(token_type(name).ok_or(Reason::TokenType)?),
            Some(_) => return Err(Reason::TokenType),
        };
        let key_id = match header_object.get("kid") {
            None => None,
            Some(Value::String(key_id)) => Some(key_id.clone()),
            Some(_) => return Err(Reason::NotAJwt),
        };
        Ok(Self {
            algorithm,
            key_id,
            token_type,
            unverified_claims: decode(claims)?,
            message: &token.as_bytes()[..header.len() + 1 + claims.len()],
            signature,
        })
    }
}

/// Decodes a part of the token: a JSON object in canonical Base64url, without padding, white space and trailing bits.
fn decode(part: &str) -> Result<Map<String, Value>, Reason> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::NotAJwt)?;
    json::read_bytes(&json, UNVERIFIED_BUDGET).map_err(|_| Reason::NotAJwt)
}

/// Returns the algorithm of the header. Only asymmetric algorithms are accepted: `none` is no signature, and with HMAC an
/// attacker could sign with the issuer's public key as the secret (RFC 8725, sections 2.1 and 3.1).
fn algorithm(header: &Map<String, Value>) -> Result<Algorithm, Reason> {
    let name = header.get("alg").and_then(Value::as_str).ok_or(Reason::Algorithm)?;
    parse_algorithm(name).ok_or(Reason::Algorithm)
}

/// The allow-list of signature algorithms.
pub(crate) fn parse_algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "RS256" => Some(Algorithm::RS256),
        "RS384" => Some(Algorithm::RS384),
        "RS512" => Some(Algorithm::RS512),
        "PS256" => Some(Algorithm::PS256),
        "PS384" => Some(Algorithm::PS384),
        "PS512" => Some(Algorithm::PS512),
        "ES256" => Some(Algorithm::ES256),
        "ES384" => Some(Algorithm::ES384),
        // `Ed25519` is the fully-specified name (RFC 9864).
        "EdDSA" | "Ed25519" => Some(Algorithm::EdDSA),
        _ => None,
    }
}

/// Parses `typ`. It is a media type: case-insensitive, and `application/` may be omitted (RFC 7515, section 4.1.9).
fn token_type(name: &str) -> Option<TokenType> {
    let name = name.to_ascii_lowercase();
    match name.strip_prefix("application/").unwrap_or(&name) {
        "jwt" => Some(TokenType::Jwt),
        "at+jwt" => Some(TokenType::AccessToken),
        "oauth-id-jag+jwt" => Some(TokenType::IdentityAssertion),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_more_than_8_kib_is_rejected() {
        let message = format!("{}.{}.", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#), "e30");
        let of = |bytes: usize| format!("{message}{}", "x".repeat(bytes - message.len()));

        assert!(UnverifiedToken::parse(&of(8192)).is_ok());
        assert!(matches!(UnverifiedToken::parse(&of(8193)), Err(Reason::TooLong)));
    }
}
