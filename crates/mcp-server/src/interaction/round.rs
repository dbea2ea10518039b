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
    notes: Mutex<RoundState>,
    ended: Notify,
}

/// Mutable state of a round.
struct RoundState {
    /// State of earlier rounds, with the additions of this one.
    state: RequestState,
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
        state: RequestState,
        responses: Option<Box<RawValue>>,
    ) -> Self {
        let (uses, questions) = (BTreeMap::new(), InputRequests::new());
        let notes = RoundState { state, responses, uses, questions, ending: None };
        Self { capabilities, notes: Mutex::new(notes), ended: Notify::new() }
    }

    /// Waits until the handler sends a question without an answer, or cannot continue.
    pub(crate) async fn end(&self) -> RoundEnd {
        self.ended.notified().await;
        let mut notes = self.lock();
        match notes.ending.take() {
            Some(ending) => ending,
            None => RoundEnd::Questions(std::mem::take(&mut notes.questions), std::mem::take(&mut notes.state)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, RoundState> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a value that an earlier round kept.
    pub(crate) fn kept(&self, key: &str) -> Option<Box<RawValue>> {
        self.lock().state.kept.get(key).cloned()
    }

    /// Keeps a value for later rounds.
    pub(crate) fn keep_value(&self, key: &str, value: Box<RawValue>) {
        self.lock().state.kept.insert(key.to_owned(), value);
    }

    /// Numbers the key of a question that is repeated in a round, because it is another question. `None` above the maximum, because a
    /// caller may send any number of answers in advance.
    pub(crate) fn numbered_key(&self, key: &str) -> Option<String> {
        let mut notes = self.lock();
        if notes.uses.values().sum::<u32>() >= MAX_QUESTIONS {
            return None;
        }
        let uses = notes.uses.entry(key.to_owned()).or_default();
        *uses += 1;
        Some(if *uses == 1 { key.to_owned() } else { format!("{key}#{uses}") })
    }

    /// Returns the answer to a question, and whether it arrived in this round. `None` unless an earlier round asked
    /// the same question: unsolicited answers and answers to other questions are ignored.
    pub(crate) fn answer(&self, key: &str, digest: &str) -> Option<(Box<RawValue>, bool)> {
        let notes = self.lock();
        let asked = notes.state.asked.get(key).filter(|asked| asked.question == digest)?;
        if let Some(answer) = &asked.answer {
            return Some((answer.clone(), false));
        }
        let response = lookup(notes.responses.as_ref()?, &[key.to_owned()]).ok()??;
        Some((response.to_owned(), true))
    }

    pub(crate) fn keep_answer(&self, key: String, question: String, answer: Box<RawValue>) {
        self.lock().state.asked.insert(key, Question { question, answer: Some(answer) });
    }

    /// Adds a question. Returns the end of the round if the client does not support it.
    pub(crate) fn ask(&self, key: &str, question: InputRequest, digest: String) -> Option<RoundEnd> {
        let Some(capabilities) = &self.capabilities else {
            return Some(RoundEnd::ClientUnsupported);
        };
        if let Some(missing) = missing_for(&question, capabilities) {
            return Some(RoundEnd::Rejected(CallError::MissingClientCapability(Box::new(missing))));
        }
        let mut notes = self.lock();
        notes.state.asked.insert(key.to_owned(), Question { question: digest, answer: None });
        notes.questions.insert(key.to_owned(), question);
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
