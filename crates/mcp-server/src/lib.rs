//! MCP servers from plain async functions.
//!
//! A tool is an `async fn` over a typed argument struct. Its input schema, the validation of its arguments and its output
//! schema are derived from the types. A builder adds name, description and behavior:
//!
//! ```
//! use garde::Validate;
//! use mcp_server::{Server, Tool, ToolContext, HandlerError};
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//!
//! #[derive(Debug, Deserialize, JsonSchema, Validate)]
//! #[serde(deny_unknown_fields)]
//! struct AddArgs {
//!     /// First summand, at most a million.
//!     #[garde(range(max = 1_000_000))]
//!     a: u32,
//!     /// Second summand, at most a million.
//!     #[garde(range(max = 1_000_000))]
//!     b: u32,
//! }
//!
//! async fn add(_: ToolContext<()>, args: AddArgs) -> Result<String, HandlerError> {
//!     Ok((args.a + args.b).to_string())
//! }
//!
//! let server = Server::new("calculator", "0.1.0", ())
//!     .tool(Tool::new("add", add).description("Adds two numbers.").read_only());
//! # let _ = server.build(mcp_server::Settings::default());
//! ```
//!
//! This crate decides the result of each request. It is independent of transport, platform, tokens and databases:
//! `mcp-lambda` translates its decisions for clients.
//!
//! Its modules, from the bottom up:
//!
//! | Module | Content |
//! | --- | --- |
//! | `error`, `caching`, `state_key` | [`CallError`] and [`InitError`]; [`Caching`]; [`StateKey`] |
//! | `schema` | JSON Schema of arguments and results, in the subset that clients accept |
//! | `arguments` | [`Arguments`]: parsing and validation, and error messages for models |
//! | `policy` | access rules and their enforcement; [`Principal`], the authenticated caller |
//! | `store` | with the feature `store`: state that outlives a request |
//! | `interaction` | elicitation, sampling, roots: forms, and the sealed `requestState` |
//! | `tasks` | with the feature `tasks`: [`Task`], and rows and runs of calls that outlive their request |
//! | `handler` | [`RequestContext`], [`InteractiveContext`], and the errors that handlers return |
//! | `limits` | with the feature `limits`: how many requests a caller may make |
//! | `items` | [`Tool`], [`Prompt`], [`Resource`] and [`ResourceTemplate`], and completion of their arguments |
//! | `dispatch` | [`BuiltServer`]: dispatches each [`Call`] and returns its [`CallResponse`] |
//! | `server` | [`Server`], the builder |

mod arguments;
mod caching;
mod dispatch;
mod error;
mod handler;
mod interaction;
mod items;
#[cfg(feature = "limits")]
mod limits;
mod policy;
mod schema;
mod server;
mod state_key;
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "tasks")]
mod tasks;

pub use arguments::{Arguments, base64::Base64, cursor::Cursor};
pub use caching::{Caching, List};
pub use dispatch::{
    built_server::BuiltServer,
    call::{Call, CallOutcome, CallResponse, Rendered, ResultKind},
    hooks::ManagedResource,
    resolve::Resolved,
    summary::{ServerSummary, ToolSummary},
};
pub use error::{BoxError, BuildError, CallError, InitError, error_chain};
pub use handler::{
    amount::Amount,
    context::{HandlerContext, Invocation, RequestContext, ToolContext},
    error::{HandlerError, InvalidInput, Unavailable},
    interactive::{Elicited, InteractiveContext},
};
#[cfg(all(feature = "interactive", feature = "store"))]
pub use interaction::legacy;
pub use items::{
    completion::PartialArgument,
    output::{IntoToolOutput, Json, ToolOutput},
    prompt::{IntoPromptMessages, Prompt},
    resource::{Resource, ResourceOutput, ResourcePage, ResourceTemplate},
    tool::{NoArguments, Tool},
};
#[cfg(feature = "limits")]
pub use limits::{
    limiter::{Counted, Limited},
    rate_limit::RateLimit,
};
pub use mcp_protocol::{json, uri};
#[cfg(feature = "pseudonyms")]
pub use policy::pseudonym::Pseudonyms;
pub use policy::{Access, Authorization, Enforcement, ScopeNames, principal::Principal};
pub use server::{Server, Settings};
pub use state_key::StateKey;
#[cfg(any(feature = "interactive", feature = "store"))]
pub use state_key::rotation::{KeyLoader, LoadStateKey};
#[cfg(feature = "store")]
pub use state_key::value_sealer::ValueSealer;
#[doc(no_inline)]
pub use tokio_util::sync::CancellationToken;
#[cfg(feature = "tasks")]
pub use {
    dispatch::tasks::runner::{TaskEnd, TaskRunner},
    tasks::{
        task::Task,
        wake::{WakeTask, WakeUp},
    },
};
