//! For tests of functions and of the crates they stand on. A dev-dependency only.
//!
//! A tool is tested without HTTP or Lambda:
//!
//! ```
//! # use garde::Validate;
//! # use mcp_server::{HandlerError, Tool, ToolContext};
//! # #[derive(serde::Deserialize, schemars::JsonSchema, Validate)]
//! # #[garde(allow_unvalidated)]
//! # struct Args { name: String }
//! # async fn greet(_: ToolContext<()>, args: Args) -> Result<String, HandlerError> { Ok(format!("Hello, {}!", args.name)) }
//! # fn tool() -> Tool<()> { Tool::new("greet", greet) }
//! # #[expect(clippy::needless_doctest_main)]
//! # fn main() {
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! use mcp_testing::TestCall;
//!
//! let reply = TestCall::new(tool()).arguments(serde_json::json!({ "name": "Ada" })).await;
//!
//! assert_eq!(reply.text(), "Hello, Ada!");
//! # });
//! # }
//! ```
//!
//! A whole service is tested with [`exchange`], which sends a request of any revision, by `http` types or as a Lambda
//! event, and checks **every message that comes back against the schema of its revision**, unknown fields included.
//!
//! | Module | What it holds |
//! | --- | --- |
//! | [`TestCall`] | a call of one tool: its result, and the notifications before it |
//! | [`request`] | [`McpRequest`], with everything a client of that revision sends |
//! | [`exchange`] | request in, checked [`Reply`] out, by several ways |
//! | [`schema`] | the schemas themselves |
//! | [`as_caller`] | a caller who is known, without an issuer |
//! | [`TestIssuer`] | an issuer on loopback, tokens in the shapes of the usual providers, and hostile ones |
//! | [`TestDatabase`] | a Postgres database for one test |
//! | [`assert_contract`] | what clients see, as a golden file |
//! | [`assert_memory_is_bounded`] | bodies that cost more than they weigh |
//! | [`assert_text_has`] | whether the text of a structured result has what a model needs |
//! | [`bounds`] | whether a tool enforces the bounds that its schema shows |

// A helper for tests stops the test by panicking.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failure here is a failed test")]

pub mod bounds;
mod call;
mod contract;
mod costly;
mod database;
mod exchange;
mod hostile;
mod issuer;
mod keys;
pub mod request;
pub mod schema;

use std::sync::Arc;

use mcp_server::{Invocation, Principal, StateKey};

pub use call::{TestCall, TestReply};
pub use contract::{assert_contract, assert_text_has};
pub use costly::assert_memory_is_bounded;
pub use database::TestDatabase;
pub use exchange::{Reply, Via, event_of, exchange, exchange_via};
pub use hostile::HostileToken;
pub use issuer::{IssuerAnswer, Provider, TEST_AUDIENCE, TEST_CLIENT, TestIssuer, sign};
pub use keys::TestKey;
pub use mcp_protocol::CallToolResult;
pub use peak_alloc::PeakAlloc;
pub use request::{McpRequest, complete, discover, initialize, prompts_get, resources_read, tools_call, tools_list};

/// An invocation by a caller, for [`exchange_via`]: for what depends on the caller, not for how callers are known. It counts
/// only where no issuer is configured.
pub fn as_caller(principal: Principal) -> Invocation {
    Invocation { principal: Some(Arc::new(principal)), ..Invocation::default() }
}

/// A key for servers that ask their clients; the same in every call.
pub fn state_key() -> StateKey {
    StateKey::parse("dGVzdHMgYW5kIG5vdGhpbmcgYnV0IHRlc3RzIDEyMzQ=").expect("32 bytes in Base64")
}
