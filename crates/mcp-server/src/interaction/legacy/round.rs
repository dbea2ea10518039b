//! A call that waits for answers, the events that its client gets, and its replay.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use mcp_protocol::{
    ClientCapabilities, ElicitRequestParams, InputRequest, ProgressNotificationParams, ProtocolVersion, RequestId,
    jsonrpc, method,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    seal::{Purpose, Seals},
    session,
    tokens::{EventToken, Head, MAX_INLINE_BYTES, QuestionToken, SavedCall, seal, seconds},
};
use crate::{Principal, store::Version};

/// Time for the answers of a round: somewhat less than the lifetime of its `requestState`.
pub(super) const LIFETIME: Duration = Duration::from_secs(590);
/// Answers are accepted until this long before the round expires, so that a complete round can be resumed.
const ANSWER_MARGIN: u64 = 20;
/// The first interval between two polls, and the longest.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// An event of the stream that asks a client.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// The event's id, from which the client resumes the stream.
    pub id: Option<String>,
    /// After which time the client comes back.
    pub retry: Option<Duration>,
    /// A JSON-RPC message on one line; empty for an event that only has an id.
    pub data: String,
}

impl fmt::Debug for StreamEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamEvent").field("retry", &self.retry).finish_non_exhaustive()
    }
}

/// A round of a call: its questions have been sent, and its answers are awaited.
#[derive(Clone, Serialize, Deserialize)]
pub struct AskedRound {
    pub(super) head: Head,
    pub(super) call: SavedCall,
    /// Seconds since 1970.
    pub(super) expires: u64,
}

impl AskedRound {
    /// Whether the call is too large for event ids, so that it is kept in the store.
    pub(super) fn needs_store(&self, seals: &Seals, caller: Option<&Principal>) -> bool {
        let longest = self.token(Some(self.head.questions), Some(self.call.clone()));
        seal(seals, Purpose::Event, caller, &longest).is_none_or(|id| id.len() > MAX_INLINE_BYTES)
    }

    fn token(&self, sent: Option<usize>, call: Option<SavedCall>) -> EventToken {
        EventToken { head: self.head.clone(), sent, polls: 0, expires: self.expires, call }
    }

    /// Returns the questions from the position `first` on, and the event from which the client polls. The stream begins with an
    /// event without data, so that a client that loses the connection gets the questions again.
    pub(super) fn events(&self, seals: &Seals, caller: Option<&Principal>, first: usize) -> Option<Vec<StreamEvent>> {
        let is_stored = self.needs_store(seals, caller);
        let resume_at = |sent: usize| {
            let call = (!is_stored).then(|| self.call.clone());
            seal(seals, Purpose::Event, caller, &self.token(Some(sent), call))
        };
        let mut events = vec![StreamEvent { id: Some(resume_at(first)?), retry: None, data: String::new() }];
        for (position, question) in self.call.questions.iter().enumerate().skip(first) {
            let token = QuestionToken {
                method: self.head.method.clone(),
                item: self.head.item.clone(),
                round: self.head.round,
                position,
                expires: self.expires.saturating_sub(ANSWER_MARGIN),
            };
            let id = seal(seals, Purpose::Question, caller, &token)?;
            let members = question.get().strip_prefix('{')?;
            let data = format!(r#"{{"jsonrpc":"2.0","id":"{id}",{members}"#);
            events.push(StreamEvent { id: Some(resume_at(position + 1)?), retry: None, data });
        }
        let call = (!is_stored).then(|| SavedCall { questions: Vec::new(), ..self.call.clone() });
        events.push(poll_event(seals, caller, self.token(None, call))?);
        Some(events)
    }
}

/// Returns the event after which a client polls: with a fresh id, since ids must differ.
pub(super) fn poll_event(seals: &Seals, caller: Option<&Principal>, token: EventToken) -> Option<StreamEvent> {
    let retry = retry_after(token.polls);
    Some(StreamEvent {
        id: Some(seal(seals, Purpose::Event, caller, &token)?),
        retry: Some(retry),
        data: String::new(),
    })
}

/// Every second poll doubles the interval, up to two seconds.
fn retry_after(polls: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << (polls / 2).min(3)).min(LONGEST_RETRY)
}

