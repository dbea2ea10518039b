//! `completion/complete`.

use mcp_protocol::{
    CompleteResult, Completion, CompletionArgument, CompletionContext, CompletionReference, RequestParams, ResultType,
    json::{self, Budget, shortened},
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tracing::Span;

use super::{
    call::CallResponse,
    render::outcome_of,
    run::{ItemKind, Run},
};
use crate::{CallError, PartialArgument, handler::error::HandlerFuture, items::catalog::CompletionTarget};

/// Limit on the parameters: the partial argument and the values of other arguments, which are names and short texts.
const MAX_BYTES: usize = 64 * 1024;

/// Parses the reference to the item whose argument is completed.
pub(crate) fn reference(params: &RequestParams<'_>) -> Result<CompletionReference, CallError> {
    let members = [params.reference, params.argument, params.context].into_iter().flatten();
    if members.map(|raw| raw.get().len()).sum::<usize>() > MAX_BYTES {
        return Err(CallError::InvalidParams(format!(
            "the parameters of a completion must have at most {MAX_BYTES} bytes"
        )));
    }
    required("ref", params.reference)
}

pub(crate) fn complete(
    run: Run<'_>,
    completed: &CompletionTarget<'_>,
    params: &RequestParams<'_>,
) -> Result<CallResponse, CallError> {
    let CompletionArgument { name, value } = required("argument", params.argument)?;
    let context: Option<CompletionContext> = params.context.map(read).transpose()?;
    let Some(completer) = completed.argument(&name) else {
        return Err(CallError::InvalidInput(format!("unknown argument `{}`", shortened(&name))));
    };
    let partial = PartialArgument { value, arguments: context.unwrap_or_default().arguments };
    let revision = run.revision;
    let begin = |call| -> Result<HandlerFuture<Completion>, String> {
        Ok(match completer {
            Some(complete) => complete(call, partial),
            // The argument has no completer.
            None => Box::pin(async { Ok(Vec::<String>::new().into()) }),
        })
    };
    Ok(run.start(ItemKind::Other, None, Span::none(), begin, move |renderer, completion| {
        let completion = completion.clamped();
        let result =
            CompleteResult { result_type: Some(ResultType::Complete), completion, meta: renderer.meta_for(revision) };
        outcome_of(&result.for_revision(revision))
    }))
}

fn required<T: DeserializeOwned>(member: &str, raw: Option<&RawValue>) -> Result<T, CallError> {
    read(raw.ok_or_else(|| CallError::InvalidParams(format!("missing field `{member}`")))?)
}

fn read<T: DeserializeOwned>(raw: &RawValue) -> Result<T, CallError> {
    json::read(raw.get(), Budget::of(raw.get())).map_err(|error| CallError::InvalidParams(error.to_string()))
}
