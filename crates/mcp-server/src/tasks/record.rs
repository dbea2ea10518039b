//! The row of a task: what a run needs, and what the client reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use mcp_protocol::{
    ClientCapabilities, ErrorObject, Implementation, InputRequest, InputRequests, JsonObject, lookup, tasks::TaskStatus,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::clock::millis;
use crate::{Principal, interaction::request_state::RequestState};

/// Time after which a task that was woken, or that runs, counts as overdue and is woken again.
pub(crate) const OVERDUE: Duration = Duration::from_secs(5);
/// Maximum number of times that [`OVERDUE`] doubles while wake-ups have no effect.
const MAX_DOUBLINGS: u32 = 6;
/// As [`OVERDUE`], for a task that runs: longer than its lease.
pub(crate) const RUNNING_OVERDUE: Duration = Duration::from_secs(60);
/// Maximum size of an answer of the client.
pub(crate) const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Maximum length of a status message.
const MAX_STATUS_CHARS: usize = 500;

/// A task. Only its row has it, sealed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TaskRecord {
    pub(crate) id: String,
    pub(crate) tool: String,
    /// [`Task::digest`](crate::Task::digest) of the version of the server that created the task.
    pub(crate) digest: String,
    /// The revision of the call.
    pub(crate) revision: String,
    caller: Option<StoredCaller>,
    /// What the client declared. `None` if it cannot answer questions of a task.
    pub(crate) capabilities: Option<ClientCapabilities>,
    pub(crate) client_info: Option<Implementation>,
    pub(crate) arguments: Option<Box<RawValue>>,
    pub(crate) created: u64,
    pub(crate) updated: u64,
    pub(crate) ttl: u64,
    /// The place among the caller's live tasks.
    pub(crate) slot: u16,
    /// Number of runs so far: a run whose number has passed writes nothing.
    pub(crate) attempt: u32,
    /// Number of runs since the last one with a new step or answer.
    pub(crate) idle_attempts: u32,
    pub(crate) status_message: Option<String>,
    /// Values of `once` and answers, as in `requestState`.
    pub(crate) state: RequestState,
    /// Answers that no run has read yet, by the handler's key.
    answers: BTreeMap<String, Box<RawValue>>,
    /// Open questions, by the key that the client sees.
    questions: BTreeMap<String, OpenQuestion>,
    /// All keys that the client has seen: none is used for two questions.
    seen_keys: BTreeSet<String>,
    /// When the task is due, unless it waits for an answer alone.
    pub(crate) due: Option<u64>,
    /// Whether the task waits, for answers or until it is due. Otherwise it was woken, or runs.
    waits: bool,
    /// Number of wake-ups because the task was due, since its last run began.
    wakes: u32,
    pub(crate) end: Option<TaskEnding>,
}

/// The final state of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum TaskEnding {
    Completed(Box<RawValue>),
    Failed(ErrorObject),
    Cancelled,
}

#[derive(Debug, Serialize, Deserialize)]
struct OpenQuestion {
    /// The handler's key.
    key: String,
    /// Digest of the question: another text is another question.
    digest: String,
    request: InputRequest,
    /// Number of runs that had begun when the answer arrived; `None` without an answer.
    answered: Option<u32>,
}

/// A new task.
#[derive(Clone)]
pub(crate) struct NewTask {
    pub(crate) id: String,
    pub(crate) tool: String,
    pub(crate) digest: String,
    pub(crate) revision: String,
    pub(crate) caller: Option<Arc<Principal>>,
    pub(crate) capabilities: Option<ClientCapabilities>,
    pub(crate) client_info: Option<Implementation>,
    pub(crate) arguments: Option<Box<RawValue>>,
    pub(crate) ttl: Duration,
    pub(crate) status_message: Option<String>,
    pub(crate) state: RequestState,
}

impl NewTask {
    /// Returns the size of what the client sent.
    pub(crate) fn sent_bytes(&self) -> usize {
        let sent = (&self.arguments, &self.capabilities, &self.client_info);
        serde_json::to_vec(&sent).map_or(usize::MAX, |sent| sent.len())
    }
}

impl TaskRecord {
    pub(crate) fn new(task: NewTask, now: u64) -> Self {
        Self {
            id: task.id,
            tool: task.tool,
            digest: task.digest,
            revision: task.revision,
            caller: task.caller.as_deref().map(StoredCaller::from),
            capabilities: task.capabilities,
            client_info: task.client_info,
            arguments: task.arguments,
            created: now,
            updated: now,
            ttl: millis(task.ttl),
            slot: 0,
            attempt: 0,
            idle_attempts: 0,
            status_message: task.status_message,
            state: task.state,
            answers: BTreeMap::new(),
            questions: BTreeMap::new(),
            seen_keys: BTreeSet::new(),
            due: Some(now + millis(OVERDUE)),
            waits: false,
            wakes: 0,
            end: None,
        }
    }

