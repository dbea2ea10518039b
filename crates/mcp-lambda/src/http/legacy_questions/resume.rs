//! GET with `Last-Event-ID`: resumes the stream of a call.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use http::{Response, StatusCode, request::Parts};
use mcp_protocol::{ErrorObject, Request, RequestId, RequestMeta, RequestParams, json, jsonrpc};
use mcp_server::{
    CallError, Invocation,
    legacy::{LegacyQuestions, NewRound, Replay, Resumption, RoundOutcome, StreamEvent},
    store::StoreError,
};
use tracing::Instrument;

use super::{
    Exchange, POLL_STORE_TIME, REVISION, STORE_TIME, end_log, item_params, log_store_failed,
    notifications::{Notifications, rendered},
    result_that_asks, store_failed, timed,
};
use crate::{
    Body, McpService, Transport,
    authentication::Challenger,
    call_log::CallLog,
    era, headers,
    http::{
        admission::Admitted,
        calls::log_request,
        responses::{call_error_response, event_stream, invalid_request, not_acceptable},
    },
    sse::{self, PendingEvents},
};

/// How long a claim outlives the deadline of its environment, and how long it lasts without a deadline.
const LEASE_MARGIN: Duration = Duration::from_secs(5);
const LONGEST_LEASE: Duration = Duration::from_secs(900);

impl McpService {
    /// GET with `Last-Event-ID`.
    pub(in crate::http) async fn resume(
        &self,
        parts: &Parts,
        transport: Option<&Transport>,
        challenger: Challenger<'_>,
        invocation: Invocation,
    ) -> Response<Body> {
        let admission = self.admitted(Instant::now(), parts, None, transport, challenger, invocation);
        let Admitted { exchange, span, rejection } = admission.await;
        let response = match rejection {
            Some(rejection) => *rejection,
            None => self.continue_stream(&exchange).instrument(span).await,
        };
        exchange.log_before_dispatch(&response);
        response
    }

    async fn continue_stream(&self, exchange: &Exchange<'_>) -> Response<Body> {
        let invalid = || match self.admit(exchange) {
            Err(denial) => exchange.reject_unauthorized(None, &denial),
            Ok(()) => {
                let message = "`Last-Event-ID` was not issued to this caller by this server";
                invalid_request(StatusCode::BAD_REQUEST, message)
            }
        };
        let last_event_id = match headers::single(exchange.headers, &headers::LAST_EVENT_ID) {
            Ok(id) => id.unwrap_or_default(),
            Err(error) => return call_error_response(&error),
        };
        let (caller, now) = (exchange.invocation.principal.as_deref(), exchange.invocation.received);
        let Some(questions) = self.server.questions() else {
            return invalid();
        };
        let Some(event) = questions.open_event(caller, last_event_id).await else {
            return invalid();
        };
        let (id, method) = (event.id().clone(), event.method().to_owned());
        let params = item_params(&method, event.item());
        let params = RequestParams::read(params.as_deref()).unwrap_or_default();
        let resolved = self.server.resolve(REVISION, &method, params, &exchange.invocation);
        let head = era::Head { revision: REVISION, meta: RequestMeta::default() };
        exchange.note(|log| log_request(log, &method, &resolved, &head));
        if let Some(denial) = resolved.authorization_error() {
            return exchange.reject_unauthorized(Some(&id), denial);
        }
        if !exchange.accept.event_stream {
            return not_acceptable(Some(&id));
        }
        #[cfg(feature = "limits")]
        if let Err(limited) = resolved.count_continuation().await {
            return exchange.reject_continuation(&limited, Some(&id));
        }
        let left = exchange.invocation.deadline.map(|end| end.saturating_duration_since(Instant::now()));
        let lease = left.map_or(LONGEST_LEASE, |left| (left + LEASE_MARGIN).min(LONGEST_LEASE));
        let polling = timed(questions, exchange, POLL_STORE_TIME);
        let resumed = polling.resume(caller, event, resolved.is_repeatable(), lease, now).await;
        let (resumed, mut notifications) = match resumed {
            Ok(Resumption::Run(replay)) => {
                let (outcome, sent) = self.replay(exchange, questions, &method, &replay).await;
                let finishing = timed(questions, exchange, STORE_TIME);
                (finishing.finish(caller, &replay, outcome, now).await, Some(sent))
            }
            resumed => (resumed, None),
        };
        let last = match resumed {
            Ok(Resumption::Waiting(events)) => waiting(exchange, &events),
            Ok(Resumption::Questions(events)) => rendered(&events),
            Ok(Resumption::Response(message)) => sse::event(&message),
            Ok(Resumption::Ended(reason)) => sse::event(&ended(&id, reason)),
            Ok(Resumption::Run(_)) => sse::event(&ended(&id, "the call could not be resumed")),
            Err(error) => {
                // An error status would end the call: clients come back twice after one. The outcome of a handler is not stored, and
                // neither are its notifications sent.
                notifications = None;
                let event = questions.open_event(caller, last_event_id).await.filter(|_| is_temporary(&error));
                let Some(events) = event.and_then(|event| questions.poll_again(caller, event, now)) else {
                    return store_failed(&error, &exchange.invocation, Some(&id));
                };
                log_store_failed(&error, &exchange.invocation);
                waiting(exchange, &events)
            }
        };
        event_stream(Body::whole(match notifications {
            Some(sent) => sent.join_before(&last),
            None => last,
        }))
    }

