//! The span of each call, which those of its parts belong to: verification, the handler, the database.
//!
//! Names and attributes are those of OpenTelemetry's conventions for
//! [MCP](https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/mcp.md). Values are names that
//! are registered here, never arguments, results or tokens. Without the feature `otel` no exporter collects spans, and one costs
//! a load and a branch.

use mcp_protocol::{Incoming, Message, ProtocolVersion, RequestId, method};
use mcp_server::Invocation;
#[cfg(feature = "otel")]
use serde_json::value::RawValue;
use tracing::{Span, field::Empty};

use crate::call_log::UNKNOWN;

/// A client chooses the id.
const MAX_ID_CHARS: usize = 64;
/// What clients notify of is a handful of names, which nothing depends on here.
const NOTIFICATION: &str = "notification";

/// The span of what was posted. A batch has one; its name, and that of a body which is no message, is that of the HTTP
/// method.
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

/// What is asked for. `item` is its registered name; `None` for one that is not registered.
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

/// How the call ended: `failure` is the kind, if it failed, and `code` that of a JSON-RPC error.
pub(crate) fn record_end(span: &Span, failure: Option<&str>, code: Option<i64>) {
    if span.is_disabled() {
        return;
    }
    // A span ends when it was left for the last time.
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
        Incoming::Single(Message::Response) | Incoming::Batch(_) => None,
    }
}

fn request_id(message: Option<&Incoming<'_>>) -> Option<String> {
    match message? {
        Incoming::Single(Message::Request(request)) => {
            let (RequestId::Integer(id) | RequestId::String(id)) = &request.id;
            Some(id.chars().take(MAX_ID_CHARS).collect())
        }
        Incoming::Single(Message::Notification(_) | Message::Response) | Incoming::Batch(_) => None,
    }
}

#[cfg(feature = "otel")]
fn params<'a>(message: &Incoming<'a>) -> Option<&'a RawValue> {
    match message {
        Incoming::Single(Message::Request(request)) => request.params,
        Incoming::Single(Message::Notification(notification)) => notification.params,
        Incoming::Single(Message::Response) | Incoming::Batch(_) => None,
    }
}
