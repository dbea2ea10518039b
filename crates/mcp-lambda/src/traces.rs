//! The server span of each call: the parent of the spans for verification, the handler and the database.
//!
//! Names and attributes are those of OpenTelemetry's conventions for
//! [MCP](https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/mcp.md). Values are registered
//! names, never arguments, results or tokens. Without the feature `otel` no spans are recorded: each costs a load and a branch.

use mcp_protocol::{Incoming, Message, ProtocolVersion, RequestId, method};
use mcp_server::Invocation;
#[cfg(feature = "otel")]
use serde_json::value::RawValue;
use tracing::{Span, field::Empty};

use crate::call_log::UNKNOWN;

/// The longest recorded JSON-RPC id, because the client chooses it.
const MAX_ID_CHARS: usize = 64;
/// The method of all notifications: their names are not recorded.
const NOTIFICATION: &str = "notification";

/// Creates the span of a POST request. A batch has one span. The span of a batch or of a malformed body is named for the HTTP method.
pub(crate) fn server_span(message: Option<&Incoming<'_>>, invocation: &Invocation) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "POST",
        otel.kind = "server",
        otel.name = method_of(message),
        otel.status_code = Empty,
        mcp.method.name = method_of(message),
        mcp.protocol.version = Empty,
        jsonrpc.request.id = request_id(message),
        rpc.response.status_code = Empty,
        gen_ai.operation.name = Empty,
        gen_ai.tool.name = Empty,
        gen_ai.prompt.name = Empty,
        error.type = Empty,
        faas.invocation_id = invocation.request_id,
        faas.coldstart = Empty
    );
    #[cfg(feature = "otel")]
    if !span.is_disabled() {
        mcp_otel::set_parents(&span, message.and_then(params), crate::LambdaInvocation::trace_of(invocation));
    }
    span
}

/// Records the requested item. `item` is its registered name; `None` if it is not registered.
pub(crate) fn record_item(span: &Span, method: Option<&str>, item: Option<&str>, revision: ProtocolVersion) {
    if span.is_disabled() {
        return;
    }
    span.record("mcp.protocol.version", revision.as_str());
    let field = match method {
        Some(method::TOOLS_CALL) => "gen_ai.tool.name",
        Some(method::PROMPTS_GET) => "gen_ai.prompt.name",
        _ => return,
    };
    if method == Some(method::TOOLS_CALL) {
        span.record("gen_ai.operation.name", "execute_tool");
    }
    let item = item.unwrap_or(UNKNOWN);
    span.record(field, item);
    #[cfg(feature = "otel")]
    mcp_otel::rename(span, format!("{} {item}", method.unwrap_or_default()));
}

/// Records the end of the call: `failure` is the kind of failure, and `code` the JSON-RPC error code.
pub(crate) fn record_end(span: &Span, failure: Option<&str>, code: Option<i64>) {
    if span.is_disabled() {
        return;
    }
    // The exporter takes the last exit of a span as its end.
    let _entered = span.enter();
    let code = code.map(|code| code.to_string());
    if let Some(code) = &code {
        span.record("rpc.response.status_code", code);
    }
    if let Some(kind) = code.as_deref().or(failure) {
        span.record("error.type", kind);
        span.record("otel.status_code", "ERROR");
    }
}

fn method_of(message: Option<&Incoming<'_>>) -> Option<&'static str> {
    match message? {
        Incoming::Single(Message::Request(request)) => Some(method::known(&request.method).unwrap_or(UNKNOWN)),
        Incoming::Single(Message::Notification(_)) => Some(NOTIFICATION),
        Incoming::Single(Message::Response(_)) | Incoming::Batch(_) => None,
    }
}

fn request_id(message: Option<&Incoming<'_>>) -> Option<String> {
    match message? {
        Incoming::Single(Message::Request(request)) => {
            let (RequestId::Integer(id) | RequestId::String(id)) = &request.id;
            Some(id.chars().take(MAX_ID_CHARS).collect())
        }
        Incoming::Single(Message::Notification(_) | Message::Response(_)) | Incoming::Batch(_) => None,
    }
}

#[cfg(feature = "otel")]
fn params<'a>(message: &Incoming<'a>) -> Option<&'a RawValue> {
    match message {
        Incoming::Single(Message::Request(request)) => request.params,
        Incoming::Single(Message::Notification(notification)) => notification.params,
        Incoming::Single(Message::Response(_)) | Incoming::Batch(_) => None,
    }
}
