//! `requestState`: what a request has learned in earlier rounds, sealed, so that any environment can go on with it, and
//! only this server can read or change it (2026-07-28, `basic/patterns/mrtr`).

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Principal, state_key::StateKey};

/// The longest state, as it travels.
pub(crate) const MAX_STATE_BYTES: usize = 8 * 1024;
/// What a state says.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct RequestState {
    /// When the first question was asked, in seconds since 1970; `None` before that.
    pub(crate) started: Option<u64>,
    /// What was asked in earlier rounds, by key.
    pub(crate) asked: BTreeMap<String, Asked>,
    /// Values that the handler keeps, by its own keys.
    pub(crate) kept: BTreeMap<String, Box<RawValue>>,
}

/// A question, and its answer if there is one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// A digest of the question: an answer to another one does not count.
    pub(crate) question: String,
    pub(crate) answer: Option<Box<RawValue>>,
}

/// What a state belongs to; presented with anything else it is refused.
#[derive(Debug, Serialize)]
pub(crate) struct Binding {
    pub(crate) method: &'static str,
    /// The tool's or prompt's name, or the resource's URI.
    pub(crate) item: String,
    /// The JSON text as it was sent, but for white space: nothing is read of it that could make two the same.
    pub(crate) arguments: String,
    pub(crate) issuer: Option<String>,
    pub(crate) subject: Option<String>,
    /// Another client of the same user has asked nothing.
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

/// JSON text without the white space between its tokens.
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

/// Seals and opens states. Behind a trait, so that a server without such handlers links no cryptography.
pub(crate) trait StateCipher: Send + Sync {
    fn seal(&self, state: &mut RequestState, binding: &Binding, now: SystemTime) -> Result<String, SealError>;
    /// `None` for a state that was not sealed here for this, or whose time is over.
    fn open(&self, sealed: &str, binding: &Binding, now: SystemTime) -> Option<RequestState>;
}

/// Makes the cipher of a server from its key and its name. A plain function pointer, so that a server without handlers that
/// ask links no cryptography.
#[derive(Debug, Clone, Copy)]
pub struct NewCipher(pub(crate) fn(&StateKey, &str) -> Option<Box<dyn StateCipher>>);

/// Why a state cannot be given out.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(not(feature = "interactive"), expect(dead_code, reason = "nothing is sealed without the feature"))]
pub(crate) enum SealError {
    #[error("could not write the state as JSON")]
    Unserialisable(#[from] serde_json::Error),
    #[error("could not encrypt the state")]
    Encryption,
    #[error("the answers so far are too large to be kept while more is asked: at most about 5 KB of them can be")]
    AnswersTooLarge,
    #[error("the state has {0} bytes, at most {MAX_STATE_BYTES} can travel: keep less by `once`")]
    TooLarge(usize),
}
