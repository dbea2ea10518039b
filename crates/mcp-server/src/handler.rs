//! Handlers: their contexts, their questions to the client, and their errors.

pub(crate) mod amount;
pub(crate) mod context;
pub(crate) mod error;
pub(crate) mod interactive;
