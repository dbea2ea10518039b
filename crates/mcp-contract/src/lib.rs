//! Comparison of two contracts of an MCP server. A contract consists of the lists and capabilities that clients cache: tools
//! with their schemas, annotations and scopes, prompts, resources, capabilities and instructions.
//!
//! Clients cache lists for up to a week. Each difference is therefore classified as breaking, compatible or wording, by its
//! effect on a client with the old lists:
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
//! A contract may come from an untrusted server. Parsing is bounded in memory and depth, and the comparison in steps. Schemas
//! that cannot be compared are reported as a breaking change of the kind `not-comparable`.
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
