//! Parser of the token endpoint's response (RFC 8693, section 2.2; RFC 6749, section 5.2).

use std::{sync::Arc, time::Duration};

use mcp_https::StatusCode;
use mcp_server::json::{self, Budget};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{ACCESS_TOKEN, ExchangeError, ExchangedToken, MAX_LIFETIME};

/// Memory budget of a response.
const BUDGET: Budget = Budget::memory(512 * 1024);
const MAX_TOKEN_BYTES: usize = 16 * 1024;
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

const NOT_ACCEPTED: &str =
    "The authorization server did not accept your token for an exchange. Sign in again, then repeat the request.";

/// An issued token, its lifetime and its scopes.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) token: ExchangedToken,
    /// Zero if the issuer does not state it; at most [`MAX_LIFETIME`].
    pub(crate) expires_in: Duration,
    /// `None` if the granted scopes are the requested ones.
    pub(crate) scope: Option<String>,
}

/// Parses a response. Errors quote no text of it except known error codes.
pub(crate) fn parse(status: StatusCode, body: &[u8]) -> Result<Granted, ExchangeError> {
    let object: Map<String, Value> =
        json::read_bytes(body, BUDGET).map_err(|_| ExchangeError::Malformed("it is not a JSON object"))?;
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    if status != StatusCode::OK {
        return Err(error_of_code(text("error").unwrap_or_default()));
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
        None | Some(Value::Null) => Duration::ZERO,
        Some(seconds) => {
            lifetime(seconds).ok_or(ExchangeError::Malformed("`expires_in` is not a number of seconds"))?
        }
    };
    let scope = match object.get("scope") {
        None | Some(Value::Null) => None,
        Some(scope) => Some(scope.as_str().ok_or(ExchangeError::Malformed("`scope` is not a string"))?.to_owned()),
    };
    let value = Arc::new(Zeroizing::new(token.to_owned()));
    Ok(Granted { token: ExchangedToken { value }, expires_in, scope })
}

/// Parses a number of seconds, at most [`MAX_LIFETIME`]. Some issuers serialize it as a string or with a fraction. `None` for a
/// negative number and other values.
fn lifetime(seconds: &Value) -> Option<Duration> {
    let seconds = match seconds {
        Value::Number(number) => number.as_f64()?,
        // Digits and dots only: `f64` would also parse `inf`, `nan` and exponents.
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => text.parse().ok()?,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds.min(MAX_LIFETIME.as_secs_f64())).ok()
}

fn error_of_code(code: &str) -> ExchangeError {
    let refused = |message, code| ExchangeError::Refused { message, code };
    match code {
        // For an unacceptable subject token RFC 8693, section 2.2.2, defines `invalid_request`; many issuers return
        // `invalid_grant`.
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
        _ => ExchangeError::Malformed("it is an error with an unknown code"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expires_in(value: &str) -> Result<Duration, String> {
        let body = format!(
            r#"{{"access_token":"t","token_type":"Bearer","issued_token_type":"{ACCESS_TOKEN}","expires_in":{value}}}"#
        );
        let granted = parse(StatusCode::OK, body.as_bytes());
        granted.map(|granted| granted.expires_in).map_err(|error| error.to_string())
    }

    #[test]
    fn a_lifetime_may_be_a_string_or_have_a_fraction() {
        for (value, seconds) in [
            ("600", 600.0),
            ("600.0", 600.0),
            ("6e2", 600.0),
            ("\"600\"", 600.0),
            ("\"600.0\"", 600.0),
            ("\"0600\"", 600.0),
            ("599.5", 599.5),
            ("null", 0.0),
            ("0", 0.0),
            ("-0.0", 0.0),
            ("\"0\"", 0.0),
            ("1e-300", 0.0),
        ] {
            assert_eq!(expires_in(value), Ok(Duration::from_secs_f64(seconds)), "{value}");
        }
    }

    #[test]
    fn a_lifetime_has_an_upper_bound() {
        let long = format!("\"{}\"", "9".repeat(60_000));
        for value in
            ["3601", "18446744073709551615", "18446744073709551616", "1e300", "\"99999999999999999999\"", &long]
        {
            assert_eq!(expires_in(value), Ok(MAX_LIFETIME), "{value:.30}");
        }
    }

    #[test]
    fn an_invalid_lifetime_is_an_error() {
        for value in [
            "-1",
            "-0.5",
            "-1e300",
            "-18446744073709551616",
            "true",
            "[600]",
            "{}",
            "\"\"",
            "\" \"",
            "\".\"",
            "\"6.0.0\"",
            "\"-600\"",
            "\"+600\"",
            "\"600s\"",
            "\"6e2\"",
            "\"0x258\"",
            "\"1,000\"",
            "\"inf\"",
            "\"infinity\"",
            "\"NaN\"",
            "\"\u{0666}00\"",
            "\"2026-01-01T00:00:00Z\"",
        ] {
            let error = expires_in(value).unwrap_err();

            assert!(error.contains("`expires_in` is not a number of seconds"), "{value}: {error}");
        }
        // Out of the range of `f64`: not parsed as JSON.
        assert!(expires_in("1e400").is_err_and(|error| error.contains("not a JSON object")));
    }
}
