//! JSON-RPC batches, which only protocol version 2025-03-26 has.

use std::collections::HashSet;

use futures_util::FutureExt;
use http::{HeaderMap, Response, StatusCode};
use mcp_protocol::{ErrorObject, MalformedMessage, Message, ProtocolVersion, RequestParams, jsonrpc, method};
use mcp_server::{Call, CallError, CallOutcome, CallResponse, Resolved};
use tokio::sync::mpsc;

use super::{
    calls::log_request,
    exchange::{Exchange, NOTIFICATION_BUFFER, ResponseLimits},
    finisher::Finisher,
    responses::{empty, event_stream, invalid_request, json_body, malformed_message, not_acceptable},
};
use crate::{
    Body, McpService,
    call_log::CallLog,
    era,
    events::encoded_bytes,
    headers,
    sse::{self, PendingEvents},
};

/// The largest size of all responses of a batch together.
const MAX_BATCH_BYTES: usize = 6 * 1024 * 1024;

impl McpService {
    /// Serves a batch. Its requests run one after the other. If the caller is not authorized for one of them, none runs, because
    /// the HTTP response has one status for all.
    pub(super) async fn batch(
        &self,
        exchange: &Exchange<'_>,
        messages: Vec<Result<Message<'_>, MalformedMessage>>,
    ) -> Response<Body> {
        let revision = match headers::single(exchange.headers, &headers::PROTOCOL_VERSION) {
            Ok(None) => Some(ProtocolVersion::V2025_03_26),
            Ok(Some(name)) => ProtocolVersion::parse(name),
            Err(_) => None,
        };
        let Some(revision) = revision.filter(|revision| revision.has_batches()) else {
            let reason =
                "only protocol version 2025-03-26 supports batches: send each message in a separate HTTP request";
            return invalid_request(StatusCode::BAD_REQUEST, reason);
        };
        if !exchange.accept.fits(revision) {
            return not_acceptable(None);
        }
        let messages: Vec<_> = messages.iter().map(|message| self.resolve(exchange, revision, message)).collect();
        if messages.iter().any(|message| message.authorization_error().is_some()) {
            // One error for all requests. No handler was called.
            let denial =
                messages.into_iter().filter_map(BatchMessage::into_authorization_error).reduce(CallError::combine);
            return exchange.reject_unauthorized(None, &denial.unwrap_or(CallError::Forbidden));
        }
        let mut ids = HashSet::new();
        let mut sent = PendingEvents::new(exchange.limits.max_bytes.min(MAX_BATCH_BYTES));
        let mut responses = Vec::new();
        // The response to a batch is never streamed, even if the URL supports it.
        let mut limits =
            ResponseLimits { max_bytes: exchange.limits.max_bytes.min(MAX_BATCH_BYTES), ..exchange.limits };
        let mut has_logged = false;
        // Arguments are parsed one request at a time, so that only those of one request are in memory.
        for message in messages {
            let response = match message {
                BatchMessage::NoResponse => continue,
                BatchMessage::Malformed(malformed) => malformed_message(malformed),
                BatchMessage::Request(own) if !ids.insert(own.request.id.clone()) => {
                    let error = ErrorObject::new(jsonrpc::INVALID_REQUEST, "duplicate request id in batch");
                    jsonrpc::error_response(Some(&own.request.id), &error)
                }
                BatchMessage::Request(own) => {
                    let request = own.request;
                    let mut log = exchange.note(|log| log.for_batched_request());
                    if let Some(log) = log.as_mut().filter(|_| has_logged) {
                        log.clear_cold_start();
                    }
                    has_logged |= log.is_some();
                    #[cfg(feature = "limits")]
                    if let Err(limited) = own.resolved.count(exchange.address).await {
                        if let Some(log) = &mut log {
                            log.set_method(&request.method);
                        }
                        let message = self.limited_in_batch(exchange, request, revision, &limited, log);
                        limits.max_bytes = limits.max_bytes.saturating_sub(encoded_bytes(&HeaderMap::new(), &message));
                        responses.push(message);
                        continue;
                    }
                    let (sender, notifications) = mpsc::channel(NOTIFICATION_BUFFER);
                    let answer = run_batched(exchange, *own, revision, sender, log.as_mut());
                    let outcome = collect_outcome(answer, notifications, &mut sent).await;
                    // The status is that of the batch: a scope error of a handler goes into the response message.
                    let challenger = outcome.authorization_error().map(|_| self.owned_challenger(exchange));
                    let finisher = self.finisher(exchange, request, revision, log);
                    Finisher { limits, challenger, ..finisher }.finish_batched(outcome)
                }
            };
            limits.max_bytes = limits.max_bytes.saturating_sub(encoded_bytes(&HeaderMap::new(), &response));
            responses.push(response);
        }
        if has_logged && let Some(log) = exchange.take_log() {
            // Each request of the batch has its own log event.
            log.discard();
        }
        if responses.is_empty() {
            return empty(StatusCode::ACCEPTED);
        }
        if sent.is_empty() && !exchange.accept.is_stream_only() {
            return json_body(StatusCode::OK, format!("[{}]", responses.join(",")));
        }
        let responses: String = responses.iter().map(|response| sse::event(response)).collect();
        event_stream(Body::whole(sent.join_before(&responses)))
    }

