//! Errors of token verification.

use std::{fmt, time::Duration};

/// Why a token was rejected.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The token is not valid for this server. Respond with 401 and `invalid_token` (RFC 6750, section 3.1), and log the
    /// reason: it is not for the caller.
    #[error("{0}")]
    Invalid(Reason),
    /// The token is valid, but its account is not allowed by `OIDC_ALLOWED_EMAILS` and `GOOGLE_HOSTED_DOMAIN`. Respond with
    /// 403.
    #[error("the caller's account is not allowed to use this server")]
    NotAllowed,
    /// The token cannot be verified, because the issuer's keys are unavailable. Respond with 503: the token may be valid.
    #[error("the keys of the issuer cannot be fetched")]
    KeysUnavailable {
        /// Time until the keys may be fetched again.
        retry_after: Duration,
    },
}

impl VerifyError {
    /// The value of the span field `error.type`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_token",
            Self::NotAllowed => "not_allowed",
            Self::KeysUnavailable { .. } => "keys_unavailable",
        }
    }
}

/// The check that a token failed. `Display` is the text in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The token is empty, or has characters that are not allowed in a bearer token (RFC 6750, section 2.1).
    NotABearerToken,
    /// The token has more than 8 KiB.
    TooLong,
    /// The token is not a JWS in compact serialization, with header and claims in Base64url and JSON.
    NotAJwt,
    /// `alg` is missing, or not an accepted algorithm.
    Algorithm,
    /// The header has `crit`, or a `b64` other than true.
    CriticalHeader,
    /// The header's `typ` is neither `JWT` nor `at+jwt`, or not `oauth-id-jag+jwt` where an identity assertion is expected.
    TokenType,
    /// `iss` is missing, not a string, or not a configured issuer.
    Issuer,
    /// `aud` does not name this server.
    Audience,
    /// `exp` is missing, malformed or in the past.
    Expired,
    /// `nbf` or `iat` is malformed, or more than a minute in the future.
    NotYetValid,
    /// `sub` is missing or empty.
    Subject,
    /// The token is bound to a key of the client (`cnf`: DPoP or mTLS), whose proof of possession is not supported.
    BoundToAKey,
    /// An ID token in place of an access token.
    IdToken,
    /// An access token in place of an ID token.
    AccessToken,
    /// Neither an access token nor an ID token, such as a refresh or logout token; or its claims contradict each other.
    OtherToken,
    /// The client that the token was issued to is not in the list of accepted clients.
    Client,
    /// The issuer's JWK Set has no key that the signature could be from.
    UnknownKey,
    /// The signature is not valid for the key that the token names.
    Signature,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotABearerToken => "it is empty or has characters that no bearer token has",
            Self::TooLong => "it has more than 8 KiB",
            Self::NotAJwt => "it is not a signed JWT",
            Self::Algorithm => "its algorithm is not accepted",
            Self::CriticalHeader => "its header has an extension that is not understood",
            Self::TokenType => "its `typ` is not that of a JWT or an access token",
            Self::Issuer => "its issuer is not configured",
            Self::Audience => "its audience is not this server",
            Self::Expired => "it has expired",
            Self::NotYetValid => "it is not valid yet",
            Self::Subject => "it names no subject",
            Self::BoundToAKey => "it is bound to a key of the client's",
            Self::IdToken => "it is an ID token",
            Self::AccessToken => "it is an access token",
            Self::OtherToken => "it is neither an access token nor an ID token",
            Self::Client => "its client is not allowed",
            Self::UnknownKey => "its key is not known",
            Self::Signature => "its signature is wrong",
        })
    }
}

impl From<Reason> for VerifyError {
    fn from(reason: Reason) -> Self {
        Self::Invalid(reason)
    }
}
