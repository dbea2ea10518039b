//! Wake-ups of tasks.

use std::sync::PoisonError;

use crate::{dispatch::built::Built, error_chain, store::RowKey, tasks::wake::WakeUp};

/// Wakes a task. A wake-up that fails is not an error of the request: the task is stored, and will be overdue.
pub(crate) async fn wake(built: &Built, task: RowKey) {
    let waker = built.waker.read().unwrap_or_else(PoisonError::into_inner).clone();
    let (Some(waker), Some(store)) = (waker, &built.store) else { return };
    if let Err(error) = waker.wake(WakeUp::new(store, task)).await {
        let error = error_chain(error.as_ref());
        tracing::warn!(error, "a task was not woken: it starts when it is overdue");
    }
}
