//! `_meta`: what travels beside a request's own parameters. Schema: `RequestMetaObject`.

use serde::{Deserialize, Serialize};

use crate::{ClientCapabilities, Implementation, LoggingLevel, RequestId, jsonrpc::object};

/// The key of the request's protocol version (2026-07-28).
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// The key of the client's capabilities (2026-07-28).
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// The key of the server's name and version in a result (2026-07-28).
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// The token that ties progress notifications to their request: a string or an integer, as an id is.
pub type ProgressToken = RequestId;

/// `_meta` of a request. Members that a revision lacks are simply absent; other members are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestMeta {
    /// The revision that the request is made in; required since 2026-07-28. A string, since it may be unknown.
    #[serde(rename = "io.modelcontextprotocol/protocolVersion", default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// What the client can do; required since 2026-07-28.
    #[serde(
        rename = "io.modelcontextprotocol/clientCapabilities",
        default,
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub client_capabilities: Option<ClientCapabilities>,
    /// Who the client says it is.
    #[serde(
        rename = "io.modelcontextprotocol/clientInfo",
        default,
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub client_info: Option<Implementation>,
    /// The least severe log message that the client wants; none when absent (2026-07-28).
    #[serde(rename = "io.modelcontextprotocol/logLevel", default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LoggingLevel>,
    /// Asks for progress notifications.
    #[serde(rename = "progressToken", default, skip_serializing_if = "Option::is_none")]
    pub progress_token: Option<ProgressToken>,
    /// Trace and parent span, in the format of [W3C Trace Context](https://www.w3.org/TR/trace-context/).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Trace data of vendors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
    /// [W3C Baggage](https://www.w3.org/TR/baggage/).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baggage: Option<String>,
}
