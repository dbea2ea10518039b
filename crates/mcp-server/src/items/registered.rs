//! Items of a built server, without the type of its state.

/// Replaces the state's type in a registered item.
pub(crate) enum Registered {}
