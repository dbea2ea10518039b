//! An execution environment: a process, the Runtime API that it talks to, and what it is doing.

use std::{
    collections::{HashMap, VecDeque},
    net::TcpListener,
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::{Notify, mpsc, oneshot},
    task::AbortHandle,
};

use crate::{FunctionConfig, runtime_api};

/// The time between `SIGTERM` and `SIGKILL` for an environment with an extension (Lambda, "Shutdown phase").
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// One event on its way to a function.
pub(crate) struct Invocation {
    pub(crate) request_id: String,
    pub(crate) event: Bytes,
    pub(crate) trace_id: String,
    pub(crate) timeout: Duration,
    pub(crate) outcome: oneshot::Sender<Outcome>,
    /// Ends the invocation when its time is over.
    pub(crate) timer: Option<AbortHandle>,
}

/// What became of an invocation.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A whole answer, as the function wrote it.
    Answer(Bytes),
    /// A streamed answer: its prelude, and its parts as they come; one that fails ends the stream.
    Stream { prelude: Value, parts: mpsc::Receiver<Result<Bytes, String>> },
    /// The function reported an error.
    FunctionError(Value),
    /// The answer was larger than Lambda carries.
    TooLarge,
    /// The function did not answer in time; its environment was killed.
    TimedOut,
    /// The environment ended before it answered.
    Crashed,
    /// The environment ended before it was given the invocation: another can take it.
    Undelivered,
    /// The environment never became ready.
    InitFailed,
}

/// A running environment.
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
    /// Invocations that are promised a place; each takes one until its answer is complete.
    promised: usize,
    queue: VecDeque<Invocation>,
    asking: VecDeque<oneshot::Sender<Handed>>,
    at_work: HashMap<String, Work>,
    is_frozen: bool,
    has_extension: bool,
    extension_asks: bool,
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
    /// Takes no more requests.
    Retiring,
    Ended(String),
}

struct Work {
    outcome: Option<oneshot::Sender<Outcome>>,
    timer: Option<AbortHandle>,
}

