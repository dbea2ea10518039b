//! `tasks/get`, `tasks/update` and `tasks/cancel`.

use std::sync::Arc;

use mcp_protocol::{
    RequestParams, method,
    tasks::{self, TaskResultType},
};
use serde_json::value::RawValue;

use super::{
    foreground::declares_tasks,
    view::{acknowledgment, store_failure, view},
    waking::{wake, wake_due},
};
use crate::{
    CallError, Principal,
    dispatch::{
        built::Built,
        call::{CallOutcome, CallResponse},
        render::outcome_of,
        run::{Run, invalid, within},
    },
    error_chain,
    items::registered_tool::RegisteredTool,
    store::{SealedStore, StoreError},
    tasks::{
        clock::Clock,
        lease,
        record::TaskEnding,
        rows::{self, Change, HeldTask},
        slots,
    },
};

/// Maximum size of all responses of one `tasks/update`.
const MAX_RESPONSES_BYTES: usize = 512 * 1024;

/// A method of the extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskMethod {
    Get,
    Update,
    Cancel,
}

impl TaskMethod {
    pub(crate) fn of(method: &str) -> Self {
        match method {
            method::TASKS_UPDATE => Self::Update,
            method::TASKS_CANCEL => Self::Cancel,
            _ => Self::Get,
        }
    }
}

/// Why a request about a task has no result.
pub(super) enum TaskError {
    Refused(CallError),
    Store(StoreError),
}

impl From<StoreError> for TaskError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl TaskError {
    pub(super) fn outcome(self) -> CallOutcome {
        match self {
            Self::Refused(refusal) => CallOutcome::from(Err(refusal)),
            Self::Store(error) => store_failure(error),
        }
    }

    /// Unknown, expired and foreign ids have the same error.
    pub(super) fn unknown() -> Self {
        Self::Refused(CallError::InvalidInput("unknown task: it does not exist, or has expired".to_owned()))
    }
}

pub(crate) fn handle(run: Run<'_>, method: TaskMethod, params: &RequestParams<'_>) -> Result<CallResponse, CallError> {
    if !declares_tasks(&run) {
        return Err(CallError::MissingClientCapability(Box::new(tasks::client_capabilities())));
    }
    let id = params.task_id().map_err(invalid)?.into_owned();
    let responses = match (method, params.input_responses) {
        (TaskMethod::Update, Some(raw)) if raw.get().starts_with('{') => {
            if raw.get().len() > MAX_RESPONSES_BYTES {
                let text = format!("`inputResponses` must have at most {MAX_RESPONSES_BYTES} bytes");
                return Err(CallError::InvalidInput(text));
            }
            Some(raw.to_owned())
        }
        (TaskMethod::Update, _) => {
            return Err(CallError::InvalidParams("`inputResponses` must be an object".to_owned()));
        }
        (TaskMethod::Get | TaskMethod::Cancel, _) => None,
    };
    let (built, caller) = (Arc::clone(run.built), run.invocation.principal.clone());
    let (clock, deadline) = (Clock::new(run.invocation.received), run.invocation.answer_by());
    Ok(CallResponse::Pending(Box::pin(async move {
        let request = TaskRequest { built: &built, caller: caller.as_deref(), clock };
        let handled = within(deadline, async {
            match method {
                TaskMethod::Get => request.get(&id).await,
                TaskMethod::Update => request.update(&id, responses.as_deref().unwrap_or(RawValue::NULL)).await,
                TaskMethod::Cancel => request.cancel(&id).await,
            }
        });
        match handled.await {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => error.outcome(),
            None => CallOutcome::from(Err(CallError::DeadlineExceeded)),
        }
    })))
}

/// A request about a task.
pub(super) struct TaskRequest<'a> {
    pub(super) built: &'a Built,
    pub(super) caller: Option<&'a Principal>,
    pub(super) clock: Clock,
}

