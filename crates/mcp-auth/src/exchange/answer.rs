//! The token endpoint's response (RFC 8693, section 2.2; RFC 6749, section 5.2).

use std::{sync::Arc, time::Duration};

use mcp_https::StatusCode;
use mcp_server::json::{self, Budget};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{ACCESS_TOKEN, ExchangeError, ExchangedToken};

/// What a response may take in memory.
const BUDGET: Budget = Budget::memory(512 * 1024);
const MAX_TOKEN_BYTES: usize = 16 * 1024;
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

const NOT_ACCEPTED: &str =
    "The authorization server did not accept your token for an exchange. Sign in again, then repeat the request.";

/// A token, and for how long it is valid.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) token: ExchangedToken,
    /// Zero if the issuer does not state it.
    pub(crate) expires_in: Duration,
    /// `None` if it is what was requested.
    pub(crate) scope: Option<String>,
}

/// Reads a response. No text of it is repeated but the code of an error, which is one of a list.
pub(crate) fn read(status: StatusCode, body: &[u8]) -> Result<Granted, ExchangeError> {
    let object: Map<String, Value> =
        json::read_bytes(body, BUDGET).map_err(|_| ExchangeError::Malformed("it is not a JSON object"))?;
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    if status != StatusCode::OK {
        return Err(refusal(text("error").unwrap_or_default()));
    }
    let token = text("access_token").ok_or(ExchangeError::Malformed("`access_token` is missing"))?;
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES || !token.bytes().all(is_token_byte) {
        return Err(ExchangeError::Malformed("`access_token` is not a bearer token"));
    }
    if !text("token_type").is_some_and(|own| own.eq_ignore_ascii_case("bearer")) {
        return Err(ExchangeError::Malformed("`token_type` is not `Bearer`"));
    }
    match text("issued_token_type") {
        Some(ACCESS_TOKEN | JWT) => {}
        Some(_) => return Err(ExchangeError::Malformed("`issued_token_type` is not that of an access token")),
        None => return Err(ExchangeError::Malformed("`issued_token_type` is missing")),
    }
    let expires_in = match object.get("expires_in") {
        None | Some(Value::Null) => 0,
        Some(seconds) => seconds.as_u64().ok_or(ExchangeError::Malformed("`expires_in` is not a number of seconds"))?,
    };
    let scope = match object.get("scope") {
        None | Some(Value::Null) => None,
        Some(scope) => Some(scope.as_str().ok_or(ExchangeError::Malformed("`scope` is not a string"))?.to_owned()),
    };
    let value = Arc::new(Zeroizing::new(token.to_owned()));
    Ok(Granted { token: ExchangedToken { value }, expires_in: Duration::from_secs(expires_in), scope })
}

fn refusal(code: &str) -> ExchangeError {
    let refused = |message, code| ExchangeError::Refused { message, code };
    match code {
        // The code for a subject token that is not acceptable is `invalid_request` (RFC 8693, section 2.2.2); many issuers
        // use the other.
        "invalid_grant" => refused(NOT_ACCEPTED, "invalid_grant"),
        "invalid_request" => refused(NOT_ACCEPTED, "invalid_request"),
        "invalid_target" => refused(
            "The authorization server issues no token for the service that this request needs.",
            "invalid_target",
        ),
        "invalid_scope" => refused(
            "The authorization server does not grant you the scopes that this request needs at the other service.",
            "invalid_scope",
        ),
        "access_denied" => refused(
            "The authorization server denies you access to the service that this request needs.",
            "access_denied",
        ),
        "temporarily_unavailable" | "server_error" => {
            ExchangeError::Unavailable("the issuer is temporarily unavailable".into())
        }
        "invalid_client" => ExchangeError::Configuration("invalid_client"),
        "unauthorized_client" => ExchangeError::Configuration("unauthorized_client"),
        "unsupported_grant_type" => ExchangeError::Configuration("unsupported_grant_type"),
        _ => ExchangeError::Malformed("it is an error without a code that is known"),
    }
}
