//! The state of one HTTP request, and the limits of its response.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, Response, StatusCode};
use mcp_protocol::{Incoming, Message, ProtocolVersion, RequestId, RequestMeta};
use mcp_server::{CallError, Invocation, Principal};
use tokio::sync::mpsc;

use super::responses::{
    ErrorCode, auth_error_response, call_error_response, challenged, empty, invalid_request, translate,
};
use crate::{
    Body,
    authentication::{AuthError, Challenger},
    call_log::{CallLog, ResponseSummary},
    era,
    headers::{self, Accept},
    logs::REJECTION,
};

/// The capacity of the notification channel. A handler waits when it is full.
pub(super) const NOTIFICATION_BUFFER: usize = 16;

/// The properties of a request apart from its body, and the limits of its response.
pub(super) struct Exchange<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) accept: Accept,
    pub(super) invocation: Arc<Invocation>,
    pub(super) limits: ResponseLimits,
    pub(super) challenger: Challenger<'a>,
    /// The network address of the caller.
    #[cfg(feature = "limits")]
    pub(super) address: Option<std::net::IpAddr>,
    /// Taken by the `Finisher`.
    pub(super) log: Mutex<Option<CallLog>>,
}

/// The limits of a response: whether it may be streamed, and its size.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResponseLimits {
    pub(super) streams: bool,
    pub(super) max_bytes: usize,
}

/// Logs an authorization error.
pub(super) fn log_unauthorized(invocation: &Invocation, denial: &CallError) {
    log_unauthorized_of(&invocation.request_id, invocation.principal.as_deref(), denial);
}

pub(super) fn log_unauthorized_of(request_id: &str, principal: Option<&Principal>, denial: &CallError) {
    tracing::info!(
        name: REJECTION,
        request_id,
        issuer = principal.map(|principal| principal.issuer.as_str()),
        reason = %denial,
        monotonic_counter.token_refusals = 1,
        "request rejected: caller not authorized"
    );
}

impl Exchange<'_> {
    /// Applies `note` to the log event, unless it was taken.
    pub(super) fn note<T>(&self, note: impl FnOnce(&mut CallLog) -> T) -> Option<T> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(note)
    }

    pub(super) fn take_log(&self) -> Option<CallLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Writes the log event of a request that was not dispatched.
    pub(super) fn log_before_dispatch(&self, response: &Response<Body>) {
        if let Some(log) = self.take_log() {
            // These responses are never streamed.
            let bytes =
                http_body::Body::size_hint(response.body()).exact().and_then(|bytes| usize::try_from(bytes).ok());
            let bytes = bytes.unwrap_or(0);
            let code = response.extensions().get().map(|ErrorCode(code)| *code);
            log.end_before_dispatch(&ResponseSummary { status: response.status(), code, bytes, is_streamed: false });
        }
    }

    /// The channel of notifications; without a sender if the client cannot receive any.
    pub(super) fn notifications(
        &self,
        meta: &RequestMeta,
        revision: ProtocolVersion,
    ) -> (Option<mpsc::Sender<String>>, mpsc::Receiver<String>) {
        // A legacy client sets the log level with `logging/setLevel`, not in `_meta`.
        let wants_any = meta.progress_token.is_some() || meta.log_level.is_some() || !revision.is_modern();
        let capacity = if wants_any { NOTIFICATION_BUFFER } else { 1 };
        let (sender, receiver) = mpsc::channel(capacity);
        ((self.accept.event_stream && wants_any).then_some(sender), receiver)
    }

    /// The response to an authorization error, which is logged.
    pub(super) fn reject_unauthorized(&self, id: Option<&RequestId>, denial: &CallError) -> Response<Body> {
        log_unauthorized(&self.invocation, denial);
        let (status, error) = translate(denial, true, "");
        challenged(status, id, error, self.challenger.of(denial))
    }

    /// The response to failed authentication, which is logged. It has the request's id.
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
            self.note(|log| log.set_fault(fault));
        }
        auth_error_response(rejected, id, self.challenger.rejected(rejected, &self.missing_scopes(message)))
    }

    /// The scopes that the requests of a body need and an anonymous caller lacks.
    fn missing_scopes(&self, message: Option<&Incoming<'_>>) -> Vec<String> {
        let denial = match message {
            Some(Incoming::Single(message)) => self.authorization_error(message),
            Some(Incoming::Batch(messages)) => {
                messages.iter().flatten().filter_map(|own| self.authorization_error(own)).reduce(CallError::combine)
            }
            None => None,
        };
        match denial {
            Some(CallError::Unauthenticated { scopes }) => scopes,
            _ => Vec::new(),
        }
    }

    /// The authorization error of a request; `None` if it is authorized, or if the message is not a request. The protocol version does
    /// not matter here.
    fn authorization_error(&self, message: &Message<'_>) -> Option<CallError> {
        let Message::Request(request) = message else {
            return None;
        };
        let (revision, params) = (ProtocolVersion::LATEST_LEGACY, era::params(request).unwrap_or_default());
        self.challenger.server.resolve(revision, &request.method, params, &self.invocation).into_authorization_error()
    }

    /// The response to a notification or a response: status 202. Responses are accepted from legacy clients only, and ignored, because
    /// the transport is stateless. An unsupported protocol version is rejected.
    pub(super) fn accept_message(&self, is_notification: bool) -> Response<Body> {
        let header = match headers::single(self.headers, &headers::PROTOCOL_VERSION) {
            Ok(header) => header,
            Err(error) => return call_error_response(&error),
        };
        match header.map(|name| (name, ProtocolVersion::parse(name))) {
            Some((requested, None)) => {
                call_error_response(&CallError::UnsupportedVersion { requested: requested.to_owned() })
            }
            Some((_, Some(revision))) if revision.is_modern() && !is_notification => {
                invalid_request(StatusCode::BAD_REQUEST, "clients send requests and notifications, not responses")
            }
            Some(_) | None => empty(StatusCode::ACCEPTED),
        }
    }
}
