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
    interaction::{
        request_state::{RequestState, compact},
        round::RoundEnd,
    },
    items::registered_tool::RegisteredTool,
    store::StoreError,
    tasks::{
        RESULT_TOOL,
        clock::Clock,
        record::{NewTask, shortened_status},
        reservation::{MAX_SENT_BYTES, Refusal, Reservation},
        rows,
        slots::MAX_LIVE,
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
    let Some(store) = run.built.store.clone() else {
        return Ok(CallResponse::Ready(Box::new(CallOutcome::fault("a server with tasks has no store"))));
    };
    let caller = run.invocation.principal.clone();
    let declared = &run.call.meta.client_capabilities;
    let new = NewTask {
        id: rows::new_id().map_err(|_| CallError::Internal)?,
        tool: name.clone(),
        digest: task.digest(&tool.definition),
        revision: revision.as_str().to_owned(),
        ttl: if caller.is_some() { task.ttl } else { task.ttl.min(MAX_ANONYMOUS_TTL) },
        caller,
        // Other clients do not see the questions of a task.
        capabilities: is_extended.then(|| declared.clone().unwrap_or_default()),
        client_info: run.call.meta.client_info.clone(),
        arguments: params.arguments.map(compacted).transpose()?,
        status_message: None,
        state: RequestState::default(),
    };
    let reservation = Reservation::new(store, new, run.invocation.address, until);
    let place = Foreground { reservation, ends_at_step: is_extended, until, status: Mutex::default() };
    let handle = Arc::new(TaskRun::foreground(place, clock));
    bound.task = Some(Arc::clone(&handle));

    let span = tracing::info_span!(
        "execute_tool",
        otel.name = %format_args!("execute_tool {name}"),
        gen_ai.operation.name = "execute_tool",
        gen_ai.tool.name = name
    );
    let prepared = run.prepare(ItemKind::Tool, Some(bound), |call| tool.start(call, params.arguments));
    let Prepared { call, errors, handler, binding } = match prepared {
        Ok(prepared) => prepared,
        Err(outcome) => return Ok(CallResponse::Ready(outcome)),
    };
    let (check, task) = (tool.result_validator.clone(), task.clone());
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
        let ended = ended.await;
        let Some(reservation) = handle.reservation() else {
            return CallOutcome::fault("a call in its request has no place");
        };
        let becomes_task = match &ended {
            Some(Err(Some(RoundEnd::Questions(questions, _)))) => questions.is_empty(),
            Some(Err(end)) => end.is_none(),
            None | Some(Ok(_)) => false,
        };
        if !becomes_task {
            within(call.deadline, reservation.release()).await;
        }
        let state = match ended {
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
        if let Some(refusal) = reservation.take_refusal() {
            return refused(refusal, &errors, is_extended);
        }
        Parked { handle: &handle, reservation, is_extended }.store(state, &errors, &task).await
    })))
}

/// Reports whether the client of a request has the extension.
pub(super) fn declares_tasks(run: &Run<'_>) -> bool {
    let declared = run.call.meta.client_capabilities.as_ref();
    run.revision.is_modern()
        && declared.is_some_and(|declared| declared.missing(&tasks::client_capabilities()).is_empty())
}

/// Returns JSON without white space between its tokens, which each step would write again.
fn compacted(arguments: &RawValue) -> Result<Box<RawValue>, CallError> {
    RawValue::from_string(compact(arguments.get())).map_err(|_| CallError::Internal)
}

/// Returns the response to a call that gets no place. Only a handler without steps may have had effects.
fn refused(refusal: Refusal, errors: &ErrorRenderer, is_extended: bool) -> CallOutcome {
    let caller = errors.call.invocation.principal.as_deref();
    match refusal {
        Refusal::TooMany => errors.input_error(match (caller, is_extended) {
            (None, _) => "Too many tasks of anonymous callers have not ended: try again later.".to_owned(),
            (Some(_), true) => format!("You have {MAX_LIVE} tasks that have not ended: wait for one, or cancel one."),
            (Some(_), false) => {
                format!("You have {MAX_LIVE} tasks that have not ended: wait until one has ended, then call again.")
            }
        }),
        Refusal::TooLarge => errors.input_error(format!(
            "The arguments are too large for a task: together with the capabilities and the name of the client they may have \
             {MAX_SENT_BYTES} bytes."
        )),
        Refusal::Store(error) => store_failure(error),
    }
}

/// A call whose handler was dropped, to be continued as a task.
struct Parked<'a> {
    handle: &'a TaskRun,
    reservation: &'a Reservation,
    is_extended: bool,
}

impl Parked<'_> {
    /// Stores the task, wakes it, and returns the response of the call.
    async fn store(self, state: RequestState, errors: &ErrorRenderer, task: &Task) -> CallOutcome {
        let Self { handle, reservation, is_extended } = self;
        let (built, revision, deadline) = (&errors.built, errors.revision, errors.call.deadline);
        let now = handle.clock().now();
        let mut record = reservation.record(state, handle.take_status().map(shortened_status), now);
        let wait = handle.first_wait();
        if let Some(end) = wait {
            record.sleep_until(end);
        }
        match within(deadline, reservation.take(now)).await {
            Some(Ok(slot)) => record.slot = slot.number,
            // Nothing was stored.
            None => return CallOutcome::from(Err(CallError::DeadlineExceeded)),
            Some(Err(refusal)) => return refused(refusal, errors, is_extended),
        }
        match within(deadline, reservation.store(&record, now)).await {
            Some(Ok(())) => {}
            // It may have been stored, and would run: the client finds out by the id, and must not repeat the call.
            None | Some(Err(StoreError::OutcomeUnknown(_))) => {
                tracing::warn!("the store did not confirm a new task: its client gets the id");
            }
            Some(Err(error)) => {
                within(deadline, reservation.release()).await;
                return match error {
                    StoreError::TooLarge { .. } => {
                        errors.input_error("The values of the call are too large together for a task.".to_owned())
                    }
                    error => store_failure(error),
                };
            }
        }
        if wait.is_none() {
            // The task is stored: a wake-up that takes too long must not cost its client the id.
            within(deadline, wake(built, reservation.key())).await;
        }
        if is_extended {
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
