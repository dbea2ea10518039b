//! What a client sees of a task.

use std::borrow::Cow;

use mcp_protocol::{
    JsonObject,
    tasks::{TaskResult, TaskResultType},
};

use crate::{
    Task,
    dispatch::{
        call::{CallOutcome, Rendered},
        render::outcome_of,
    },
    store::StoreError,
    tasks::{
        clock::{millis, timestamp},
        record::{TaskEnding, TaskRecord},
    },
};

/// Returns the state of a task: as the result of `tasks/get`, or in place of a call's result.
pub(crate) fn view<'a>(
    record: &'a TaskRecord,
    task: &Task,
    result_type: TaskResultType,
    meta: JsonObject,
) -> TaskResult<'a> {
    let is_detailed = result_type == TaskResultType::Complete;
    let questions = record.open_questions();
    TaskResult {
        result_type,
        task_id: Cow::Borrowed(&record.id),
        status: record.status(),
        status_message: record.status_message.as_deref().map(Cow::Borrowed),
        created_at: timestamp(record.created),
        last_updated_at: timestamp(record.updated),
        ttl_ms: Some(record.ttl),
        poll_interval_ms: Some(millis(task.poll_interval)),
        input_requests: (is_detailed && record.end.is_none() && !questions.is_empty()).then_some(questions),
        result: match &record.end {
            Some(TaskEnding::Completed(result)) if is_detailed => Some(Cow::Borrowed(result)),
            _ => None,
        },
        error: match &record.end {
            Some(TaskEnding::Failed(error)) if is_detailed => Some(error.clone()),
            _ => None,
        },
        meta: Some(meta),
    }
}

/// Returns the acknowledgment of `tasks/update` and `tasks/cancel`.
pub(crate) fn acknowledgment(meta: &JsonObject) -> CallOutcome {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Acknowledgment<'a> {
        result_type: TaskResultType,
        #[serde(rename = "_meta")]
        meta: &'a JsonObject,
    }
    outcome_of(&Acknowledgment { result_type: TaskResultType::Complete, meta })
}

/// Returns the outcome of a request whose store failed.
pub(crate) fn store_failure(error: StoreError) -> CallOutcome {
    let is_away = matches!(error, StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_) | StoreError::Full);
    let text = "tasks are not available at the moment: try again later";
    let refusal = if is_away { crate::CallError::Unavailable(text.into()) } else { crate::CallError::Internal };
    CallOutcome { fault: Some(error.into()), ..CallOutcome::from(Err::<Rendered, _>(refusal)) }
}
