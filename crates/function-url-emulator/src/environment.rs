//! Execution environment: its state and its invocations. The module `process` starts, signals and awaits its process.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::AbortHandle,
};

use crate::FunctionConfig;

mod process;

use process::peak_memory_kib;

/// Invocation that is not yet dispatched.
pub(crate) struct Invocation {
    pub(crate) request_id: String,
    pub(crate) event: Bytes,
    pub(crate) trace_id: String,
    pub(crate) timeout: Duration,
    pub(crate) outcome: oneshot::Sender<Outcome>,
    /// Timer of the function's timeout.
    pub(crate) timer: Option<AbortHandle>,
}

/// Outcome of an invocation.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Buffered response, as the function wrote it.
    Response(Bytes),
    /// Streamed response: its prelude and its parts. An error ends the stream.
    Stream { prelude: Value, parts: mpsc::Receiver<Result<Bytes, String>> },
    /// The function reported an error.
    FunctionError(Value),
    /// The response exceeds Lambda's size limit.
    TooLarge,
    /// The function timed out and its environment was killed.
    TimedOut,
    /// The environment exited before the response.
    Crashed,
    /// The environment exited before the invocation was dispatched. Another environment can run it.
    Undelivered,
    /// The init phase failed.
    InitFailed,
}

/// Running environment.
pub(crate) struct Environment {
    pub(crate) id: u32,
    pub(crate) config: Arc<FunctionConfig>,
    pid: Pid,
    state: Mutex<State>,
    changed: Notify,
    last_used: AtomicUsize,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// Number of reserved invocation slots. A slot is released when the response is complete.
    reserved: usize,
    queue: VecDeque<Invocation>,
    pollers: VecDeque<oneshot::Sender<NextInvocation>>,
    active: HashMap<String, ActiveInvocation>,
    is_frozen: bool,
    has_extension: bool,
    extension_waits: bool,
    invocations: u64,
    ready_after: Option<Duration>,
    peak_memory_kib: u64,
    has_exited: bool,
    idle_since: Option<Instant>,
    stream_writes: Option<usize>,
}

#[derive(Default, Debug, Clone, PartialEq, Eq)]
enum Phase {
    #[default]
    Starting,
    Ready,
    /// Accepts no further invocations.
    Retiring,
    Ended(String),
}

struct ActiveInvocation {
    outcome: Option<oneshot::Sender<Outcome>>,
    timer: Option<AbortHandle>,
}

impl ActiveInvocation {
    fn stop_timer(&self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

/// Response of `/invocation/next`.
pub(crate) struct NextInvocation {
    pub(crate) request_id: String,
    pub(crate) event: Bytes,
    pub(crate) trace_id: String,
    pub(crate) deadline_ms: u128,
}

/// Receiver of the functions' output.
pub(crate) type Log = Arc<dyn Fn(u32, &str) + Send + Sync>;

impl Environment {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the environment as ended, and completes all pending invocations.
    pub(crate) fn end(&self, reason: &str) {
        let mut state = self.state();
        let was_starting = state.phase == Phase::Starting;
        if !matches!(state.phase, Phase::Ended(_)) {
            state.phase = Phase::Ended(reason.to_owned());
        }
        for (_, mut invocation) in state.active.drain() {
            invocation.stop_timer();
            if let Some(outcome) = invocation.outcome.take() {
                let _ = outcome.send(Outcome::Crashed);
            }
        }
        for invocation in state.queue.drain(..) {
            if let Some(timer) = &invocation.timer {
                timer.abort();
            }
            let outcome = if was_starting { Outcome::InitFailed } else { Outcome::Undelivered };
            let _ = invocation.outcome.send(outcome);
        }
        state.pollers.clear();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Reserves an invocation slot, if one is free.
    pub(crate) fn reserve(&self, clock: usize) -> bool {
        let mut state = self.state();
        let accepts_invocations = matches!(state.phase, Phase::Starting | Phase::Ready);
        let has_slot = accepts_invocations && state.reserved < self.config.concurrency;
        if has_slot {
            state.reserved += 1;
            state.idle_since = None;
            self.last_used.store(clock, Ordering::Relaxed);
        }
        has_slot
    }

    pub(crate) fn last_used(&self) -> usize {
        self.last_used.load(Ordering::Relaxed)
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.state().has_exited
    }

    pub(crate) fn is_ended(&self) -> bool {
        matches!(self.state().phase, Phase::Ended(_))
    }

    /// Waits until the init phase has succeeded or failed.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match &self.state().phase {
                Phase::Starting => {}
                Phase::Ready | Phase::Retiring => return Ok(()),
                Phase::Ended(reason) => return Err(reason.clone()),
            }
            changed.await;
        }
    }

