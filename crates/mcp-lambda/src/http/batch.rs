//! Batches, which only 2025-03-26 has.

use std::collections::HashSet;

use futures_util::FutureExt;
use http::{HeaderMap, Response, StatusCode};
use mcp_protocol::{ErrorObject, MalformedMessage, Message, ProtocolVersion, RequestParams, jsonrpc, method};
use mcp_server::{Answer, Call, CallError, CallOutcome, Resolved};
use tokio::sync::mpsc;

use super::{
    answers::{empty, event_stream, json_body, malformed_message, not_acceptable, refuse_invalid},
    calls::note_request,
    exchange::{Exchange, NOTIFICATION_BUFFER, ResponseLimits},
    finisher::Finisher,
};
use crate::{
    Body, McpService,
    call_log::CallLog,
    era,
    events::carried_bytes,
    headers,
    sse::{self, PendingEvents},
};

/// What all responses of a batch may have together.
const MAX_BATCH_BYTES: usize = 6 * 1024 * 1024;

impl McpService {
    /// Only 2025-03-26 has batches. Its messages are answered one after the other, and none of them if the caller may not
    /// make one: there is one status for all.
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
            let reason = "only protocol version 2025-03-26 has batches: send each message in a request of its own";
            return refuse_invalid(StatusCode::BAD_REQUEST, reason);
        };
        if !exchange.accept.fits(revision) {
            return not_acceptable(None);
        }
        let messages: Vec<_> = messages.iter().map(|message| self.resolve(exchange, revision, message)).collect();
        if messages.iter().any(|message| message.refusal().is_some()) {
            // One refusal for all of them. Nothing was prepared.
            let refusal = messages.into_iter().filter_map(BatchMessage::into_refusal).reduce(CallError::together);
            return exchange.refuse_caller(None, &refusal.unwrap_or(CallError::Forbidden));
        }
        let mut ids = HashSet::new();
        let mut sent = PendingEvents::new(exchange.limits.max_bytes.min(MAX_BATCH_BYTES));
        let mut responses = Vec::new();
        // A batch is answered as a whole, by a URL that streams too.
        let mut limits =
            ResponseLimits { max_bytes: exchange.limits.max_bytes.min(MAX_BATCH_BYTES), ..exchange.limits };
        let mut has_lines = false;
        // Each is prepared when its turn comes, so that no more than one is held in memory.
        for message in messages {
            let response = match message {
                BatchMessage::Unanswered => continue,
                BatchMessage::Malformed(malformed) => malformed_message(malformed),
                BatchMessage::Request(own) if !ids.insert(own.request.id.clone()) => {
                    let error = ErrorObject::new(jsonrpc::INVALID_REQUEST, "duplicate request id in batch");
                    jsonrpc::error_response(Some(&own.request.id), &error)
                }
                BatchMessage::Request(own) => {
                    let request = own.request;
                    let mut log = exchange.note(|log| log.of_batch());
                    if let Some(log) = log.as_mut().filter(|_| has_lines) {
                        log.is_not_first();
                    }
                    has_lines |= log.is_some();
                    let (sender, notifications) = mpsc::channel(NOTIFICATION_BUFFER);
                    let answer = batched(exchange, *own, revision, sender, log.as_mut());
                    let outcome = outcome(answer, notifications, &mut sent).await;
                    // One status for all: a refusal by a handler is in its own response.
                    let challenger = outcome.authorization_refusal().map(|_| self.owned_challenger(exchange));
                    let finisher = self.finisher(exchange, request, revision, log);
                    Finisher { limits, challenger, ..finisher }.finish_batched(outcome)
                }
            };
            limits.max_bytes = limits.max_bytes.saturating_sub(carried_bytes(&HeaderMap::new(), &response));
            responses.push(response);
        }
        if has_lines && let Some(log) = exchange.take_log() {
            // Each request that could be read has a line of its own.
            log.discard();
        }
        if responses.is_empty() {
            return empty(StatusCode::ACCEPTED);
        }
        if sent.is_empty() && !exchange.accept.is_stream_only() {
            return json_body(StatusCode::OK, format!("[{}]", responses.join(",")));
        }
        let weight = responses.iter().map(|response| carried_bytes(&HeaderMap::new(), &sse::event(response))).sum();
        let responses: String = responses.iter().map(|response| sse::event(response)).collect();
        event_stream(Body::whole(sent.before(&responses, weight)))
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
            Ok(Message::Notification(_) | Message::Response) => BatchMessage::Unanswered,
            Err(malformed) => BatchMessage::Malformed(malformed),
        }
    }
}

/// A message of a batch, looked up once.
enum BatchMessage<'a> {
    Request(Box<BatchRequest<'a>>),
    Unanswered,
    Malformed(&'a MalformedMessage),
}

struct BatchRequest<'a> {
    request: &'a mcp_protocol::Request<'a>,
    params: Result<RequestParams<'a>, CallError>,
    resolved: Resolved<'a>,
}

impl BatchMessage<'_> {
    fn refusal(&self) -> Option<&CallError> {
        match self {
            Self::Request(own) => own.resolved.refusal(),
            Self::Unanswered | Self::Malformed(_) => None,
        }
    }

    fn into_refusal(self) -> Option<CallError> {
        match self {
            Self::Request(own) => own.resolved.into_refusal(),
            Self::Unanswered | Self::Malformed(_) => None,
        }
    }
}

/// Prepares a request of a batch and starts it.
fn batched(
    exchange: &Exchange<'_>,
    own: BatchRequest<'_>,
    revision: ProtocolVersion,
    notifications: mpsc::Sender<String>,
    mut log: Option<&mut CallLog>,
) -> Answer {
    let BatchRequest { request, params, resolved } = own;
    if let Some(log) = &mut log {
        log.set_method(&request.method);
    }
    let head = match era::of_batched(revision, params) {
        _ if request.method == method::INITIALIZE => {
            Err(CallError::InvalidParams("`initialize` cannot be part of a batch".to_owned()))
        }
        head => head.map_err(|refusal| refusal.error),
    };
    match head {
        Ok(head) => {
            if let Some(log) = log {
                note_request(log, &request.method, &resolved, &head);
            }
            let notifications = exchange.accept.event_stream.then_some(notifications);
            resolved.run(Call { id: request.id.clone(), meta: head.meta, notifications })
        }
        Err(error) => Answer::Ready(Box::new(CallOutcome::from(Err(error)))),
    }
}

/// Waits for an outcome, and keeps what is sent before it.
async fn outcome(answer: Answer, mut notifications: mpsc::Receiver<String>, sent: &mut PendingEvents) -> CallOutcome {
    let mut work = answer.outcome().boxed();
    loop {
        tokio::select! {
            biased;
            outcome = &mut work => {
                sent.take_rest(&mut notifications);
                return outcome;
            }
            Some(notification) = notifications.recv() => sent.push(&notification),
        }
    }
}
