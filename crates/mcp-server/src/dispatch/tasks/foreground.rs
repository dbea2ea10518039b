//! A call of a tool with [`Task`] settings: it runs in the request for a while, and becomes a task if it has not ended by then.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use mcp_protocol::{
    RequestParams, method,
    tasks::{self, TaskResultType},
};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::Instrument;

use super::{
    view::{store_failure, view},
    waking::wake,
};
use crate::{
    CallError, Task, ToolOutput,
    dispatch::{
        call::{CallOutcome, CallResponse},
        render::outcome_of,
        run::{ErrorRenderer, ItemKind, Prepared, Run, within},
    },
    interaction::{request_state::RequestState, round::RoundEnd},
    items::registered_tool::RegisteredTool,
    store::StoreError,
    tasks::{
        RESULT_TOOL,
        clock::Clock,
        record::{NewTask, TaskRecord, shortened_status},
        rows,
        slots::{self, MAX_LIVE},
        task::MAX_ANONYMOUS_TTL,
        task_run::{Foreground, TaskRun},
    },
};

/// How long a call of a client with the extension runs in its request, if it comes to no step.
const PRELUDE: Duration = Duration::from_secs(1);
/// Time before the deadline at which a call becomes a task at the latest.
const STORE_RESERVE: Duration = Duration::from_secs(3);

pub(crate) fn call(
    run: Run<'_>,
    tool: &RegisteredTool,
    task: &Task,
    params: &RequestParams<'_>,
) -> Result<CallResponse, CallError> {
    let revision = run.revision;
    let is_extended = declares_tasks(&run);
    if task.needs_extension && !is_extended {
        if revision.is_modern() {
            return Err(CallError::MissingClientCapability(Box::new(tasks::client_capabilities())));
        }
        let text = format!(
            "This tool runs as a task, which only clients with the extension `{}` of MCP 2026-07-28 support.",
            tasks::EXTENSION
        );
        return Ok(CallResponse::Ready(Box::new(run.built.renderer.tool_error(text, revision))));
    }
    let name = &tool.definition.name;
    let Some(mut bound) = run.round(tool.cipher, method::TOOLS_CALL, name, params)? else {
        return Err(CallError::Internal);
    };
    let clock = Clock::new(run.invocation.received);
    let longest = if is_extended { PRELUDE } else { task.answer_within };
    let last = run.invocation.answer_by().and_then(|end| end.checked_sub(STORE_RESERVE)).map(Instant::from);
    let until = Instant::now() + longest;
    let until = last.map_or(until, |last| last.min(until));
    let id = rows::new_id().map_err(|_| CallError::Internal)?;
    let place = Foreground { id, ends_at_step: is_extended, until, status: Mutex::default() };
    let handle = Arc::new(TaskRun::foreground(place, clock));
    bound.task = Some(Arc::clone(&handle));

    let span = tracing::info_span!(
        "execute_tool",
        otel.name = %format_args!("execute_tool {name}"),
        gen_ai.operation.name = "execute_tool",
        gen_ai.tool.name = name
    );
    let arguments = params.arguments.map(RawValue::to_owned);
    let prepared = run.prepare(ItemKind::Tool, Some(bound), |call| tool.start(call, params.arguments));
    let Prepared { call, errors, handler, binding } = match prepared {
        Ok(prepared) => prepared,
        Err(outcome) => return Ok(CallResponse::Ready(outcome)),
    };
    let (check, task, name) = (tool.result_validator.clone(), task.clone(), name.clone());
    let digest = task.digest(&tool.definition);
    Ok(CallResponse::Pending(Box::pin(async move {
        let unless_done = call.cancellation.clone().drop_guard();
        let work = AssertUnwindSafe(handler.instrument(span)).catch_unwind();
        let ended = within(call.deadline, async {
            let Some(round) = &call.round else { return Ok(work.await) };
            tokio::select! {
                biased;
                done = work => Ok(done),
                end = round.end() => Err(Some(end)),
                () = tokio::time::sleep_until(until) => Err(None),
            }
        });
        let state = match ended.await {
            None => return CallOutcome::from(Err(CallError::DeadlineExceeded)),
            Some(Ok(done)) => {
                if done.is_ok() {
                    unless_done.disarm();
                }
                return errors.render_done(done, |renderer, output: ToolOutput| match check.check(&output) {
                    Ok(()) => renderer.tool_outcome(output, revision),
                    Err(violation) => CallOutcome::fault(violation),
                });
            }
            // A step or a wait, without a question.
            Some(Err(Some(RoundEnd::Questions(questions, state)))) if questions.is_empty() => state,
            Some(Err(Some(end))) => return errors.render_round_end(end, binding.as_ref(), call.invocation.received),
            Some(Err(None)) => call.round.as_ref().map(|round| round.take_state()).unwrap_or_default(),
        };
        // Spawned work ends with the run.
        drop(unless_done);
        let parked = Parked { tool: name, digest, arguments, state, handle, is_extended };
        parked.store(&errors, &task).await
    })))
}

