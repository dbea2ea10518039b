//! Handlers: contexts, requests to the client, and errors.

pub(crate) mod amount;
pub(crate) mod context;
pub(crate) mod error;
pub(crate) mod interactive;
#[cfg(feature = "tasks")]
mod tasks;