    pub(crate) fn caller(&self) -> Option<Arc<Principal>> {
        self.caller.as_ref().map(|caller| Arc::new(caller.into()))
    }

    pub(crate) fn status(&self) -> TaskStatus {
        match &self.end {
            Some(TaskEnding::Completed(_)) => TaskStatus::Completed,
            Some(TaskEnding::Failed(_)) => TaskStatus::Failed,
            Some(TaskEnding::Cancelled) => TaskStatus::Cancelled,
            None if self.has_open_question() => TaskStatus::InputRequired,
            None => TaskStatus::Working,
        }
    }

    fn has_open_question(&self) -> bool {
        self.questions.values().any(|question| question.answered.is_none())
    }

    /// Returns the questions without an answer.
    pub(crate) fn open_questions(&self) -> InputRequests {
        let open = self.questions.iter().filter(|(_, question)| question.answered.is_none());
        open.map(|(key, question)| (key.clone(), question.request.clone())).collect()
    }

    /// Reports whether a run would have something to do: not for a task that has ended, or waits.
    pub(crate) fn is_runnable(&self, now: u64) -> bool {
        self.end.is_none() && (!self.waits || self.is_overdue(now))
    }

    /// Reports whether a task should have been started by now, by the clock of this environment.
    pub(crate) fn is_overdue(&self, now: u64) -> bool {
        self.end.is_none() && self.due.is_some_and(|due| due <= now)
    }

    /// Returns the time until the task expires.
    pub(crate) fn lifetime(&self, now: u64) -> Duration {
        Duration::from_millis((self.created + self.ttl).saturating_sub(now).max(1))
    }

    /// Returns the time until the task is due.
    pub(crate) fn due_in(&self, now: u64) -> Option<Duration> {
        let due = self.due.filter(|_| self.end.is_none());
        due.map(|due| Duration::from_millis(due.saturating_sub(now)).min(self.lifetime(now)))
    }

    /// Takes responses of the client to open questions. Returns whether all questions now have answers; `None` if no response
    /// belongs to an open question.
    ///
    /// # Errors
    ///
    /// When a response is too large.
    pub(crate) fn take_answers(&mut self, responses: &RawValue, now: u64) -> Result<Option<bool>, String> {
        let mut is_changed = false;
        for (wire_key, question) in self.questions.iter_mut().filter(|(_, question)| question.answered.is_none()) {
            let Some(answer) = lookup(responses, std::slice::from_ref(wire_key)).ok().flatten() else { continue };
            if answer.get().len() > MAX_ANSWER_BYTES {
                return Err(format!("a response must have at most {MAX_ANSWER_BYTES} bytes"));
            }
            question.answered = Some(self.attempt);
            self.answers.insert(question.key.clone(), answer.to_owned());
            is_changed = true;
        }
        if !is_changed {
            return Ok(None);
        }
        self.updated = now;
        let is_complete = !self.has_open_question();
        if is_complete {
            self.wake_soon(now);
        }
        Ok(Some(is_complete))
    }

