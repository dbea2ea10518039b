//! The emulator, as tests and the command line hold it.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::{net::TcpListener, task::AbortHandle};

use crate::{
    EnvironmentReport, FunctionConfig, InvocationRecord,
    environment::{Log, Outcome},
    front,
    function::{Function, Refused, new_request_id},
};

/// How often it is looked for idle environments.
const IDLE_CHECK: Duration = Duration::from_millis(200);

/// Why a direct invocation has no answer.
#[derive(Debug)]
pub enum InvokeError {
    /// The function reported this error: `errorType`, `errorMessage`.
    FunctionError(Value),
    /// There was no answer that could be passed on.
    NoAnswer(String),
    /// All environments that are allowed are busy.
    Throttled,
}

/// A function behind its URL, running until it is [stopped](Self::stop).
pub struct Emulator {
    function: Arc<Function>,
    address: SocketAddr,
    tasks: Vec<AbortHandle>,
}

impl Emulator {
    /// Starts the URL, and the environments that are to be warm. What the function prints is dropped.
    ///
    /// # Errors
    ///
    /// When the port is taken or an environment does not become ready.
    pub async fn start(config: FunctionConfig) -> anyhow::Result<Self> {
        Self::start_with_log(config, |_, _| {}).await
    }

    /// As [`start`](Self::start); `log` gets each line that an environment prints, with the environment's number.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_with_log(
        config: FunctionConfig,
        log: impl Fn(u32, &str) + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(config.binary.is_file(), "there is no file {}", config.binary.display());
        let listener = TcpListener::bind(("127.0.0.1", config.port)).await?;
        let address = listener.local_addr()?;
        let log: Log = Arc::new(log);
        let function = Arc::new(Function::new(config, log));
        let url = tokio::spawn(front::serve(listener, address, Arc::clone(&function)));
        let idle = tokio::spawn(retire_idle(Arc::clone(&function)));
        let emulator = Self { function, address, tasks: vec![url.abort_handle(), idle.abort_handle()] };
        if let Err(reason) = emulator.function.warm().await {
            emulator.stop().await;
            anyhow::bail!("an environment did not become ready: {reason}");
        }
        Ok(emulator)
    }

    /// The function's URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The environments that are running now.
    pub fn environments(&self) -> Vec<EnvironmentReport> {
        self.function.reports()
    }

    /// Every invocation so far, in the order of their answers.
    pub fn invocations(&self) -> Vec<InvocationRecord> {
        self.function.records()
    }

    /// Invokes the function with an event of any shape, as Lambda's Invoke does; its answer as it wrote it, or, if it
    /// streamed, the body of that.
    ///
    /// # Errors
    ///
    /// When the function does not answer, or answers with an error; its environment lives on only in that last case.
    pub async fn invoke(&self, event: impl Into<Bytes>) -> Result<Bytes, InvokeError> {
        let invoked =
            self.function.invoke(new_request_id(), "Root=1-00000000-000000000000000000000000".to_owned(), event.into());
        match invoked.await {
            Err(Refused::Throttled) => Err(InvokeError::Throttled),
            Err(Refused::CannotStart(error)) => Err(InvokeError::NoAnswer(error.to_string())),
            Ok((_, Outcome::Answer(answer))) => Ok(answer),
            Ok((_, Outcome::Stream { mut parts, .. })) => {
                let mut body = BytesMut::new();
                while let Some(part) = parts.recv().await {
                    body.extend_from_slice(&part.map_err(InvokeError::NoAnswer)?);
                }
                Ok(body.freeze())
            }
            Ok((_, Outcome::FunctionError(error))) => Err(InvokeError::FunctionError(error)),
            Ok((_, Outcome::TooLarge)) => Err(InvokeError::NoAnswer("the answer is too large".to_owned())),
            Ok((_, Outcome::TimedOut)) => Err(InvokeError::NoAnswer("the function took too long".to_owned())),
            Ok((_, Outcome::Crashed | Outcome::Undelivered)) => {
                Err(InvokeError::NoAnswer("the environment has ended".to_owned()))
            }
            Ok((_, Outcome::InitFailed)) => Err(InvokeError::NoAnswer("no environment became ready".to_owned())),
        }
    }

    /// Freezes an environment until its next invocation, where [`FunctionConfig::freeze`] leaves that to the caller.
    /// Whether it was running and idle.
    pub fn freeze(&self, environment: u32) -> bool {
        self.function.find(environment).is_some_and(|environment| environment.freeze())
    }

    /// Kills an environment, whatever it is doing. Whether it was running.
    pub fn kill(&self, environment: u32) -> bool {
        let found = self.function.find(environment);
        found.iter().for_each(|environment| environment.kill());
        found.is_some()
    }

    /// Retires an environment as Lambda does when it is no longer needed. Whether it was running.
    pub async fn retire(&self, environment: u32) -> bool {
        let found = self.function.find(environment);
        if let Some(environment) = &found {
            environment.retire().await;
        }
        found.is_some()
    }

    /// Closes the URL and retires all environments.
    pub async fn stop(self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.function.retire_all().await;
    }
}

async fn retire_idle(function: Arc<Function>) {
    loop {
        tokio::time::sleep(IDLE_CHECK.min(function.config.idle_timeout)).await;
        function.retire_idle().await;
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.function.kill_all();
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("url", &self.url()).finish_non_exhaustive()
    }
}
