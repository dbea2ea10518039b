//! Batches, which only 2025-03-26 has.

use std::collections::HashSet;

use futures_util::FutureExt;
use http::{HeaderMap, Response, StatusCode};
use mcp_protocol::{ErrorObject, MalformedMessage, Message, ProtocolVersion, jsonrpc, method};
use mcp_server::{Answer, CallError, CallOutcome};
use tokio::sync::mpsc;

use super::{
    answers::{empty, event_stream, json_body, malformed_message, not_acceptable, refuse_invalid},
    exchange::{Exchange, NOTIFICATION_BUFFER},
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
        let mut refusals = Vec::new();
        let mut ids = HashSet::new();
        let mut entries = Vec::new();
        for message in messages {
            let request = match message {
                Ok(Message::Request(request)) => request,
                Ok(Message::Notification(_) | Message::Response) => continue,
                Err(malformed) => {
                    entries.push(Entry::Refused(malformed_message(&malformed)));
                    continue;
                }
            };
            if !ids.insert(request.id.clone()) {
                let error = ErrorObject::new(jsonrpc::INVALID_REQUEST, "this id is there twice in one batch");
                entries.push(Entry::Refused(jsonrpc::error_response(Some(&request.id), &error)));
                continue;
            }
            let (sender, notifications) = mpsc::channel(NOTIFICATION_BUFFER);
            // A handler does nothing before its answer is awaited.
            let mut log = exchange.note(|log| log.of_batch());
            match self.batched(exchange, &request, revision, sender, log.as_mut()) {
                Answer::Ready(outcome) if outcome.authorization_refusal().is_some() => {
                    discard(log);
                    refusals.extend(outcome.result.err());
                }
                answer => {
                    let finisher = self.finisher(exchange, &request, revision, log);
                    entries.push(Entry::Asked { answer, notifications, finisher: Box::new(finisher) });
                }
            }
        }
        if let Some(refusal) = refusals.into_iter().reduce(CallError::together) {
            for entry in entries {
                if let Entry::Asked { finisher, .. } = entry {
                    discard(finisher.log);
                }
            }
            return exchange.refuse_caller(None, &refusal);
        }

        let logs = entries.iter_mut().filter_map(|entry| match entry {
            Entry::Asked { finisher, .. } => finisher.log.as_mut(),
            Entry::Refused(_) => None,
        });
        let mut has_lines = false;
        for log in logs {
            if has_lines {
                log.is_not_first();
            }
            has_lines = true;
        }
        let mut sent = Sent::new(exchange.carrier.max_bytes);
        let mut responses = Vec::new();
        let mut carrier = exchange.carrier;
        for entry in entries {
            let response = match entry {
                Entry::Refused(response) => response,
                Entry::Asked { answer, notifications, finisher } => {
                    let outcome = outcome(answer, notifications, &mut sent).await;
                    Finisher { carrier, ..*finisher }.finish_batched(outcome)
                }
            };
            carrier.max_bytes = carrier.max_bytes.saturating_sub(carried_bytes(&HeaderMap::new(), &response));
            responses.push(response);
        }
        if has_lines {
            // One for each request that could be read.
            discard(exchange.take_log());
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

/// A message of a batch.
enum Entry {
    /// Its response: it is no request that could be answered.
    Refused(String),
    /// A request that may be answered, with the end of the way that its notifications come.
    Asked { answer: Answer, notifications: mpsc::Receiver<String>, finisher: Box<Finisher> },
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

/// For a call whose line another one is.
fn discard(log: Option<CallLog>) {
    if let Some(log) = log {
        log.discard();
    }
}
