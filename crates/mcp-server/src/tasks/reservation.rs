//! [`Reservation`]: the place of a call that may become a task.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use super::{
    clock::millis,
    record::{NewTask, TaskRecord},
    rows,
    slots::{self, Claimant, Slot},
};
use crate::{
    interaction::request_state::RequestState,
    store::{RowKey, SealedStore, StoreError},
};

/// Maximum size of what the client sends for a task: arguments, capabilities and its name. Each step writes it again.
pub(crate) const MAX_SENT_BYTES: usize = 64 * 1024;

/// A call, with the place that it takes before its first step, or when it becomes a task.
pub(crate) struct Reservation {
    store: SealedStore,
    task: NewTask,
    address: Option<IpAddr>,
    /// When the call becomes a task.
    until: Instant,
    taken: AsyncMutex<Option<Slot>>,
    refusal: Mutex<Option<Refusal>>,
}

/// Why a call gets no place: it must not run a step, and cannot become a task.
pub(crate) enum Refusal {
    /// The caller has too many live tasks.
    TooMany,
    /// The client sends more than [`MAX_SENT_BYTES`].
    TooLarge,
    Store(StoreError),
}

impl Reservation {
    pub(crate) fn new(store: SealedStore, task: NewTask, address: Option<IpAddr>, until: Instant) -> Self {
        Self { store, task, address, until, taken: AsyncMutex::default(), refusal: Mutex::default() }
    }

    pub(crate) fn id(&self) -> &str {
        &self.task.id
    }

    pub(crate) fn key(&self) -> RowKey {
        rows::row_key(&self.store, self.task.caller.as_deref(), &self.task.id)
    }

    /// Takes the place, unless the call has it.
    pub(crate) async fn take(&self, now: u64) -> Result<Slot, Refusal> {
        let mut taken = self.taken.lock().await;
        if let Some(slot) = *taken {
            return Ok(slot);
        }
        if self.task.sent_bytes() > MAX_SENT_BYTES {
            return Err(Refusal::TooLarge);
        }
        let left = self.until.saturating_duration_since(Instant::now());
        let claimant = Claimant {
            task: self.key(),
            address: self.address,
            // The task expires first.
            lifetime: self.task.ttl + left + Duration::from_secs(1),
            now,
            stored_by: now.saturating_add(millis(left)),
        };
        let slot = slots::take(&self.store, self.task.caller.as_deref(), claimant).await.map_err(Refusal::Store)?;
        *taken = slot;
        slot.ok_or(Refusal::TooMany)
    }

    /// Takes the place before a step. Returns `false`, and keeps the reason, if there is none.
    pub(crate) async fn admit_step(&self, now: u64) -> bool {
        match self.take(now).await {
            Ok(_) => true,
            Err(refusal) => {
                *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
                false
            }
        }
    }

    /// Returns why a step was not admitted.
    pub(crate) fn take_refusal(&self) -> Option<Refusal> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the task with the state of the call.
    pub(crate) fn record(&self, state: RequestState, status_message: Option<String>, now: u64) -> TaskRecord {
        TaskRecord::new(NewTask { state, status_message, ..self.task.clone() }, now)
    }

    /// Stores the task in its place.
    pub(crate) async fn store(&self, record: &TaskRecord, now: u64) -> Result<(), StoreError> {
        rows::insert(&self.store, record, self.task.caller.as_deref(), now).await
    }

    /// Gives the place back, if the call has one: it ended in its request.
    pub(crate) async fn release(&self) {
        if let Some(slot) = self.taken.lock().await.take() {
            slots::release(&self.store, self.task.caller.as_deref(), slot).await;
        }
    }
}
