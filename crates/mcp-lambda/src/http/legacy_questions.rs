//! Questions to clients of 2025-11-25 ([`mcp_server::legacy`]): the session id of `initialize`, the event stream that asks, POSTs of
//! answers and of cancellations, and GETs that resume the stream.
//!
//! Every body here is complete, in both invoke modes: no invocation waits for an answer, and a handler runs to its end even if its
//! client disconnects.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use mcp_protocol::{
    ClientCapabilities, Message, ProtocolVersion, Request, RequestId, RequestMeta, RequestParams,
    json::{self, Budget},
    method,
};
use mcp_server::{
    CallOutcome, Invocation, Resolved, ResultKind,
    legacy::{AskError, LegacyQuestions, LegacySession, NewRound},
    store::StoreError,
};
use serde::Deserialize;
use serde_json::{json, value::RawValue, value::to_raw_value};
use tokio::time::Instant;

use super::{
    exchange::Exchange,
    responses::{empty, error_response, event_stream, invalid_request},
};
use crate::{
    Body, McpService,
    call_log::{CallLog, OutcomeSummary, ResponseSummary},
    headers,
};

mod notifications;
mod resume;

use notifications::{Notifications, rendered};

/// The only revision whose clients resume streams in this way.
const REVISION: ProtocolVersion = ProtocolVersion::V2025_11_25;
/// How long a poll waits for the store. Its client comes back.
const POLL_STORE_TIME: Duration = Duration::from_secs(3);
/// How long questions, an answer, a cancellation or an outcome wait for the store. No client sends them again.
const STORE_TIME: Duration = Duration::from_secs(10);
/// Time to send the response, before the platform's deadline. A handler may have run until half a second before it.
const SEND_RESERVE: Duration = Duration::from_millis(200);
/// `Retry-After`, in seconds, if the store fails.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");
/// The memory that the capabilities of `initialize` may take.
const INITIALIZE_BUDGET: Budget = Budget::memory(256 * 1024);

