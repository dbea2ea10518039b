//! Comparison of two contracts of an MCP server. A contract is what clients know of a server: its tools with their schemas,
//! annotations and scopes, its prompts and resources, its capabilities and instructions.
//!
//! Clients hold lists for up to a week. Each difference is therefore breaking, compatible or wording, seen by a client that
//! holds the old lists:
//!
//! ```
//! use mcp_contract::{Class, Contract, compare};
//! # fn main() -> Result<(), mcp_contract::ContractError> {
//! let contract = |limit: u32| {
//!     Contract::parse(&format!(
//!         r#"{{"tools": [{{"name": "list", "inputSchema": {{"type": "object", "additionalProperties": false,
//!             "properties": {{"limit": {{"type": "integer", "maximum": {limit}}}}}}}}}]}}"#
//!     ))
//! };
//!
//! let changes = compare(&contract(100)?, &contract(50)?);
//!
//! assert_eq!(changes[0].class, Class::Breaking);
//! assert_eq!(changes[0].name(), "tools.list.input.limit:bound-narrowed");
//! assert_eq!(compare(&contract(50)?, &contract(100)?)[0].class, Class::Compatible);
//! # Ok(())
//! # }
//! ```
//!
//! A contract may come from any server: reading one is bounded in memory and depth, comparing two in steps. What the
//! comparison does not understand is breaking, with the kind `not-comparable`.
//!
//! | Module | Contents |
//! | --- | --- |
//! | `change` | [`Change`], [`Class`] |
//! | `contract` | [`Contract`] and its bounds |
//! | `items` | tools, prompts, resources, templates, capabilities |
//! | `lock` | [`Lock`], the checked-in file |
//! | `schema` | whether one schema accepts all values of another, and the reasons why not |

mod change;
mod contract;
mod items;
mod lock;
mod schema;

pub use change::{Change, Class};
pub use contract::{Contract, ContractError, MAX_BYTES};
pub use items::compare;
pub use lock::{Lock, LockError};
