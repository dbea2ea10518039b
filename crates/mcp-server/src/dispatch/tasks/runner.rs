//! Runs of tasks in the background: [`TaskRunner`].

use std::{
    fmt,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use mcp_protocol::{ErrorObject, InputRequests, ProtocolVersion, RequestId, RequestMeta, jsonrpc, method};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::Instrument;

use super::waking::{wake, wake_due};
use crate::{
    BoxError, CallError, Invocation, ToolOutput,
    dispatch::{
        built::Built,
        call::{Call, CallOutcome, Rendered},
        run::{BoundRound, ErrorRenderer, ItemKind, Prepared, Run, needs_modern_client},
    },
    error_chain,
    interaction::{
        request_state::{Binding, RequestState},
        round::{Round, RoundEnd},
    },
    items::registered_tool::RegisteredTool,
    store::{MAX_LIMIT, RowKey, SealedStore, StoreError},
    tasks::{
        attempt::Attempt,
        clock::Clock,
        lease::Lease,
        record::{TaskEnding, TaskRecord},
        rows::{self, Change},
        task_run::TaskRun,
        wake::{WakeTask, WakeUp},
    },
};

/// Maximum number of runs of a task.
const MAX_ATTEMPTS: u32 = 1000;
/// Maximum number of runs in which a task made no progress.
const MAX_IDLE_ATTEMPTS: u32 = 20;
/// Time before the deadline of an invocation at which a run ends.
const PARK_RESERVE: Duration = Duration::from_secs(5);
/// Maximum number of rows that are read for each task that is woken: some cannot be woken here.
const READS_PER_WAKE_UP: usize = 5;
/// Maximum size of a result.
const MAX_RESULT_BYTES: usize = SealedStore::MAX_VALUE_BYTES - 64 * 1024;
const DENIED: &str = "the caller of the task may no longer use its tool";
const UPDATED: &str = "the server was updated while the task was open: call again";

/// Runs the tasks of a server in the background: what a platform calls for each wake-up. From
/// [`BuiltServer::tasks`](crate::BuiltServer::tasks).
#[derive(Clone)]
pub struct TaskRunner(Arc<Built>);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskEnd {
    /// There was nothing to do: the task is absent, has ended, or waits.
    Idle,
    /// Another run has the lease of the task.
    Leased,
    /// The task waits, for its client or for a time.
    Parked,
    /// The task goes on in another run, which was woken.
    Continued,
    /// The task has its result, error, or was cancelled.
    Ended,
    /// The run could not write: another run has begun, the task was cancelled, or the store was away.
    Lost,
}

impl TaskEnd {
    /// Returns the name for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Leased => "leased",
            Self::Parked => "parked",
            Self::Continued => "continued",
            Self::Ended => "ended",
            Self::Lost => "lost",
        }
    }
}

impl TaskRunner {
    pub(crate) fn new(built: Arc<Built>) -> Self {
        Self(built)
    }

