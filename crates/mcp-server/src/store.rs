//! State that outlives a request, with the feature `store`: rows and counters that all execution environments share.
//!
//! | Item | Content |
//! | --- | --- |
//! | [`SealedStore`], [`StoreId`] | the store that requests use: rows of a caller, sealed |
//! | [`StoreKeys`] | the secrets of a server, for digests and values |
//! | [`Store`] | the interface of implementations |
//! | [`MemoryStore`] | the implementation for tests and development; `mcp-postgres` has the one for deployments |

mod keys;
mod memory;
mod rows;
mod sealed;

pub use keys::StoreKeys;
pub use memory::MemoryStore;
pub use rows::{
    Content, DueRow, Granted, Increment, Kind, MAX_COUNT, MAX_LIFETIME, MAX_LIMIT, MAX_VALUE_BYTES, RowKey, RowTag,
    Store, StoreClock, StoreError, StoreFuture, StoredValue, SubjectDeletion, SubjectKey, Version, validate_limit,
    validate_within,
};
pub use sealed::{SealedStore, StoreId};
