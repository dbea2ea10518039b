//! Configuration of the emulator.

use std::{collections::BTreeMap, num::NonZeroU64, path::PathBuf, time::Duration};

/// Configuration of a function and its Function URL.
#[derive(Debug, Clone)]
pub struct FunctionConfig {
    /// `AWS_LAMBDA_FUNCTION_NAME`.
    pub name: String,
    /// Executable of the function, `bootstrap` in a deployment package.
    pub binary: PathBuf,
    /// Environment variables of the function, in addition to those that Lambda sets. Only `PATH` is inherited. The region is `eu-west-1`,
    /// unless `AWS_REGION` is among them.
    pub variables: BTreeMap<String, String>,
    /// Invoke mode of the Function URL.
    pub invoke_mode: InvokeMode,
    /// Service that converts HTTP requests to events.
    pub front: Front,
    /// Number of environments to start before the first request, as with provisioned concurrency.
    pub warm_environments: usize,
    /// Maximum number of environments, as reserved concurrency. Further requests are throttled with 429.
    pub reserved_environments: usize,
    /// Maximum number of concurrent invocations of one environment; above 1 only on Managed Instances
    /// (`AWS_LAMBDA_MAX_CONCURRENCY`).
    pub concurrency: usize,
    /// Timeout of an invocation.
    pub timeout: Duration,
    /// Timeout of the init phase; 10 s on Lambda.
    pub init_timeout: Duration,
    /// Whether environments are frozen (`SIGSTOP`) between invocations, as on Lambda.
    pub freeze: bool,
    /// Time without invocations after which an environment is shut down.
    pub idle_timeout: Duration,
    /// `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`, in MB. Not enforced.
    pub memory_mb: u32,
    /// CORS configuration of the Function URL. With `None`, the function handles CORS.
    pub cors: Option<Cors>,
    /// `requestContext.domainName` of events; with `None`, the listener's address.
    pub domain_name: Option<String>,
    /// Port on 127.0.0.1; 0 selects a free port.
    pub port: u16,
    /// Asynchronous invocations, by the operation Invoke on the same port. With `None`, it is not served.
    pub asynchronous: Option<AsynchronousConfig>,
}

/// Configuration of asynchronous invocations.
#[derive(Debug, Clone, Copy)]
pub struct AsynchronousConfig {
    /// Wait before the first retry after an error of the function; twice as long before the second. 60 s on Lambda.
    pub retry_after: Duration,
    /// Age at which an event is dropped; up to six hours on Lambda.
    pub maximum_event_age: Duration,
    /// Delivers each event with a number divisible by this one twice. Lambda delivers at least once.
    pub duplicate_every: Option<NonZeroU64>,
}

impl Default for AsynchronousConfig {
    fn default() -> Self {
        Self {
            retry_after: Duration::from_secs(60),
            maximum_event_age: Duration::from_secs(6 * 60 * 60),
            duplicate_every: None,
        }
    }
}

impl FunctionConfig {
    /// Creates the configuration of a function behind a buffered Function URL, with Lambda's limits and up to ten
    /// environments.
    pub fn new(name: impl Into<String>, binary: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            binary: binary.into(),
            variables: BTreeMap::new(),
            invoke_mode: InvokeMode::Buffered,
            front: Front::FunctionUrl,
            warm_environments: 0,
            reserved_environments: 10,
            concurrency: 1,
            timeout: Duration::from_secs(30),
            init_timeout: Duration::from_secs(10),
            freeze: true,
            idle_timeout: Duration::from_secs(300),
            memory_mb: 128,
            cors: None,
            domain_name: None,
            port: 0,
            asynchronous: None,
        }
    }
}

/// Transfer of responses from the function to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvokeMode {
    /// `BUFFERED`: the response is sent when it is complete.
    Buffered,
    /// `RESPONSE_STREAM`: the response is sent as the function writes it.
    ResponseStream,
}

/// Service that converts HTTP requests to events, and results to HTTP responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// A Function URL: payload version 2.0.
    FunctionUrl,
    /// A REST API: payload version 1.0.
    RestApi,
    /// An Application Load Balancer.
    LoadBalancer {
        /// Whether multi-value headers are enabled in the target group.
        multi_value: bool,
    },
}

/// CORS configuration of a Function URL.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    /// Allowed origins; `*` allows all.
    pub allow_origins: Vec<String>,
    /// Allowed methods.
    pub allow_methods: Vec<String>,
    /// Allowed request headers.
    pub allow_headers: Vec<String>,
}
