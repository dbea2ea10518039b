//! [`LegacyQuestions`]: asking, answering and cancelling.

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mcp_protocol::{ClientCapabilities, InputRequiredResult, RequestId};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    open_calls::{Added, OpenCalls, group_of},
    round::{AskedRound, Replay, StreamEvent, expiry, question},
    seal::Seals,
    session::LegacySession,
    timed_store::TimedStore,
    tokens::{Head, Id, MAX_ID_BYTES, MAX_ITEM_BYTES, OpenedEvent, OpenedQuestion, SavedCall},
};
use crate::{
    Principal, StateKey,
    state_key::rotation::KeyLoader,
    store::{Content, Kind, SealedStore, StoreError, StoreId, Version},
};

/// An answer to a question.
pub(super) const ANSWER: Kind = Kind::new("question-answer");
/// A call that is too large for its event ids.
pub(super) const CALL: Kind = Kind::new("question-call");

/// Lifetime of all rows of a round: longer than its event ids, which a running handler extends.
const ROW_LIFETIME: Duration = Duration::from_secs(1800);

/// Asks clients of 2025-11-25, and resumes their calls when they have answered.
///
/// A value of a client is opened without the store first: a forged or expired id, or one of another caller or server, costs no
/// access to the store. An id of an unknown key loads the state key again, at most once a minute. The ids are credentials: never log
/// them.
#[derive(Clone)]
pub struct LegacyQuestions {
    pub(super) seals: Arc<Seals>,
    pub(super) store: TimedStore,
}

/// A call whose handler asks.
#[derive(Debug, Clone, Copy)]
pub struct NewRound<'a> {
    /// The JSON-RPC id of the call.
    pub id: &'a RequestId,
    /// The method of the call.
    pub method: &'a str,
    /// The name of the tool or prompt, or the URI of the resource.
    pub item: &'a str,
    /// The parameters, as sent.
    pub params: Option<&'a RawValue>,
    /// The progress token of the call.
    pub progress_token: Option<&'a RequestId>,
    /// The result of the handler: a rendered [`InputRequiredResult`].
    pub result: &'a str,
    /// Log messages that were sent in all rounds.
    pub logs: u32,
    /// The last progress that was sent.
    pub progress: Option<f64>,
}

/// Why a question cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The caller has too many open questions.
    #[error("too many questions are open: answer or cancel one, then call again")]
    TooManyOpen,
    /// A call of this JSON-RPC id and session waits for an answer, or was cancelled.
    #[error("a call with this request id waits for an answer, or was cancelled: call again with another id")]
    IdInUse,
    /// The call is too large to wait for an answer.
    #[error("the request id, the name of the item or the arguments are too long for a call that asks the client")]
    TooLarge,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The questions could not be serialized or sealed.
    #[error("could not seal a question")]
    Sealing,
}

impl LegacyQuestions {
    /// Maximum size of an answer, in bytes.
    pub const MAX_ANSWER_BYTES: usize = 64 * 1024;
    /// Maximum size of the response to a call that asked, in bytes.
    pub const MAX_OUTCOME_BYTES: usize = SealedStore::MAX_VALUE_BYTES - 1;

    pub(crate) fn new(key: &StateKey, server: &str, store: SealedStore, loader: Arc<KeyLoader>) -> Option<Self> {
        Some(Self { seals: Arc::new(Seals::new(key, server, loader)?), store: TimedStore::new(store) })
    }

    /// Returns the same questions, whose operations of the store end at `end` with an error. A write that is ended may have been
    /// executed.
    #[must_use]
    pub fn until(&self, end: Instant) -> Self {
        Self { seals: Arc::clone(&self.seals), store: self.store.until(end) }
    }

    /// Returns the session id of a client: visible ASCII, at most 512 bytes. `None` if encryption fails. `address` is the network
    /// address of the client, if it is known: open questions of anonymous callers are counted by it.
    pub fn session_id(&self, capabilities: &ClientCapabilities, address: Option<IpAddr>) -> Option<String> {
        LegacySession::seal(&self.seals, capabilities, group_of(self.store.sealed(), address))
    }

    /// Opens a session id; `None` if this server did not issue it.
    pub async fn open_session(&self, id: &str) -> Option<LegacySession> {
        LegacySession::open(&self.seals, id).await
    }

    /// Opens an event id; `None` unless this server issued it for this caller. An expired id opens.
    pub async fn open_event(&self, caller: Option<&Principal>, id: &str) -> Option<OpenedEvent> {
        OpenedEvent::open(&self.seals, caller, id).await
    }

    /// Opens a question id; `None` if this server did not issue it for this caller, or it has expired.
    pub async fn open_question(&self, caller: Option<&Principal>, id: &str, now: SystemTime) -> Option<OpenedQuestion> {
        OpenedQuestion::open(&self.seals, caller, id, now).await
    }

