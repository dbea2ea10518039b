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
//! A request's path through the modules: `run` receives an invocation, `events` turns it into an `http::Request`,
//! `http` checks it, decides its era, asks `mcp-server` and gives the answer a status, `sse` writes a stream if
//! there is something to stream, and `run` (or `streaming`, if the URL streams) sends it back.
//!
//! | Module | What it holds |
//! | --- | --- |
//! | `http` | [`McpService`]; the only module with status codes |
//! | `era` | which revision a request is made in |
//! | `headers` | headers that repeat the body, and what a client accepts |
//! | `origin` | the server's public name, and who may call from a browser |
//! | `authentication` | who calls |
//! | `page` | what a browser is shown |
//! | `sse` | [`Body`], server-sent events |
//! | `events` | Lambda events to and from `http` types |
//! | `run`, `streaming` | [`main`], the runtime in both invoke modes |
//! | `shutdown` | what is done before the process ends |
//! | `logs` | log lines, and metrics in them |
//! | `call_log` | the line of each call |
//! | `config` | the environment variables |

mod authentication;
mod call_log;
mod config;
mod era;
mod events;
mod headers;
mod http;
mod logs;
mod origin;
mod page;
mod run;
mod shutdown;
mod sse;
mod streaming;

pub use self::http::{McpService, Transport};
pub use authentication::{Authentication, IamIdentity};
pub use config::{Env, FromEnv, HttpConfig, InvokeMode};
pub use events::{EventError, EventResponse, EventSource, LambdaRequest};
pub use origin::{Origin, PublicUrl};
pub use run::{main, respond, respond_buffered};
pub use sse::Body;
