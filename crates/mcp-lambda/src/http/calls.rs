//! Requests to the endpoint: parses the body, dispatches the message, and converts its outcome into the response.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use mcp_protocol::{Incoming, Message, ProtocolVersion, method};
use mcp_server::{Call, CallError, CallOutcome, CallResponse, Resolved};
use tracing::Instrument;

use super::{
    MAX_REQUEST_BYTES,
    exchange::{Exchange, log_unauthorized},
    finisher::Finisher,
    responses::{error_response, event_stream, malformed_response, not_acceptable, reject_before_dispatch},
};
use crate::{
    Body, McpService,
    call_log::CallLog,
    era, headers,
    sse::{EventStream, PendingEvents},
};

impl McpService {
    pub(super) async fn post(
        &self,
        exchange: &Exchange<'_>,
        message: Result<Incoming<'_>, Box<Response<Body>>>,
    ) -> Response<Body> {
        let message = match message {
            // A request is authorized when its item is resolved.
            Ok(Incoming::Single(Message::Request(request))) => return self.request(exchange, &request).await,
            message => message,
        };
        if let Err(denial) = self.admit(exchange) {
            return exchange.reject_unauthorized(None, &denial);
        }
        #[cfg(all(feature = "interactive", feature = "store"))]
        {
            let single = match &message {
                Ok(Incoming::Single(message)) => Some(message),
                _ => None,
            };
            if let (Some(message), Some(questions)) = (single, self.server.questions())
                && let Some(response) = self.answer_or_cancel(exchange, questions, message).await
            {
                return response;
            }
        }
        match message {
            Ok(Incoming::Single(Message::Notification(_))) => exchange.accept_message(true),
            Ok(Incoming::Single(_)) => exchange.accept_message(false),
            Ok(Incoming::Batch(messages)) => self.batch(exchange, messages).await,
            Err(response) => *response,
        }
    }

    /// Checks the server-wide access rule.
    pub(super) fn admit(&self, exchange: &Exchange<'_>) -> Result<(), CallError> {
        self.server.admit(exchange.invocation.principal.as_deref())
    }

    async fn request(&self, exchange: &Exchange<'_>, request: &mcp_protocol::Request<'_>) -> Response<Body> {
        let params = era::params(request);
        // Malformed parameters are resolved as empty ones: the error is reported before the handler is called.
        let known = params.as_ref().copied().unwrap_or_default();
        let head = era::read_head(exchange.headers, &request.method, params).and_then(|head| {
            #[cfg(all(feature = "interactive", feature = "store"))]
            let known = super::legacy_questions::without_rounds(known, head.revision);
            let resolved = self.server.resolve(head.revision, &request.method, known, &exchange.invocation);
            if head.revision.is_modern() {
                headers::check_mirrored(exchange.headers, &request.method, &resolved)
                    .map_err(era::Rejection::modern)?;
            }
            Ok((head, resolved))
        });
        let (head, resolved) = match head {
            Ok(head) => head,
            Err(rejection) => {
                exchange.note(|log| log.set_method(&request.method));
                return match self.admit(exchange) {
                    Ok(()) => reject_before_dispatch(&rejection, &request.id),
                    Err(denial) => exchange.reject_unauthorized(Some(&request.id), &denial),
                };
            }
        };
        exchange.note(|log| log_request(log, &request.method, &resolved, &head));
        let era::Head { revision, meta } = head;
        if !exchange.accept.fits(revision) && self.admit(exchange).is_ok() {
            return not_acceptable(Some(&request.id));
        }
        #[cfg(feature = "limits")]
        if let Err(limited) = resolved.count(exchange.address).await {
            return self.reject_limited(exchange, request, revision, &limited);
        }
        #[cfg(all(feature = "interactive", feature = "store"))]
        if let Some(session) = self.asked_session(exchange, revision, &resolved).await {
            return self.run_and_ask(exchange, request, resolved, meta, &session).await;
        }
        #[cfg(feature = "interactive")]
        resolved.load_state_key().await;
        let (notifications, mut receiver) = exchange.notifications(&meta, revision);
        let mut work = match resolved.run(Call { id: request.id.clone(), meta, notifications }) {
            CallResponse::Ready(outcome) => {
                let outcome = match outcome.authorization_error() {
                    None => *outcome,
                    Some(denial) => match self.challenge_in_result(exchange, request, denial, revision) {
                        Some(result) => result,
                        None => return exchange.reject_unauthorized(Some(&request.id), denial),
                    },
                };
                let finisher = self.finisher(exchange, request, revision, exchange.take_log());
                let response =
                    finisher.respond(outcome, PendingEvents::new(exchange.limits.max_bytes), exchange.accept);
                #[cfg(all(feature = "interactive", feature = "store"))]
                let response = self.with_session_id(exchange, request, response);
                return response;
            }
            CallResponse::Pending(work) => work,
        };
        let mut finisher = self.finisher(exchange, request, revision, exchange.take_log());

        let mut sent = PendingEvents::new(exchange.limits.max_bytes);
        loop {
            tokio::select! {
                biased;
                outcome = &mut work => {
                    sent.drain(&mut receiver);
                    if let Some(denial) = outcome.authorization_error() {
                        if self.responds_with_status(exchange, &request.method, denial, !sent.is_empty()) {
                            return finisher.reject(exchange, &outcome, denial);
                        }
                        finisher.challenger = Some(self.owned_challenger(exchange));
                    }
                    return finisher.respond(outcome, sent, exchange.accept);
                }
                Some(notification) = receiver.recv() => {
                    if exchange.limits.streams {
                        finisher.challenger = Some(self.owned_challenger(exchange));
                        let finish = Box::new(move |outcome, sent_bytes| finisher.finish_stream(outcome, sent_bytes));
                        // The handler continues while the body is polled.
                        let work = Box::pin(work.in_current_span());
                        return event_stream(Body::stream(EventStream::new(notification, receiver, work, finish)));
                    }
                    sent.push(&notification);
                }
            }
        }
    }

