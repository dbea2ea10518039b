//! `requestState`: the encrypted state of earlier rounds. Any execution environment can continue the request, and only this server
//! can read or change the state (2026-07-28, `basic/patterns/mrtr`).

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Principal, state_key::StateKey};

/// Maximum length of a sealed state, in bytes.
pub(crate) const MAX_STATE_BYTES: usize = 8 * 1024;
/// The content of `requestState`. The names of its members are part of the format.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RequestState {
    /// Time at which the first question was sent, in seconds since the Unix epoch; `None` before it.
    pub(crate) started: Option<u64>,
    /// Questions of earlier rounds, by key.
    #[serde(rename = "asked")]
    pub(crate) questions: BTreeMap<String, Question>,
    /// Values of `once`, by key.
    pub(crate) kept: BTreeMap<String, Box<RawValue>>,
}

/// A question, with its answer if there is one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Question {
    /// Digest of the question: answers to other questions are ignored.
    #[serde(rename = "question")]
    pub(crate) digest: String,
    pub(crate) answer: Option<Box<RawValue>>,
}

/// The request to which a state is bound; with any other it is rejected.
#[derive(Debug, Serialize)]
pub(crate) struct Binding {
    pub(crate) method: &'static str,
    /// The name of the tool or prompt, or the URI of the resource.
    pub(crate) item: String,
    /// The JSON text as sent, without white space between tokens: it is not parsed, so that no two texts become
    /// equal.
    pub(crate) arguments: String,
    pub(crate) issuer: Option<String>,
    pub(crate) subject: Option<String>,
    /// A state is valid only for the client that received the question.
    pub(crate) client_id: Option<String>,
}

impl Binding {
    pub(crate) fn new(
        method: &'static str,
        item: &str,
        arguments: Option<&RawValue>,
        caller: Option<&Principal>,
    ) -> Self {
        Self {
            method,
            item: item.to_owned(),
            arguments: arguments.map(|raw| compact(raw.get())).unwrap_or_default(),
            issuer: caller.map(|caller| caller.issuer.clone()),
            subject: caller.map(|caller| caller.subject.clone()),
            client_id: caller.and_then(|caller| caller.client_id.clone()),
        }
    }
}

/// Returns JSON text without white space between tokens.
pub(crate) fn compact(json: &str) -> String {
    let (mut is_string, mut is_escaped) = (false, false);
    let is_kept = |character: &char| {
        let is_kept = is_string || !character.is_ascii_whitespace();
        match character {
            '"' if !is_escaped => is_string = !is_string,
            _ => {}
        }
        is_escaped = is_string && *character == '\\' && !is_escaped;
        is_kept
    };
    let mut text = String::with_capacity(json.len());
    text.extend(json.chars().filter(is_kept));
    text
}

/// Seals and opens states. A trait, so that a server without interactive handlers links no cryptography.
pub(crate) trait StateCipher: Send + Sync {
    fn seal(&self, state: &mut RequestState, binding: &Binding, now: SystemTime) -> Result<String, SealError>;
    /// Returns `None` for a state that was not sealed for this binding, or has expired.
    fn open(&self, sealed: &str, binding: &Binding, now: SystemTime) -> Option<RequestState>;
    /// Loads the state key again if a state was sealed with an unknown key.
    #[cfg(feature = "interactive")]
    fn load_key<'a>(
        &'a self,
        sealed: &'a str,
        loader: &'a crate::state_key::rotation::KeyLoader,
    ) -> futures_util::future::BoxFuture<'a, ()>;
}

/// Creates the cipher of a server from its key and name. A plain function pointer, so that a server without
/// interactive handlers links no cryptography.
#[derive(Debug, Clone, Copy)]
pub struct NewCipher(pub(crate) fn(&StateKey, &str) -> Option<Box<dyn StateCipher>>);

/// Why a state cannot be sealed.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(not(feature = "interactive"), expect(dead_code, reason = "nothing is sealed without the feature"))]
pub(crate) enum SealError {
    #[error("could not serialize the state")]
    Unserializable(#[from] serde_json::Error),
    #[error("could not encrypt the state")]
    Encryption,
    #[error("the answers so far are too large for another question: send at most about 5 KB of answers")]
    AnswersTooLarge,
    #[error("the state has {0} bytes, more than the maximum of {MAX_STATE_BYTES}: keep less with `once`")]
    TooLarge(usize),
}
