//! Emulator of AWS Lambda and Function URLs on loopback, for tests and benchmarks that need the behavior of the
//! service.
//!
//! Most servers are tested as one long-running process. On Lambda, consecutive requests reach different processes, a
//! process is frozen between requests, bodies have limits and headers are renamed. This crate runs a built function
//! under these conditions:
//!
//! ```no_run
//! use function_url_emulator::{Emulator, FunctionConfig};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let config = FunctionConfig { warm_environments: 3, ..FunctionConfig::new("greeter", "target/release/greeter") };
//! let emulator = Emulator::start(config).await?;
//!
//! println!("{}/mcp", emulator.url());
//! // Consecutive requests reach different environments; another one replaces the killed one.
//! emulator.kill(1);
//! emulator.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! For development, use `cargo lambda watch`, which rebuilds on each change.
//!
//! # Emulated behavior and its sources
//!
//! *Documented* means the AWS Lambda Developer Guide unless another source is named. *Reported* means that users and
//! other emulators agree, and the guide does not mention it. Each line has a test in `tests/fidelity.rs` or in the
//! module.
//!
//! | Behavior | Source |
//! | --- | --- |
//! | Runtime API: next, response, error, init error, with their headers | documented: "Using the Lambda runtime API" |
//! | Request ids are random UUIDs | documented: the same; the version is reported |
//! | Streaming responses: mode header, prelude, eight NUL bytes, error trailers | documented: "Building a custom runtime", "Response streaming" |
//! | `Lambda-Runtime-Invocation-Id`, repeated in the response | reported: source of `lambda_runtime` 1.5 |
//! | Extensions API: register, and a first event that is never sent | documented: "Lambda Extensions API" |
//! | An environment serves one request at a time; if all are busy, another is started | documented: "Understanding Lambda function scaling" |
//! | Several concurrent requests with `AWS_LAMBDA_MAX_CONCURRENCY` | documented: "Lambda Managed Instances" |
//! | 429 beyond the reserved concurrency | documented: "Reserved concurrency"; the body is reported |
//! | Requests spread over environments | neither: the service guarantees nothing, so a function must handle the worst case |
//! | Frozen between invocations | documented: "Lambda execution environment lifecycle"; by `SIGSTOP` here |
//! | The init phase ends after 10 s | documented: the same; the service retries in the first invocation, which is not emulated |
//! | `SIGTERM`, 2 s, `SIGKILL` with an extension; `SIGKILL` at once without | documented: "Shutdown phase"; with internal extensions alone the service grants less (500 ms) |
//! | A timeout or a crash ends the environment | documented: the same |
//! | Errors of the function are 502 for the client | documented: "Monitoring Lambda function URLs"; the body is reported |
//! | Payload version 2.0: names lower-cased, values joined, cookies apart, Base64 for binary bodies | documented: "Invoking Lambda function URLs", "Request payload format" |
//! | A result without `statusCode` is the body of a 200 | documented: "Response payload format" |
//! | 6 MB in (413) and out (502) | documented: "Lambda quotas"; the statuses are reported |
//! | `WWW-Authenticate` is renamed to `x-amzn-remapped-www-authenticate` | documented for REST APIs, reported for Function URLs |
//! | Hop-by-hop headers are dropped | RFC 9110, section 7.6.1 |
//! | CORS of the URL: it responds to preflight requests, and adds headers to those of the function | documented: "Configuring CORS"; the duplication is reported |
//! | A client that disconnects does not stop an invocation | documented: "Response streaming" |
//! | Asynchronous invocations: 202, at least once, two retries, a maximum age, within the function's concurrency | documented: "Invoking a Lambda function asynchronously" |
//! | REST API (1.0) and load balancer events, 1 MB behind a load balancer | documented: API Gateway and Elastic Load Balancing guides |
//!
//! Not emulated: IAM, memory limits, CPU shares, SnapStart, the bandwidth of streams, the retry of a failed init phase,
//! and the case of header names (REST APIs keep it, the emulator sends lower case). Each response has one header that
//! the service does not send, `x-emulator-environment`: the id of the environment.

mod asynchronous;
mod config;
mod emulator;
mod environment;
mod front;
mod function;
mod payload;
mod runtime_api;

pub use asynchronous::AsynchronousReport;
pub use config::{AsynchronousConfig, Cors, Front, FunctionConfig, InvokeMode};
pub use emulator::{Emulator, InvokeError};
pub use environment::EnvironmentReport;
pub use function::InvocationRecord;
pub use payload::Envelope;