impl<'a> TaskRequest<'a> {
    async fn get(&self, id: &str) -> Result<CallOutcome, TaskError> {
        let (held, tool) = self.find(id).await?;
        // `find` returns only tools with settings.
        let task = tool.task.as_ref().ok_or_else(TaskError::unknown)?;
        let outcome = outcome_of(&view(&held.record, task, TaskResultType::Complete, self.built.renderer.meta()));
        self.wake_overdue(held).await;
        Ok(outcome)
    }

    async fn update(&self, id: &str, responses: &RawValue) -> Result<CallOutcome, TaskError> {
        let (HeldTask { record, .. }, _) = self.find(id).await?;
        let (store, now) = (self.store()?, self.clock.now());
        let key = rows::row_key(store, self.caller, &record.id);
        let changed =
            rows::change(store, key, Change::Content, now, |record| match record.take_answers(responses, now) {
                Ok(Some(is_complete)) => (true, Ok(is_complete)),
                Ok(None) => (false, Ok(false)),
                Err(refusal) => (false, Err(refusal)),
            });
        match changed.await {
            Ok(None) => return Err(TaskError::unknown()),
            Ok(Some((_, Err(refusal)))) => return Err(TaskError::Refused(CallError::InvalidInput(refusal))),
            Err(StoreError::TooLarge { .. }) => {
                let text = "the responses of this task are too large together".to_owned();
                return Err(TaskError::Refused(CallError::InvalidInput(text)));
            }
            Err(error) => return Err(error.into()),
            Ok(Some((_, Ok(true)))) => wake(self.built, key).await,
            Ok(Some((_, Ok(false)))) => {}
        }
        Ok(acknowledgment(&self.built.renderer.meta()))
    }

    async fn cancel(&self, id: &str) -> Result<CallOutcome, TaskError> {
        let (HeldTask { record, .. }, _) = self.find(id).await?;
        let (store, now) = (self.store()?, self.clock.now());
        let key = rows::row_key(store, self.caller, &record.id);
        let changed = rows::change(store, key, Change::State, now, |record| {
            let is_live = record.end.is_none();
            if is_live {
                record.finish(TaskEnding::Cancelled, now);
            }
            (is_live, is_live)
        });
        if let Some((record, true)) = changed.await?.ok_or_else(TaskError::unknown)?.into() {
            // The task is cancelled. Its run stops when it cannot renew its lease, and otherwise at its next write.
            let _ = lease::revoke(store, self.caller, &record.id).await;
            slots::free(store, self.caller, record.slot, key).await;
        }
        Ok(acknowledgment(&self.built.renderer.meta()))
    }

    fn store(&self) -> Result<&'a SealedStore, TaskError> {
        self.built.store.as_ref().ok_or(TaskError::Refused(CallError::Internal))
    }

    /// Returns a task of this caller, who may use its tool.
    pub(super) async fn find(&self, id: &str) -> Result<(HeldTask, &'a RegisteredTool), TaskError> {
        // Anonymous callers never reach the store unless they can have tasks: it may be asleep.
        let can_have_tasks =
            |tool: &RegisteredTool| tool.task.is_some() && self.built.policy.permit(&tool.requirement, None).is_ok();
        if self.caller.is_none() && !self.built.catalog.tools.iter().any(can_have_tasks) {
            return Err(TaskError::unknown());
        }
        let held = rows::find(self.store()?, self.caller, id).await?.ok_or_else(TaskError::unknown)?;
        let tool = self.built.catalog.tool(&held.record.tool).filter(|tool| tool.task.is_some());
        let tool = tool.ok_or_else(TaskError::unknown)?;
        self.built.policy.permit(&tool.requirement, self.caller).map_err(TaskError::Refused)?;
        Ok((held, tool))
    }

    /// Wakes a task whose run has not begun, has been lost, or waits no longer. A failure is not an error of the request: the task
    /// stays due.
    pub(super) async fn wake_overdue(&self, held: HeldTask) {
        let now = self.clock.now();
        if let Some(store) = &self.built.store
            && held.record.is_overdue(now)
        {
            let key = rows::row_key(store, self.caller, &held.record.id);
            if let Err(error) = wake_due(self.built, store, key, held, now).await {
                tracing::warn!(error = error_chain(&error), "a task that is due could not be woken");
            }
        }
    }
}
