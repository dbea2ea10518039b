//! Emulator handle for tests and the command line.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::{net::TcpListener, task::AbortHandle};

use crate::{
    EnvironmentReport, FunctionConfig, InvocationRecord,
    asynchronous::{AsynchronousReport, Queue},
    environment::{Log, Outcome},
    front,
    function::{Function, RoutingError, new_request_id},
};

/// Interval of the check for idle environments.
const IDLE_CHECK: Duration = Duration::from_millis(200);

/// Error of a direct invocation.
#[derive(Debug)]
pub enum InvokeError {
    /// The function reported this error: `errorType`, `errorMessage`.
    FunctionError(Value),
    /// The function returned no valid response; the text is the reason.
    NoResponse(String),
    /// All environments are busy.
    Throttled,
}

/// Running function behind its URL. Call [`stop`](Self::stop) to shut it down in order; dropping it kills the
/// environments.
pub struct Emulator {
    function: Arc<Function>,
    address: SocketAddr,
    tasks: Vec<AbortHandle>,
}

impl Emulator {
    /// Starts the URL and the warm environments. Output of the function is discarded.
    ///
    /// # Errors
    ///
    /// Returns an error if the binary does not exist, the port is in use, or an environment does not become ready.
    pub async fn start(config: FunctionConfig) -> anyhow::Result<Self> {
        Self::start_with_log(config, |_, _| {}).await
    }

    /// Starts the URL and the warm environments. `log` gets the environment's id and each line of its output.
    ///
    /// # Errors
    ///
    /// The errors of [`start`](Self::start).
    pub async fn start_with_log(
        config: FunctionConfig,
        log: impl Fn(u32, &str) + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(config.binary.is_file(), "no such file: {}", config.binary.display());
        let listener = TcpListener::bind(("127.0.0.1", config.port)).await?;
        let address = listener.local_addr()?;
        let log: Log = Arc::new(log);
        let function = Arc::new(Function::new(config, log));
        let url = tokio::spawn(front::serve(listener, address, Arc::clone(&function)));
        let idle = tokio::spawn(retire_idle(Arc::clone(&function)));
        let emulator = Self { function, address, tasks: vec![url.abort_handle(), idle.abort_handle()] };
        if let Err(reason) = emulator.function.warm().await {
            emulator.stop().await;
            anyhow::bail!("the init phase of an environment failed: {reason}");
        }
        Ok(emulator)
    }

    /// Returns the URL of the function, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns reports of all running environments.
    pub fn environments(&self) -> Vec<EnvironmentReport> {
        self.function.reports()
    }

    /// Returns records of all completed invocations, in the order of completion.
    pub fn invocations(&self) -> Vec<InvocationRecord> {
        self.function.records()
    }

    /// Returns counts of asynchronous invocations. `None` if they are not served.
    pub fn asynchronous(&self) -> Option<AsynchronousReport> {
        self.function.queue.as_ref().map(Queue::report)
    }

    /// Invokes the function with any event, like the Lambda operation Invoke. Returns the result as the function wrote
    /// it, or the body of a streamed response.
    ///
    /// # Errors
    ///
    /// Returns an error if the function returns an error or no valid response, or if all environments are busy. The
    /// environment continues to run after an error of the function.
    pub async fn invoke(&self, event: impl Into<Bytes>) -> Result<Bytes, InvokeError> {
        let invoked =
            self.function.invoke(new_request_id(), "Root=1-00000000-000000000000000000000000".to_owned(), event.into());
        match invoked.await {
            Err(RoutingError::Throttled) => Err(InvokeError::Throttled),
            Err(RoutingError::CannotStart(error)) => Err(InvokeError::NoResponse(error.to_string())),
            Ok((_, Outcome::Response(result))) => Ok(result),
            Ok((_, Outcome::Stream { mut parts, .. })) => {
                let mut body = BytesMut::new();
                while let Some(part) = parts.recv().await {
                    body.extend_from_slice(&part.map_err(InvokeError::NoResponse)?);
                }
                Ok(body.freeze())
            }
            Ok((_, Outcome::FunctionError(error))) => Err(InvokeError::FunctionError(error)),
            Ok((_, Outcome::TooLarge)) => {
                Err(InvokeError::NoResponse("the response exceeds the size limit".to_owned()))
            }
            Ok((_, Outcome::TimedOut)) => Err(InvokeError::NoResponse("the function timed out".to_owned())),
            Ok((_, Outcome::Crashed | Outcome::Undelivered)) => {
                Err(InvokeError::NoResponse("the environment exited before the response".to_owned()))
            }
            Ok((_, Outcome::InitFailed)) => Err(InvokeError::NoResponse("the init phase failed".to_owned())),
        }
    }

    /// Freezes an environment until its next invocation. Use it with [`FunctionConfig::freeze`] set to `false`. Returns
    /// whether the environment was running and idle.
    pub fn freeze(&self, environment: u32) -> bool {
        self.function.find(environment).is_some_and(|environment| environment.freeze())
    }

    /// Kills an environment, also during an invocation. Returns whether it was running.
    pub fn kill(&self, environment: u32) -> bool {
        let found = self.function.find(environment);
        found.iter().for_each(|environment| environment.kill());
        found.is_some()
    }

    /// Shuts an environment down, as Lambda does with unneeded environments. Returns whether it was running.
    pub async fn retire(&self, environment: u32) -> bool {
        let found = self.function.find(environment);
        if let Some(environment) = &found {
            environment.retire().await;
        }
        found.is_some()
    }

    /// Closes the URL and shuts down all environments.
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
