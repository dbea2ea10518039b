//! Handlers: what they get beside their arguments, what they ask the client, and the errors that they return.

pub(crate) mod amount;
pub(crate) mod context;
pub(crate) mod error;
pub(crate) mod interactive;
