//! Mirrored headers, which repeat parts of the body (2026-07-28, Streamable HTTP, "Request Metadata"), and content negotiation.

use std::{borrow::Cow, fmt::Display};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, AsHeaderName, InvalidHeaderValue},
};
use mcp_protocol::{
    MirroredParameter, ProtocolVersion,
    json::{self, JsonError},
    lookup, method,
};
use mcp_server::{CallError, Resolved};
use serde_json::{Value, value::RawValue};

pub(crate) static PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
#[cfg(all(feature = "interactive", feature = "store"))]
pub(crate) static SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
#[cfg(all(feature = "interactive", feature = "store"))]
pub(crate) static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
static METHOD: HeaderName = HeaderName::from_static("mcp-method");
static NAME: HeaderName = HeaderName::from_static("mcp-name");
const PARAM_PREFIX: &str = "mcp-param-";

/// Whether a header repeats a part of the body, or the protocol version.
pub(crate) fn is_mirrored(name: &HeaderName) -> bool {
    name.as_str().starts_with("mcp-")
}

/// A placeholder for the invalid value of a mirrored header, such as one with control characters. [`single`] rejects it.
pub(crate) fn invalid_value() -> Result<HeaderValue, InvalidHeaderValue> {
    HeaderValue::from_bytes(b"\xff")
}

/// The largest integer that is compared as a number; above it, floating point loses digits.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// The one value of a header, without surrounding white space; `None` when it is absent.
///
/// # Errors
///
/// When there are several values, or the value has control or non-ASCII characters.
pub(crate) fn single(headers: &HeaderMap, name: impl AsHeaderName + Copy + Display) -> Result<Option<&str>, CallError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(mismatch(format!("header `{name}` is sent more than once")));
    }
    let text = value.to_str().map_err(|_| {
        mismatch(format!(
            "header `{name}` has control or non-ASCII characters: send its value in Base64, as \
             `=?base64?...?=`"
        ))
    })?;
    Ok(Some(text.trim_matches([' ', '\t'])))
}

/// Checks the headers that repeat the body of a modern request: `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*`.
///
/// # Errors
///
/// When one is missing or differs from the body.
pub(crate) fn check_mirrored(headers: &HeaderMap, method: &str, resolved: &Resolved<'_>) -> Result<(), CallError> {
    check_standard(headers, method, resolved.name())?;
    check_parameters(headers, resolved.mirrored_parameters(), resolved.params().arguments)
}

/// Checks `Mcp-Method`, and `Mcp-Name` where the method has a name or a URI in its parameters.
fn check_standard(headers: &HeaderMap, method: &str, name: Option<&str>) -> Result<(), CallError> {
    match single(headers, &METHOD)? {
        None => return Err(missing_standard(headers, method)),
        Some(header) if header != method => {
            return Err(mismatch("header `Mcp-Method` does not equal the method in the body"));
        }
        Some(_) => {}
    }
    if !has_name(method) {
        return Ok(());
    }
    let Some(header) = single(headers, &NAME)? else {
        return Err(missing_standard(headers, method));
    };
    let header = decode(header).ok_or_else(|| mismatch("header `Mcp-Name` is not valid Base64 between its markers"))?;
    match name {
        Some(body) if body == header => Ok(()),
        // A body without a name is rejected later, independently of the header.
        None => Ok(()),
        Some(_) => Err(mismatch("header `Mcp-Name` does not equal the name in the body")),
    }
}

/// Whether `Mcp-Name` is required: the method has a name, a URI or the id of a task in its parameters.
fn has_name(method: &str) -> bool {
    #[cfg(feature = "tasks")]
    if matches!(method, method::TASKS_GET | method::TASKS_UPDATE | method::TASKS_CANCEL) {
        return true;
    }
    matches!(method, method::TOOLS_CALL | method::PROMPTS_GET | method::RESOURCES_READ)
}

/// The error of a modern request without a standard header. It names all that are missing.
pub(crate) fn missing_standard(headers: &HeaderMap, method: &str) -> CallError {
    let standard = [("MCP-Protocol-Version", &PROTOCOL_VERSION), ("Mcp-Method", &METHOD), ("Mcp-Name", &NAME)];
    let required = if has_name(method) { &standard[..] } else { &standard[..2] };
    let missing: Vec<_> = required.iter().filter(|(_, header)| !headers.contains_key(*header)).collect();
    let names = missing.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    mismatch(if missing.len() > 1 {
        format!("headers {names} are missing")
    } else {
        format!("header {names} is missing")
    })
}

