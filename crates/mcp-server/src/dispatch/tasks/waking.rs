//! Wake-ups of tasks.

use std::sync::PoisonError;

use crate::{
    dispatch::built::Built,
    error_chain,
    store::{RowKey, SealedStore, StoreError},
    tasks::{
        lease,
        rows::{self, HeldTask},
        wake::WakeUp,
    },
};

/// Wakes a task. A wake-up that fails is not an error of the request: the task is stored, and will be overdue.
pub(crate) async fn wake(built: &Built, task: RowKey) {
    let waker = built.waker.read().unwrap_or_else(PoisonError::into_inner).clone();
    let (Some(waker), Some(store)) = (waker, &built.store) else { return };
    if let Err(error) = waker.wake(WakeUp::new(store, task)).await {
        let error = error_chain(error.as_ref());
        tracing::warn!(error, "a task was not woken: it starts when it is overdue");
    }
}

/// Wakes a task that is due, unless a run has it, or another environment has claimed this wake-up. Returns whether it did.
pub(crate) async fn wake_due(
    built: &Built,
    store: &SealedStore,
    key: RowKey,
    held: HeldTask,
    now: u64,
) -> Result<bool, StoreError> {
    let caller = held.record.caller();
    let is_leased = lease::is_leased(store, caller.as_deref(), &held.record.id).await?;
    let is_claimed = !is_leased && rows::claim(store, key, held, now).await?;
    if is_claimed {
        wake(built, key).await;
    }
    Ok(is_claimed)
}
