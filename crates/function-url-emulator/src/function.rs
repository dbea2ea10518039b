//! Emulated function: its environments, and the routing of invocations to them.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    EnvironmentReport, FunctionConfig,
    asynchronous::Queue,
    environment::{Environment, Invocation, Log, Outcome},
};

/// Emulated function.
pub(crate) struct Function {
    pub(crate) config: Arc<FunctionConfig>,
    /// `None` if the operation Invoke is not served.
    pub(crate) queue: Option<Queue>,
    environments: Mutex<Vec<Arc<Environment>>>,
    records: Mutex<Vec<InvocationRecord>>,
    is_stopped: AtomicBool,
    clock: AtomicUsize,
    started: AtomicUsize,
    log: Log,
}

/// Record of one invocation.
#[derive(Debug, Clone)]
pub struct InvocationRecord {
    /// Id of the environment.
    pub environment: u32,
    /// Whether the invocation was a cold start.
    pub is_cold: bool,
    /// Time from the request to the start of the response.
    pub duration: Duration,
}

/// Returns a request id like Lambda's: a random UUID (version 4), unique also across runs.
pub(crate) fn new_request_id() -> String {
    // The standard library seeds its hashers from the operating system.
    let half = || RandomState::new().build_hasher().finish();
    let (high, low) = (half(), half());
    let (first, second, third) = (high >> 32, high >> 16 & 0xffff, high & 0xfff);
    let (fourth, fifth) = (low >> 48 & 0x3fff | 0x8000, low & 0xffff_ffff_ffff);
    format!("{first:08x}-{second:04x}-4{third:03x}-{fourth:04x}-{fifth:012x}")
}

/// Error of the routing of an invocation.
pub(crate) enum RoutingError {
    /// All environments are busy.
    Throttled,
    /// An environment could not be started.
    CannotStart(std::io::Error),
}

impl Function {
    pub(crate) fn new(config: FunctionConfig, log: Log) -> Self {
        Self {
            queue: config.asynchronous.map(Queue::new),
            config: Arc::new(config),
            environments: Mutex::default(),
            records: Mutex::default(),
            is_stopped: AtomicBool::new(false),
            clock: AtomicUsize::new(0),
            started: AtomicUsize::new(0),
            log,
        }
    }

    fn environments(&self) -> MutexGuard<'_, Vec<Arc<Environment>>> {
        let mut environments = self.environments.lock().unwrap_or_else(PoisonError::into_inner);
        environments.retain(|environment| !environment.has_exited());
        environments
    }

    /// Starts the warm environments, and waits until they are ready.
    pub(crate) async fn warm(&self) -> Result<(), String> {
        let missing = self.config.warm_environments.saturating_sub(self.running().len());
        for _ in 0..missing {
            let environment = self.start_environment().map_err(|error| error.to_string())?;
            self.environments().push(Arc::clone(&environment));
            environment.ready().await?;
        }
        Ok(())
    }

    fn start_environment(&self) -> std::io::Result<Arc<Environment>> {
        let id = u32::try_from(self.started.fetch_add(1, Ordering::Relaxed) + 1).unwrap_or(u32::MAX);
        Environment::start(id, Arc::clone(&self.config), Arc::clone(&self.log))
    }

    /// Reserves a slot in the least recently used environment, so that consecutive requests reach different
    /// environments. Starts a new one if all are busy and the limit is not reached.
    fn acquire(&self) -> Result<(Arc<Environment>, bool), RoutingError> {
        let clock = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        let mut environments = self.environments();
        environments.sort_by_key(|environment| environment.last_used());
        if let Some(environment) = environments.iter().find(|environment| environment.reserve(clock)) {
            return Ok((Arc::clone(environment), false));
        }
        if self.is_stopped.load(Ordering::Relaxed) {
            return Err(RoutingError::CannotStart(std::io::Error::other("the emulator is stopped")));
        }
        let running = environments.iter().filter(|environment| !environment.is_ended()).count();
        if running >= self.config.reserved_environments {
            return Err(RoutingError::Throttled);
        }
        let environment = self.start_environment().map_err(RoutingError::CannotStart)?;
        environment.reserve(clock);
        environments.push(Arc::clone(&environment));
        Ok((environment, true))
    }

    /// Invokes the function with an event. The invocation continues if the client disconnects.
    pub(crate) async fn invoke(
        &self,
        request_id: String,
        trace_id: String,
        event: Bytes,
    ) -> Result<(u32, Outcome), RoutingError> {
        let arrival = Instant::now();
        loop {
            let (environment, is_cold) = self.acquire()?;
            let outcome = self.invoke_in(&environment, &request_id, &trace_id, &event).await;
            // The invocation was not dispatched: retry in another environment.
            if matches!(outcome, Outcome::Undelivered) {
                continue;
            }
            let record = InvocationRecord { environment: environment.id, is_cold, duration: arrival.elapsed() };
            self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
            return Ok((environment.id, outcome));
        }
    }

    async fn invoke_in(
        &self,
        environment: &Arc<Environment>,
        request_id: &str,
        trace_id: &str,
        event: &Bytes,
    ) -> Outcome {
        if let Err(reason) = environment.ready().await {
            (self.log)(environment.id, &format!("emulator: {reason}"));
            return Outcome::InitFailed;
        }
        let (sender, receiver) = oneshot::channel();
        let timeout = self.config.timeout;
        let (request_id, trace_id) = (request_id.to_owned(), trace_id.to_owned());
        let event = event.clone();
        environment.enqueue(Invocation { request_id, event, trace_id, timeout, outcome: sender, timer: None });
        let outcome = receiver.await.unwrap_or(Outcome::Crashed);
        if let Outcome::FunctionError(error) = &outcome {
            (self.log)(environment.id, &format!("emulator: the function reported an error: {error}"));
        }
        outcome
    }

    pub(crate) fn reports(&self) -> Vec<EnvironmentReport> {
        let mut reports: Vec<_> = self.running().iter().map(|environment| environment.report()).collect();
        reports.sort_by_key(|report| report.id);
        reports
    }

    pub(crate) fn records(&self) -> Vec<InvocationRecord> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the environments that have not ended.
    fn running(&self) -> Vec<Arc<Environment>> {
        self.environments().iter().filter(|environment| !environment.is_ended()).cloned().collect()
    }

    pub(crate) fn kill_all(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.environments().iter().for_each(|environment| environment.kill());
    }

    pub(crate) fn find(&self, id: u32) -> Option<Arc<Environment>> {
        self.environments().iter().find(|environment| environment.id == id).cloned()
    }

    /// Shuts down environments that are idle for longer than the idle timeout.
    pub(crate) async fn retire_idle(&self) {
        let idle: Vec<_> = self.running().into_iter().filter(|e| e.claim_idle(self.config.idle_timeout)).collect();
        for environment in idle {
            environment.retire().await;
        }
    }

    pub(crate) async fn retire_all(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        let all: Vec<_> = self.environments().clone();
        let retiring = all.into_iter().map(|environment| tokio::spawn(async move { environment.retire().await }));
        for retired in retiring.collect::<Vec<_>>() {
            let _ = retired.await;
        }
    }
}
