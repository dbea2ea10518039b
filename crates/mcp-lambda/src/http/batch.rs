//! Batches, which only 2025-03-26 has.

use std::collections::HashSet;

use futures_util::FutureExt;
use http::{HeaderMap, Response, StatusCode};
use mcp_protocol::{ErrorObject, MalformedMessage, Message, ProtocolVersion, jsonrpc, method};
use mcp_server::{Answer, CallError, CallOutcome};
use tokio::sync::mpsc;

use super::{
    answers::{empty, event_stream, json_body, malformed_message, not_acceptable, refuse_invalid},
    exchange::{Carrier, Exchange, NOTIFICATION_BUFFER, refusal_of},
    finisher::Finisher,
};
use crate::{
    Body, McpService,
    call_log::CallLog,
    era,
    events::carried_bytes,
    headers,
    sse::{self, Sent},
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
        if let Some(refusal) = self.refusal_of(exchange, &messages) {
            return exchange.refuse_caller(None, &refusal);
        }
        let mut ids = HashSet::new();
        let mut sent = Sent::new(exchange.carrier.max_bytes.min(MAX_BATCH_BYTES));
        let mut responses = Vec::new();
        // A batch is answered as a whole, by a URL that streams too.
        let mut carrier = Carrier { max_bytes: exchange.carrier.max_bytes.min(MAX_BATCH_BYTES), ..exchange.carrier };
        let mut has_lines = false;
        // Each is prepared when its turn comes, so that no more than one is held in memory.
        for message in messages {
            let response = match message {
                Ok(Message::Notification(_) | Message::Response) => continue,
                Err(malformed) => malformed_message(&malformed),
                Ok(Message::Request(request)) if !ids.insert(request.id.clone()) => {
                    let error = ErrorObject::new(jsonrpc::INVALID_REQUEST, "duplicate request id in batch");
                    jsonrpc::error_response(Some(&request.id), &error)
                }
                Ok(Message::Request(request)) => {
                    let mut log = exchange.note(|log| log.of_batch());
                    if let Some(log) = log.as_mut().filter(|_| has_lines) {
                        log.is_not_first();
                    }
                    has_lines |= log.is_some();
                    let (sender, notifications) = mpsc::channel(NOTIFICATION_BUFFER);
                    let answer = self.batched(exchange, &request, revision, sender, log.as_mut());
                    let outcome = outcome(answer, notifications, &mut sent).await;
                    let finisher = self.finisher(exchange, &request, revision, log);
                    Finisher { carrier, ..finisher }.finish_batched(outcome)
                }
            };
            carrier.max_bytes = carrier.max_bytes.saturating_sub(carried_bytes(&HeaderMap::new(), &response));
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

    /// Why the caller may not make the requests of a batch: one refusal for all of them. Nothing is prepared for it.
    fn refusal_of(
        &self,
        exchange: &Exchange<'_>,
        messages: &[Result<Message<'_>, MalformedMessage>],
    ) -> Option<CallError> {
        let caller = exchange.invocation.principal.as_deref();
        let refusals = messages.iter().flatten().filter_map(|message| refusal_of(&self.router, message, caller));
        refusals.reduce(CallError::together)
    }

    fn batched(
        &self,
        exchange: &Exchange<'_>,
        request: &mcp_protocol::Request<'_>,
        revision: ProtocolVersion,
        notifications: mpsc::Sender<String>,
        mut log: Option<&mut CallLog>,
    ) -> Answer {
        if let Some(log) = &mut log {
            log.asked_with(&request.method);
        }
        let head = match era::of_batched(revision, request) {
            _ if request.method == method::INITIALIZE => {
                Err(CallError::InvalidParams("`initialize` cannot be part of a batch".to_owned()))
            }
            head => head.map_err(|refusal| refusal.error),
        };
        match head {
            Ok(head) => {
                if let Some(log) = log {
                    self.note_request(log, request, &head);
                }
                let notifications = exchange.accept.event_stream.then_some(notifications);
                self.router.answer(exchange.call(request, revision, head.meta, notifications))
            }
            Err(error) => Answer::Ready(Box::new(CallOutcome::from(Err(error)))),
        }
    }
}

/// Waits for an outcome, and keeps what is sent before it.
async fn outcome(answer: Answer, mut notifications: mpsc::Receiver<String>, sent: &mut Sent) -> CallOutcome {
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
