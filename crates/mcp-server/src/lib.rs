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
//! # let _ = server.build(mcp_server::Settings::default());
//! ```
//!
//! This crate decides what a request is answered with. It knows nothing of HTTP, Lambda, tokens or databases;
//! `mcp-lambda` carries its decisions to a client.
//!
//! | Module | What it holds |
//! | --- | --- |
//! | `server` | [`Server`], the builder |
//! | `tool` | [`Tool`], what a handler may return |
//! | `prompt`, `resource` | [`Prompt`], [`Resource`] and [`ResourceTemplate`] |
//! | `completion` | suggestions for the arguments of prompts and templates |
//! | `context` | [`RequestContext`], what a handler gets beside its arguments |
//! | `interaction`, `form`, `request_state` | [`InteractiveContext`]: asking the client, and what travels meanwhile |
//! | `policy`, `principal` | who may use what, and who asks: [`Principal`] |
//! | `caching` | [`Caching`], how long clients may keep what they were told |
//! | `error` | [`ToolError`] and [`RequestError`] for authors, [`CallError`] for whoever carries the answer |
//! | `call`, `router`, `reading` | [`Router`]: one [`Call`] in, one [`Answer`] out |
//! | `introduction` | [`Introduction`]: what a page about the server may tell |
//! | `lists`, `work` | lists rendered once; a handler at work |
//! | `arguments`, `schema`, `raw_schema`, `strings`, `uri_template` | [`Arguments`], against their schema, both ways |

mod arguments;
mod caching;
mod call;
mod completion;
mod context;
mod error;
mod form;
mod interaction;
mod introduction;
mod lists;
mod pages;
mod policy;
mod principal;
mod prompt;
mod pseudonym;

mod raw_schema;
mod reading;
mod request_state;
mod resource;
mod router;
mod routes;
mod schema;
mod server;
mod strings;
mod tool;
mod uri_template;
mod work;

pub use arguments::Arguments;
pub use caching::{Caching, List};
pub use call::{Answer, Call, CallOutcome, Rendered, ResultKind};
pub use completion::PartialArgument;
pub use context::{HandlerContext, Invocation, RequestContext, ToolContext};
pub use error::{BoxError, CallError, InitError, RequestError, ToolError, error_chain};
pub use interaction::{Elicited, InteractiveContext, NotChosen};
pub use introduction::{IntroducedTool, Introduction};
pub use mcp_protocol::{json, uri};
pub use policy::{Authorization, Enforcement, ScopeNames};
pub use principal::Principal;
pub use prompt::{IntoPromptMessages, Prompt};
pub use pseudonym::Pseudonyms;
pub use request_state::StateKey;
pub use resource::{Resource, ResourceOutput, ResourcePage, ResourceTemplate};
pub use router::{Router, Target};
pub use server::{Server, Settings};
pub use tool::{IntoToolOutput, Json, JsonWithText, NoArguments, Tool, ToolOutput};
