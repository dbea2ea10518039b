//! One request while it is answered: what it brought, and what its answer may be.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, Response, StatusCode};
use mcp_protocol::{Incoming, Message, ProtocolVersion, RequestId, RequestMeta};
use mcp_server::{CallError, Invocation, Principal};
use tokio::sync::mpsc;

use super::answers::{ErrorCode, challenged, empty, refuse_invalid, refuse_without_id, reject, translate};
use crate::{
    Body,
    authentication::{AuthError, Challenger},
    call_log::{CallLog, ResponseSummary},
    era,
    headers::{self, Accept},
};

/// Notifications that may wait for the reader before the handler has to.
pub(super) const NOTIFICATION_BUFFER: usize = 16;

/// What a request brings apart from its body, and what its answer may be.
pub(super) struct Exchange<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) accept: Accept,
    pub(super) invocation: Arc<Invocation>,
    pub(super) limits: ResponseLimits,
    pub(super) challenger: Challenger<'a>,
    /// Taken by the `Finisher`.
    pub(super) log: Mutex<Option<CallLog>>,
}

/// What carries the answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResponseLimits {
    pub(super) streams: bool,
    pub(super) max_bytes: usize,
}

/// Logs that a request was refused for who makes it.
pub(super) fn log_refusal(invocation: &Invocation, refusal: &CallError) {
    log_refusal_of(&invocation.request_id, invocation.principal.as_deref(), refusal);
}

pub(super) fn log_refusal_of(request_id: &str, principal: Option<&Principal>, refusal: &CallError) {
    tracing::info!(
        request_id,
        issuer = principal.map(|principal| principal.issuer.as_str()),
        reason = %refusal,
        monotonic_counter.token_refusals = 1,
        "a request was refused for who makes it"
    );
}

impl Exchange<'_> {
    /// Adds to the log, if it is still here.
    pub(super) fn note<T>(&self, note: impl FnOnce(&mut CallLog) -> T) -> Option<T> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(note)
    }

    pub(super) fn take_log(&self) -> Option<CallLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Logs a call that was answered before a handler could be asked.
    pub(super) fn log_early_end(&self, response: &Response<Body>) {
        if let Some(log) = self.take_log() {
            // Such an answer is whole.
            let bytes =
                http_body::Body::size_hint(response.body()).exact().and_then(|bytes| usize::try_from(bytes).ok());
            let bytes = bytes.unwrap_or(0);
            let code = response.extensions().get().map(|ErrorCode(code)| *code);
            log.end_early(&ResponseSummary { status: response.status(), code, bytes, is_streamed: false });
        }
    }

    /// The way that notifications go; none if they could not be delivered.
    pub(super) fn notifications(
        &self,
        meta: &RequestMeta,
        revision: ProtocolVersion,
    ) -> (Option<mpsc::Sender<String>>, mpsc::Receiver<String>) {
        // A legacy client names its level elsewhere.
        let wants_any = meta.progress_token.is_some() || meta.log_level.is_some() || !revision.is_modern();
        let capacity = if wants_any { NOTIFICATION_BUFFER } else { 1 };
        let (sender, receiver) = mpsc::channel(capacity);
        ((self.accept.event_stream && wants_any).then_some(sender), receiver)
    }

    /// Refuses a request for who makes it.
    pub(super) fn refuse_caller(&self, id: Option<&RequestId>, refusal: &CallError) -> Response<Body> {
        log_refusal(&self.invocation, refusal);
        let (status, error) = translate(refusal, true, "");
        challenged(status, id, error, self.challenger.of(refusal))
    }

    /// Rejects a request of any method; only the id of its body is read.
    pub(super) fn reject(&self, rejected: &AuthError, message: Option<&Incoming<'_>>) -> Response<Body> {
        rejected.log(&self.invocation.request_id);
        let id = match message {
            Some(Incoming::Single(Message::Request(request))) => {
                self.note(|log| log.set_method(&request.method));
                Some(&request.id)
            }
            _ => None,
        };
        if let Some(fault) = rejected.fault() {
            self.note(|log| log.failed(fault));
        }
        reject(rejected, id, self.challenger.rejected(rejected, &self.scopes_of(message)))
    }

    /// The scopes that an anonymous caller lacks for the requests of a body.
    fn scopes_of(&self, message: Option<&Incoming<'_>>) -> Vec<String> {
        let refusal = match message {
            Some(Incoming::Single(message)) => self.refusal_of(message),
            Some(Incoming::Batch(messages)) => {
                messages.iter().flatten().filter_map(|own| self.refusal_of(own)).reduce(CallError::together)
            }
            None => None,
        };
        match refusal {
            Some(CallError::Unauthenticated { scopes }) => scopes,
            _ => Vec::new(),
        }
    }

    /// Why the caller may not make a request, whose revision was not read; `None` for what is no request.
    fn refusal_of(&self, message: &Message<'_>) -> Option<CallError> {
        let Message::Request(request) = message else {
            return None;
        };
        let (revision, params) = (ProtocolVersion::LATEST_LEGACY, era::params(request).unwrap_or_default());
        self.challenger.server.resolve(revision, &request.method, params, &self.invocation).into_refusal()
    }

    /// Notifications are accepted, and so are responses of legacy clients, though nothing waits for one over a stateless
    /// transport; a modern server makes no requests that could be answered. A version that is not known is refused.
    pub(super) fn accept_without_answer(&self, is_notification: bool) -> Response<Body> {
        let header = match headers::single(self.headers, &headers::PROTOCOL_VERSION) {
            Ok(header) => header,
            Err(error) => return refuse_without_id(&error),
        };
        match header.map(|name| (name, ProtocolVersion::parse(name))) {
            Some((requested, None)) => {
                refuse_without_id(&CallError::UnsupportedVersion { requested: requested.to_owned() })
            }
            Some((_, Some(revision))) if revision.is_modern() && !is_notification => {
                refuse_invalid(StatusCode::BAD_REQUEST, "clients send requests and notifications, not responses")
            }
            Some(_) | None => empty(StatusCode::ACCEPTED),
        }
    }
}
