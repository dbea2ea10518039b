//! AWS Lambda and Function URLs on loopback: for tests and benchmarks, where behaving like the service matters.
//!
//! Most servers are tested as one process that lives for long. On Lambda the next request reaches another process, a
//! process is frozen between requests, bodies have limits and headers change their names. This crate runs a built
//! function that way:
//!
//! ```no_run
//! use function_url_emulator::{Emulator, FunctionConfig};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let config = FunctionConfig { warm_environments: 3, ..FunctionConfig::new("greeter", "target/release/greeter") };
//! let emulator = Emulator::start(config).await?;
//!
//! println!("{}/mcp", emulator.url());
//! // Two requests in a row meet two environments; this one will be missed by nobody.
//! emulator.kill(1);
//! emulator.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! For developing, `cargo lambda watch` is the better tool: it rebuilds on each change.
//!
//! # What it does as the service does, and where that is written
//!
//! *Documented* means the AWS Lambda Developer Guide unless something else is named; *reported* means that users and
//! other emulators agree on it, and the guide is silent. Each line is a test in `tests/fidelity.rs` or beside the code.
//!
//! | What | Where it is written |
//! | --- | --- |
//! | Runtime API: next, response, error, init error, with their headers | documented: "Using the Lambda runtime API" |
//! | Request ids are random UUIDs | documented: the same; the version is reported |
//! | Streaming responses: mode header, prelude, eight NUL bytes, error trailers | documented: "Building a custom runtime", "Response streaming" |
//! | `Lambda-Runtime-Invocation-Id`, repeated in the answer | reported: read in `lambda_runtime` 1.5 |
//! | Extensions API: register, and a first event that never comes | documented: "Lambda Extensions API" |
//! | An environment serves one request at a time; all busy starts another | documented: "Understanding Lambda function scaling" |
//! | Several at a time with `AWS_LAMBDA_MAX_CONCURRENCY` | documented: "Lambda Managed Instances" |
//! | 429 beyond the reserved concurrency | documented: "Reserved concurrency"; the body is reported |
//! | Requests spread over environments | neither: the service promises nothing, so a function must bear the worst |
//! | Frozen between invocations | documented: "Lambda execution environment lifecycle"; by `SIGSTOP` here |
//! | The init phase ends after 10 s | documented: the same; the service tries again in the first invocation, which is not emulated |
//! | `SIGTERM`, 2 s, `SIGKILL` with an extension; `SIGKILL` at once without | documented: "Shutdown phase"; with internal extensions alone the service grants less (500 ms) |
//! | A timeout and a crash end the environment | documented: the same |
//! | Errors of the function are 502 to the caller | documented: "Monitoring Lambda function URLs"; the body is reported |
//! | Payload version 2.0: names lower-cased, values joined, cookies apart, Base64 for binary bodies | documented: "Invoking Lambda function URLs", "Request payload format" |
//! | An answer without `statusCode` is the body of a 200 | documented: "Response payload format" |
//! | 6 MB in (413) and out (502) | documented: "Lambda quotas"; the statuses are reported |
//! | `WWW-Authenticate` is renamed to `x-amzn-remapped-www-authenticate` | documented for REST APIs, reported for Function URLs |
//! | Headers of one connection are dropped | RFC 9110, section 7.6.1 |
//! | CORS of the URL: preflights answered by it, headers added to the function's | documented: "Configuring CORS"; that they are added twice is reported |
//! | A caller that goes away does not stop an invocation | documented: "Response streaming" |
//! | REST API (1.0) and load balancer events, 1 MB behind a load balancer | documented: API Gateway and Elastic Load Balancing guides |
//!
//! Not emulated: IAM, memory limits, CPU shares, SnapStart, bandwidth of streams, the retry of a failed init, and the
//! case of header names, which REST APIs keep and this makes lower. Each answer carries one header that the service does not send, `x-emulator-environment`: the number of the environment.

mod config;
mod emulator;
mod environment;
mod front;
mod function;
mod payload;
mod runtime_api;

pub use config::{Cors, Front, FunctionConfig, InvokeMode};
pub use emulator::{Emulator, InvokeError};
pub use environment::EnvironmentReport;
pub use function::InvocationRecord;
pub use payload::Envelope;
