//! `prompts/get`.

use mcp_protocol::{GetPromptResult, RequestParams, ResultType, method};
use tracing::Span;

use super::{
    call::CallResponse,
    render::outcome_of,
    run::{ItemKind, Run},
};
use crate::{
    CallError,
    items::{prompt::Prompt, registered::Registered},
};

pub(crate) fn get(
    run: Run<'_>,
    prompt: &Prompt<Registered>,
    params: &RequestParams<'_>,
) -> Result<CallResponse, CallError> {
    let round = run.round(prompt.cipher, method::PROMPTS_GET, &prompt.definition.name, params)?;
    let revision = run.revision;
    let description = prompt.definition.description.clone();
    let begin = |call| (prompt.handler)(call, params.arguments);
    Ok(run.start(ItemKind::Other, round, Span::none(), begin, move |renderer, messages| {
        let result = GetPromptResult {
            result_type: Some(ResultType::Complete),
            description,
            messages,
            meta: renderer.meta_for(revision),
        };
        outcome_of(&result.for_revision(revision))
    }))
}
