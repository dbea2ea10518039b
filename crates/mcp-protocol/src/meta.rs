//! Metadata (`_meta`) of requests and results. Schema:
//! [`RequestMetaObject`](https://modelcontextprotocol.io/specification/2026-07-28/schema).

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{ClientCapabilities, Implementation, JsonObject, LoggingLevel, RequestId, json};

/// Key of the request's protocol version (2026-07-28).
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Key of the client's capabilities (2026-07-28).
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// Key of the server's name and version in a result (2026-07-28).
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// Key of the challenges of an unauthorized request, each in the format of a `WWW-Authenticate` header. It is in the
/// result of a tool, for ChatGPT, and in the data of an error. No revision defines it. Function URLs rename the header, but not this
/// key.
pub const WWW_AUTHENTICATE: &str = "mcp/www_authenticate";

/// Token that correlates progress notifications with their request: a string or an integer, like a request id.
pub type ProgressToken = RequestId;

/// Key of the client's name and version (2026-07-28).
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// Key of the minimum severity of log messages (2026-07-28).
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// Metadata (`_meta`) of a request. Members that a revision does not define are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RequestMeta {
    /// Protocol version of the request; required since 2026-07-28. A string, since the version may be unsupported.
    #[serde(rename = "io.modelcontextprotocol/protocolVersion", skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// Required since 2026-07-28.
    #[serde(rename = "io.modelcontextprotocol/clientCapabilities", skip_serializing_if = "Option::is_none")]
    pub client_capabilities: Option<ClientCapabilities>,
    /// Name and version that the client claims; unverified.
    #[serde(rename = "io.modelcontextprotocol/clientInfo", skip_serializing_if = "Option::is_none")]
    pub client_info: Option<Implementation>,
    /// Minimum severity of log messages to send; no log messages if absent (2026-07-28).
    #[serde(rename = "io.modelcontextprotocol/logLevel", skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LoggingLevel>,
    /// Requests progress notifications.
    #[serde(rename = "progressToken", skip_serializing_if = "Option::is_none")]
    pub progress_token: Option<ProgressToken>,
    /// Trace and parent span, in the format of [W3C Trace Context](https://www.w3.org/TR/trace-context/).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Vendor-specific trace data of W3C Trace Context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
    /// [W3C Baggage](https://www.w3.org/TR/baggage/).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baggage: Option<String>,
    /// Other members.
    #[serde(flatten)]
    pub other: JsonObject,
}

impl<'de> Deserialize<'de> for RequestMeta {
    /// Implemented without serde's `flatten`, which would copy every member first and accept an array for an object.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MetaVisitor;

        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        impl<'de> Visitor<'de> for MetaVisitor {
            type Value = RequestMeta;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<RequestMeta, A::Error> {
                let mut meta = RequestMeta::default();
                while let Some(Key(key)) = members.next_key()? {
                    match &*key {
                        PROTOCOL_VERSION => once(&mut meta.protocol_version, PROTOCOL_VERSION, &mut members)?,
                        CLIENT_CAPABILITIES => {
                            object(&mut meta.client_capabilities, CLIENT_CAPABILITIES, &mut members)?
                        }
                        CLIENT_INFO => object(&mut meta.client_info, CLIENT_INFO, &mut members)?,
                        LOG_LEVEL => once(&mut meta.log_level, LOG_LEVEL, &mut members)?,
                        "progressToken" => once(&mut meta.progress_token, "progressToken", &mut members)?,
                        "traceparent" => once(&mut meta.traceparent, "traceparent", &mut members)?,
                        "tracestate" => once(&mut meta.tracestate, "tracestate", &mut members)?,
                        "baggage" => once(&mut meta.baggage, "baggage", &mut members)?,
                        _ => drop(meta.other.insert(key.into_owned(), members.next_value()?)),
                    }
                }
                Ok(meta)
            }
        }

        deserializer.deserialize_map(MetaVisitor)
    }
}

/// Deserializes a member that must not be duplicated; `null` counts as absent.
fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    slot: &mut Option<T>,
    name: &'static str,
    members: &mut A,
) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(A::Error::duplicate_field(name));
    }
    *slot = members.next_value()?;
    Ok(())
}

/// Deserializes a struct that must not be duplicated. Rejects arrays, which serde would accept for structs.
fn object<'de, T: DeserializeOwned, A: MapAccess<'de>>(
    slot: &mut Option<T>,
    name: &'static str,
    members: &mut A,
) -> Result<(), A::Error> {
    let mut raw: Option<&'de RawValue> = None;
    once(&mut raw, name, members)?;
    if slot.is_some() {
        return Err(A::Error::duplicate_field(name));
    }
    *slot = match raw.map(RawValue::get) {
        Some(text) if text.starts_with('{') => Some(json::borrow(text).map_err(A::Error::custom)?),
        Some(_) => return Err(A::Error::custom(format_args!("`{name}` must be an object"))),
        None => None,
    };
    Ok(())
}

/// Returns whether a text has the format of a `traceparent` ([W3C Trace
/// Context](https://www.w3.org/TR/trace-context/)). Check it before use, since the client chooses the value.
pub fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |part: &&str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    parts.iter().map(|part| part.len()).eq([2, 32, 16, 2]) && parts.iter().all(is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_format_is_checked() {
        for (text, is) in [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false),
            ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\"-01", false),
            ("", false),
        ] {
            assert_eq!(is_traceparent(text), is, "{text}");
        }
    }
}
