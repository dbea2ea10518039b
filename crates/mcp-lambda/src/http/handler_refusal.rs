//! Refusals by handlers, which need a scope that depends on the arguments.
//!
//! As long as nothing was sent, the answer is that of any other refusal: a status with a challenge. Later there is no status to
//! set: the challenge goes into the result of a tool, and into the error of anything else.

use std::sync::Arc;

use http::Response;
use mcp_protocol::{ErrorObject, method};
use mcp_server::{CallError, CallOutcome};
use serde_json::json;

use super::{
    answers::ErrorCode,
    exchange::{Exchange, log_refusal},
    finisher::Finisher,
};
use crate::{
    Body, McpService,
    authentication::OwnedChallenger,
    call_log::{Ending, ResponseSummary},
};

impl McpService {
    /// What challenges callers after their request is gone.
    pub(super) fn owned_challenger(&self, exchange: &Exchange<'_>) -> OwnedChallenger {
        OwnedChallenger {
            authenticator: Arc::clone(&self.authenticator),
            own_url: exchange.challenger.own_url.cloned(),
            endpoint: exchange.challenger.endpoint.to_owned(),
        }
    }

    /// Whether a refusal by a handler is answered with a status. A tool's result can say it, too: after notifications, and
    /// where that is configured and a token would help.
    pub(super) fn refuses_by_status(
        &self,
        exchange: &Exchange<'_>,
        method: &str,
        refusal: &CallError,
        has_sent: bool,
    ) -> bool {
        let in_result = has_sent || (self.config.challenges_in_result && exchange.challenger.of(refusal).is_some());
        method != method::TOOLS_CALL || !in_result
    }
}

impl Finisher {
    /// Answers a refusal by a handler with its status.
    pub(super) fn refuse(self, exchange: &Exchange<'_>, outcome: &CallOutcome, refusal: &CallError) -> Response<Body> {
        let response = exchange.refuse_caller(Some(&self.id), refusal);
        if let Some(log) = self.log {
            let bytes =
                http_body::Body::size_hint(response.body()).exact().and_then(|bytes| usize::try_from(bytes).ok());
            let code = response.extensions().get().map(|ErrorCode(code)| *code);
            let told =
                ResponseSummary { status: response.status(), code, bytes: bytes.unwrap_or(0), is_streamed: false };
            log.end(&Ending::of(outcome), &told);
        }
        response
    }

    /// A refusal by a handler as the result of a tool, with its challenge; any other outcome as it is.
    pub(super) fn refused_in_result(&self, outcome: CallOutcome) -> CallOutcome {
        let (Some(challenger), Some(refusal)) = (&self.challenger, outcome.authorization_refusal()) else {
            return outcome;
        };
        log_refusal(&self.invocation, refusal);
        if self.method != method::TOOLS_CALL {
            return outcome;
        }
        let challenge = challenger.challenge(&self.server, refusal);
        self.server.challenged_result(refusal, challenge.as_deref(), self.revision)
    }

    /// Adds its challenge to the error of what has no result to put it into.
    pub(super) fn with_challenge(&self, error: ErrorObject, refusal: &CallError) -> ErrorObject {
        let challenger = self.challenger.as_ref();
        match challenger.and_then(|challenger| challenger.challenge(&self.server, refusal)) {
            Some(challenge) => error.with_data(json!({ mcp_protocol::meta::WWW_AUTHENTICATE: [challenge] })),
            None => error,
        }
    }
}