    /// Sets what wakes tasks. By default, a task runs in the process that creates or wakes it, as a spawned future: for tests, and
    /// development with one process.
    pub fn wake_by(&self, waker: Arc<dyn WakeTask>) {
        *self.0.waker.write().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    pub(crate) fn wake_in_process(&self) {
        self.wake_by(Arc::new(InProcess(Arc::downgrade(&self.0))));
    }

    /// Parses the text of a wake-up; `None` for one that this server did not make.
    pub fn verify(&self, text: &str) -> Option<WakeUp> {
        WakeUp::verify(self.0.store.as_ref()?, text)
    }

    /// Wakes up to `limit` tasks, of all callers, that are due and not running: never started, lost, or at the end of a wait, the
    /// earliest first. Returns their number.
    ///
    /// Each is claimed first, and then not due for 5 s or more: calls at the same time wake a task once, and a task that does not start
    /// makes room for the next. At most `5 * limit` rows are read, and at most 500. `now` is the time of this call.
    ///
    /// # Errors
    ///
    /// When the store fails. Some tasks may have been woken.
    pub async fn wake_due(&self, limit: usize, now: SystemTime) -> Result<usize, StoreError> {
        let (mut woken, clock) = (0, Clock::new(now));
        let Some(store) = &self.0.store else { return Ok(0) };
        for row in rows::due(store, limit.saturating_mul(READS_PER_WAKE_UP).min(MAX_LIMIT)).await? {
            if woken == limit {
                break;
            }
            // Of another server in the same tables, or of another version of this one: it must not keep the rest from being woken.
            let task = match rows::by_key(store, row.key).await {
                Err(StoreError::UnknownKey | StoreError::Unreadable) => continue,
                task => task?,
            };
            let Some(held) = task.filter(|held| held.record.end.is_none()) else { continue };
            woken += usize::from(wake_due(&self.0, store, row.key, held, clock.now()).await?);
        }
        Ok(woken)
    }

    /// Runs a task until it ends or waits, or until shortly before the deadline of the invocation. The principal of the invocation is
    /// ignored: the task has the caller who created it.
    ///
    /// # Errors
    ///
    /// When the store fails before the run begins.
    pub async fn run(&self, task: RowKey, invocation: Invocation) -> Result<TaskEnd, StoreError> {
        let Some(store) = &self.0.store else { return Ok(TaskEnd::Idle) };
        let clock = Clock::new(invocation.received);
        let Some(held) = rows::by_key(store, task).await?.filter(|held| held.record.is_runnable(clock.now())) else {
            return Ok(TaskEnd::Idle);
        };
        let caller = held.record.caller();
        let Some(lease) = Lease::take(store, caller.clone(), held.record.id).await? else {
            return Ok(TaskEnd::Leased);
        };
        let invocation = Invocation { principal: caller.clone(), ..invocation };
        let end = match Attempt::begin(store, task, caller, clock).await {
            Ok(Some(attempt)) => self.attempt(attempt, &lease, invocation, clock).await,
            Ok(None) => Some(TaskEnd::Idle),
            Err(error) => {
                let _ = lease.end().await;
                return Err(error);
            }
        };
        // A lease that was lost ends by itself.
        let Some(end) = end else { return Ok(TaskEnd::Lost) };
        lease.end().await?;
        // A wake-up that arrived while the lease was held has ended.
        let after = rows::by_key(store, task).await?.filter(|held| held.record.is_runnable(clock.now()));
        match after {
            Some(held) if held.record.is_overdue(clock.now()) => {
                wake_due(&self.0, store, task, held, clock.now()).await?;
            }
            Some(_) => wake(&self.0, task).await,
            None => return Ok(end),
        }
        Ok(TaskEnd::Continued)
    }

    /// Runs the handler once. `None` if the run was lost.
    async fn attempt(&self, attempt: Attempt, lease: &Lease, invocation: Invocation, clock: Clock) -> Option<TaskEnd> {
        let built = &self.0;
        let handle = Arc::new(TaskRun::background(attempt, clock));
        let attempt = handle.attempt()?;
        let limit = attempt.read(|record| match (record.attempt, record.idle_attempts) {
            (MAX_ATTEMPTS.., _) => Some("the task has run too often"),
            (_, MAX_IDLE_ATTEMPTS..) => Some("the task makes no progress: a step may take longer than a run"),
            _ => None,
        });
        if let Some(text) = limit.await {
            return self.finish(attempt, failure(jsonrpc::INTERNAL_ERROR, text)).await;
        }
        let (name, digest, call) =
            attempt.read(|record| (record.tool.clone(), record.digest.clone(), Background::of(record))).await;
        // Of another version, values could mean something else.
        let is_same =
            |tool: &&RegisteredTool| tool.task.as_ref().is_some_and(|own| own.digest(&tool.definition) == digest);
        let tool = built.catalog.tool(&name).filter(is_same);
        let (Some(tool), Some(call)) = (tool, call) else {
            return self.finish(attempt, failure(jsonrpc::INVALID_PARAMS, UPDATED)).await;
        };
        // A deployment may have restricted the tool since.
        if built.policy.permit(&tool.requirement, invocation.principal.as_deref()).is_err() {
            return self.finish(attempt, failure(jsonrpc::INVALID_PARAMS, DENIED)).await;
        }
        let park_at = invocation.answer_by().and_then(|end| end.checked_sub(PARK_RESERVE)).map(Instant::from);
        let prepared = call.prepare(built, tool, invocation, &handle);
        let Prepared { call, errors, handler, .. } = match prepared {
            Ok(prepared) => prepared,
            Err(outcome) => return self.finish(attempt, ending(*outcome)).await,
        };
        let cancelled_with_run = call.cancellation.clone().drop_guard();
        let span = tracing::info_span!(
            "execute_tool",
            otel.name = %format_args!("execute_tool {name}"),
            gen_ai.operation.name = "execute_tool",
            gen_ai.tool.name = name
        );
        let ended = {
            let work = AssertUnwindSafe(handler.instrument(span)).catch_unwind();
            let round_end = async {
                match &call.round {
                    Some(round) => round.end().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = attempt.lost() => return None,
                // Before the handler, which must not go on after a freeze.
                () = lease.keep() => return None,
                done = work => Ended::Done(done),
                end = round_end => Ended::Round(end),
                () = sleep_until(park_at) => Ended::Deadline,
                () = attempt.keep_status() => return None,
            }
        };
        drop(cancelled_with_run);
        match ended {
            Ended::Done(done) => {
                let outcome = errors.render_done(done, |renderer, output: ToolOutput| {
                    match tool.result_validator.check(&output) {
                        // The companion tool converts it for legacy clients.
                        Ok(()) => renderer.tool_outcome(output, ProtocolVersion::LATEST),
                        Err(violation) => CallOutcome::fault(violation),
                    }
                });
                self.finish(attempt, ending(outcome)).await
            }
            Ended::Round(RoundEnd::Questions(questions, state)) => {
                park(attempt, &questions, &state, handle.first_wait()).await
            }
            Ended::Round(end) => self.finish(attempt, ending(refused(&errors, end))).await,
            Ended::Deadline => written(attempt.write(Change::State, TaskRecord::wake_soon).await, TaskEnd::Continued),
        }
    }

    /// Writes the end of a task, and frees its place.
    async fn finish(&self, attempt: &Attempt, end: TaskEnding) -> Option<TaskEnd> {
        let slot = attempt.read(|record| record.slot).await;
        let write = attempt.write(Change::State, |record, now| record.finish(end.clone(), now));
        let end = written(write.await, TaskEnd::Ended)?;
        attempt.free_slot(slot).await;
        Some(end)
    }
}

impl fmt::Debug for TaskRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskRunner").field("server", &self.0.info.name).finish_non_exhaustive()
    }
}