    /// Runs the handler of a round whose answers are complete.
    async fn replay(
        &self,
        exchange: &Exchange<'_>,
        questions: &LegacyQuestions,
        method: &str,
        replay: &Replay,
    ) -> (RoundOutcome, PendingEvents) {
        let request = Request { id: replay.id().clone(), method: Cow::Borrowed(method), params: replay.params() };
        let own = RequestParams::read(request.params).unwrap_or_default();
        let meta = own.meta.and_then(|meta| era::read_meta(meta).ok()).unwrap_or_default();
        let meta = RequestMeta {
            protocol_version: None,
            client_capabilities: Some(replay.capabilities()),
            client_info: None,
            log_level: None,
            ..meta
        };
        let progress_token = meta.progress_token.clone();
        let params =
            RequestParams { input_responses: Some(replay.responses()), request_state: Some(replay.state()), ..own };
        let resolved = self.server.resolve(REVISION, method, params, &exchange.invocation);
        resolved.load_state_key().await;
        let item = resolved.name().unwrap_or_default().to_owned();
        let mut sent = Notifications::new(exchange, Some(replay));
        let failed = |reason: String| self.server.failed(method, REVISION, reason);
        let outcome = match replay.client_error() {
            Some(error) => failed(format!("the client could not answer the question: {}", json::shortened(error))),
            None => sent.run(exchange, resolved, request.id.clone(), meta).await,
        };
        let outcome = match outcome.result {
            Err(CallError::RequestState) => {
                failed("the question expired, or the server was updated: call again".into())
            }
            _ => outcome,
        };
        let mut finisher = self.finisher(exchange, &request, REVISION, exchange.take_log());
        finisher.limits.max_bytes = finisher.limits.max_bytes.min(LegacyQuestions::MAX_OUTCOME_BYTES);
        if outcome.authorization_error().is_some() {
            finisher.challenger = Some(self.owned_challenger(exchange));
        }
        let Some(result) = result_that_asks(&outcome) else {
            return (RoundOutcome::Response(finisher.finish_batched(outcome)), sent.events);
        };
        let new = NewRound {
            id: &request.id,
            method,
            item: &item,
            params: request.params,
            progress_token: progress_token.as_ref(),
            result,
            logs: sent.logs,
            progress: sent.progress,
        };
        let (caller, now) = (exchange.invocation.principal.as_deref(), exchange.invocation.received);
        match timed(questions, exchange, STORE_TIME).ask_again(caller, replay, new, now).await {
            Ok(round) => {
                end_log(finisher.log, &outcome, 0);
                (RoundOutcome::Asked(Box::new(round)), sent.events)
            }
            Err(error) => {
                let outcome = self.cannot_ask(method, error);
                (RoundOutcome::Response(finisher.finish_batched(outcome)), sent.events)
            }
        }
    }
}

/// The body of a poll whose call waits. It is not logged: a question that is open for two minutes would be 65 log events.
fn waiting(exchange: &Exchange<'_>, events: &[StreamEvent]) -> String {
    if let Some(log) = exchange.take_log() {
        CallLog::discard(log);
    }
    rendered(events)
}

/// Whether the store may work again when the client comes back.
fn is_temporary(error: &StoreError) -> bool {
    use StoreError::{Full, OutcomeUnknown, Unavailable, UnknownKey};
    matches!(error, Unavailable(_) | OutcomeUnknown(_) | Full | UnknownKey)
}

fn ended(id: &RequestId, reason: &str) -> String {
    jsonrpc::error_response(Some(id), &ErrorObject::new(jsonrpc::INTERNAL_ERROR, reason))
}
