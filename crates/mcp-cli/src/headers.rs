//! Headers that mirror parts of a modern request (2026-07-28, Streamable HTTP, "Request Metadata").

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use mcp_protocol::{MirroredParameter, json, lookup, method};
use serde_json::value::RawValue;

use crate::message::Envelope;

/// The header with the revision.
pub(crate) const PROTOCOL_VERSION: &str = "mcp-protocol-version";

/// The headers of a modern request; `mirrored` are the parameters that the called tool declares.
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
        // The extension `io.modelcontextprotocol/tasks`.
        task if task.starts_with("tasks/") => envelope.param(&["taskId"]),
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

/// A parameter's value as a header has it: integers in decimal, nothing for null.
fn mirrored_text(params: &RawValue, parameter: &MirroredParameter) -> Option<String> {
    let path: Vec<String> = std::iter::once("arguments".to_owned()).chain(parameter.path.iter().cloned()).collect();
    let raw = lookup(params, &path).ok()??.get();
    match raw.as_bytes().first()? {
        b'"' => json::borrow(raw).ok(),
        b'n' | b'{' | b'[' => None,
        _ => Some(in_decimal(raw).unwrap_or_else(|| raw.to_owned())),
    }
}

/// An integer that is written with a fraction or an exponent, such as `1e2`, in decimal. Those that a header may have are exact
/// as a float: between -2^53 and 2^53.
fn in_decimal(number: &str) -> Option<String> {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    let is_decimal = number.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
    let value: f64 = json::borrow(number).ok().filter(|_| !is_decimal)?;
    // Zero has no sign.
    (value.fract() == 0.0 && value.abs() <= LARGEST).then(|| format!("{:.0}", value + 0.0))
}

/// Encodes a header value: as it is if a header can hold it, else in Base64 between markers.
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

    /// C10
    #[test]
    fn integers_are_mirrored_in_decimal() {
        for (number, text) in [
            ("1e2", "100"),
            ("1.0", "1"),
            ("-5E0", "-5"),
            ("-0.0", "0"),
            ("9007199254740991.0", "9007199254740991"),
            ("42", "42"),
            ("12345678901234567890", "12345678901234567890"),
            ("1.5", "1.5"),
            ("1e400", "1e400"),
            ("true", "true"),
        ] {
            let params = RawValue::from_string(format!(r#"{{"arguments":{{"n":{number}}}}}"#)).unwrap();
            let parameter = MirroredParameter { header: "N".to_owned(), path: vec!["n".to_owned()] };

            assert_eq!(mirrored_text(&params, &parameter).as_deref(), Some(text), "{number}");
        }
    }

    /// C11
    #[test]
    fn the_name_of_a_task_is_mirrored() {
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let line = format!(r#"{{"id":1,"method":"{method}","params":{{"taskId":"t-1"}}}}"#);

            let headers = of_modern(&Envelope::parse(&line).unwrap(), "2026-07-28", &[]);

            assert_eq!(headers["mcp-name"], "t-1", "{method}");
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