/// Removes the members of multi round-trip requests, which legacy revisions do not have.
pub(super) fn without_rounds(params: RequestParams<'_>, revision: ProtocolVersion) -> RequestParams<'_> {
    if revision.is_modern() { params } else { RequestParams { input_responses: None, request_state: None, ..params } }
}

impl McpService {
    /// The session of a request whose handler may ask; `None` if its client cannot be asked. An id that is missing or does not open
    /// is ignored: clients do not initialize anew.
    pub(super) async fn asked_session(
        &self,
        exchange: &Exchange<'_>,
        revision: ProtocolVersion,
        resolved: &Resolved<'_>,
    ) -> Option<LegacySession> {
        let questions = self.server.questions().filter(|_| revision == REVISION && exchange.accept.event_stream)?;
        if resolved.is_interactive() { session_of(questions, exchange).await } else { None }
    }

    /// Adds the session id to the response to `initialize`.
    pub(super) fn with_session_id(
        &self,
        exchange: &Exchange<'_>,
        request: &Request<'_>,
        mut response: Response<Body>,
    ) -> Response<Body> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Initialize {
            protocol_version: String,
            #[serde(default)]
            capabilities: ClientCapabilities,
        }
        let Some(questions) = self.server.questions().filter(|_| request.method == method::INITIALIZE) else {
            return response;
        };
        let params = request.params.and_then(|raw| json::read::<Initialize>(raw.get(), INITIALIZE_BUDGET).ok());
        let declared = params.filter(|params| {
            let requested = ProtocolVersion::parse(&params.protocol_version).filter(|version| !version.is_modern());
            requested.unwrap_or(ProtocolVersion::LATEST_LEGACY) == REVISION
        });
        let id = declared.and_then(|params| questions.session_id(&params.capabilities, exchange.invocation.address));
        if let Some(Ok(id)) = id.map(HeaderValue::try_from) {
            response.headers_mut().insert(&headers::SESSION_ID, id);
        }
        response
    }

    /// Runs a handler that may ask. Its notifications are sent with its result or its questions.
    pub(super) async fn run_and_ask(
        &self,
        exchange: &Exchange<'_>,
        request: &Request<'_>,
        resolved: Resolved<'_>,
        mut meta: RequestMeta,
        session: &LegacySession,
    ) -> Response<Body> {
        let (item, params) = (resolved.name().unwrap_or_default().to_owned(), request.params);
        let progress_token = meta.progress_token.clone();
        meta.client_capabilities = Some(session.capabilities());
        let mut sent = Notifications::new(exchange, None);
        let outcome = sent.run(exchange, resolved, request.id.clone(), meta).await;
        let mut finisher = self.finisher(exchange, request, REVISION, exchange.take_log());
        if let Some(denial) = outcome.authorization_error() {
            if self.responds_with_status(exchange, &request.method, denial, !sent.events.is_empty()) {
                return finisher.reject(exchange, &outcome, denial);
            }
            finisher.challenger = Some(self.owned_challenger(exchange));
        }
        let (Some(questions), Some(result)) = (self.server.questions(), result_that_asks(&outcome)) else {
            return finisher.respond(outcome, sent.events, exchange.accept);
        };
        let (caller, now) = (exchange.invocation.principal.as_deref(), exchange.invocation.received);
        let new = NewRound {
            id: &request.id,
            method: &request.method,
            item: &item,
            params,
            progress_token: progress_token.as_ref(),
            result,
            logs: sent.logs,
            progress: sent.progress,
        };
        let asked = timed(questions, exchange, STORE_TIME).ask(caller, session, new, now).await;
        match asked.and_then(|round| questions.events(caller, &round).ok_or(AskError::Sealing)) {
            Ok(events) => {
                let (first, rest) = events.split_at(events.len().min(1));
                let rest = rendered(rest);
                let body = rendered(first) + &sent.events.join_before(&rest);
                end_log(finisher.log, &outcome, body.len());
                event_stream(Body::whole(body))
            }
            Err(error) => {
                let outcome = self.cannot_ask(&request.method, error);
                finisher.respond(outcome, sent.events, exchange.accept)
            }
        }
    }

    /// Handles a response to a question, or `notifications/cancelled`; `None` for another message, or if its protocol version is
    /// another one.
    pub(super) async fn answer_or_cancel(
        &self,
        exchange: &Exchange<'_>,
        questions: &LegacyQuestions,
        message: &Message<'_>,
    ) -> Option<Response<Body>> {
        let version = headers::single(exchange.headers, &headers::PROTOCOL_VERSION).ok()?;
        if version.is_some_and(|version| version != REVISION.as_str()) {
            return None;
        }
        let (caller, now) = (exchange.invocation.principal.as_deref(), exchange.invocation.received);
        match message {
            Message::Response(response) => Some(self.answer(exchange, questions, response).await),
            Message::Notification(notification) if notification.method == method::NOTIFICATIONS_CANCELLED => {
                // Other callers never reach the store: it may be asleep.
                if !self.server.may_be_asked(caller) {
                    return None;
                }
                let id = cancelled_id(notification.params?)?;
                let session = session_of(questions, exchange).await?;
                #[cfg(feature = "limits")]
                if let Err(limited) = self.item(exchange, method::PING, None).count_continuation().await {
                    return Some(exchange.reject_continuation(&limited, None));
                }
                match timed(questions, exchange, STORE_TIME).cancel(caller, &session, &id, now).await {
                    Ok(()) => None,
                    Err(error) => Some(store_failed(&error, &exchange.invocation, None)),
                }
            }
            Message::Notification(_) | Message::Request(_) => None,
        }
    }

    async fn answer(
        &self,
        exchange: &Exchange<'_>,
        questions: &LegacyQuestions,
        response: &mcp_protocol::Response<'_>,
    ) -> Response<Body> {
        let invalid = || {
            let message =
                "the response belongs to no open question of this caller: it was answered too late or elsewhere";
            invalid_request(StatusCode::BAD_REQUEST, message)
        };
        let (caller, now) = (exchange.invocation.principal.as_deref(), exchange.invocation.received);
        let Some(RequestId::String(id)) = &response.id else {
            return invalid();
        };
        let Some(question) = questions.open_question(caller, id, now).await else {
            return invalid();
        };
        let params = item_params(question.method(), question.item());
        let resolved = self.item(exchange, question.method(), params.as_deref());
        if let Some(denial) = resolved.authorization_error() {
            return exchange.reject_unauthorized(None, denial);
        }
        #[cfg(feature = "limits")]
        if let Err(limited) = resolved.count_continuation().await {
            return exchange.reject_continuation(&limited, None);
        }
        let answer = match (response.result, response.error) {
            (Some(result), _) => format!(r#"{{"result":{result}}}"#),
            (None, Some(error)) => format!(r#"{{"error":{error}}}"#),
            (None, None) => return invalid(),
        };
        if answer.len() > LegacyQuestions::MAX_ANSWER_BYTES {
            let message = format!("an answer may have at most {} bytes", LegacyQuestions::MAX_ANSWER_BYTES);
            return error_response(StatusCode::PAYLOAD_TOO_LARGE, None, message);
        }
        match timed(questions, exchange, STORE_TIME).answer(caller, &question, &answer).await {
            Ok(()) => empty(StatusCode::ACCEPTED),
            Err(error) => store_failed(&error, &exchange.invocation, None),
        }
    }

    /// The item of a call, for its access rule and the limits.
    fn item<'a>(&'a self, exchange: &Exchange<'_>, method: &str, params: Option<&'a RawValue>) -> Resolved<'a> {
        let params = RequestParams::read(params).unwrap_or_default();
        self.server.resolve(REVISION, method, params, &exchange.invocation)
    }

    /// The outcome of a call whose question cannot be sent.
    fn cannot_ask(&self, method: &str, error: AskError) -> CallOutcome {
        match error {
            AskError::TooManyOpen | AskError::IdInUse | AskError::TooLarge => {
                self.server.failed(method, REVISION, error.to_string())
            }
            error => {
                let text = "The question cannot be sent at the moment: try again later.".to_owned();
                let outcome = self.server.failed(method, REVISION, text);
                CallOutcome { fault: Some(error.into()), kind: ResultKind::Unavailable, ..outcome }
            }
        }
    }
}

