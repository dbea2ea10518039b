//! One round of a request that asks: which questions are open, and how the round ends.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mcp_protocol::{
    ClientCapabilities, ElicitRequestParams, IncludeContext, InputRequest, InputRequests, JsonObject, lookup,
};
use serde_json::{json, value::RawValue};
use tokio::sync::Notify;

use super::request_state::{Asked, RequestState};
use crate::{BoxError, CallError};

/// The most questions that one request may have.
pub(crate) const MAX_QUESTIONS: u32 = 100;

/// One run of a handler that may ask: the questions and answers so far.
pub(crate) struct Round {
    /// What the client declared; `None` for one that cannot be asked at all.
    capabilities: Option<ClientCapabilities>,
    notes: Mutex<Notes>,
    ended: Notify,
}

/// What one round knows.
struct Notes {
    /// What earlier rounds learned, and what this one adds.
    state: RequestState,
    /// The client's latest answers, by key, as they came; an object.
    responses: Option<Box<RawValue>>,
    /// How often each key was used in this round.
    uses: BTreeMap<String, u32>,
    questions: InputRequests,
    ending: Option<RoundEnd>,
}

/// How a round ended before the handler did.
pub(crate) enum RoundEnd {
    /// With questions, and what to remember for the next round.
    Questions(InputRequests, RequestState),
    /// With a refusal.
    Refused(CallError),
    /// With a question that this client cannot be asked.
    Unasked,
    /// With a mistake in the handler.
    Fault(BoxError),
}

impl Round {
    pub(crate) fn new(
        capabilities: Option<ClientCapabilities>,
        state: RequestState,
        responses: Option<Box<RawValue>>,
    ) -> Self {
        let (uses, questions) = (BTreeMap::new(), InputRequests::new());
        let notes = Notes { state, responses, uses, questions, ending: None };
        Self { capabilities, notes: Mutex::new(notes), ended: Notify::new() }
    }

    /// Waits until the handler asks something that has no answer yet, or does what cannot go on.
    pub(crate) async fn end(&self) -> RoundEnd {
        self.ended.notified().await;
        let mut notes = self.lock();
        match notes.ending.take() {
            Some(ending) => ending,
            None => RoundEnd::Questions(std::mem::take(&mut notes.questions), std::mem::take(&mut notes.state)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value that an earlier round kept.
    pub(crate) fn kept(&self, key: &str) -> Option<Box<RawValue>> {
        self.lock().state.kept.get(key).cloned()
    }

    /// Keeps a value for later rounds.
    pub(crate) fn keep_value(&self, key: &str, value: Box<RawValue>) {
        self.lock().state.kept.insert(key.to_owned(), value);
    }

    /// The key of a question that is asked for the second time in a round has a number: it is another question. `None` when
    /// there are too many: a caller may have answered any number of them in advance.
    pub(crate) fn key_of_this_time(&self, key: &str) -> Option<String> {
        let mut notes = self.lock();
        if notes.uses.values().sum::<u32>() >= MAX_QUESTIONS {
            return None;
        }
        let uses = notes.uses.entry(key.to_owned()).or_default();
        *uses += 1;
        Some(if *uses == 1 { key.to_owned() } else { format!("{key}#{uses}") })
    }

    /// The answer to a question, and whether it has just arrived. `None` unless an earlier round asked this very question:
    /// what a client answers unasked, or to a question of other words, does not count.
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
        self.lock().state.asked.insert(key, Asked { question, answer: Some(answer) });
    }

    /// Notes a question; returns how the round ends if it cannot be asked.
    pub(crate) fn ask(&self, key: &str, question: InputRequest, digest: String) -> Option<RoundEnd> {
        let Some(capabilities) = &self.capabilities else {
            return Some(RoundEnd::Unasked);
        };
        if let Some(missing) = missing_for(&question, capabilities) {
            return Some(RoundEnd::Refused(CallError::MissingClientCapability(Box::new(missing))));
        }
        let mut notes = self.lock();
        notes.state.asked.insert(key.to_owned(), Asked { question: digest, answer: None });
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

/// What a client would have to declare to be asked this; `None` if it has.
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