    /// An authorization error as a tool result (`MCP_CHALLENGE=result`); `None` if not configured, or if no token would help.
    fn challenge_in_result(
        &self,
        exchange: &Exchange<'_>,
        request: &mcp_protocol::Request<'_>,
        denial: &CallError,
        revision: ProtocolVersion,
    ) -> Option<CallOutcome> {
        if !self.config.challenges_in_result || request.method != method::TOOLS_CALL {
            return None;
        }
        let challenge = exchange.challenger.of(denial)?;
        log_unauthorized(&exchange.invocation, denial);
        Some(self.server.challenged_result(denial, Some(&challenge), revision))
    }

    pub(super) fn finisher(
        &self,
        exchange: &Exchange<'_>,
        request: &mcp_protocol::Request<'_>,
        revision: ProtocolVersion,
        log: Option<CallLog>,
    ) -> Finisher {
        Finisher {
            server: self.server.clone(),
            id: request.id.clone(),
            method: method::known(&request.method).unwrap_or_default(),
            revision,
            limits: exchange.limits,
            invocation: Arc::clone(&exchange.invocation),
            log,
            challenger: None,
        }
    }
}

/// Sets the method and the item in the log event.
pub(super) fn log_request(log: &mut CallLog, method: &str, resolved: &Resolved<'_>, head: &era::Head) {
    log.set_method(method);
    log.set_item(resolved.registered_name(), head.revision, &head.meta);
}

/// Parses a body, or builds the error response, with the request's id if the body can be parsed.
pub(super) fn parse_body<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Incoming<'a>, Box<Response<Body>>> {
    let message = Incoming::parse(body);
    let id = || match &message {
        Ok(Incoming::Single(Message::Request(request))) => Some(&request.id),
        Ok(_) => None,
        Err(malformed) => malformed.id.as_ref(),
    };
    let unsupported = |message: &str| Box::new(error_response(StatusCode::UNSUPPORTED_MEDIA_TYPE, id(), message));
    if body.len() > MAX_REQUEST_BYTES {
        let message = format!("the body has {} bytes; the limit is {MAX_REQUEST_BYTES}", body.len());
        return Err(Box::new(error_response(StatusCode::PAYLOAD_TOO_LARGE, id(), message)));
    }
    if headers::is_encoded(headers) {
        let mut response =
            unsupported("the body must be sent as it is, without Content-Encoding: compression is not supported");
        // RFC 9110, section 12.5.3: the encodings that requests may use.
        response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        return Err(response);
    }
    if !headers::is_json(headers.get(header::CONTENT_TYPE)) {
        return Err(unsupported("the body must be sent as application/json"));
    }
    message.map_err(|malformed| Box::new(malformed_response(&malformed)))
}