/// Checks the `Mcp-Param-*` header of each parameter that the tool's schema marks as mirrored.
///
/// # Errors
///
/// When a header is missing but the body has the value, is present but the body has no value, or differs from the body.
fn check_parameters(
    headers: &HeaderMap,
    parameters: &[MirroredParameter],
    arguments: Option<&RawValue>,
) -> Result<(), CallError> {
    if parameters.is_empty() {
        return Ok(());
    }
    let unreadable = |name: &str| mismatch(format!("header `{name}` cannot be compared: the arguments are malformed"));
    for parameter in parameters {
        let name = format!("{PARAM_PREFIX}{}", parameter.header.to_ascii_lowercase());
        let header = single(headers, name.as_str())?;
        let value = arguments.map(|arguments| lookup(arguments, &parameter.path)).transpose();
        let value = value.map_err(|_| unreadable(&name))?.flatten().map(scalar).transpose();
        let value = value.map_err(|_| unreadable(&name))?;
        check_parameter(&name, header, value.as_ref())?;
    }
    Ok(())
}

/// The value of a mirrored parameter. Arrays and objects never equal a header, and are not parsed.
fn scalar(value: &RawValue) -> Result<Value, JsonError> {
    match value.get().as_bytes().first() {
        Some(b'{' | b'[') => Ok(Value::Array(Vec::new())),
        _ => json::borrow(value.get()),
    }
}

fn check_parameter(name: &str, header: Option<&str>, value: Option<&Value>) -> Result<(), CallError> {
    let value = value.filter(|value| !value.is_null());
    let (header, value) = match (header, value) {
        (None, None) => return Ok(()),
        (None, Some(_)) => return Err(mismatch(format!("header `{name}` is missing"))),
        (Some(_), None) => return Err(mismatch(format!("header `{name}` is sent, but the body has no such value"))),
        (Some(header), Some(value)) => (header, value),
    };
    let header =
        decode(header).ok_or_else(|| mismatch(format!("header `{name}` is not valid Base64 between its markers")))?;
    let equal = match value {
        Value::String(text) => *text == header,
        Value::Bool(value) => header == if *value { "true" } else { "false" },
        Value::Number(number) => equals_number(&header, number),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    };
    if equal { Ok(()) } else { Err(mismatch(format!("header `{name}` does not equal the value in the body"))) }
}

/// Whether a header equals a number: `42.0` equals `42`. Above 2^53, only identical digits without fraction or exponent are equal.
fn equals_number(header: &str, number: &serde_json::Number) -> bool {
    if !number.is_f64() && header == number.to_string() {
        return true;
    }
    let is_decimal = header.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-' || byte == b'.');
    let (Some(own), Ok(header)) = (number.as_f64(), header.parse::<f64>()) else {
        return false;
    };
    // Both are exact integers or short decimals in this range.
    is_decimal && own.abs() <= MAX_SAFE_INTEGER && own == header
}

/// Decodes a header value in the form `=?base64?…?=`; other values are returned unchanged. `None` if the part between the markers
/// is not canonical Base64 of UTF-8.
fn decode(value: &str) -> Option<Cow<'_, str>> {
    match value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(encoded) => String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok().map(Cow::Owned),
        None => Some(Cow::Borrowed(value)),
    }
}

fn mismatch(reason: impl Into<String>) -> CallError {
    CallError::HeaderMismatch(reason.into())
}

/// Which of the response media types a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) json: bool,
    pub(crate) event_stream: bool,
    /// Whether the request has an `Accept` header.
    pub(crate) is_present: bool,
}

impl Accept {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        // Fast path: the value that nearly every client sends.
        if headers.get(header::ACCEPT).is_some_and(|value| value == "application/json, text/event-stream") {
            return Self { json: true, event_stream: true, is_present: true };
        }
        Self {
            json: takes(headers, "application", "json"),
            event_stream: takes(headers, "text", "event-stream"),
            is_present: headers.contains_key(header::ACCEPT),
        }
    }

    /// Whether the client accepts a response media type. Some legacy clients send no `Accept` header: they are accepted.
    pub(crate) fn fits(self, revision: ProtocolVersion) -> bool {
        self.json || self.event_stream || (!revision.is_modern() && !self.is_present)
    }

    /// Whether every response must be an event stream, even without notifications.
    pub(crate) fn is_stream_only(self) -> bool {
        self.event_stream && !self.json
    }
}

/// Whether the request is from a browser: it accepts `text/html` explicitly, not by a wildcard, and no event stream.
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    let names = |kind, subtype| accepted(headers, kind, subtype) == Some((NAMED, true));
    names("text", "html") && !names("text", "event-stream")
}

/// Whether `Accept` includes a media type, explicitly or by a wildcard.
fn takes(headers: &HeaderMap, kind: &str, subtype: &str) -> bool {
    accepted(headers, kind, subtype).is_some_and(|(_, is_taken)| is_taken)
}

/// The specificity of a media range without wildcards.
const NAMED: u8 = 2;

