//! The token endpoint's response (RFC 8693, section 2.2; RFC 6749, section 5.2).

use std::{sync::Arc, time::Duration};

use mcp_https::StatusCode;
use mcp_server::json::{self, Budget};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{ACCESS_TOKEN, ExchangeError, ExchangedToken, MAX_LIFETIME};

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
    /// Zero if the issuer does not state it; at most [`MAX_LIFETIME`].
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

/// A number of seconds, which some issuers write as text or with a fraction; `None` for a negative number and other values.
fn lifetime(seconds: &Value) -> Option<Duration> {
    let seconds = match seconds {
        Value::Number(number) => number.as_f64()?,
        // Without `inf`, `nan` and exponents, which `f64` parses too.
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => text.parse().ok()?,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds.min(MAX_LIFETIME.as_secs_f64())).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn expires_in(written: &str) -> Result<Duration, String> {
        let body = format!(
            r#"{{"access_token":"t","token_type":"Bearer","issued_token_type":"{ACCESS_TOKEN}","expires_in":{written}}}"#
        );
        let granted = read(StatusCode::OK, body.as_bytes());
        granted.map(|granted| granted.expires_in).map_err(|error| error.to_string())
    }

    #[test]
    fn a_lifetime_may_be_text_or_have_a_fraction() {
        for (written, seconds) in [
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
            assert_eq!(expires_in(written), Ok(Duration::from_secs_f64(seconds)), "{written}");
        }
    }

    #[test]
    fn a_lifetime_has_an_upper_bound() {
        let long = format!("\"{}\"", "9".repeat(60_000));
        for written in
            ["3601", "18446744073709551615", "18446744073709551616", "1e300", "\"99999999999999999999\"", &long]
        {
            assert_eq!(expires_in(written), Ok(MAX_LIFETIME), "{written:.30}");
        }
    }

    #[test]
    fn what_is_no_lifetime_is_an_error() {
        for written in [
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
            let error = expires_in(written).unwrap_err();

            assert!(error.contains("`expires_in` is not a number of seconds"), "{written}: {error}");
        }
        // Beyond `f64`, which is not read at all.
        assert!(expires_in("1e400").is_err_and(|error| error.contains("not a JSON object")));
    }
}
