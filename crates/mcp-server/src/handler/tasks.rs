//! Methods of [`InteractiveContext`] for handlers that run as tasks.

use std::{future::pending, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::value::to_raw_value;

use super::interactive::InteractiveContext;
use crate::tasks::task_run::{TaskRun, Wait};

impl<S> InteractiveContext<S> {
    /// Waits, once for each key: a run of the handler after the wait passes it. In a task no environment runs in the meantime. Anywhere
    /// else, the request waits.
    pub async fn sleep(&self, key: &str, duration: Duration) {
        let (Some(task), Some(round)) = (self.task_run(), self.round()) else {
            return tokio::time::sleep(duration).await;
        };
        let key = format!("sleep {key}");
        // Unbounded JSON: a number of this server, sealed.
        let begun = round.kept(&key).and_then(|end| serde_json::from_str(end.get()).ok());
        let end = begun.unwrap_or_else(|| {
            let end = task.wait_end(duration);
            if let Ok(raw) = to_raw_value(&end) {
                round.keep_value(&key, raw);
            }
            end
        });
        match task.wait_until(end) {
            None => {}
            Some(Wait::Here(left)) => tokio::time::sleep(left).await,
            Some(Wait::Parked) => self.suspend(None).await,
        }
    }

    /// Sets the status message that the client of a task sees, up to 500 characters: within three seconds, and with the next step.
    /// Does nothing anywhere else. It is shown to users and models, so that it must not contain secrets.
    pub fn status(&self, text: impl Into<String>) {
        if let Some(task) = self.task_run() {
            task.set_status(crate::tasks::record::shortened_status(text.into()));
        }
    }

    /// Returns the idempotency key of a step of a task: the same in each run of this task, unguessable, and different for each other
    /// task and key. Pass it to services that deduplicate requests by it. `None` if the call cannot become a task.
    pub fn idempotency_key(&self, step: &str) -> Option<String> {
        let id = self.task_run()?.id();
        // The id itself is a credential of the caller. It has a fixed length.
        let digest = digest(&SHA256, format!("step {id} {step}").as_bytes());
        Some(BASE64_URL_SAFE_NO_PAD.encode(digest))
    }

    pub(super) fn task_run(&self) -> Option<&TaskRun> {
        self.call.task.as_deref()
    }

    /// Waits for the permission to run a step: in the request, a call that becomes a task, or cannot become one, ends here.
    pub(super) async fn admit_step(&self) {
        if let Some(task) = self.task_run()
            && !task.admit_step().await
        {
            self.suspend::<()>(None).await;
        }
    }

    /// Records a step. Never returns if this run must not continue.
    pub(super) async fn record_step(&self, key: &str) {
        let (Some(task), Some(round)) = (self.task_run(), self.round()) else { return };
        let Some(value) = round.kept(key) else { return };
        if !task.record_step(key, &value).await {
            pending::<()>().await;
        }
    }
}