/// The most specific media range that matches, which takes precedence: its specificity, and whether it accepts the type. `q=0`
/// excludes it (RFC 9110, section 12.5.1).
fn accepted(headers: &HeaderMap, kind: &str, subtype: &str) -> Option<(u8, bool)> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges = values.flat_map(|value| value.split(',')).filter_map(|range| {
        let (media_type, parameters) = range.split_once(';').unwrap_or((range, ""));
        let (own_kind, own_subtype) = media_type.trim().split_once('/')?;
        let specificity = match (own_kind, own_subtype) {
            ("*", "*") => 0,
            (own, "*") if own.eq_ignore_ascii_case(kind) => 1,
            (own, sub) if own.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) => NAMED,
            _ => return None,
        };
        let is_excluded = parameters.split(';').any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            name.trim().eq_ignore_ascii_case("q") && value.trim().parse::<f32>().is_ok_and(|q| q == 0.0)
        });
        Some((specificity, !is_excluded))
    });
    ranges.max_by_key(|(specificity, _)| *specificity)
}

/// Whether `Content-Encoding` declares a compressed or otherwise encoded body.
pub(crate) fn is_encoded(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    values.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity") && !value.is_empty())
}

/// Whether `Content-Type` declares JSON in UTF-8.
pub(crate) fn is_json(content_type: Option<&HeaderValue>) -> bool {
    let Some(value) = content_type.and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let (media_type, parameters) = value.split_once(';').unwrap_or((value, ""));
    let charset_fits = parameters.split(';').all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    media_type.trim().eq_ignore_ascii_case("application/json") && charset_fits
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn accept(value: &'static str) -> (bool, bool) {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]);
        let accept = Accept::of(&headers);
        (accept.json, accept.event_stream)
    }

    #[test]
    fn accept_supports_wildcards_and_q_0() {
        assert_eq!(accept("application/json, text/event-stream"), (true, true));
        assert_eq!(accept("application/json"), (true, false));
        assert_eq!(accept("TEXT/Event-Stream; q=0.5"), (false, true));
        assert_eq!(accept("*/*"), (true, true));
        assert_eq!(accept("application/*;q=0.1, text/html"), (true, false));
        assert_eq!(accept("*/*, text/event-stream;q=0"), (true, false));
        assert_eq!(accept("text/event-stream;q=0, */*"), (true, false));
        assert_eq!(accept("text/html"), (false, false));
        assert_eq!(accept(""), (false, false));
    }

    #[test]
    fn a_page_needs_an_explicit_text_html_and_no_event_stream() {
        for (value, wants) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", true),
            ("text/html", true),
            ("*/*", false),
            ("text/*", false),
            ("application/json, text/event-stream", false),
            ("text/html, text/event-stream", false),
            ("text/html, text/event-stream;q=0", true),
            ("text/html;q=0, */*", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]);

            assert_eq!(wants_page(&headers), wants, "{value}");
        }
    }

    #[test]
    fn the_content_type_must_be_json_in_utf_8() {
        let is = |value: &'static str| is_json(Some(&HeaderValue::from_static(value)));

        assert!(
            is("application/json") && is("Application/JSON; charset=UTF-8") && is("application/json;charset=\"utf-8\"")
        );
        assert!(
            !is("text/plain") && !is("application/json; charset=latin1") && !is("application/jsonl") && !is_json(None)
        );
    }

    #[test]
    fn a_mirrored_value_must_equal_the_body() {
        for (header, value, equal) in [
            (Some("Hello"), json!("Hello"), true),
            (Some("=?base64?SGVsbG8=?="), json!("Hello"), true),
            (Some("SGVsbG8="), json!("SGVsbG8="), true),
            (Some("=?base64?SGVsbG8="), json!("=?base64?SGVsbG8="), true),
            (Some("=?base64?SGVsbG8?="), json!("Hello"), false),
            (Some("=?base64?SGVs!!!bG8=?="), json!("Hello"), false),
            (Some("=?BASE64?SGVsbG8=?="), json!("Hello"), false),
            (Some("=?base64?/w==?="), json!("\u{ff}"), false),
            (Some(""), json!(""), true),
            (None, json!("Hello"), false),
            (None, json!(null), true),
            (Some("x"), json!(null), false),
            (Some("42"), json!(42), true),
            (Some("42.0"), json!(42), true),
            (Some("-7"), json!(-7), true),
            (Some("4.2e1"), json!(42), false),
            (Some("inf"), json!(42), false),
            (Some("9007199254740993"), json!(9_007_199_254_740_993_u64), true),
            (Some("9007199254740992"), json!(9_007_199_254_740_993_u64), false),
            (Some("true"), json!(true), true),
            (Some("True"), json!(true), false),
            (Some("x"), json!({}), false),
        ] {
            assert_eq!(check_parameter("mcp-param-x", header, Some(&value)).is_ok(), equal, "{header:?} {value}");
        }
    }

    /// The handler gets the digits of the body, which a floating-point number does not preserve.
    #[test]
    fn a_number_with_a_fraction_above_2_to_the_53_equals_no_header() {
        for header in ["9007199254740992.0", "9007199254740992", "9007199254740993", "9007199254740993.0"] {
            let value: Value = serde_json::from_str("9007199254740993.0").unwrap();

            assert!(check_parameter("mcp-param-x", Some(header), Some(&value)).is_err(), "{header}");
        }
    }
}
