//! The emulator, as tests and the command line hold it.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, task::AbortHandle};

use crate::{EnvironmentReport, FunctionConfig, InvocationRecord, environment::Log, front, function::Function};

/// How often it is looked for idle environments.
const IDLE_CHECK: Duration = Duration::from_millis(200);

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
        let url = tokio::spawn(front::serve(listener, Arc::clone(&function)));
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
        for report in self.function.reports() {
            self.kill(report.id);
        }
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("url", &self.url()).finish_non_exhaustive()
    }
}
