//! A function: its environments, and which of them gets the next request.

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
    environment::{Environment, Invocation, Log, Outcome},
};

/// A function, emulated.
pub(crate) struct Function {
    pub(crate) config: Arc<FunctionConfig>,
    environments: Mutex<Vec<Arc<Environment>>>,
    records: Mutex<Vec<InvocationRecord>>,
    is_stopped: AtomicBool,
    clock: AtomicUsize,
    started: AtomicUsize,
    log: Log,
}

/// One invocation, as far as the caller could see it.
#[derive(Debug, Clone)]
pub struct InvocationRecord {
    /// The environment that served it.
    pub environment: u32,
    /// The environment was started for it.
    pub is_cold: bool,
    /// From the request's arrival to the answer's beginning.
    pub duration: Duration,
}

/// A request id as Lambda's: a random UUID (version 4), so that a function never sees one again, not even in another run.
pub(crate) fn new_request_id() -> String {
    // The standard library seeds its hashers from the operating system.
    let half = || RandomState::new().build_hasher().finish();
    let (high, low) = (half(), half());
    let (first, second, third) = (high >> 32, high >> 16 & 0xffff, high & 0xfff);
    let (fourth, fifth) = (low >> 48 & 0x3fff | 0x8000, low & 0xffff_ffff_ffff);
    format!("{first:08x}-{second:04x}-4{third:03x}-{fourth:04x}-{fifth:012x}")
}

/// Why a request was not handed to any environment.
pub(crate) enum Refused {
    /// All that are allowed are busy.
    Throttled,
    /// One could not be started.
    CannotStart(std::io::Error),
}

impl Function {
    pub(crate) fn new(config: FunctionConfig, log: Log) -> Self {
        Self {
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

    /// Starts the environments that are to be warm, and waits until they are.
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

    /// The environment that has waited longest, so that requests in a row meet different ones; a new one if all are
    /// busy and another is allowed.
    fn acquire(&self) -> Result<(Arc<Environment>, bool), Refused> {
        let clock = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        let mut environments = self.environments();
        environments.sort_by_key(|environment| environment.last_used());
        if let Some(environment) = environments.iter().find(|environment| environment.promise(clock)) {
            return Ok((Arc::clone(environment), false));
        }
        if self.is_stopped.load(Ordering::Relaxed) {
            return Err(Refused::CannotStart(std::io::Error::other("the emulator has stopped")));
        }
        let running = environments.iter().filter(|environment| !environment.is_ended()).count();
        if running >= self.config.reserved_environments {
            return Err(Refused::Throttled);
        }
        let environment = self.start_environment().map_err(Refused::CannotStart)?;
        environment.promise(clock);
        environments.push(Arc::clone(&environment));
        Ok((environment, true))
    }

    /// Invokes the function with an event. A caller that stops waiting does not stop the invocation.
    pub(crate) async fn invoke(
        &self,
        request_id: String,
        trace_id: String,
        event: Bytes,
    ) -> Result<(u32, Outcome), Refused> {
        let arrival = Instant::now();
        loop {
            let (environment, is_cold) = self.acquire()?;
            let outcome = self.invoke_in(&environment, &request_id, &trace_id, &event).await;
            // An environment that ended before it was given the invocation is missed by nobody.
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
        environment.hand_over(Invocation { request_id, event, trace_id, timeout, outcome: sender, timer: None });
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

    /// The environments that have not ended.
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

    /// Retires environments that nobody has asked anything for long.
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