    fn resolve<'a>(
        &'a self,
        exchange: &Exchange<'_>,
        revision: ProtocolVersion,
        message: &'a Result<Message<'a>, MalformedMessage>,
    ) -> BatchMessage<'a> {
        match message {
            Ok(Message::Request(request)) => {
                let params = era::params(request);
                let known = params.as_ref().copied().unwrap_or_default();
                let resolved = self.server.resolve(revision, &request.method, known, &exchange.invocation);
                BatchMessage::Request(Box::new(BatchRequest { request, params, resolved }))
            }
            Ok(Message::Notification(_) | Message::Response(_)) => BatchMessage::NoResponse,
            Err(malformed) => BatchMessage::Malformed(malformed),
        }
    }
}

/// A message of a batch, with its resolved item.
enum BatchMessage<'a> {
    Request(Box<BatchRequest<'a>>),
    NoResponse,
    Malformed(&'a MalformedMessage),
}

struct BatchRequest<'a> {
    request: &'a mcp_protocol::Request<'a>,
    params: Result<RequestParams<'a>, CallError>,
    resolved: Resolved<'a>,
}

impl BatchMessage<'_> {
    fn authorization_error(&self) -> Option<&CallError> {
        match self {
            Self::Request(own) => own.resolved.authorization_error(),
            Self::NoResponse | Self::Malformed(_) => None,
        }
    }

    fn into_authorization_error(self) -> Option<CallError> {
        match self {
            Self::Request(own) => own.resolved.into_authorization_error(),
            Self::NoResponse | Self::Malformed(_) => None,
        }
    }
}

/// Parses the arguments of a request of a batch, and calls its handler.
fn run_batched(
    exchange: &Exchange<'_>,
    own: BatchRequest<'_>,
    revision: ProtocolVersion,
    notifications: mpsc::Sender<String>,
    mut log: Option<&mut CallLog>,
) -> CallResponse {
    let BatchRequest { request, params, resolved } = own;
    if let Some(log) = &mut log {
        log.set_method(&request.method);
    }
    let head = match era::read_batched_head(revision, params) {
        _ if request.method == method::INITIALIZE => {
            Err(CallError::InvalidParams("`initialize` cannot be part of a batch".to_owned()))
        }
        head => head.map_err(|rejection| rejection.error),
    };
    match head {
        Ok(head) => {
            if let Some(log) = log {
                log_request(log, &request.method, &resolved, &head);
            }
            let notifications = exchange.accept.event_stream.then_some(notifications);
            resolved.run(Call { id: request.id.clone(), meta: head.meta, notifications })
        }
        Err(error) => CallResponse::Ready(Box::new(CallOutcome::from(Err(error)))),
    }
}

/// Awaits the outcome, and collects the notifications sent before it.
async fn collect_outcome(
    answer: CallResponse,
    mut notifications: mpsc::Receiver<String>,
    sent: &mut PendingEvents,
) -> CallOutcome {
    let mut work = answer.outcome().boxed();
    loop {
        tokio::select! {
            biased;
            outcome = &mut work => {
                sent.drain(&mut notifications);
                return outcome;
            }
            Some(notification) = notifications.recv() => sent.push(&notification),
        }
    }
}
