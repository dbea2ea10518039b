//! MCP over HTTP on AWS Lambda.
//!
//! A function's `main` is one line, and its service is a value that tests call like any other:
//!
//! ```no_run
//! use mcp_lambda::{HttpConfig, McpService};
//! use mcp_server::{InitError, Server};
//!
//! pub async fn service(config: HttpConfig) -> Result<McpService, InitError> {
//!     McpService::new(Server::new("greeter", "0.1.0", ()), config)
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     mcp_lambda::main(service)
//! }
//! ```
//!
//! A request's path through the modules: `invocations` takes it from the Runtime API, `events` turns it into an `http::Request`,
//! `http` checks it, decides its era, asks `mcp-server` and gives the answer a status, `sse` writes a stream if
//! there is something to stream, and `invocations` sends it back.
//!
//! | Module | What it holds |
//! | --- | --- |
//! | `http` | [`McpService`]; the only module with status codes |
//! | `era` | which revision a request is made in |
//! | `headers` | headers that repeat the body, and what a client accepts |
//! | `origin` | the server's public name, and who may call from a browser |
//! | `authentication` | who calls |
//! | `page` | what a browser is shown |
//! | `platform` | [`LambdaContext`]: what handlers get on Lambda alone |
//! | `sse` | [`Body`], server-sent events |
//! | `events` | Lambda events to and from `http` types |
//! | `run` | [`main`] |
//! | `invocations` | the runtime loop, in both invoke modes |
//! | `runtime_api` | the connection to the Runtime API |
//! | `shutdown` | what is done before the process ends |
//! | `logs` | log lines, and metrics in them |
//! | `call_log` | the line of each call |
//! | `traces` | the span of each call, and with the feature `otel` the way of spans to a collector |
//! | `config` | the environment variables |

mod authentication;
mod call_log;
mod config;
mod era;
mod events;
mod headers;
mod http;
mod invocations;
mod logs;
mod origin;
mod page;
mod platform;
mod run;
mod runtime_api;
mod shutdown;
mod sse;
mod traces;

pub use self::http::{McpService, Transport};
pub use authentication::{Authentication, IamIdentity};
pub use config::{Env, FromEnv, HttpConfig, InvokeMode};
pub use events::{EventError, EventResponse, EventSource, LambdaRequest};
pub use invocations::respond_buffered;
pub use origin::{Origin, PublicUrl};
pub use platform::{LambdaContext, LambdaInvocation};
pub use run::main;
pub use sse::Body;
