//! Scope errors of handlers ([`HandlerError::needs_scope`](mcp_server::HandlerError::needs_scope)): a handler may need a scope that
//! depends on the arguments.
//!
//! Before any notification is sent, the response is status 403 (or 401) with a challenge, as for a scope of the item. Afterwards the
//! status is sent, so that the challenge goes into the tool result or, for other methods, into the error.

use std::sync::Arc;

use http::Response;
use mcp_protocol::{ErrorObject, method};
use mcp_server::{CallError, CallOutcome};
use serde_json::json;

use super::{
    exchange::{Exchange, log_unauthorized},
    finisher::Finisher,
    responses::ErrorCode,
};
use crate::{
    Body, McpService,
    authentication::OwnedChallenger,
    call_log::{OutcomeSummary, ResponseSummary},
};

impl McpService {
    /// A challenger that does not borrow from the request.
    pub(super) fn owned_challenger(&self, exchange: &Exchange<'_>) -> OwnedChallenger {
        OwnedChallenger {
            authenticator: Arc::clone(&self.authenticator),
            own_url: exchange.challenger.own_url.cloned(),
            endpoint: exchange.challenger.endpoint.to_owned(),
        }
    }

    /// Whether the response to a scope error has its status. A tool result carries the challenge instead after notifications, and with
    /// `MCP_CHALLENGE=result` if a token would help.
    pub(super) fn responds_with_status(
        &self,
        exchange: &Exchange<'_>,
        method: &str,
        denial: &CallError,
        has_sent: bool,
    ) -> bool {
        let in_result = has_sent || (self.config.challenges_in_result && exchange.challenger.of(denial).is_some());
        method != method::TOOLS_CALL || !in_result
    }
}

impl Finisher {
    /// The response to a scope error, with its status and challenge.
    pub(super) fn reject(self, exchange: &Exchange<'_>, outcome: &CallOutcome, denial: &CallError) -> Response<Body> {
        let response = exchange.reject_unauthorized(Some(&self.id), denial);
        if let Some(log) = self.log {
            let bytes =
                http_body::Body::size_hint(response.body()).exact().and_then(|bytes| usize::try_from(bytes).ok());
            let code = response.extensions().get().map(|ErrorCode(code)| *code);
            let summary =
                ResponseSummary { status: response.status(), code, bytes: bytes.unwrap_or(0), is_streamed: false };
            log.end(&OutcomeSummary::of(outcome), &summary);
        }
        response
    }

    /// Converts a scope error of a tool into a tool result with the challenge. Other outcomes are returned unchanged.
    pub(super) fn challenge_result_of(&self, outcome: CallOutcome) -> CallOutcome {
        let (Some(challenger), Some(denial)) = (&self.challenger, outcome.authorization_error()) else {
            return outcome;
        };
        log_unauthorized(&self.invocation, denial);
        if self.method != method::TOOLS_CALL {
            return outcome;
        }
        let challenge = challenger.challenge(&self.server, denial);
        self.server.challenged_result(denial, challenge.as_deref(), self.revision)
    }

    /// Adds the challenge to the data of an error, for methods other than `tools/call`.
    pub(super) fn with_challenge(&self, error: ErrorObject, denial: &CallError) -> ErrorObject {
        let challenger = self.challenger.as_ref();
        match challenger.and_then(|challenger| challenger.challenge(&self.server, denial)) {
            Some(challenge) => error.with_data(json!({ mcp_protocol::meta::WWW_AUTHENTICATE: [challenge] })),
            None => error,
        }
    }
}