/// The result of a handler that asks.
fn result_that_asks(outcome: &CallOutcome) -> Option<&str> {
    let result = outcome.result.as_ref().ok().filter(|_| outcome.kind == ResultKind::InputRequired)?;
    Some(result.as_str())
}

async fn session_of(questions: &LegacyQuestions, exchange: &Exchange<'_>) -> Option<LegacySession> {
    let id = headers::single(exchange.headers, &headers::SESSION_ID).ok()??;
    questions.open_session(id).await
}

fn cancelled_id(params: &RawValue) -> Option<RequestId> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Cancelled {
        request_id: RequestId,
    }
    json::borrow::<Cancelled>(params.get()).ok().map(|cancelled| cancelled.request_id)
}

/// The parameters that name an item, for its access rule.
fn item_params(method: &str, item: &str) -> Option<Box<RawValue>> {
    let member = if method == method::RESOURCES_READ { "uri" } else { "name" };
    to_raw_value(&json!({ member: item })).ok()
}

fn end_log(log: Option<CallLog>, outcome: &CallOutcome, bytes: usize) {
    if let Some(log) = log {
        let response = ResponseSummary { status: StatusCode::OK, code: None, bytes, is_streamed: true };
        log.end(&OutcomeSummary::of(outcome), &response);
    }
}

/// The questions, whose store has this time, but ends before the platform's deadline.
fn timed(questions: &LegacyQuestions, exchange: &Exchange<'_>, time: Duration) -> LegacyQuestions {
    let end = Instant::now() + time;
    let deadline = exchange.invocation.deadline.map(|end| end.checked_sub(SEND_RESERVE).unwrap_or(end));
    questions.until(deadline.map_or(end, |deadline| end.min(deadline.into())))
}

/// The response when the store fails.
fn store_failed(error: &StoreError, invocation: &Invocation, id: Option<&RequestId>) -> Response<Body> {
    log_store_failed(error, invocation);
    let message = "the question cannot be continued at the moment: try again";
    let mut response = error_response(StatusCode::SERVICE_UNAVAILABLE, id, message);
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    response
}

fn log_store_failed(error: &StoreError, invocation: &Invocation) {
    let reason = mcp_server::error_chain(error);
    tracing::warn!(request_id = invocation.request_id, error = reason, "the store of open questions failed");
}
