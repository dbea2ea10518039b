//! One run of a task in the background: its writes, which fail when another run has begun.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mcp_protocol::{ErrorObject, jsonrpc};
use serde_json::value::RawValue;
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    clock::Clock,
    record::{TaskEnding, TaskRecord},
    rows::{self, Change, HeldTask},
    slots,
};
use crate::{
    Principal,
    store::{RowKey, SealedStore, StoreError},
};

/// Time between two writes of status messages.
const STATUS_EVERY: Duration = Duration::from_secs(3);
/// Time after which the row of a run without steps is written again, so that it does not count as overdue.
const TOUCH_AFTER: Duration = Duration::from_secs(30);
/// Number of repetitions of a write that the store did not confirm.
const MAX_RETRIES: u32 = 4;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// A run of a task's handler in the background.
pub(crate) struct Attempt {
    store: SealedStore,
    key: RowKey,
    pub(crate) id: String,
    caller: Option<Arc<Principal>>,
    clock: Clock,
    /// The number of this run, the fencing token of its writes.
    number: u32,
    held: AsyncMutex<Held>,
    /// A status message that is not written yet.
    status: Mutex<Option<String>>,
    /// Cancelled when this run may write no more.
    lost: CancellationToken,
}

struct Held {
    task: HeldTask,
    written: Instant,
}

impl Attempt {
    /// Begins a run of a task whose lease was taken. `None` if the task has ended, or needs no run.
    pub(crate) async fn begin(
        store: &SealedStore,
        key: RowKey,
        caller: Option<Arc<Principal>>,
        clock: Clock,
    ) -> Result<Option<Self>, StoreError> {
        loop {
            let Some(mut task) = rows::by_key(store, key).await? else {
                return Ok(None);
            };
            if !task.record.is_runnable(clock.now()) {
                return Ok(None);
            }
            task.record.begin_attempt(clock.now());
            let version = match rows::replace(store, key, &task, Change::State, clock.now()).await {
                // No run could begin.
                Err(StoreError::TooLarge { .. }) => {
                    task.record.finish(too_large(), clock.now());
                    match rows::replace(store, key, &task, Change::State, clock.now()).await? {
                        Some(_) => slots::free(store, caller.as_deref(), task.record.slot, key).await,
                        None => continue,
                    }
                    return Ok(None);
                }
                version => version?,
            };
            if let Some(version) = version {
                let (id, number) = (task.record.id.clone(), task.record.attempt);
                let held = Held { task: HeldTask { version, ..task }, written: Instant::now() };
                return Ok(Some(Self {
                    store: store.clone(),
                    key,
                    id,
                    caller,
                    clock,
                    number,
                    held: AsyncMutex::new(held),
                    status: Mutex::new(None),
                    lost: CancellationToken::new(),
                }));
            }
        }
    }

    /// Reads the task.
    pub(crate) async fn read<T>(&self, read: impl FnOnce(&TaskRecord) -> T) -> T {
        read(&self.held.lock().await.task.record)
    }

    pub(crate) fn set_status(&self, text: String) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    /// Records a step. Returns `false` if this run may write no more.
    pub(crate) async fn record_step(&self, key: &str, value: &RawValue) -> bool {
        let written = self.write(Change::Content, |record, now| record.record_step(key, value, now)).await;
        if let Err(error) = &written {
            let error = crate::error_chain(error);
            tracing::warn!(attempt = self.number, error, "could not record a step of a task: it will run again");
        }
        let is_written = matches!(written, Ok(true));
        if !is_written {
            self.lost.cancel();
        }
        is_written
    }

    /// Changes the task. `change` is repeated on a newer version after a conflict. Returns `false` if another run has begun, or the
    /// task has ended: nothing was written then. A task that becomes too large ends. `kind` is the kind of change.
    pub(crate) async fn write(
        &self,
        kind: Change,
        mut change: impl FnMut(&mut TaskRecord, u64),
    ) -> Result<bool, StoreError> {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut held = self.held.lock().await;
        let (mut retries, mut is_too_large) = (0, false);
        loop {
            let now = self.clock.now();
            if let Some(status) = &status {
                held.task.record.set_status(status.clone(), now);
            }
            let kind = match is_too_large {
                false => {
                    change(&mut held.task.record, now);
                    kind
                }
                true => {
                    held.task.record.finish(too_large(), now);
                    Change::State
                }
            };
            match rows::replace(&self.store, self.key, &held.task, kind, now).await {
                Ok(Some(version)) => {
                    held.task.version = version;
                    held.written = Instant::now();
                    if is_too_large {
                        self.free_slot(held.task.record.slot).await;
                    }
                    return Ok(!is_too_large);
                }
                Ok(None) => {}
                Err(StoreError::TooLarge { .. }) if !is_too_large => {
                    is_too_large = true;
                    continue;
                }
                // The write may have been executed, which reading it again shows.
                Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)) if retries < MAX_RETRIES => {
                    sleep(FIRST_BACKOFF * 2_u32.pow(retries)).await;
                    retries += 1;
                }
                Err(error) => return Err(error),
            }
            match rows::by_key(&self.store, self.key).await {
                Ok(Some(task)) if task.record.attempt == self.number && task.record.end.is_none() => held.task = task,
                Ok(_) => return Ok(false),
                Err(StoreError::Unavailable(_)) if retries < MAX_RETRIES => retries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes new status messages, and the row of a long step from time to time. Returns when this run may write no more.
    pub(crate) async fn keep_status(&self) {
        loop {
            sleep(STATUS_EVERY).await;
            let has_status = self.status.lock().unwrap_or_else(PoisonError::into_inner).is_some();
            let is_old = || self.held.try_lock().is_ok_and(|held| held.written.elapsed() >= TOUCH_AFTER);
            if (has_status || is_old())
                && matches!(self.write(Change::State, TaskRecord::keep_running).await, Ok(false))
            {
                return;
            }
        }
    }

    /// Frees the place of the task, which has ended.
    pub(crate) async fn free_slot(&self, slot: u16) {
        slots::free(&self.store, self.caller.as_deref(), slot, self.key).await;
    }

    /// Waits until a step cannot be recorded.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

/// Returns the end of a task whose values do not fit into its row.
fn too_large() -> TaskEnding {
    let text = "the values, questions and answers of the task are too large together";
    TaskEnding::Failed(ErrorObject::new(jsonrpc::INTERNAL_ERROR, text))
}
