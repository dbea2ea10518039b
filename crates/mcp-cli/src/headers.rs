//! Headers that repeat parts of a modern request (2026-07-28, Streamable HTTP, "Request Metadata").

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use mcp_protocol::{MirroredParameter, json, lookup, method};
use serde_json::value::RawValue;

use crate::message::Envelope;

/// The header that says the revision.
pub(crate) const PROTOCOL_VERSION: &str = "mcp-protocol-version";

/// The headers of a modern request; `mirrored` are the parameters that the called tool wants repeated.
pub(crate) fn of_modern(envelope: &Envelope, version: &str, mirrored: &[MirroredParameter]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, text: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&encode(text))) {
            headers.insert(name, value);
        }
    };
    add(PROTOCOL_VERSION, version);
    let method = envelope.method().unwrap_or_default();
    add("mcp-method", method);
    let name = match method {
        method::TOOLS_CALL | method::PROMPTS_GET => envelope.param(&["name"]),
        method::RESOURCES_READ => envelope.param(&["uri"]),
        _ => None,
    };
    if let Some(name) = name {
        add("mcp-name", &name);
    }
    if method == method::TOOLS_CALL {
        for parameter in mirrored {
            if let Some(text) = envelope.params().and_then(|params| mirrored_text(params, parameter)) {
                add(&format!("mcp-param-{}", parameter.header), &text);
            }
        }
    }
    headers
}

/// A parameter's value as a header has it: numbers and booleans as they were written; nothing for null.
fn mirrored_text(params: &RawValue, parameter: &MirroredParameter) -> Option<String> {
    let path: Vec<String> = std::iter::once("arguments".to_owned()).chain(parameter.path.iter().cloned()).collect();
    let raw = lookup(params, &path).ok()??.get();
    match raw.as_bytes().first()? {
        b'"' => json::borrow(raw).ok(),
        b'n' | b'{' | b'[' => None,
        _ => Some(raw.to_owned()),
    }
}

/// A value that a header can hold; what it cannot, in Base64 between markers.
fn encode(text: &str) -> String {
    let is_printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let is_marked = text.starts_with("=?base64?") && text.ends_with("?=");
    if is_printable && text.trim_matches(' ') == text && !is_marked {
        text.to_owned()
    } else {
        format!("=?base64?{}?=", BASE64_STANDARD.encode(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_header_cannot_hold_is_encoded() {
        for (text, value) in [
            ("eu-west-1", "eu-west-1"),
            ("", ""),
            ("two words", "two words"),
            (" x", "=?base64?IHg=?="),
            ("x\n", "=?base64?eAo=?="),
            ("é", "=?base64?w6k=?="),
            ("=?base64?eA==?=", "=?base64?PT9iYXNlNjQ/ZUE9PT89?="),
        ] {
            assert_eq!(encode(text), value, "{text:?}");
        }
    }

    #[test]
    fn a_call_repeats_what_its_tool_wants() {
        let line = r#"{"id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":{"n":10},"b":true,"c":null,"d":"x"}}}"#;
        let envelope = Envelope::parse(line).unwrap();
        let parameter = |header: &str, path: &[&str]| MirroredParameter {
            header: header.to_owned(),
            path: path.iter().map(|name| (*name).to_owned()).collect(),
        };
        let mirrored = [parameter("N", &["a", "n"]), parameter("B", &["b"]), parameter("C", &["c"])];

        let headers = of_modern(&envelope, "2026-07-28", &mirrored);

        let get = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!((get("mcp-method"), get("mcp-name")), (Some("tools/call"), Some("t")));
        assert_eq!((get("mcp-param-n"), get("mcp-param-b")), (Some("10"), Some("true")));
        assert_eq!((get("mcp-param-c"), get("mcp-param-d")), (None, None));
    }
}
