//! The end of a call: its outcome as a response message, and its line in the log.

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode};
use mcp_protocol::{ProtocolVersion, RequestId, jsonrpc};
use mcp_server::{BuiltServer, CallOutcome, Invocation};

use super::{
    answers::{event_stream, json_body, translate},
    exchange::ResponseLimits,
};
use crate::{
    Body,
    authentication::OwnedChallenger,
    call_log::{CallLog, Ending, ResponseSummary},
    events::carried_bytes,
    headers::Accept,
    sse::{self, PendingEvents},
};

/// Turns an outcome into a response message, knows what it may weigh, and writes the call's line into the log.
pub(super) struct Finisher {
    pub(super) server: BuiltServer,
    pub(super) id: RequestId,
    pub(super) method: &'static str,
    pub(super) revision: ProtocolVersion,
    pub(super) limits: ResponseLimits,
    pub(super) invocation: Arc<Invocation>,
    pub(super) log: Option<CallLog>,
    /// For refusals by the handler that no status can say.
    pub(super) challenger: Option<OwnedChallenger>,
}

/// A response message, and what the log says of it.
pub(super) struct Finished {
    status: StatusCode,
    message: String,
    code: Option<i64>,
    ending: Ending,
}

impl Finisher {
    pub(super) fn finish(&self, outcome: CallOutcome) -> Finished {
        let outcome = self.refused_in_result(outcome);
        let mut ending = Ending::of(&outcome);
        let result = outcome.result.and_then(|result| {
            let message = jsonrpc::result_response(&self.id, result.as_str());
            let bytes = self.weigh(&message);
            if bytes <= self.limits.max_bytes {
                return Ok(message);
            }
            ending = Ending::too_large(bytes, self.limits.max_bytes);
            let instead = self.server.too_large(self.method, self.revision, bytes, self.limits.max_bytes)?;
            Ok(jsonrpc::result_response(&self.id, instead.as_str()))
        });
        match result {
            Ok(message) => Finished { status: StatusCode::OK, message, code: None, ending },
            Err(refusal) => {
                let (status, error) = translate(&refusal, self.revision.is_modern(), &self.invocation.request_id);
                let error = self.with_challenge(error, &refusal);
                let message = jsonrpc::error_response(Some(&self.id), &error);
                Finished { status, message, code: Some(error.code), ending }
            }
        }
    }

    pub(super) fn weigh(&self, message: &str) -> usize {
        match self.limits.streams {
            true => message.len(),
            // At most every byte is escaped: only what comes near the limit is looked at closely.
            false if message.len() < self.limits.max_bytes / 4 => message.len(),
            false => carried_bytes(&HeaderMap::new(), message) + 2048,
        }
    }

    /// JSON, unless something was sent before the result, or the client takes only a stream.
    pub(super) fn respond(self, outcome: CallOutcome, sent: PendingEvents, accept: Accept) -> Response<Body> {
        let Finished { status, message, code, ending } = self.finish(outcome);
        let is_stream = (!sent.is_empty() || accept.is_stream_only()) && status == StatusCode::OK;
        let body = match is_stream {
            false => message,
            true => {
                let last = sse::event(&message);
                sent.before(&last, self.weigh(&last))
            }
        };
        if let Some(log) = self.log {
            log.end(&ending, &ResponseSummary { status, code, bytes: body.len(), is_streamed: is_stream });
        }
        if is_stream { event_stream(Body::whole(body)) } else { json_body(status, body) }
    }

    /// The last message of a stream that has carried so many bytes before it.
    pub(super) fn finish_stream(self, outcome: CallOutcome, bytes: usize) -> String {
        let Finished { message, code, ending, .. } = self.finish(outcome);
        if let Some(log) = self.log {
            let bytes = bytes + message.len();
            log.end(&ending, &ResponseSummary { status: StatusCode::OK, code, bytes, is_streamed: true });
        }
        message
    }

    pub(super) fn finish_batched(self, outcome: CallOutcome) -> String {
        let Finished { message, code, ending, .. } = self.finish(outcome);
        if let Some(log) = self.log {
            log.end(
                &ending,
                &ResponseSummary { status: StatusCode::OK, code, bytes: message.len(), is_streamed: false },
            );
        }
        message
    }
}
