//! The sealed ids that travel with a client: of questions, and of events.

use std::{fmt, time::SystemTime};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mcp_protocol::RequestId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::value::RawValue;

use super::seal::{Purpose, Seals};
use crate::Principal;

/// Maximum length of an event id that holds its whole call. A longer call is kept in the store.
pub(super) const MAX_INLINE_BYTES: usize = 1536;
/// Maximum length of any event id: the call's head may have long names.
const MAX_EVENT_BYTES: usize = 4096;
/// Maximum length of a question id.
const MAX_QUESTION_BYTES: usize = 2048;
/// Maximum length of a request id as JSON, and of a progress token.
pub(super) const MAX_ID_BYTES: usize = 256;
/// Maximum length of the name of an item.
pub(super) const MAX_ITEM_BYTES: usize = 512;

/// The random id of a round, or a digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(pub(super) [u8; 16]);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| D::Error::custom("an id has 16 bytes"))
    }
}

/// What every event id of a round holds.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Head {
    /// The JSON-RPC id of the call.
    #[serde(rename = "i")]
    pub(super) id: RequestId,
    #[serde(rename = "m")]
    pub(super) method: String,
    /// The name of the tool or prompt, or the URI of the resource.
    #[serde(rename = "n")]
    pub(super) item: String,
    #[serde(rename = "r")]
    pub(super) round: Id,
    /// The call, among the open calls of its caller.
    #[serde(rename = "c")]
    pub(super) call: Id,
    /// The group of the session, for the open calls of anonymous callers.
    #[serde(rename = "g")]
    pub(super) group: u16,
    /// What the client declared.
    #[serde(rename = "d")]
    pub(super) declared: u8,
    /// The number of questions.
    #[serde(rename = "q")]
    pub(super) questions: usize,
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub(super) progress_token: Option<RequestId>,
    /// The last progress that was sent.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(super) progress: Option<f64>,
}

/// The rest of a call that waits for answers.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SavedCall {
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(super) params: Option<Box<RawValue>>,
    /// `requestState` of the round.
    #[serde(rename = "s")]
    pub(super) state: String,
    /// The keys of the questions.
    #[serde(rename = "k")]
    pub(super) keys: Vec<String>,
    /// Log messages that were sent.
    #[serde(rename = "l")]
    pub(super) logs: u32,
    /// The questions, each an object with `method` and `params`; empty where they are not sent again.
    #[serde(rename = "q", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) questions: Vec<Box<RawValue>>,
}

/// The content of an event id.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct EventToken {
    #[serde(rename = "h")]
    pub(super) head: Head,
    /// The number of questions that were sent before this event; `None` after all of them.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(super) sent: Option<usize>,
    /// How often the client came back.
    #[serde(rename = "n")]
    pub(super) polls: u32,
    /// Seconds since 1970.
    #[serde(rename = "e")]
    pub(super) expires: u64,
    /// `None` for a call in the store.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub(super) call: Option<SavedCall>,
}

/// The content of a question id.
#[derive(Serialize, Deserialize)]
pub(super) struct QuestionToken {
    #[serde(rename = "m")]
    pub(super) method: String,
    #[serde(rename = "n")]
    pub(super) item: String,
    #[serde(rename = "r")]
    pub(super) round: Id,
    /// The position of the question.
    #[serde(rename = "q")]
    pub(super) position: usize,
    #[serde(rename = "e")]
    pub(super) expires: u64,
}

/// An event id that was opened: sealed by this server for this caller.
pub struct OpenedEvent(pub(super) EventToken);

impl OpenedEvent {
    pub(super) async fn open(seals: &Seals, caller: Option<&Principal>, id: &str) -> Option<Self> {
        let text = seals.open(Purpose::Event, caller, id, MAX_EVENT_BYTES).await?;
        // Unbounded JSON: sealed by this server, at most 4 KiB.
        serde_json::from_slice(&text).ok().map(Self)
    }

    /// Returns the JSON-RPC id of the call.
    pub fn id(&self) -> &RequestId {
        &self.0.head.id
    }

    /// Returns the method of the call.
    pub fn method(&self) -> &str {
        &self.0.head.method
    }

    /// Returns the name of the tool or prompt, or the URI of the resource.
    pub fn item(&self) -> &str {
        &self.0.head.item
    }
}

/// A question id that was opened: sealed by this server for this caller, and not expired.
pub struct OpenedQuestion(pub(super) QuestionToken);

impl OpenedQuestion {
    pub(super) async fn open(seals: &Seals, caller: Option<&Principal>, id: &str, now: SystemTime) -> Option<Self> {
        let text = seals.open(Purpose::Question, caller, id, MAX_QUESTION_BYTES).await?;
        // Unbounded JSON: sealed by this server, at most 2 KiB.
        let token: QuestionToken = serde_json::from_slice(&text).ok()?;
        (seconds(now) < token.expires).then_some(Self(token))
    }

    /// Returns the method of the call.
    pub fn method(&self) -> &str {
        &self.0.method
    }

    /// Returns the name of the tool or prompt, or the URI of the resource.
    pub fn item(&self) -> &str {
        &self.0.item
    }
}

/// Seals a token; `None` if that fails.
pub(super) fn seal<T: Serialize>(
    seals: &Seals,
    purpose: Purpose,
    caller: Option<&Principal>,
    token: &T,
) -> Option<String> {
    seals.seal(purpose, caller, &serde_json::to_vec(token).ok()?)
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl fmt::Debug for OpenedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedEvent").field("method", &self.0.head.method).finish_non_exhaustive()
    }
}

impl fmt::Debug for OpenedQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedQuestion").field("method", &self.0.method).finish_non_exhaustive()
    }
}
