//! Items as a built server holds them: without the type of its state.

/// In place of the state's type, once an item is registered.
pub(crate) enum Registered {}