/// Reports whether the client of a request has the extension.
pub(super) fn declares_tasks(run: &Run<'_>) -> bool {
    let declared = run.call.meta.client_capabilities.as_ref();
    run.revision.is_modern()
        && declared.is_some_and(|declared| declared.missing(&tasks::client_capabilities()).is_empty())
}

/// A call whose handler was dropped, to be continued as a task.
struct Parked {
    tool: String,
    digest: String,
    arguments: Option<Box<RawValue>>,
    state: RequestState,
    handle: Arc<TaskRun>,
    is_extended: bool,
}

impl Parked {
    /// Stores the task, wakes it, and returns the response of the call.
    async fn store(self, errors: &ErrorRenderer, task: &Task) -> CallOutcome {
        let (built, call, revision, deadline) = (&errors.built, &errors.call, errors.revision, errors.call.deadline);
        let Some(store) = &built.store else {
            return CallOutcome::fault("a server with tasks has no store");
        };
        let caller = call.invocation.principal.clone();
        let ttl = if caller.is_some() { task.ttl } else { task.ttl.min(MAX_ANONYMOUS_TTL) };
        let (now, address) = (self.handle.clock().now(), call.invocation.address);
        let new = NewTask {
            id: self.handle.id().to_owned(),
            tool: self.tool,
            digest: self.digest,
            revision: revision.as_str().to_owned(),
            caller: caller.clone(),
            // Other clients do not see the questions of a task.
            capabilities: self.is_extended.then(|| call.meta.client_capabilities.clone().unwrap_or_default()),
            client_info: call.meta.client_info.clone(),
            arguments: self.arguments,
            ttl,
            status_message: self.handle.take_status().map(shortened_status),
            state: self.state,
        };
        let mut record = TaskRecord::new(new, now);
        let wait = self.handle.first_wait();
        if let Some(end) = wait {
            record.sleep_until(end);
        }
        match within(deadline, slots::create(store, &mut record, caller.as_deref(), address, now)).await {
            Some(Ok(true)) => {}
            // Nothing was stored, or the store did not confirm it.
            None => return CallOutcome::from(Err(CallError::DeadlineExceeded)),
            Some(Ok(false)) => {
                let text = match caller {
                    Some(_) => format!("You have {MAX_LIVE} tasks that have not ended: wait for one, or cancel one."),
                    None => "Too many tasks of anonymous callers have not ended: try again later.".to_owned(),
                };
                return errors.input_error(text);
            }
            Some(Err(StoreError::TooLarge { maximum, .. })) => {
                return errors.input_error(format!("the arguments of a task must have less than {maximum} bytes"));
            }
            Some(Err(error)) => return store_failure(error),
        }
        if wait.is_none() {
            // The task is stored: a wake-up that takes too long must not cost its client the id.
            within(deadline, wake(built, rows::row_key(store, caller.as_deref(), &record.id))).await;
        }
        if self.is_extended {
            return outcome_of(&view(&record, task, TaskResultType::Task, built.renderer.meta()));
        }
        let text = format!(
            "The call has not ended yet and goes on in the background. Call the tool `{RESULT_TOOL}` with the task_id `{}` to get \
             its result, after {} seconds or more. Do not repeat this call.",
            record.id,
            task.poll_interval.as_secs().max(1)
        );
        built.renderer.tool_error(text, revision)
    }
}
