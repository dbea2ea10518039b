//! One round of an interactive request: open questions, and the end of the round.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mcp_protocol::{
    ClientCapabilities, ElicitRequestParams, IncludeContext, InputRequest, InputRequests, JsonObject, lookup,
};
use serde_json::{json, value::RawValue};
use tokio::sync::Notify;

use super::request_state::{Question, RequestState};
use crate::{BoxError, CallError};

/// Maximum number of questions of one request.
pub(crate) const MAX_QUESTIONS: u32 = 100;

/// One run of an interactive handler: questions and answers so far.
pub(crate) struct Round {
    /// Capabilities of the client; `None` for a legacy client.
    capabilities: Option<ClientCapabilities>,
    state: Mutex<RoundState>,
    ended: Notify,
}

/// Mutable state of a round.
struct RoundState {
    /// State of earlier rounds, with the additions of this one.
    request_state: RequestState,
    /// The client's latest answers by key, as received; an object.
    responses: Option<Box<RawValue>>,
    /// Uses of each key in this round.
    uses: BTreeMap<String, u32>,
    questions: InputRequests,
    ending: Option<RoundEnd>,
}

/// How a round ended before its handler returned.
pub(crate) enum RoundEnd {
    /// With questions, and the state for the next round.
    Questions(InputRequests, RequestState),
    /// With an error.
    Rejected(CallError),
    /// With a question that this client does not support.
    ClientUnsupported,
    /// With a fault of the handler.
    Fault(BoxError),
}

impl Round {
    pub(crate) fn new(
        capabilities: Option<ClientCapabilities>,
        request_state: RequestState,
        responses: Option<Box<RawValue>>,
    ) -> Self {
        let (uses, questions) = (BTreeMap::new(), InputRequests::new());
        let inner = RoundState { request_state, responses, uses, questions, ending: None };
        Self { capabilities, state: Mutex::new(inner), ended: Notify::new() }
    }

    /// Waits until the handler sends a question without an answer, or cannot continue.
    pub(crate) async fn end(&self) -> RoundEnd {
        self.ended.notified().await;
        let mut inner = self.lock();
        match inner.ending.take() {
            Some(ending) => ending,
            None => RoundEnd::Questions(std::mem::take(&mut inner.questions), std::mem::take(&mut inner.request_state)),
        }
    }

    /// Takes the state of a round whose handler was dropped.
    #[cfg(feature = "tasks")]
    pub(crate) fn take_state(&self) -> RequestState {
        std::mem::take(&mut self.lock().request_state)
    }

    fn lock(&self) -> MutexGuard<'_, RoundState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a value that an earlier round kept.
    pub(crate) fn kept(&self, key: &str) -> Option<Box<RawValue>> {
        self.lock().request_state.kept.get(key).cloned()
    }

    /// Keeps a value for later rounds.
    pub(crate) fn keep_value(&self, key: &str, value: Box<RawValue>) {
        self.lock().request_state.kept.insert(key.to_owned(), value);
    }

    /// Returns the key of a question, with a number if the key was used before in this round. `None` above the maximum of questions:
    /// a caller may send any number of answers in advance.
    pub(crate) fn numbered_key(&self, key: &str) -> Option<String> {
        let mut inner = self.lock();
        if inner.uses.values().sum::<u32>() >= MAX_QUESTIONS {
            return None;
        }
        let uses = inner.uses.entry(key.to_owned()).or_default();
        *uses += 1;
        Some(if *uses == 1 { key.to_owned() } else { format!("{key}#{uses}") })
    }

    /// Returns the answer to a question, and whether it arrived in this round. `None` unless an earlier round sent
    /// the same question: unsolicited answers and answers to other questions are ignored.
    pub(crate) fn answer(&self, key: &str, digest: &str) -> Option<(Box<RawValue>, bool)> {
        let inner = self.lock();
        let question = inner.request_state.questions.get(key).filter(|own| own.digest == digest)?;
        if let Some(answer) = &question.answer {
            return Some((answer.clone(), false));
        }
        let response = lookup(inner.responses.as_ref()?, &[key.to_owned()]).ok()??;
        Some((response.to_owned(), true))
    }

    pub(crate) fn keep_answer(&self, key: String, digest: String, answer: Box<RawValue>) {
        self.lock().request_state.questions.insert(key, Question { digest, answer: Some(answer) });
    }

    /// Adds a question. Returns the end of the round if the client does not support it.
    pub(crate) fn ask(&self, key: &str, question: InputRequest, digest: String) -> Option<RoundEnd> {
        let Some(capabilities) = &self.capabilities else {
            return Some(RoundEnd::ClientUnsupported);
        };
        if let Some(missing) = missing_for(&question, capabilities) {
            return Some(RoundEnd::Rejected(CallError::MissingClientCapability(Box::new(missing))));
        }
        let mut inner = self.lock();
        inner.request_state.questions.insert(key.to_owned(), Question { digest, answer: None });
        inner.questions.insert(key.to_owned(), question);
        None
    }

    pub(crate) fn end_with(&self, ending: Option<RoundEnd>) {
        if let Some(ending) = ending {
            self.lock().ending.get_or_insert(ending);
        }
        self.ended.notify_one();
    }
}

/// Returns the capabilities that the question needs and the client lacks; `None` if it has them.
fn missing_for(question: &InputRequest, declared: &ClientCapabilities) -> Option<ClientCapabilities> {
    let with = |member: &str| JsonObject::from_iter([(member.to_owned(), json!({}))]);
    let required = match question {
        InputRequest::Elicit(ElicitRequestParams::Form(_)) => ClientCapabilities::elicitation(),
        InputRequest::Elicit(ElicitRequestParams::Url(_)) => ClientCapabilities::elicitation_url(),
        InputRequest::CreateMessage(request) => {
            let mut sampling = JsonObject::new();
            if !request.tools.is_empty() || request.tool_choice.is_some() {
                sampling.extend(with("tools"));
            }
            if request.include_context.is_some_and(|context| context != IncludeContext::None) {
                sampling.extend(with("context"));
            }
            ClientCapabilities { sampling: Some(sampling), ..ClientCapabilities::default() }
        }
        InputRequest::ListRoots => ClientCapabilities::roots(),
    };
    let missing = declared.missing(&required);
    (!missing.is_empty()).then_some(missing)
}
