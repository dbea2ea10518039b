//! Rounds of a request: the questions that a client is asked in a result, and the call that waits for its answers.

use std::{collections::BTreeMap, time::Instant};

use mcp_protocol::{ErrorObject, ProtocolVersion, jsonrpc, meta};
use serde_json::{Value, json, value::RawValue};
use tokio::{sync::mpsc, task::AbortHandle};

use super::{
    capabilities::{self, may_ask},
    member, params_text,
};
use crate::{
    message::{Envelope, without_members},
    received,
    upstream::Line,
};

/// The parameters of a further round.
pub(super) const ROUND: [&str; 2] = ["inputResponses", "requestState"];

/// A pending request at the server.
pub(super) struct Call {
    /// As the server knows it.
    pub(super) id: Box<RawValue>,
    pub(super) progress_token: Option<Box<RawValue>>,
    pub(super) lines: mpsc::UnboundedReceiver<Line>,
    pub(super) working: AbortHandle,
}

/// A round that waits for the client's answers.
pub(super) struct Waiting {
    pub(super) asked_for: AskedFor,
    /// `inputRequests`: questions by their keys.
    pub(super) questions: BTreeMap<String, Box<RawValue>>,
    pub(super) then: Then,
    pub(super) since: Instant,
}

/// The use of the answers.
pub(super) enum Then {
    /// The server's request has that id, and the call goes on with the answer.
    Reply { call: Call, id: Box<RawValue> },
    /// The call is made again, since pages were visited.
    CallAgain,
}

/// The identity of a request in all of its rounds.
pub(super) struct AskedFor {
    pub(super) method: String,
    pub(super) params: String,
}

impl AskedFor {
    pub(super) fn of(envelope: &Envelope) -> Self {
        let params = without_members(params_text(&envelope.kind), &["_meta", ROUND[0], ROUND[1]]);
        Self { method: envelope.method().unwrap_or_default().to_owned(), params }
    }

    /// Whether it is the same, in whichever order its members are written.
    pub(super) fn is(&self, other: &Self) -> bool {
        let values = || received::read::<Value>(&self.params).ok().zip(received::read::<Value>(&other.params).ok());
        self.method == other.method
            && (self.params == other.params || values().is_some_and(|(own, others)| own == others))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.working.abort();
    }
}

impl Waiting {
    /// An `InputRequiredResult`; `state` is JSON.
    pub(super) fn result(&self, state: &str) -> String {
        let questions: Vec<String> =
            self.questions.iter().map(|(key, question)| format!("{}:{question}", json!(key))).collect();
        let questions = questions.join(",");
        format!(r#"{{"resultType":"input_required","inputRequests":{{{questions}}},"requestState":{state}}}"#)
    }
}

/// The error for a question that a request of the client does not take; `None` if it takes it.
pub(super) fn refusal_of(envelope: &Envelope, asked: &str, params: Option<&RawValue>) -> Option<ErrorObject> {
    let none = || ErrorObject::new(jsonrpc::METHOD_NOT_FOUND, "the client takes no such request");
    if !envelope.method().is_some_and(may_ask) {
        return Some(none());
    }
    let meta = envelope.params().and_then(|params| member(params, "_meta"));
    let Some(declared) = meta.and_then(|meta| member(meta, meta::CLIENT_CAPABILITIES)) else { return Some(none()) };
    match capabilities::check(declared, ProtocolVersion::LATEST, asked, params) {
        Ok(()) => None,
        Err(Some(undeclared)) if undeclared.is_mode => {
            let text = format!("the client has not declared {}", undeclared.capabilities);
            Some(ErrorObject::new(jsonrpc::INVALID_PARAMS, text))
        }
        Err(_) => Some(none()),
    }
}