impl Work {
    fn stop_timer(&self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

/// What `/invocation/next` answers.
pub(crate) struct Handed {
    pub(crate) request_id: String,
    pub(crate) event: Bytes,
    pub(crate) trace_id: String,
    pub(crate) deadline_ms: u128,
}

/// Where the functions' output goes.
pub(crate) type Log = Arc<dyn Fn(u32, &str) + Send + Sync>;

impl Environment {
    /// Starts the process.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn start(id: u32, config: Arc<FunctionConfig>, log: Log) -> std::io::Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let started = Instant::now();
        let mut child = Command::new(&config.binary)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(&config.variables)
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", &config.name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", config.memory_mb.to_string())
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", config.name))
            .env("AWS_LAMBDA_LOG_STREAM_NAME", format!("emulator/{id}"))
            .env("_HANDLER", "bootstrap")
            .envs(config.binary.parent().map(|folder| ("LAMBDA_TASK_ROOT", folder)))
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_DEFAULT_REGION", "eu-west-1")
            .envs((config.concurrency > 1).then(|| ("AWS_LAMBDA_MAX_CONCURRENCY", config.concurrency.to_string())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C at a terminal reaches the emulator, which then retires its environments in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let pid = pid.ok_or_else(|| std::io::Error::other("the process has ended at once"))?;
        forward(child.stdout.take(), id, Arc::clone(&log));
        forward(child.stderr.take(), id, log);
        let environment = Arc::new(Self {
            id,
            config,
            pid,
            state: Mutex::default(),
            changed: Notify::new(),
            last_used: AtomicUsize::new(0),
        });
        let server = tokio::spawn(runtime_api::serve(
            tokio::net::TcpListener::from_std(listener)?,
            Arc::clone(&environment),
            started,
        ));
        tokio::spawn(Arc::clone(&environment).watch(child, server.abort_handle()));
        Ok(environment)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of the process, and ends it if it does not become ready in time.
    async fn watch(self: Arc<Self>, mut child: Child, server: AbortHandle) {
        let limit = tokio::time::sleep(self.config.init_timeout);
        tokio::pin!(limit);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.map_or_else(|error| error.to_string(), |status| status.to_string()),
                () = &mut limit, if self.state().phase == Phase::Starting => {
                    // It may have become ready since the guard was looked at.
                    if self.state().phase != Phase::Starting {
                        continue;
                    }
                    self.end(&format!("the init phase took longer than {} s", self.config.init_timeout.as_secs_f32()));
                    self.signal(Signal::SIGKILL);
                }
                // The guard above is looked at again when the environment becomes ready.
                () = self.changed.notified() => {}
            }
        };
        server.abort();
        self.state().has_exited = true;
        self.end(&format!("the process ended: {status}"));
        self.changed.notify_waiters();
    }

    /// Marks the environment as ended, and tells everyone who waits for it.
    pub(crate) fn end(&self, reason: &str) {
        let mut state = self.state();
        let was_starting = state.phase == Phase::Starting;
        if !matches!(state.phase, Phase::Ended(_)) {
            state.phase = Phase::Ended(reason.to_owned());
        }
        for (_, mut work) in state.at_work.drain() {
            work.stop_timer();
            if let Some(outcome) = work.outcome.take() {
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
        state.asking.clear();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Promises a place to an invocation, if there is one.
    pub(crate) fn promise(&self, clock: usize) -> bool {
        let mut state = self.state();
        let takes_requests = matches!(state.phase, Phase::Starting | Phase::Ready);
        let has_place = takes_requests && state.promised < self.config.concurrency;
        if has_place {
            state.promised += 1;
            state.idle_since = None;
            self.last_used.store(clock, Ordering::Relaxed);
        }
        has_place
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

    /// Waits until the init phase is over, one way or the other.
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

    /// Hands over an invocation that was promised a place; thaws the process for it.
    pub(crate) fn hand_over(self: &Arc<Self>, mut invocation: Invocation) {
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
        self.pump(&mut state);
    }

    /// A worker of the runtime asks for the next invocation.
    pub(crate) fn ask(self: &Arc<Self>, started: Instant) -> oneshot::Receiver<Handed> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if state.phase == Phase::Starting {
            state.phase = Phase::Ready;
            state.ready_after = Some(started.elapsed());
        }
        state.asking.push_back(sender);
        self.pump(&mut state);
        state.peak_memory_kib = peak_memory_kib(self.pid).max(state.peak_memory_kib);
        self.settle(&mut state);
        drop(state);
        self.changed.notify_waiters();
        receiver
    }

    /// Freezes the environment once the runtime and the extension, if there is one, have both asked for what is next.
    fn settle(&self, state: &mut State) {
        let is_idle = state.at_work.is_empty() && state.queue.is_empty() && state.promised == 0;
        let all_ask = state.asking.len() >= self.config.concurrency && (!state.has_extension || state.extension_asks);
        if is_idle && all_ask && state.phase == Phase::Ready {
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

    /// Freezes it until its next invocation, unless it has one now.
    pub(crate) fn freeze(&self) -> bool {
        let mut state = self.state();
        let is_idle = state.phase == Phase::Ready && state.promised == 0;
        if is_idle {
            self.stop_process(&mut state);
        }
        is_idle
    }

    fn pump(self: &Arc<Self>, state: &mut State) {
        while !state.queue.is_empty() {
            let Some(asking) = state.asking.pop_front() else { return };
            if asking.is_closed() {
                continue;
            }
            let Some(invocation) = state.queue.pop_front() else { return };
            let handed = Handed {
                request_id: invocation.request_id.clone(),
                event: invocation.event.clone(),
                trace_id: invocation.trace_id.clone(),
                deadline_ms: epoch_ms() + invocation.timeout.as_millis(),
            };
            if asking.send(handed).is_err() {
                state.queue.push_front(invocation);
                continue;
            }
            state.invocations += 1;
            let work = Work { outcome: Some(invocation.outcome), timer: invocation.timer };
            state.at_work.insert(invocation.request_id, work);
        }
    }

    fn time_out(&self, request_id: &str) {
        let mut state = self.state();
        let queued = state.queue.iter().position(|invocation| invocation.request_id == request_id);
        let queued =
            queued.and_then(|position| state.queue.remove(position)).map(|invocation| Some(invocation.outcome));
        let outcome = state.at_work.get_mut(request_id).map(|work| work.outcome.take()).or(queued);
        drop(state);
        if let Some(outcome) = outcome {
            if let Some(outcome) = outcome {
                let _ = outcome.send(Outcome::TimedOut);
            }
            self.end("an invocation took longer than the function's timeout");
            self.signal(Signal::SIGKILL);
        }
    }

    /// Passes on what became of an invocation. `None` if it is not, or no longer, at work here.
    pub(crate) fn resolve(&self, request_id: &str, outcome: Outcome) -> Option<()> {
        let sender = self.state().at_work.get_mut(request_id)?.outcome.take()?;
        let _ = sender.send(outcome);
        Some(())
    }

    pub(crate) fn is_at_work_on(&self, request_id: &str) -> bool {
        self.state().at_work.get(request_id).is_some_and(|work| work.outcome.is_some())
    }

    /// The answer is complete: the place is free again.
    pub(crate) fn finish(&self, request_id: &str) {
        let mut state = self.state();
        if let Some(work) = state.at_work.remove(request_id) {
            work.stop_timer();
            state.promised = state.promised.saturating_sub(1);
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

    pub(crate) fn extension_asks(&self) {
        let mut state = self.state();
        state.extension_asks = true;
        self.settle(&mut state);
    }

    /// The environment is broken beyond use.
    pub(crate) fn fail(&self, reason: &str) {
        self.end(reason);
        self.kill();
    }

    /// Takes it out of rotation if it has been idle for that long; then it is to be retired.
    pub(crate) fn claim_idle(&self, duration: Duration) -> bool {
        let mut state = self.state();
        let is_idle = state.promised == 0 && state.idle_since.is_some_and(|since| since.elapsed() >= duration);
        if is_idle && state.phase == Phase::Ready {
            state.phase = Phase::Retiring;
            return true;
        }
        false
    }

    /// Ends the environment as Lambda does: with an extension `SIGTERM`, two seconds, `SIGKILL`; without one
    /// `SIGKILL` at once.
    pub(crate) async fn retire(&self) {
        let has_extension = {
            let mut state = self.state();
            if state.phase == Phase::Ready {
                state.phase = Phase::Retiring;
            }
            if state.is_frozen {
                state.is_frozen = false;
                self.signal(Signal::SIGCONT);
            }
            state.has_extension
        };
        if has_extension && !self.is_ended() {
            self.signal(Signal::SIGTERM);
            let _ = tokio::time::timeout(SHUTDOWN_GRACE, self.exited()).await;
        }
        self.kill();
        self.exited().await;
    }

    /// Kills the process, whatever it is doing.
    pub(crate) fn kill(&self) {
        if !self.state().has_exited {
            self.signal(Signal::SIGKILL);
            // No request is to be handed to it from now on.
            self.end("it was killed");
        }
    }

    /// Waits until the process is gone.
    async fn exited(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.state().has_exited {
                return;
            }
            changed.await;
        }
    }

    /// Signals whatever the environment runs: it is a process group of its own.
    fn signal(&self, signal: Signal) {
        // A process that has ended takes no signals, and needs none.
        let _ = killpg(self.pid, signal);
    }

    pub(crate) fn report(&self) -> EnvironmentReport {
        let mut state = self.state();
        state.peak_memory_kib = peak_memory_kib(self.pid).max(state.peak_memory_kib);
        EnvironmentReport {
            id: self.id,
            process_id: self.pid.as_raw(),
            is_ready: state.phase == Phase::Ready,
            is_frozen: state.is_frozen,
            is_busy: !state.at_work.is_empty() || !state.queue.is_empty(),
            invocations: state.invocations,
            ready_after: state.ready_after,
            peak_memory_kib: state.peak_memory_kib,
            stream_writes: state.stream_writes,
        }
    }
}

/// What an environment is doing and has done.
#[derive(Debug, Clone)]
pub struct EnvironmentReport {
    /// Counts from 1 for each function.
    pub id: u32,
    /// The process.
    pub process_id: i32,
    /// The init phase is over.
    pub is_ready: bool,
    /// It is stopped, waiting for an invocation.
    pub is_frozen: bool,
    /// It has an invocation.
    pub is_busy: bool,
    /// Invocations that it was given.
    pub invocations: u64,
    /// The time from starting the process to its first request for an invocation.
    pub ready_after: Option<Duration>,
    /// The most memory that it had resident, in KiB; 0 where `/proc` does not tell.
    pub peak_memory_kib: u64,
    /// Writes that its last streamed answer came in, as far as reads can tell.
    pub stream_writes: Option<usize>,
}

fn peak_memory_kib(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn forward(stream: Option<impl AsyncRead + Unpin + Send + 'static>, id: u32, log: Log) {
    let Some(stream) = stream else { return };
    tokio::spawn(async move {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        // Until the end, whatever the bytes: a function must not notice that nobody listens.
        while reader.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            log(id, String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
            line.clear();
        }
    });
}

fn epoch_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// What the Runtime API says to a request that it cannot place.
pub(crate) fn error_body(error_type: &str, message: &str) -> Bytes {
    json!({ "errorType": error_type, "errorMessage": message }).to_string().into()
}
