//! The process of an environment: start, output, signals, exit.

use std::{
    net::TcpListener,
    process::Stdio,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::Notify,
    task::{AbortHandle, JoinHandle},
};

use super::{Environment, Log, Phase};
use crate::{FunctionConfig, runtime_api};

/// Time between `SIGTERM` and `SIGKILL` for an environment with an extension (Lambda, "Shutdown phase").
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Time for the output of a process that has exited: a child of it may keep the pipe open.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// The task that forwards a stream of the process.
type Forwarding = Option<JoinHandle<()>>;

impl Environment {
    /// Starts the process.
    ///
    /// # Errors
    ///
    /// Returns an error if the process cannot be started.
    pub(crate) fn start(id: u32, config: Arc<FunctionConfig>, log: Log) -> std::io::Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let started = Instant::now();
        let mut child = Command::new(&config.binary)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_DEFAULT_REGION", "eu-west-1")
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
            .envs((config.concurrency > 1).then(|| ("AWS_LAMBDA_MAX_CONCURRENCY", config.concurrency.to_string())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal signals only the emulator, which then shuts its environments down in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let pid = pid.ok_or_else(|| std::io::Error::other("the process exited immediately"))?;
        let output = [forward(child.stdout.take(), id, Arc::clone(&log)), forward(child.stderr.take(), id, log)];
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
        tokio::spawn(Arc::clone(&environment).watch(child, output, server.abort_handle()));
        Ok(environment)
    }

    /// Waits for the exit of the process and the end of its output, and kills it if the init phase times out.
    async fn watch(self: Arc<Self>, mut child: Child, output: [Forwarding; 2], server: AbortHandle) {
        let limit = tokio::time::sleep(self.config.init_timeout);
        tokio::pin!(limit);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.map_or_else(|error| error.to_string(), |status| status.to_string()),
                () = &mut limit, if self.state().phase == Phase::Starting => {
                    // The environment may have become ready after the guard was evaluated.
                    if self.state().phase != Phase::Starting {
                        continue;
                    }
                    self.end(&format!("the init phase timed out after {} s", self.config.init_timeout.as_secs_f32()));
                    self.signal(Signal::SIGKILL);
                }
                // Evaluates the guard again when the environment becomes ready.
                () = self.changed.notified() => {}
            }
        };
        server.abort();
        // The last lines: an emulator that stops would lose them.
        let forwarded = async {
            for stream in output.into_iter().flatten() {
                let _ = stream.await;
            }
        };
        let _ = tokio::time::timeout(OUTPUT_GRACE, forwarded).await;
        self.state().has_exited = true;
        self.end(&format!("the process exited: {status}"));
        self.changed.notify_waiters();
    }

    /// Shuts the environment down as Lambda does: with an extension `SIGTERM` and, after two seconds, `SIGKILL`;
    /// without an extension `SIGKILL` immediately.
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

    /// Kills the process, also during an invocation.
    pub(crate) fn kill(&self) {
        if !self.state().has_exited {
            self.signal(Signal::SIGKILL);
            // No further invocation may be dispatched to it.
            self.end("the environment was killed");
        }
    }

    /// Waits until the process has exited.
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

    /// Signals all processes of the environment, which form a process group.
    pub(super) fn signal(&self, signal: Signal) {
        // The error of an exited process is ignored.
        let _ = killpg(self.pid, signal);
    }
}

pub(super) fn peak_memory_kib(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn forward(stream: Option<impl AsyncRead + Unpin + Send + 'static>, id: u32, log: Log) -> Forwarding {
    let stream = stream?;
    Some(tokio::spawn(async move {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        // Reads any bytes until the end of the stream: a full pipe would block the function.
        while reader.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            log(id, String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
            line.clear();
        }
    }))
}
