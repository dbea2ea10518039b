//! The end of a call: converts its outcome into a response message, and writes its log event.

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode};
use mcp_protocol::{ProtocolVersion, RequestId, jsonrpc};
use mcp_server::{BuiltServer, CallOutcome, Invocation};

use super::{
    exchange::ResponseLimits,
    responses::{event_stream, json_body, translate},
};
use crate::{
    Body,
    authentication::OwnedChallenger,
    call_log::{CallLog, OutcomeSummary, ResponseSummary},
    events::encoded_bytes,
    headers::Accept,
    sse::{self, PendingEvents},
};

/// Converts an outcome into a response message, enforces the size limit, and writes the log event of the call.
pub(super) struct Finisher {
    pub(super) server: BuiltServer,
    pub(super) id: RequestId,
    pub(super) method: &'static str,
    pub(super) revision: ProtocolVersion,
    pub(super) limits: ResponseLimits,
    pub(super) invocation: Arc<Invocation>,
    pub(super) log: Option<CallLog>,
    /// Set when a scope error of the handler must be reported in the message, because the status is already sent or shared.
    pub(super) challenger: Option<OwnedChallenger>,
}

/// A response message, and its summary for the log.
pub(super) struct Finished {
    status: StatusCode,
    message: String,
    code: Option<i64>,
    summary: OutcomeSummary,
}

impl Finisher {
    pub(super) fn finish(&self, outcome: CallOutcome) -> Finished {
        let outcome = self.challenge_result_of(outcome);
        let mut summary = OutcomeSummary::of(&outcome);
        let result = outcome.result.and_then(|result| {
            let message = jsonrpc::result_response(&self.id, result.as_str());
            let bytes = self.encoded_size(&message);
            if bytes <= self.limits.max_bytes {
                return Ok(message);
            }
            summary = OutcomeSummary::too_large(bytes, self.limits.max_bytes);
            let instead = self.server.too_large(self.method, self.revision, bytes, self.limits.max_bytes)?;
            Ok(jsonrpc::result_response(&self.id, instead.as_str()))
        });
        match result {
            Ok(message) => Finished { status: StatusCode::OK, message, code: None, summary },
            Err(call_error) => {
                let (status, error) = translate(&call_error, self.revision.is_modern(), &self.invocation.request_id);
                let error = self.with_challenge(error, &call_error);
                let message = jsonrpc::error_response(Some(&self.id), &error);
                Finished { status, message, code: Some(error.code), summary }
            }
        }
    }

    fn encoded_size(&self, message: &str) -> usize {
        match self.limits.streams {
            true => message.len(),
            // Fast path: the size after escaping matters only near the limit.
            false if message.len() < self.limits.max_bytes / 4 => message.len(),
            false => encoded_bytes(&HeaderMap::new(), message) + 2048,
        }
    }

    /// The response as JSON, or as an event stream if there are notifications or the client accepts only a stream.
    pub(super) fn respond(self, outcome: CallOutcome, sent: PendingEvents, accept: Accept) -> Response<Body> {
        let Finished { status, message, code, summary } = self.finish(outcome);
        let is_stream = (!sent.is_empty() || accept.is_stream_only()) && status == StatusCode::OK;
        let body = match is_stream {
            false => message,
            true => {
                let last = sse::event(&message);
                sent.join_before(&last)
            }
        };
        if let Some(log) = self.log {
            log.end(&summary, &ResponseSummary { status, code, bytes: body.len(), is_streamed: is_stream });
        }
        if is_stream { event_stream(Body::whole(body)) } else { json_body(status, body) }
    }

    /// The last message of a stream, after `bytes` bytes of other messages.
    pub(super) fn finish_stream(self, outcome: CallOutcome, bytes: usize) -> String {
        let Finished { message, code, summary, .. } = self.finish(outcome);
        if let Some(log) = self.log {
            let bytes = bytes + message.len();
            log.end(&summary, &ResponseSummary { status: StatusCode::OK, code, bytes, is_streamed: true });
        }
        message
    }

    pub(super) fn finish_batched(self, outcome: CallOutcome) -> String {
        let Finished { message, code, summary, .. } = self.finish(outcome);
        if let Some(log) = self.log {
            log.end(
                &summary,
                &ResponseSummary { status: StatusCode::OK, code, bytes: message.len(), is_streamed: false },
            );
        }
        message
    }
}
