//! Rate limits, with the feature `limits`: the response to a request over a limit.
//!
//! | Caller | Request | Response |
//! | --- | --- | --- |
//! | authenticated | `tools/call` | status 200, and a tool result with `isError`: an HTTP error would not reach the model |
//! | authenticated | any other | JSON-RPC error 429; status 429 with `Retry-After`, for legacy clients 200 |
//! | anonymous, or authentication failed | any | status 429 with `Retry-After` |

use std::{net::IpAddr, time::SystemTime};

use http::{Extensions, HeaderValue, Method, Response, StatusCode, header};
use mcp_protocol::{ErrorObject, Incoming, Message, ProtocolVersion, RequestId, jsonrpc, method};
use mcp_server::{Counted, Limited};
use serde_json::json;

use super::{
    exchange::Exchange,
    responses::{error_body, event_stream, json_body},
};
use crate::{
    Body, McpService,
    authentication::AuthError,
    call_log::{CallLog, OutcomeSummary, ResponseSummary},
    logs::REJECTION,
    sse,
    transport::SourceAddress,
};

/// The code of the JSON-RPC error, and the status.
const CODE: i64 = 429;

/// Returns the network address of the caller, if the event has one.
pub(super) fn source_address(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get().map(|SourceAddress(address)| *address)
}

/// Returns how the request of an anonymous caller is counted. Its message is foreign: a continuation may be of any call, or of none.
pub(super) fn counted(http_method: &Method, message: Option<&Incoming<'_>>) -> Counted {
    let is_continuation = match message {
        // The only GET that is counted resumes a stream.
        None => http_method == Method::GET,
        Some(Incoming::Single(Message::Response(_))) => true,
        Some(Incoming::Single(Message::Notification(notification))) => {
            notification.method == method::NOTIFICATIONS_CANCELLED
        }
        #[cfg(feature = "tasks")]
        Some(Incoming::Single(Message::Request(request))) => {
            [method::TASKS_GET, method::TASKS_UPDATE, method::TASKS_CANCEL].contains(&&*request.method)
        }
        #[cfg(not(feature = "tasks"))]
        Some(Incoming::Single(Message::Request(_))) => false,
        Some(Incoming::Batch(messages)) => {
            return Counted::Requests(u32::try_from(messages.len()).unwrap_or(u32::MAX).max(1));
        }
    };
    if is_continuation { Counted::Continuation } else { Counted::Requests(1) }
}

impl McpService {
    /// Counts an HTTP request of an anonymous caller, or one with failed authentication. `None` for an authenticated caller, and if
    /// authentication failed through a fault of the server or of the issuer.
    pub(super) fn count_anonymous(
        &self,
        address: Option<IpAddr>,
        is_authenticated: bool,
        rejected: Option<&AuthError>,
        counted: Counted,
        received: SystemTime,
    ) -> Option<Limited> {
        if is_authenticated || rejected.is_some_and(|rejected| rejected.fault().is_some()) {
            return None;
        }
        self.server().count_anonymous(address, counted, received).err()
    }

    /// The response to a request over a limit, with its log event.
    pub(super) fn reject_limited(
        &self,
        exchange: &Exchange<'_>,
        request: &mcp_protocol::Request<'_>,
        revision: ProtocolVersion,
        limited: &Limited,
    ) -> Response<Body> {
        log_limited(exchange, limited);
        if limited.is_anonymous || (request.method != method::TOOLS_CALL && revision.is_modern()) {
            let response = status_response(Some(&request.id), limited);
            if let Some(log) = exchange.take_log() {
                log.end(&OutcomeSummary::limited(), &summary(&response));
            }
            return response;
        }
        let (message, code) = self.limited_message(request, revision, limited);
        let is_stream = exchange.accept.is_stream_only();
        let body = if is_stream { sse::event(&message) } else { message };
        if let Some(log) = exchange.take_log() {
            end_log(log, code, body.len(), is_stream);
        }
        let mut response = match is_stream {
            true => event_stream(Body::whole(body)),
            false => json_body(StatusCode::OK, body),
        };
        if code.is_some() {
            add_retry_after(&mut response, limited);
        }
        response
    }

