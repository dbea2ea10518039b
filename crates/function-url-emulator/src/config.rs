//! What is emulated, and how.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// A function and its URL.
#[derive(Debug, Clone)]
pub struct FunctionConfig {
    /// `AWS_LAMBDA_FUNCTION_NAME`.
    pub name: String,
    /// The function's executable: what a zip holds as `bootstrap`.
    pub binary: PathBuf,
    /// The function's environment variables, besides those that Lambda sets. Nothing else is inherited but `PATH`.
    pub variables: BTreeMap<String, String>,
    /// The URL's invoke mode.
    pub invoke_mode: InvokeMode,
    /// Who turns HTTP requests into events.
    pub front: Front,
    /// Environments that are started before the first request, as provisioned concurrency does.
    pub warm_environments: usize,
    /// The most environments at once; a request beyond them is answered 429.
    pub reserved_environments: usize,
    /// Invocations that one environment takes at once; above 1 only on Managed Instances
    /// (`AWS_LAMBDA_MAX_CONCURRENCY`).
    pub concurrency: usize,
    /// The function's timeout.
    pub timeout: Duration,
    /// The limit of the init phase; Lambda's is 10 s.
    pub init_timeout: Duration,
    /// Whether environments are frozen (`SIGSTOP`) between invocations, as Lambda's are.
    pub freeze: bool,
    /// An environment without requests for this long is retired.
    pub idle_timeout: Duration,
    /// `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`, in MB. Not enforced.
    pub memory_mb: u32,
    /// The URL's own CORS configuration; `None` leaves CORS to the function.
    pub cors: Option<Cors>,
    /// `requestContext.domainName` of the events; the listener's address if `None`.
    pub domain_name: Option<String>,
    /// The port of the URL on 127.0.0.1; 0 for a free one.
    pub port: u16,
}

impl FunctionConfig {
    /// A function behind a buffered Function URL, with Lambda's limits and up to ten environments.
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
        }
    }
}

/// How answers travel from the function to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvokeMode {
    /// `BUFFERED`: when they are complete.
    Buffered,
    /// `RESPONSE_STREAM`: as they come.
    ResponseStream,
}

/// Who turns HTTP requests into events and answers into HTTP responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// A Function URL: payload version 2.0.
    FunctionUrl,
    /// A REST API: payload version 1.0.
    RestApi,
    /// A load balancer.
    LoadBalancer {
        /// Whether the target group has multi-value headers on.
        multi_value: bool,
    },
}

/// A Function URL's CORS configuration.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    /// Origins that are allowed; `*` for any.
    pub allow_origins: Vec<String>,
    /// Methods that are allowed.
    pub allow_methods: Vec<String>,
    /// Request headers that are allowed.
    pub allow_headers: Vec<String>,
}