    /// Returns the answers that no run has read yet, as `inputResponses` have them.
    pub(crate) fn unread_answers(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&self.answers).ok()
    }

    /// Begins a run. The questions stay until it ends, so that a run that is repeated finds the same answers.
    pub(crate) fn begin_attempt(&mut self, now: u64) {
        self.attempt += 1;
        self.idle_attempts += 1;
        self.wakes = 0;
        self.keep_running(now);
    }

    /// Moves the time when a running task is overdue.
    pub(crate) fn keep_running(&mut self, now: u64) {
        (self.due, self.waits) = (Some(now + millis(RUNNING_OVERDUE)), false);
    }

    /// Records a step.
    pub(crate) fn record_step(&mut self, key: &str, value: &RawValue, now: u64) {
        self.state.kept.insert(key.to_owned(), value.to_owned());
        self.idle_attempts = 0;
        self.updated = now;
        self.keep_running(now);
    }

    /// Ends a run with questions, a wait, or both. Answers that arrived since the run began are kept for the next one, which is then
    /// due if they complete the questions: this run has not read them.
    pub(crate) fn park(&mut self, state: RequestState, asked: InputRequests, wake: Option<u64>, now: u64) {
        let digest_of = |key: &str| state.questions.get(key).map(|own| own.digest.clone()).unwrap_or_default();
        let (mut questions, open): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.questions)
            .into_iter()
            .filter(|(_, own)| own.answered.is_none_or(|runs| runs == self.attempt))
            // An answer to another question of this key is not for the handler.
            .filter(|(_, own)| !asked.contains_key(&own.key) || own.digest == digest_of(&own.key))
            .partition(|(_, own)| own.answered.is_some());
        let is_asking = !asked.is_empty();
        for (key, request) in asked {
            if questions.values().any(|own| own.key == key) {
                continue;
            }
            let wire_key = match open.iter().find(|(_, own)| own.key == key) {
                Some((wire_key, _)) => wire_key.clone(),
                None => unused(&key, &self.seen_keys),
            };
            self.seen_keys.insert(wire_key.clone());
            let digest = digest_of(&key);
            questions.insert(wire_key, OpenQuestion { key, digest, request, answered: None });
        }
        self.answers.retain(|key, _| questions.values().any(|own| own.key == *key && own.answered.is_some()));
        self.questions = questions;
        self.state = state;
        self.updated = now;
        self.idle_attempts = 0;
        (self.due, self.waits) = (wake, wake.is_some() || self.has_open_question());
        if is_asking && !self.has_open_question() {
            self.wake_soon(now);
        }
    }

    /// Lets a new task wait.
    pub(crate) fn sleep_until(&mut self, end: u64) {
        (self.due, self.waits) = (Some(end), true);
    }

    /// Makes the task overdue after a short time, unless the wake-up that is sent now arrives before.
    pub(crate) fn wake_soon(&mut self, now: u64) {
        (self.due, self.waits) = (Some(now + millis(OVERDUE)), false);
    }

    /// Claims a task that is due for one wake-up. If no run begins, it is due again: after 5 s, and later after each further claim, up
    /// to 320 s.
    pub(crate) fn claim(&mut self, now: u64) {
        self.wake_soon(now);
        self.due = Some(now + (millis(OVERDUE) << self.wakes.min(MAX_DOUBLINGS)));
        self.wakes += 1;
    }

    /// Ends the task, and drops what only runs need.
    pub(crate) fn finish(&mut self, end: TaskEnding, now: u64) {
        self.end = Some(end);
        self.updated = now;
        self.arguments = None;
        (self.capabilities, self.client_info) = (None, None);
        self.state = RequestState::default();
        self.answers.clear();
        self.questions.clear();
        self.seen_keys.clear();
        self.due = None;
    }

    pub(crate) fn set_status(&mut self, text: String, now: u64) {
        self.status_message = Some(shortened_status(text));
        self.updated = now;
    }
}

/// Cuts a status message at its maximum length.
pub(crate) fn shortened_status(text: String) -> String {
    match text.char_indices().nth(MAX_STATUS_CHARS) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}

/// Returns a key that no question of the task has had: the handler's own, or that with a number.
fn unused(key: &str, seen: &BTreeSet<String>) -> String {
    let numbered = (2..).map(|number: u32| format!("{key}~{number}"));
    let mut candidates = std::iter::once(key.to_owned()).chain(numbered);
    candidates.find(|own| !seen.contains(own)).unwrap_or_else(|| key.to_owned())
}

/// A [`Principal`], as a row has it.
#[derive(Debug, Serialize, Deserialize)]
struct StoredCaller {
    issuer: String,
    subject: String,
    email: Option<String>,
    email_verified: bool,
    name: Option<String>,
    scopes: BTreeSet<String>,
    client_id: Option<String>,
    tenant: Option<String>,
    groups: Vec<String>,
    roles: Vec<String>,
    claims: JsonObject,
}

macro_rules! convert_caller {
    ($from:ty, $to:ident) => {
        impl From<&$from> for $to {
            fn from(own: &$from) -> Self {
                Self {
                    issuer: own.issuer.clone(),
                    subject: own.subject.clone(),
                    email: own.email.clone(),
                    email_verified: own.email_verified,
                    name: own.name.clone(),
                    scopes: own.scopes.clone(),
                    client_id: own.client_id.clone(),
                    tenant: own.tenant.clone(),
                    groups: own.groups.clone(),
                    roles: own.roles.clone(),
                    claims: own.claims.clone(),
                }
            }
        }
    };
}
convert_caller!(Principal, StoredCaller);
convert_caller!(StoredCaller, Principal);
