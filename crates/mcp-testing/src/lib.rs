//! Test utilities for functions and for the crates of this workspace. Use it as a dev-dependency only.
//!
//! Test a tool without HTTP and Lambda:
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
//! Test a whole service with [`exchange`]. It sends a request of any revision, as `http` types or as a Lambda event,
//! and **validates each message of the reply against the schema of the revision**, including unknown fields.
//!
//! | Item | Purpose |
//! | --- | --- |
//! | [`TestCall`] | call of one tool, with its result and notifications; with the feature `tasks` also of tools with `Tool::task` |
//! | [`request`] | [`McpRequest`], a request of any revision |
//! | [`exchange`] | sends a request over one of several transports, returns a validated [`Reply`] |
//! | [`schema`] | JSON Schemas of the protocol, and validation |
//! | [`as_caller`] | authenticated caller without an issuer |
//! | [`TestIssuer`] | issuer on loopback with tokens in the formats of common providers, and hostile tokens |
//! | [`ScriptedServer`] | HTTP server with scripted responses, in place of an AWS service |
//! | [`TestDatabase`] | Postgres database for one test |
//! | `TestBackend`, `on_both_databases!` | with the feature `dsql`: Postgres or Aurora DSQL, by its emulator, for one test |
//! | [`assert_contract`] | golden file of lists and capabilities |
//! | [`assert_memory_is_bounded`] | memory amplification of request bodies |
//! | [`assert_text_has`] | values of structured content in the text of a result |
//! | [`bounds`] | boundary tests of input schemas |

// Test utilities fail a test by a panic.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failure here is a failed test")]

mod aws;
#[cfg(feature = "dsql")]
mod backend;
pub mod bounds;
mod call;
mod contract;
mod database;
mod exchange;
mod hostile;
mod issuer;
mod keys;
mod memory;
pub mod request;
pub mod schema;

use std::sync::Arc;

use mcp_server::{Invocation, Principal, StateKey};

pub use aws::{ScriptedServer, TEST_AWS_CREDENTIALS, TEST_SECRET_ARN};
#[cfg(feature = "dsql")]
pub use backend::{BackendKind, TestBackend};
pub use call::{TestCall, TestReply};
pub use contract::{assert_contract, assert_text_has};
pub use database::TestDatabase;
pub use exchange::{Reply, Via, event_of, exchange, exchange_via};
pub use hostile::HostileToken;
pub use issuer::{IssuerResponse, Provider, TEST_AUDIENCE, TEST_CLIENT, TestIssuer, sign};
pub use keys::TestKey;
pub use mcp_protocol::CallToolResult;
pub use memory::assert_memory_is_bounded;
pub use peak_alloc::PeakAlloc;
pub use request::{McpRequest, complete, discover, initialize, prompts_get, resources_read, tools_call, tools_list};

/// Creates an invocation of an authenticated caller, for [`exchange_via`]. Use it to test behavior that depends on the
/// caller, not to test authentication. It has no effect on services with a configured issuer.
pub fn as_caller(principal: Principal) -> Invocation {
    Invocation { principal: Some(Arc::new(principal)), ..Invocation::default() }
}

/// Returns a fixed key for the request state of servers with input requests.
pub fn state_key() -> StateKey {
    StateKey::parse("dGVzdHMgYW5kIG5vdGhpbmcgYnV0IHRlc3RzIDEyMzQ=").expect("32 bytes in Base64")
}
