//! [`WakeTask`]: how a run of a task is started.

use std::pin::Pin;

use crate::{
    BoxError,
    store::{RowKey, SealedStore},
};

/// Starts runs of tasks outside of the request that created them. A platform implements it.
///
/// A wake-up may arrive late, twice or never: a run that is not needed ends at once, and what is overdue is woken again.
pub trait WakeTask: Send + Sync + 'static {
    /// Requests a run ([`TaskRunner::run`](crate::TaskRunner::run)) of a task, and returns before it has ended.
    fn wake(&self, task: WakeUp) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + '_>>;
}

/// A wake-up of a task. It reveals neither the caller nor the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WakeUp {
    task: RowKey,
    code: RowKey,
}

impl WakeUp {
    pub(crate) fn new(store: &SealedStore, task: RowKey) -> Self {
        Self { task, code: RowKey::from_bytes(store.keys().wake_up_code(task)) }
    }

    /// Parses the text of a wake-up; `None` for one that this server did not make.
    pub(crate) fn verify(store: &SealedStore, text: &str) -> Option<Self> {
        let (task, code) = text.split_once('.')?;
        let (task, code) = (RowKey::decode(task)?, RowKey::decode(code)?);
        store.keys().is_wake_up_code(task, code.as_bytes()).then_some(Self { task, code })
    }

    /// Returns the key of the task's row.
    pub fn task(&self) -> RowKey {
        self.task
    }

    /// Returns the wake-up as text, for an event: the key, and an authentication code of the server, so that the permission to send
    /// events is not the permission to run tasks.
    pub fn encode(&self) -> String {
        format!("{}.{}", self.task.encode(), self.code.encode())
    }
}
