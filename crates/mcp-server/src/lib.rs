//! MCP servers from plain async functions.
//!
//! A tool is an `async fn` over a typed argument struct. Its schema, the check of its arguments and the shape of its
//! result follow from the types; what is left to say (name, description, behaviour) is said to a builder:
//!
//! ```
//! use garde::Validate;
//! use mcp_server::{Server, Tool, ToolContext, ToolError};
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
//! async fn add(_: ToolContext<()>, args: AddArgs) -> Result<String, ToolError> {
//!     Ok((args.a + args.b).to_string())
//! }
//!
//! let server = Server::new("calculator", "0.1.0", ())
//!     .tool(Tool::new("add", add).description("Adds two numbers.").read_only());
//! # let _ = server.build();
//! ```
//!
//! This crate decides what a request is answered with. It knows nothing of HTTP, Lambda, tokens or databases;
//! `mcp-lambda` carries its decisions to a client.
//!
//! | Module | What it holds |
//! | --- | --- |
//! | `server` | [`Server`], the builder |
//! | `tool` | [`Tool`], what a handler may return |
//! | `context` | [`ToolContext`], what a handler gets beside its arguments |
//! | `error` | [`ToolError`] for authors, [`CallError`] for whoever carries the answer |
//! | `router` | [`Router`]: one request in, one answer out |
//! | `arguments`, `schema`, `lookup` | arguments against their schema, both ways |

mod arguments;
mod context;
mod error;
mod lookup;
mod pages;
mod router;
mod schema;
mod server;
mod tool;

pub use context::{Invocation, Principal, ToolContext};
pub use error::{BoxError, CallError, InitError, ToolError, error_chain};
pub use lookup::lookup;
pub use router::{Answer, Call, CallOutcome, Rendered, Router};
pub use schema::MirroredParameter;
pub use server::Server;
pub use tool::{IntoToolOutput, Json, NoArguments, Tool, ToolOutput};