    /// The response message of a request over a limit in a batch, with its log event.
    pub(super) fn limited_in_batch(
        &self,
        exchange: &Exchange<'_>,
        request: &mcp_protocol::Request<'_>,
        revision: ProtocolVersion,
        limited: &Limited,
        log: Option<CallLog>,
    ) -> String {
        log_limited(exchange, limited);
        let (message, code) = self.limited_message(request, revision, limited);
        if let Some(log) = log {
            end_log(log, code, message.len(), false);
        }
        message
    }

    /// The message, and its error code.
    fn limited_message(
        &self,
        request: &mcp_protocol::Request<'_>,
        revision: ProtocolVersion,
        limited: &Limited,
    ) -> (String, Option<i64>) {
        if request.method == method::TOOLS_CALL
            && !limited.is_anonymous
            && let Ok(result) = self.server().limited_result(limited, revision).result
        {
            return (jsonrpc::result_response(&request.id, result.as_str()), None);
        }
        (jsonrpc::error_response(Some(&request.id), &error_object(limited)), Some(CODE))
    }
}

impl Exchange<'_> {
    /// The response to a poll, an answer or a cancellation over the limit of its caller.
    #[cfg(all(feature = "interactive", feature = "store"))]
    pub(super) fn reject_continuation(&self, limited: &Limited, id: Option<&RequestId>) -> Response<Body> {
        log_limited(self, limited);
        status_response(id, limited)
    }

    /// The response to an HTTP request over the limit of anonymous callers. It has the request's id.
    pub(super) fn reject_anonymous(&self, limited: &Limited, message: Option<&Incoming<'_>>) -> Response<Body> {
        log_limited(self, limited);
        let id = match message {
            Some(Incoming::Single(Message::Request(request))) => {
                self.note(|log| log.set_method(&request.method));
                Some(&request.id)
            }
            _ => None,
        };
        status_response(id, limited)
    }
}

/// The response to a request to a route over the limit of anonymous callers.
pub(super) fn reject_at_route(request_id: &str, limited: &Limited) -> Response<Body> {
    log_limited_of(request_id, None, limited);
    status_response(None, limited)
}

fn status_response(id: Option<&RequestId>, limited: &Limited) -> Response<Body> {
    let mut response = error_body(StatusCode::TOO_MANY_REQUESTS, id, &error_object(limited));
    add_retry_after(&mut response, limited);
    response
}

fn error_object(limited: &Limited) -> ErrorObject {
    let data = json!({ "retryAfterSeconds": limited.retry_after.as_secs() });
    ErrorObject::new(CODE, limited.message.as_str()).with_data(data)
}

fn add_retry_after(response: &mut Response<Body>, limited: &Limited) {
    let seconds = HeaderValue::from(limited.retry_after.as_secs());
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
}

fn summary(response: &Response<Body>) -> ResponseSummary {
    let bytes = http_body::Body::size_hint(response.body()).exact().and_then(|bytes| usize::try_from(bytes).ok());
    let (status, bytes) = (response.status(), bytes.unwrap_or(0));
    ResponseSummary { status, code: Some(CODE), bytes, is_streamed: false }
}

fn end_log(log: CallLog, code: Option<i64>, bytes: usize, is_streamed: bool) {
    log.end(&OutcomeSummary::limited(), &ResponseSummary { status: StatusCode::OK, code, bytes, is_streamed });
}

fn log_limited(exchange: &Exchange<'_>, limited: &Limited) {
    let invocation = &exchange.invocation;
    let issuer = invocation.principal.as_deref().map(|principal| principal.issuer.as_str());
    log_limited_of(&invocation.request_id, issuer, limited);
}

fn log_limited_of(request_id: &str, issuer: Option<&str>, limited: &Limited) {
    tracing::info!(
        name: REJECTION,
        request_id,
        issuer,
        reason = %limited,
        monotonic_counter.limited_requests = 1,
        "request rejected: rate limit"
    );
}
