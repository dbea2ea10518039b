//! The tool that returns the result of a task to clients without the extension.

use std::sync::Arc;

use garde::Validate;
use mcp_protocol::{CallToolResult, RequestParams, tasks::TaskStatus};
use schemars::JsonSchema;
use serde::Deserialize;

use super::requests::{TaskError, TaskRequest};
use crate::{
    BuildError, CallError, HandlerError, Tool, ToolContext, ToolOutput, arguments,
    dispatch::{
        call::{CallOutcome, CallResponse},
        run::{Run, within},
    },
    items::{catalog::Catalog, registered_tool::RegisteredTool},
    tasks::{RESULT_TOOL, clock::Clock, record::TaskEnding},
};

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
#[schemars(description = "")]
struct ResultArgs {
    /// The task_id of an earlier result.
    #[garde(length(chars, min = 1, max = 100))]
    task_id: String,
}

/// Returns the tool for a server that needs it: one with a tool that clients without the extension may call.
///
/// # Errors
///
/// When calls of a tool may become tasks, but the server has no store.
pub(crate) fn for_server<S: Send + Sync + 'static>(
    catalog: &Catalog,
    has_store: bool,
) -> Result<Option<Tool<S>>, BuildError> {
    let Some(first) = catalog.task_tool() else { return Ok(None) };
    if !has_store {
        return Err(BuildError::NoTaskStore { tool: first.definition.name.clone() });
    }
    let mut open = catalog.tools.iter().filter(|tool| tool.task.as_ref().is_some_and(|task| !task.needs_extension));
    let Some(first) = open.next() else { return Ok(None) };
    let is_public = first.requirement.is_public || open.any(|tool| tool.requirement.is_public);
    let description = "Returns the result of a call that goes on in the background, by the task_id that the call returned. While it \
                       has not ended, the response tells its state: wait, and call again.";
    let tool = Tool::new(RESULT_TOOL, unreachable_handler).description(description).read_only().open_world(false);
    Ok(Some(if is_public { tool.public() } else { tool }))
}

/// The definition needs a handler. [`call`] runs in its place.
async fn unreachable_handler<S: Send + Sync + 'static>(
    _: ToolContext<S>,
    _: ResultArgs,
) -> Result<String, HandlerError> {
    Err(HandlerError::failed("tasks are not available"))
}

pub(crate) fn call(run: Run<'_>, tool: &RegisteredTool, params: &RequestParams<'_>) -> Result<CallResponse, CallError> {
    let revision = run.revision;
    let args = match arguments::parse::<ResultArgs>(params.arguments, &tool.definition.input_schema) {
        Ok(args) => args,
        Err(text) => return Ok(CallResponse::Ready(Box::new(run.built.renderer.tool_error(text, revision)))),
    };
    let (built, caller) = (Arc::clone(run.built), run.invocation.principal.clone());
    let (clock, deadline) = (Clock::new(run.invocation.received), run.invocation.answer_by());
    Ok(CallResponse::Pending(Box::pin(async move {
        let request = TaskRequest { built: &built, caller: caller.as_deref(), clock };
        match within(deadline, result_of(&request, &args.task_id)).await {
            Some(Ok(output)) => built.renderer.tool_outcome(output, revision),
            Some(Err(TaskError::Refused(refusal @ CallError::InvalidInput(_)))) => {
                built.renderer.tool_error(refusal.to_string(), revision)
            }
            Some(Err(error)) => error.outcome(),
            None => CallOutcome::from(Err(CallError::DeadlineExceeded)),
        }
    })))
}

async fn result_of(request: &TaskRequest<'_>, id: &str) -> Result<ToolOutput, TaskError> {
    let (held, _) = request.find(id).await?;
    let record = &held.record;
    let waiting = |text: &str| match &record.status_message {
        Some(message) => ToolOutput::error(format!("{text} Its status: {message}")),
        None => ToolOutput::error(text),
    };
    let output = match (&record.end, record.status()) {
        (Some(TaskEnding::Completed(result)), _) => {
            // Unbounded JSON: a result of this server, sealed.
            let result: CallToolResult = serde_json::from_str(result.get())
                .map_err(|error| TaskError::Store(crate::store::StoreError::Other(error.into())))?;
            ToolOutput {
                content: result.content,
                is_error: result.is_error.unwrap_or_default(),
                ..ToolOutput::default()
            }
        }
        (Some(TaskEnding::Failed(error)), _) => ToolOutput::error(format!("The task failed: {}", error.message)),
        (Some(TaskEnding::Cancelled), _) => ToolOutput::error("The task was cancelled."),
        (None, TaskStatus::InputRequired) => {
            waiting("The task waits for an answer that only a client with tasks can give.")
        }
        (None, _) => waiting("The task has not ended yet: wait some seconds, and call again."),
    };
    request.wake_overdue(held).await;
    Ok(output)
}