/// How the handler of a run ended.
enum Ended<T> {
    Done(T),
    Round(RoundEnd),
    /// The invocation ends soon.
    Deadline,
}

/// What a run needs of its task.
struct Background {
    revision: ProtocolVersion,
    meta: RequestMeta,
    arguments: Option<Box<RawValue>>,
    state: RequestState,
    answers: Option<Box<RawValue>>,
}

impl Background {
    /// `None` if this version of the server does not know the revision.
    fn of(record: &TaskRecord) -> Option<Self> {
        let meta = RequestMeta {
            client_capabilities: record.capabilities.clone(),
            client_info: record.client_info.clone(),
            ..RequestMeta::default()
        };
        Some(Self {
            revision: ProtocolVersion::parse(&record.revision)?,
            meta,
            arguments: record.arguments.clone(),
            state: record.state.clone(),
            answers: record.unread_answers(),
        })
    }

    fn prepare(
        self,
        built: &Arc<Built>,
        tool: &RegisteredTool,
        invocation: Invocation,
        handle: &Arc<TaskRun>,
    ) -> Result<Prepared<ToolOutput>, Box<CallOutcome>> {
        let Self { revision, meta, arguments, state, answers } = self;
        // The handler sees when its run ends.
        let deadline = invocation.deadline.map(|end| end.checked_sub(PARK_RESERVE).unwrap_or(end));
        let invocation = Arc::new(Invocation { deadline, ..invocation });
        let name = &tool.definition.name;
        let binding = Binding::new(method::TOOLS_CALL, name, None, invocation.principal.as_deref());
        let round = Round::new(meta.client_capabilities.clone(), state, answers);
        let mut bound = BoundRound::new(round, binding);
        bound.task = Some(Arc::clone(handle));
        let call = Call { id: RequestId::Integer("0".into()), meta, notifications: None };
        let run = Run { built, revision, invocation, call, requirement: &tool.requirement };
        run.prepare(ItemKind::Tool, Some(bound), |call| tool.start(call, arguments.as_deref()))
    }
}

