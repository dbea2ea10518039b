//! `tools/call`.

use mcp_protocol::{RequestParams, method};

use super::{
    call::{CallOutcome, CallResponse},
    run::{ItemKind, Run},
};
use crate::{CallError, items::registered_tool::RegisteredTool};

pub(crate) fn call(run: Run<'_>, tool: &RegisteredTool, params: &RequestParams<'_>) -> Result<CallResponse, CallError> {
    let revision = run.revision;
    if let Some(text) = check_client(&run, tool)? {
        return Ok(CallResponse::Ready(Box::new(run.built.renderer.tool_error(text, revision))));
    }
    #[cfg(feature = "tasks")]
    {
        if let Some(task) = &tool.task {
            return super::tasks::foreground::call(run, tool, task, params);
        }
        if tool.definition.name == crate::tasks::RESULT_TOOL && run.built.catalog.task_tool().is_some() {
            return super::tasks::result_tool::call(run, tool, params);
        }
    }
    let name = &tool.definition.name;
    let round = run.round(tool.cipher, method::TOOLS_CALL, name, params)?;
    let span = tracing::info_span!(
        "execute_tool",
        otel.name = %format_args!("execute_tool {name}"),
        gen_ai.operation.name = "execute_tool",
        gen_ai.tool.name = name
    );
    let check = tool.result_validator.clone();
    let begin = |call| tool.start(call, params.arguments);
    Ok(run.start(ItemKind::Tool, round, span, begin, move |renderer, output| match check.check(&output) {
        Ok(()) => renderer.tool_outcome(output, revision),
        Err(violation) => CallOutcome::fault(violation),
    }))
}

/// Returns the message for a legacy client that cannot use the tool.
///
/// # Errors
///
/// When a modern client lacks a required capability.
fn check_client(run: &Run<'_>, tool: &RegisteredTool) -> Result<Option<String>, CallError> {
    let required = &tool.required_capabilities;
    if required.is_empty() {
        return Ok(None);
    }
    if !run.revision.is_modern() {
        return Ok(Some(super::run::needs_modern_client(run.revision)));
    }
    let declared = run.call.meta.client_capabilities.clone().unwrap_or_default();
    let missing = declared.missing(required);
    if missing.is_empty() { Ok(None) } else { Err(CallError::MissingClientCapability(Box::new(missing))) }
}