/// Returns the notification of a poll, for a client that requested progress: its time limit may depend on progress.
pub(super) fn waiting(head: &Head, polls: u32) -> Option<StreamEvent> {
    let params = ProgressNotificationParams {
        progress_token: head.progress_token.clone()?,
        progress: progress_at(head, polls),
        total: None,
        message: Some("waiting for an answer".to_owned()),
    };
    let params = params.for_revision(ProtocolVersion::V2025_11_25);
    let data = jsonrpc::notification(method::NOTIFICATIONS_PROGRESS, &params).ok()?;
    Some(StreamEvent { id: None, retry: None, data })
}

/// Progress increases with each poll, by so little that the handler's next value is greater.
pub(super) fn progress_at(head: &Head, polls: u32) -> f64 {
    let last = head.progress.unwrap_or(0.0);
    last + f64::from(polls) * 1e-6 * last.abs().max(1.0)
}

/// Returns a question as clients of 2025-11-25 expect it: an object with `method` and `params`, whose members keep their order.
pub(super) fn question(request: &InputRequest, id: &str) -> Option<Box<RawValue>> {
    let mut question = serde_json::to_string(request).ok()?;
    if let InputRequest::Elicit(ElicitRequestParams::Url(_)) = request {
        // Required in 2025-11-25. No notification of its completion is sent.
        let end = question.strip_suffix("}}")?.len();
        question.insert_str(end, &format!(r#","elicitationId":"{id}""#));
    }
    RawValue::from_string(question).ok()
}

/// What a round ended with, in the store.
pub(super) enum Stored {
    /// The handler runs, or ran in an environment that was lost.
    Claimed,
    /// The response to the call: a JSON-RPC message.
    Message(String),
    /// The next round.
    Asked(Box<AskedRound>),
}

impl Stored {
    /// Returns the value of a row: a byte for the kind, and text.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::Claimed => b"C".to_vec(),
            Self::Message(message) => [b"M", message.as_bytes()].concat(),
            Self::Asked(round) => [b"A", serde_json::to_vec(round).ok()?.as_slice()].concat(),
        })
    }

    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        match value.split_first()? {
            (b'C', []) => Some(Self::Claimed),
            (b'M', message) => String::from_utf8(message.to_vec()).ok().map(Self::Message),
            // Unbounded JSON: sealed by this server, at most 1 MiB.
            (b'A', round) => serde_json::from_slice(round).ok().map(Self::Asked),
            _ => None,
        }
    }
}

/// What a replay ended with.
#[derive(Debug)]
pub enum RoundOutcome {
    /// The response to the call: a JSON-RPC message on one line.
    Response(String),
    /// The handler asked again.
    Asked(Box<AskedRound>),
}

/// A round whose answers are complete, claimed by this environment: run its handler, then
/// [store the outcome](super::LegacyQuestions::finish).
pub struct Replay {
    pub(super) head: Head,
    pub(super) call: SavedCall,
    pub(super) version: Version,
    pub(super) polls: u32,
    pub(super) responses: Box<RawValue>,
    pub(super) state: Box<RawValue>,
    pub(super) client_error: Option<String>,
}

impl Replay {
    /// Returns the JSON-RPC id of the call.
    pub fn id(&self) -> &RequestId {
        &self.head.id
    }

    /// Returns the parameters of the call, as its client sent them.
    pub fn params(&self) -> Option<&RawValue> {
        self.call.params.as_deref()
    }

    /// Returns the answers, as `inputResponses` of a multi round-trip request.
    pub fn responses(&self) -> &RawValue {
        &self.responses
    }

    /// Returns `requestState` of the round.
    pub fn state(&self) -> &RawValue {
        &self.state
    }

    /// Returns the capabilities that the client declared.
    pub fn capabilities(&self) -> ClientCapabilities {
        session::capabilities(self.head.declared)
    }

    /// Returns the client's error, if it could not answer a question: the handler cannot run.
    pub fn client_error(&self) -> Option<&str> {
        self.client_error.as_deref()
    }

    /// Returns the number of log messages that were sent before the questions, and are not repeated.
    pub fn logs(&self) -> u32 {
        self.call.logs
    }

    /// Returns the last progress that was sent; progress must exceed it.
    pub fn progress(&self) -> Option<f64> {
        let has_sent = self.head.progress.is_some() || self.polls > 0;
        has_sent.then(|| progress_at(&self.head, self.polls))
    }
}

impl fmt::Debug for AskedRound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskedRound").field("method", &self.head.method).finish_non_exhaustive()
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("method", &self.head.method).finish_non_exhaustive()
    }
}

/// Returns when a round that begins now expires.
pub(super) fn expiry(now: SystemTime) -> u64 {
    seconds(now) + LIFETIME.as_secs()
}