/// Writes the questions and waits of a run.
async fn park(
    attempt: &Attempt,
    questions: &InputRequests,
    state: &RequestState,
    wake: Option<u64>,
) -> Option<TaskEnd> {
    let write = attempt.write(Change::Content, |record, now| record.park(state.clone(), questions.clone(), wake, now));
    written(write.await, TaskEnd::Parked)
}

/// Returns the end of a run whose last write was executed; `None` if the run was lost.
fn written(result: Result<bool, StoreError>, end: TaskEnd) -> Option<TaskEnd> {
    match result {
        Ok(true) => Some(end),
        Ok(false) => None,
        Err(error) => {
            tracing::warn!(error = error_chain(&error), "could not store the end of a run: the task runs again");
            None
        }
    }
}

fn failure(code: i64, text: &str) -> TaskEnding {
    TaskEnding::Failed(ErrorObject::new(code, text))
}

/// Returns the outcome of a run that ended neither with a result nor with questions.
fn refused(errors: &ErrorRenderer, end: RoundEnd) -> CallOutcome {
    match end {
        RoundEnd::ClientUnsupported if errors.revision.is_modern() => errors.input_error(
            "This call needs an answer of the user, which this client cannot give once the call goes on in the background."
                .to_owned(),
        ),
        RoundEnd::ClientUnsupported => errors.input_error(needs_modern_client(errors.revision)),
        RoundEnd::Fault(fault) => errors.fault(fault),
        RoundEnd::Rejected(refusal) => CallOutcome::from(Err(refusal)),
        RoundEnd::Questions(..) => CallOutcome::fault("a round with questions has no error"),
    }
}

/// Returns the final state of a task whose call has this outcome.
fn ending(outcome: CallOutcome) -> TaskEnding {
    let CallOutcome { result, fault, .. } = outcome;
    if let Some(fault) = fault {
        tracing::error!(error = error_chain(fault.as_ref()), "the handler of a task failed");
    }
    match result {
        Ok(rendered) if rendered.as_str().len() > MAX_RESULT_BYTES => {
            failure(jsonrpc::INTERNAL_ERROR, "the result of the task is too large to be stored")
        }
        Ok(rendered) => match RawValue::from_string(match rendered {
            Rendered::Own(text) => text,
            Rendered::Shared(text) => text.to_string(),
        }) {
            Ok(raw) => TaskEnding::Completed(raw),
            Err(_) => failure(jsonrpc::INTERNAL_ERROR, "internal error"),
        },
        Err(CallError::RequestState) => failure(jsonrpc::INVALID_PARAMS, UPDATED),
        Err(CallError::MissingClientCapability(required)) => {
            let error = CallError::MissingClientCapability(required.clone());
            let data = serde_json::json!({ "requiredCapabilities": required });
            let object = ErrorObject::new(jsonrpc::MISSING_REQUIRED_CLIENT_CAPABILITY, error.to_string());
            TaskEnding::Failed(object.with_data(data))
        }
        Err(error @ (CallError::InvalidInput(_) | CallError::InvalidParams(_))) => {
            failure(jsonrpc::INVALID_PARAMS, &error.to_string())
        }
        Err(error) => failure(jsonrpc::INTERNAL_ERROR, &error.to_string()),
    }
}

async fn sleep_until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Runs tasks as spawned futures of this process.
struct InProcess(Weak<Built>);

impl WakeTask for InProcess {
    fn wake(&self, task: WakeUp) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + '_>> {
        let runner = self.0.upgrade().map(TaskRunner);
        Box::pin(async move {
            if let Some(runner) = runner {
                tokio::spawn(async move {
                    if let Err(error) = runner.run(task.task(), Invocation::default()).await {
                        tracing::error!(error = error_chain(&error), "could not run a task");
                    }
                });
            }
            Ok(())
        })
    }
}
