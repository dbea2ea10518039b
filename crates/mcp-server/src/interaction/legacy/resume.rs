//! Resuming the stream of a call: the claim of a round, and its outcome.

use std::time::{Duration, SystemTime};

use mcp_protocol::{ErrorObject, json, jsonrpc};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    open_calls::OpenCalls,
    questions::{ANSWER, CALL, LegacyQuestions, answer_id, content},
    round::{AskedRound, Replay, RoundOutcome, Stored, StreamEvent, poll_event, waiting},
    tokens::{EventToken, Head, Id, OpenedEvent, SavedCall, seconds},
};
use crate::{
    Principal,
    store::{Content, Kind, StoreError, StoreId, Version},
};

/// The claim of a round, then its outcome.
const ROUND: Kind = Kind::new("question-round");
/// Held by the environment that runs a round.
const LEASE: Kind = Kind::new("question-lease");
/// A poll of a round whose handler runs extends the event id by this time.
const RUNNING_EXTENSION: u64 = 300;

const EXPIRED: &str = "the question expired before it was answered: call again";
const CANCELLED: &str = "the request was cancelled";

/// The state of a round whose answers are complete.
enum Claim {
    /// This environment runs the handler.
    Claimed(Version),
    /// Another environment runs it.
    Running,
    /// It ran.
    Stored(Stored),
    /// It began in an environment that was lost.
    Lost(Version),
}

/// How the stream of a call continues.
#[derive(Debug)]
pub enum Resumption {
    /// Answers are missing, or the handler runs in another environment: these events follow.
    Waiting(Vec<StreamEvent>),
    /// Questions, for the first time or again.
    Questions(Vec<StreamEvent>),
    /// The outcome is available: a JSON-RPC message.
    Response(String),
    /// The answers are complete, and this environment claimed the round.
    Run(Box<Replay>),
    /// The call ended without a result, for this reason.
    Ended(&'static str),
}

impl LegacyQuestions {
    /// Continues the stream of a call. `lease` is the time that this environment has for the handler. If a run was lost with its
    /// environment, the handler runs again only if `is_repeatable`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn resume(
        &self,
        caller: Option<&Principal>,
        event: OpenedEvent,
        is_repeatable: bool,
        lease: Duration,
        now: SystemTime,
    ) -> Result<Resumption, StoreError> {
        let OpenedEvent(mut token) = event;
        let round = token.head.round;
        let round = StoreId { kind: ROUND, caller, id: &round.0 };
        // First the outcome: it may be newer than the answers, and outlives the event id.
        let is_claimed = match self.outcome(&round).await? {
            None => false,
            Some((Stored::Claimed, _)) => true,
            Some((stored, _)) => return self.resumption(caller, stored),
        };
        if token.expires <= seconds(now) && !is_claimed {
            return Ok(Resumption::Ended(EXPIRED));
        }
        // A cancelled call stays in the row until it expires, so that every later poll ends too, and no answer runs it.
        let open = OpenCalls::new(&self.store, caller, token.head.group);
        let Some(answers) = self.answers(caller, &token.head).await? else {
            if open.is_cancelled(token.head.call).await? {
                return Ok(Resumption::Ended(CANCELLED));
            }
            return match token.sent {
                Some(sent) => {
                    let Some(call) = self.load(caller, &mut token).await? else {
                        // It has expired, or the round has ended since.
                        return match self.outcome(&round).await? {
                            Some((stored, _)) => self.resumption(caller, stored),
                            None => Ok(Resumption::Ended(EXPIRED)),
                        };
                    };
                    let round = AskedRound { head: token.head, call, expires: token.expires };
                    round.events(&self.seals, caller, sent).map(Resumption::Questions).ok_or_else(sealing)
                }
                None => self.wait(caller, token),
            };
        };
        // All reads come before the claim: an error after it would end the round, although no handler ran.
        let is_cancelled = open.is_cancelled(token.head.call).await?;
        let in_token = token.call.clone();
        let call = self.load(caller, &mut token).await?;
        match self.claim(caller, &token.head, is_repeatable, lease).await? {
            Claim::Running => {
                token.call = in_token;
                token.expires = token.expires.max(seconds(now) + RUNNING_EXTENSION);
                self.wait(caller, token)
            }
            Claim::Stored(stored) => self.resumption(caller, stored),
            Claim::Lost(version) => {
                const UNKNOWN: &str = "the outcome is unknown: the call may have had its effect; check it first";
                self.end(caller, &token.head, version, UNKNOWN, now).await
            }
            Claim::Claimed(version) => match call {
                _ if is_cancelled => self.end(caller, &token.head, version, CANCELLED, now).await,
                None => self.end(caller, &token.head, version, EXPIRED, now).await,
                Some(call) => {
                    let replay = replay(token, call, version, answers).ok_or_else(sealing)?;
                    Ok(Resumption::Run(Box::new(replay)))
                }
            },
        }
    }

