//! The layer between Lambda and the service, for a `main`, a runtime loop or tests of your own.
//!
//! Most functions need only [`main`](crate::main). If other code receives the events, such as your own runtime loop,
//! [`respond_buffered`] converts one event into one response. To call the service yourself, parse the event with [`LambdaRequest`]:
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
//! To run under `lambda_runtime`, call `lambda_runtime::run(service.into_lambda_service()).await`: [`LambdaService`] has an example.
//!
//! [`McpService`](crate::McpService) itself is a `tower::Service` from `http::Request<Bytes>` to `http::Response<Body>`.
//! The request extensions [`Transport`] and [`Invocation`] hold the kind of event, the request id and the deadline.
//!
//! The path of a request through the modules of this crate: `invocations` receives it from the Runtime API, `events` converts it into
//! an `http::Request`, `http` validates it, dispatches it to `mcp-server` and sets the status, `sse` streams notifications, and
//! `invocations` sends the response.
//!
//! | Module | What it holds |
//! | --- | --- |
//! | `http` | [`McpService`](crate::McpService); the only module that sets status codes |
//! | `era` | the protocol version of a request |
//! | `headers` | mirrored headers and content negotiation |
//! | `origin` | the server's public URL, and CORS |
//! | `authentication` | authentication of callers, and challenges |
//! | `platform` | [`LambdaContext`](crate::LambdaContext): Lambda-specific properties for handlers |
//! | `body` | [`Body`] |
//! | `sse` | server-sent events |
//! | `events` | conversion between Lambda events and `http` types |
//! | `run` | [`main`](crate::main) |
//! | `invocations` | the runtime loop, in both invoke modes |
//! | `tasks` | with the feature `tasks`: wake-ups of tasks, and the function that runs them |
//! | `runtime_api` | the connection to the Runtime API |
//! | `lambda_service` | [`LambdaService`]: the service under `lambda_runtime::run` |
//! | `shutdown` | close hooks on SIGTERM |
//! | `logs` | log events with embedded metrics |
//! | `call_log` | the log event of each call |
//! | `traces` | the server span of each call |
//! | `config` | settings from environment variables |
//! | `anonymous_limit` | with the feature `limits`: the rate limit of anonymous callers |
//! | `secrets` | settings whose values are in Secrets Manager |

#[cfg(feature = "limits")]
pub use crate::anonymous_limit::AnonymousLimit;
#[cfg(any(feature = "limits", feature = "store"))]
pub use crate::events::SourceAddress;
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
