//! Authentication errors: the reason for the log, and the part that the caller may see.

use std::{fmt, time::Duration};

/// Why a token was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is not valid here. The caller learns only that (RFC 6750, section 3.1, `invalid_token`); the reason is for the
    /// log.
    #[error("{0}")]
    Invalid(Reason),
    /// The token is valid, but its subject is not on the configured list.
    #[error("the caller is not on the list of those who may use this server")]
    NotAllowed,
    /// The token cannot be judged: the issuer's keys are unavailable.
    #[error("the keys of the issuer cannot be fetched")]
    KeysUnavailable {
        /// When the next try makes sense.
        retry_after: Duration,
    },
}

impl VerifyError {
    /// The kind, for a span.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_token",
            Self::NotAllowed => "not_allowed",
            Self::KeysUnavailable { .. } => "keys_unavailable",
        }
    }
}

/// The check that a token failed, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Characters that no bearer token has (RFC 6750, section 2.1), or none at all.
    NotABearerToken,
    /// More than 8 KiB.
    TooLong,
    /// Not three parts of Base64 with JSON in them.
    NotAJwt,
    /// `alg` is not one of those that are accepted.
    Algorithm,
    /// `crit`, or `b64` other than true.
    CriticalHeader,
    /// `typ` is something else than `JWT` or `at+jwt`.
    TokenType,
    /// `iss` is missing, not a string, or not a configured issuer.
    Issuer,
    /// `aud` does not name this server.
    Audience,
    /// `exp` is missing or over.
    Expired,
    /// `nbf` or `iat` lies ahead.
    NotYetValid,
    /// `sub` is missing.
    Subject,
    /// `cnf` binds it to a key without a proof of possession.
    BoundToAKey,
    /// An ID token in place of an access token.
    IdToken,
    /// An access token in place of an ID token.
    AccessToken,
    /// Some other kind, such as a logout token.
    OtherToken,
    /// The client that it was issued to is not on the list.
    Client,
    /// The issuer has no such key.
    UnknownKey,
    /// The signature is not the key's.
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