    /// Claims a round whose answers are complete: first the lease, which expires with its environment, then the round.
    async fn claim(
        &self,
        caller: Option<&Principal>,
        head: &Head,
        is_repeatable: bool,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        let row = StoreId { kind: ROUND, caller, id: &head.round.0 };
        match self.outcome(&row).await? {
            None | Some((Stored::Claimed, _)) => {}
            Some((stored, _)) => return Ok(Claim::Stored(stored)),
        }
        let held = Content { expires_in: lease, ..content(b"") };
        if self.store.put_if_absent(&StoreId { kind: LEASE, ..row }, held).await?.is_none() {
            return Ok(Claim::Running);
        }
        let claim = Stored::Claimed.encode().ok_or_else(sealing)?;
        let claimed = self.store.put_if_absent(&row, content(&claim)).await;
        if let Err(StoreError::Unavailable(_)) = claimed {
            // Nothing was written: without the lease, the next poll claims the round.
            drop(self.store.delete(&StoreId { kind: LEASE, ..row }).await);
        }
        if let Some(version) = claimed? {
            return Ok(Claim::Claimed(version));
        }
        // It was claimed before, and the lease has ended.
        Ok(match self.outcome(&row).await? {
            Some((Stored::Claimed, version)) if is_repeatable => {
                match self.store.compare_and_set(&row, version, content(&claim)).await? {
                    Some(version) => Claim::Claimed(version),
                    None => Claim::Running,
                }
            }
            Some((Stored::Claimed, version)) => Claim::Lost(version),
            Some((stored, _)) => Claim::Stored(stored),
            None => Claim::Running,
        })
    }

    /// Stores the outcome of a replay. Returns it, or the outcome that another environment stored instead. Events of questions and
    /// messages are sent only after this returns.
    ///
    /// # Errors
    ///
    /// When the store fails: the outcome must not be sent then.
    pub async fn finish(
        &self,
        caller: Option<&Principal>,
        replay: &Replay,
        outcome: RoundOutcome,
        now: SystemTime,
    ) -> Result<Resumption, StoreError> {
        let stored = match outcome {
            RoundOutcome::Response(message) => Stored::Message(message),
            RoundOutcome::Asked(round) => Stored::Asked(round),
        };
        self.store_outcome(caller, &replay.head, replay.version, stored, now).await
    }

    /// Ends a claimed round without its handler.
    async fn end(
        &self,
        caller: Option<&Principal>,
        head: &Head,
        version: Version,
        reason: &str,
        now: SystemTime,
    ) -> Result<Resumption, StoreError> {
        let error = ErrorObject::new(jsonrpc::INTERNAL_ERROR, reason);
        let message = Stored::Message(jsonrpc::error_response(Some(&head.id), &error));
        self.store_outcome(caller, head, version, message, now).await
    }

    async fn store_outcome(
        &self,
        caller: Option<&Principal>,
        head: &Head,
        version: Version,
        stored: Stored,
        now: SystemTime,
    ) -> Result<Resumption, StoreError> {
        let row = StoreId { kind: ROUND, caller, id: &head.round.0 };
        let value = stored.encode().ok_or_else(sealing)?;
        if !self.write_outcome(&row, version, &value).await? {
            // Another environment claimed the round meanwhile.
            return match self.outcome(&row).await? {
                Some((stored, _)) => self.resumption(caller, stored),
                None => Ok(Resumption::Ended(EXPIRED)),
            };
        }
        // Without these, the rows would stay until they expire. Nothing reads the call and the answers before the outcome.
        for kind in [LEASE, CALL] {
            drop(self.store.delete(&StoreId { kind, ..row }).await);
        }
        for position in 0..head.questions {
            let id = answer_id(head.round, position);
            drop(self.store.delete(&StoreId { kind: ANSWER, caller, id: &id }).await);
        }
        if matches!(stored, Stored::Message(_)) {
            drop(OpenCalls::new(&self.store, caller, head.group).remove(head.call, now).await);
        }
        self.resumption(caller, stored)
    }

    fn resumption(&self, caller: Option<&Principal>, stored: Stored) -> Result<Resumption, StoreError> {
        match stored {
            Stored::Message(message) => Ok(Resumption::Response(message)),
            Stored::Asked(round) => round.events(&self.seals, caller, 0).map(Resumption::Questions).ok_or_else(sealing),
            Stored::Claimed => Ok(Resumption::Ended("the outcome is unknown: another attempt is running")),
        }
    }

