//! For teams with a `main`, a transport or tests of their own: what stands between the platform and the service.
//!
//! [`main`](crate::main) is all that a function needs. Where something else takes the events, such as a runtime loop with layers of a
//! team's own, [`respond_buffered`] answers one event with one response, and [`LambdaRequest`] and [`EventResponse`] do
//! that in two steps, with the service in between:
//!
//! ```
//! use mcp_lambda::{HttpConfig, McpService, Server, transport};
//!
//! # async fn example() -> Result<(), mcp_lambda::InitError> {
//! let service = McpService::new(Server::new("greeter", "0.1.0", ()), HttpConfig::default())?;
//! let event = br#"{ "version": "2.0", "rawPath": "/mcp" }"#;
//! let response = transport::respond_buffered(&service, event, transport::Invocation::default()).await;
//! # let _ = response;
//! # Ok(())
//! # }
//! ```
//!
//! Under `lambda_runtime` it is one line: `lambda_runtime::run(service.into_lambda_service()).await`, with [`LambdaService`]'s example.
//!
//! [`McpService`](crate::McpService) itself is a `tower::Service` from `http::Request<Bytes>` to `http::Response<Body>`.
//! [`Transport`] and [`Invocation`], in the request's extensions, say how the request came and until when it must be answered.
//!
//! A request's path through the modules of this crate: `invocations` takes it from the Runtime API, `events` turns it into an
//! `http::Request`, `http` checks it, decides its era, asks `mcp-server` and gives the answer a status, `sse` writes a stream if
//! there is something to stream, and `invocations` sends it back.
//!
//! | Module | What it holds |
//! | --- | --- |
//! | `http` | [`McpService`](crate::McpService); the only module with status codes |
//! | `era` | which revision a request is made in |
//! | `headers` | headers that repeat the body, and what a client accepts |
//! | `origin` | the server's public name, and who may call from a browser |
//! | `authentication` | who calls |
//! | `platform` | [`LambdaContext`](crate::LambdaContext): what handlers get on Lambda alone |
//! | `body` | [`Body`] |
//! | `sse` | server-sent events |
//! | `events` | Lambda events to and from `http` types |
//! | `run` | [`main`](crate::main) |
//! | `invocations` | the runtime loop, in both invoke modes |
//! | `runtime_api` | the connection to the Runtime API |
//! | `lambda_service` | [`LambdaService`]: the service under `lambda_runtime::run` |
//! | `shutdown` | what is done before the process ends |
//! | `logs` | log lines, and metrics in them |
//! | `call_log` | the line of each call |
//! | `traces` | the span of each call |
//! | `config` | the environment variables |

pub use crate::{
    authentication::{Authentication, IamIdentity},
    body::Body,
    config::InvokeMode,
    events::{EventError, EventResponse, EventSource, LambdaRequest},
    http::Transport,
    invocations::respond_buffered,
    lambda_service::{BodyStream, LambdaResponse, LambdaService},
    origin::{Origin, PublicUrl},
    platform::LambdaInvocation,
    run::init_logs,
};
#[doc(inline)]
pub use mcp_server::{Invocation, StateKey};