    /// Queues an invocation with a reserved slot, and thaws the process.
    pub(crate) fn enqueue(self: &Arc<Self>, mut invocation: Invocation) {
        let mut state = self.state();
        if let Phase::Ended(_) | Phase::Retiring = state.phase {
            let _ = invocation.outcome.send(Outcome::Undelivered);
            return;
        }
        let (environment, request_id, timeout) = (Arc::clone(self), invocation.request_id.clone(), invocation.timeout);
        let timer = tokio::spawn(async move {
            tokio::time::sleep(timeout).await;
            environment.time_out(&request_id);
        });
        invocation.timer = Some(timer.abort_handle());
        if state.is_frozen {
            state.is_frozen = false;
            self.signal(Signal::SIGCONT);
        }
        state.idle_since = None;
        state.queue.push_back(invocation);
        self.dispatch_queued(&mut state);
    }

    /// Registers a `/invocation/next` request of the runtime.
    pub(crate) fn poll_next(self: &Arc<Self>, started: Instant) -> oneshot::Receiver<NextInvocation> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if state.phase == Phase::Starting {
            state.phase = Phase::Ready;
            state.ready_after = Some(started.elapsed());
        }
        state.pollers.push_back(sender);
        self.dispatch_queued(&mut state);
        state.peak_memory_kib = peak_memory_kib(self.pid).max(state.peak_memory_kib);
        self.freeze_if_idle(&mut state);
        drop(state);
        self.changed.notify_waiters();
        receiver
    }

    /// Freezes the environment if the runtime, and the extension if there is one, wait for the next event.
    fn freeze_if_idle(&self, state: &mut State) {
        let is_idle = state.active.is_empty() && state.queue.is_empty() && state.reserved == 0;
        let all_wait =
            state.pollers.len() >= self.config.concurrency && (!state.has_extension || state.extension_waits);
        if is_idle && all_wait && state.phase == Phase::Ready {
            state.idle_since = Some(Instant::now());
            if self.config.freeze {
                self.stop_process(state);
            }
        }
    }

    fn stop_process(&self, state: &mut State) {
        if !state.is_frozen {
            state.is_frozen = true;
            self.signal(Signal::SIGSTOP);
        }
    }

    /// Freezes the environment until its next invocation. Returns `false` if it is busy.
    pub(crate) fn freeze(&self) -> bool {
        let mut state = self.state();
        let is_idle = state.phase == Phase::Ready && state.reserved == 0;
        if is_idle {
            self.stop_process(&mut state);
        }
        is_idle
    }

    fn dispatch_queued(self: &Arc<Self>, state: &mut State) {
        while !state.queue.is_empty() {
            let Some(poller) = state.pollers.pop_front() else { return };
            if poller.is_closed() {
                continue;
            }
            let Some(invocation) = state.queue.pop_front() else { return };
            let next = NextInvocation {
                request_id: invocation.request_id.clone(),
                event: invocation.event.clone(),
                trace_id: invocation.trace_id.clone(),
                deadline_ms: epoch_ms() + invocation.timeout.as_millis(),
            };
            if poller.send(next).is_err() {
                state.queue.push_front(invocation);
                continue;
            }
            state.invocations += 1;
            let active = ActiveInvocation { outcome: Some(invocation.outcome), timer: invocation.timer };
            state.active.insert(invocation.request_id, active);
        }
    }

    fn time_out(&self, request_id: &str) {
        let mut state = self.state();
        let queued = state.queue.iter().position(|invocation| invocation.request_id == request_id);
        let queued =
            queued.and_then(|position| state.queue.remove(position)).map(|invocation| Some(invocation.outcome));
        let outcome = state.active.get_mut(request_id).map(|invocation| invocation.outcome.take()).or(queued);
        drop(state);
        if let Some(outcome) = outcome {
            if let Some(outcome) = outcome {
                let _ = outcome.send(Outcome::TimedOut);
            }
            self.end("an invocation exceeded the function's timeout");
            self.signal(Signal::SIGKILL);
        }
    }

    /// Completes an invocation with an outcome. `None` if it is not active in this environment.
    pub(crate) fn resolve(&self, request_id: &str, outcome: Outcome) -> Option<()> {
        let sender = self.state().active.get_mut(request_id)?.outcome.take()?;
        let _ = sender.send(outcome);
        Some(())
    }

    pub(crate) fn is_active(&self, request_id: &str) -> bool {
        self.state().active.get(request_id).is_some_and(|invocation| invocation.outcome.is_some())
    }

    /// Releases the slot of an invocation whose response is complete.
    pub(crate) fn finish(&self, request_id: &str) {
        let mut state = self.state();
        if let Some(invocation) = state.active.remove(request_id) {
            invocation.stop_timer();
            state.reserved = state.reserved.saturating_sub(1);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    pub(crate) fn record_writes(&self, writes: usize) {
        self.state().stream_writes = Some(writes);
    }

    pub(crate) fn register_extension(&self) {
        self.state().has_extension = true;
    }

    pub(crate) fn extension_waits(&self) {
        let mut state = self.state();
        state.extension_waits = true;
        self.freeze_if_idle(&mut state);
    }

    /// Kills a defective environment.
    pub(crate) fn fail(&self, reason: &str) {
        self.end(reason);
        self.kill();
    }

    /// Marks the environment as retiring if it has been idle for `duration`. Returns whether the caller must shut it
    /// down.
    pub(crate) fn claim_idle(&self, duration: Duration) -> bool {
        let mut state = self.state();
        let is_idle = state.reserved == 0 && state.idle_since.is_some_and(|since| since.elapsed() >= duration);
        if is_idle && state.phase == Phase::Ready {
            state.phase = Phase::Retiring;
            return true;
        }
        false
    }

    pub(crate) fn report(&self) -> EnvironmentReport {
        let mut state = self.state();
        state.peak_memory_kib = peak_memory_kib(self.pid).max(state.peak_memory_kib);
        EnvironmentReport {
            id: self.id,
            process_id: self.pid.as_raw(),
            is_ready: state.phase == Phase::Ready,
            is_frozen: state.is_frozen,
            is_busy: !state.active.is_empty() || !state.queue.is_empty(),
            invocations: state.invocations,
            ready_after: state.ready_after,
            peak_memory_kib: state.peak_memory_kib,
            stream_writes: state.stream_writes,
        }
    }
}

/// State and statistics of an environment.
#[derive(Debug, Clone)]
pub struct EnvironmentReport {
    /// Id, counted from 1 per function.
    pub id: u32,
    /// Process id.
    pub process_id: i32,
    /// Whether the init phase is complete.
    pub is_ready: bool,
    /// Whether the environment is frozen.
    pub is_frozen: bool,
    /// Whether an invocation is active or queued.
    pub is_busy: bool,
    /// Number of dispatched invocations.
    pub invocations: u64,
    /// Duration of the init phase: from the start of the process to its first request of an invocation.
    pub ready_after: Option<Duration>,
    /// Peak resident memory in KiB; 0 if `/proc` does not provide it.
    pub peak_memory_kib: u64,
    /// Number of writes of the last streamed response, estimated by the number of reads.
    pub stream_writes: Option<usize>,
}

fn epoch_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// Returns the error body of the Runtime API.
pub(crate) fn error_body(error_type: &str, message: &str) -> Bytes {
    json!({ "errorType": error_type, "errorMessage": message }).to_string().into()
}