    /// Writes an outcome, up to three times: the handler's effect exists already.
    async fn write_outcome(&self, row: &StoreId<'_>, version: Version, value: &[u8]) -> Result<bool, StoreError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.store.compare_and_set(row, version, content(value)).await {
                Ok(written) => return Ok(written.is_some()),
                Err(StoreError::Unavailable(_)) if attempts < 3 => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the events of a poll that could not use the store: the client comes back, and continues at the same event. Needs no
    /// store. `None` if the round has expired, or encryption fails.
    pub fn poll_again(
        &self,
        caller: Option<&Principal>,
        event: OpenedEvent,
        now: SystemTime,
    ) -> Option<Vec<StreamEvent>> {
        let OpenedEvent(token) = event;
        if token.expires <= seconds(now) { None } else { self.poll(caller, token) }
    }

    fn wait(&self, caller: Option<&Principal>, mut token: EventToken) -> Result<Resumption, StoreError> {
        token.sent = None;
        if let Some(call) = &mut token.call {
            call.questions.clear();
        }
        self.poll(caller, token).map(Resumption::Waiting).ok_or_else(sealing)
    }

    fn poll(&self, caller: Option<&Principal>, mut token: EventToken) -> Option<Vec<StreamEvent>> {
        token.polls = token.polls.saturating_add(1);
        let notification = waiting(&token.head, token.polls);
        let last = poll_event(&self.seals, caller, token)?;
        Some(notification.into_iter().chain([last]).collect())
    }

    /// Returns all answers of a round; `None` if one is missing.
    async fn answers(&self, caller: Option<&Principal>, head: &Head) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let mut answers = Vec::with_capacity(head.questions);
        for position in 0..head.questions {
            let id = answer_id(head.round, position);
            match self.store.get(&StoreId { kind: ANSWER, caller, id: &id }).await? {
                Some(stored) => answers.push(stored.value),
                None => return Ok(None),
            }
        }
        Ok(Some(answers))
    }

    /// Returns the call of an event id, from the id or the store; `None` if its row has expired.
    async fn load(&self, caller: Option<&Principal>, token: &mut EventToken) -> Result<Option<SavedCall>, StoreError> {
        if let Some(call) = token.call.take() {
            return Ok(Some(call));
        }
        let stored = self.store.get(&StoreId { kind: CALL, caller, id: &token.head.round.0 }).await?;
        // Unbounded JSON: sealed by this server, at most 1 MiB.
        Ok(stored.and_then(|stored| serde_json::from_slice(&stored.value).ok()))
    }

    /// Reports whether a round has its outcome, so that no answer is read any more.
    pub(super) async fn has_ended(&self, caller: Option<&Principal>, round: Id) -> Result<bool, StoreError> {
        let outcome = self.outcome(&StoreId { kind: ROUND, caller, id: &round.0 }).await?;
        Ok(matches!(outcome, Some((Stored::Message(_) | Stored::Asked(_), _))))
    }

    async fn outcome(&self, row: &StoreId<'_>) -> Result<Option<(Stored, Version)>, StoreError> {
        let Some(stored) = self.store.get(row).await? else {
            return Ok(None);
        };
        let outcome = Stored::decode(&stored.value).ok_or(StoreError::Unreadable)?;
        Ok(Some((outcome, stored.version)))
    }
}

/// Builds the replay of a round from its answers.
fn replay(token: EventToken, call: SavedCall, version: Version, answers: Vec<Vec<u8>>) -> Option<Replay> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        result: Option<Box<RawValue>>,
        #[serde(default)]
        error: Option<Box<RawValue>>,
    }
    #[derive(Deserialize)]
    struct ClientError {
        message: String,
    }
    let (mut responses, mut client_error) = (Vec::new(), None);
    for (key, answer) in call.keys.iter().zip(answers) {
        // Unbounded JSON: at most 64 KiB, parsed before it was stored.
        let answer: Answer = serde_json::from_slice(&answer).ok()?;
        match (answer.result, answer.error) {
            (Some(result), _) => responses.push(format!("{}:{result}", serde_json::to_string(key).ok()?)),
            (None, error) => {
                let error = error.and_then(|error| json::borrow::<ClientError>(error.get()).ok());
                client_error = Some(error.map_or_else(String::new, |error| error.message));
            }
        }
    }
    let responses = RawValue::from_string(format!("{{{}}}", responses.join(","))).ok()?;
    let state = to_raw_value(&call.state).ok()?;
    Some(Replay { head: token.head, call, version, polls: token.polls, responses, state, client_error })
}

fn sealing() -> StoreError {
    StoreError::Other("could not seal an event".into())
}