    /// Prepares the round of a call whose handler asks. Its questions count as open, and a large call is in the store, when this
    /// returns.
    ///
    /// # Errors
    ///
    /// When the caller has too many open questions or another open call of this id, the call is too large, or the store fails.
    pub async fn ask(
        &self,
        caller: Option<&Principal>,
        session: &LegacySession,
        new: NewRound<'_>,
        now: SystemTime,
    ) -> Result<AskedRound, AskError> {
        let call = Id(session.call_tag(new.id));
        self.ask_in(caller, (call, session.group, session.declared), true, new, now).await
    }

    /// Prepares the next round of a call, as [`ask`](Self::ask).
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub async fn ask_again(
        &self,
        caller: Option<&Principal>,
        replay: &Replay,
        new: NewRound<'_>,
        now: SystemTime,
    ) -> Result<AskedRound, AskError> {
        let Head { call, group, declared, .. } = replay.head;
        self.ask_in(caller, (call, group, declared), false, new, now).await
    }

    async fn ask_in(
        &self,
        caller: Option<&Principal>,
        (call, group, declared): (Id, u16, u8),
        is_first: bool,
        new: NewRound<'_>,
        now: SystemTime,
    ) -> Result<AskedRound, AskError> {
        let length = |id: &RequestId| serde_json::to_string(id).map_or(usize::MAX, |text| text.len());
        if length(new.id) > MAX_ID_BYTES || new.item.len() > MAX_ITEM_BYTES {
            return Err(AskError::TooLarge);
        }
        // Unbounded JSON: rendered by this server.
        let result: InputRequiredResult = serde_json::from_str(new.result).map_err(|_| AskError::Sealing)?;
        let (Some(questions), Some(state)) = (result.input_requests, result.request_state) else {
            return Err(AskError::Sealing);
        };
        let round = Id(*Version::random()?.as_bytes());
        let keys = questions.keys().cloned().collect();
        let texts = questions.values().enumerate().map(|(position, own)| {
            let id = BASE64_URL_SAFE_NO_PAD.encode(answer_id(round, position));
            question(own, &id).ok_or(AskError::Sealing)
        });
        let asked = AskedRound {
            head: Head {
                id: new.id.clone(),
                method: new.method.to_owned(),
                item: new.item.to_owned(),
                round,
                call,
                group,
                declared,
                questions: questions.len(),
                progress_token: new.progress_token.filter(|token| length(token) <= MAX_ID_BYTES).cloned(),
                progress: new.progress,
            },
            call: SavedCall {
                params: new.params.map(RawValue::to_owned),
                state,
                keys,
                logs: new.logs,
                questions: texts.collect::<Result<_, _>>()?,
            },
            expires: expiry(now),
        };
        let value = serde_json::to_vec(&asked.call).map_err(|_| AskError::Sealing)?;
        // An outcome may hold it too.
        if value.len() > SealedStore::MAX_VALUE_BYTES / 2 {
            return Err(AskError::TooLarge);
        }
        let open = OpenCalls::new(&self.store, caller, group);
        match open.add(call, is_first, questions.len(), asked.expires, now).await? {
            Added::Open => {}
            Added::TooMany => return Err(AskError::TooManyOpen),
            Added::Taken => return Err(AskError::IdInUse),
        }
        if asked.needs_store(&self.seals, caller) {
            let row = StoreId { kind: CALL, caller, id: &round.0 };
            self.store.put_if_absent(&row, content(&value)).await?;
        }
        Ok(asked)
    }

    /// Returns the events that ask: the questions, and the event after which the client polls. `None` if encryption fails.
    pub fn events(&self, caller: Option<&Principal>, round: &AskedRound) -> Option<Vec<StreamEvent>> {
        round.events(&self.seals, caller, 0)
    }

    /// Stores an answer: the JSON text of an object with the client's `result` or `error`. The first answer to a question counts;
    /// another one, or one after the end of its round, changes nothing.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn answer(
        &self,
        caller: Option<&Principal>,
        question: &OpenedQuestion,
        answer: &str,
    ) -> Result<(), StoreError> {
        // Its row would stay until it expires.
        if self.has_ended(caller, question.0.round).await? {
            return Ok(());
        }
        let id = answer_id(question.0.round, question.0.position);
        let row = StoreId { kind: ANSWER, caller, id: &id };
        self.store.put_if_absent(&row, content(answer.as_bytes())).await.map(drop)
    }

    /// Marks a call of the session as cancelled, if it has open questions.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn cancel(
        &self,
        caller: Option<&Principal>,
        session: &LegacySession,
        id: &RequestId,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        OpenCalls::new(&self.store, caller, session.group).cancel(Id(session.call_tag(id)), now).await
    }
}

impl fmt::Debug for LegacyQuestions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyQuestions").finish_non_exhaustive()
    }
}

pub(super) fn answer_id(round: Id, position: usize) -> [u8; 24] {
    let mut id = [0; 24];
    id[..16].copy_from_slice(&round.0);
    id[16..].copy_from_slice(&(position as u64).to_be_bytes());
    id
}

pub(super) fn content(value: &[u8]) -> Content<'_> {
    Content { value, expires_in: ROW_LIFETIME, due_in: None }
}
