//! Questions to the client: the form that a person fills in, and the state that travels meanwhile.

#[cfg(feature = "interactive")]
mod cipher;
mod feature;
pub(crate) mod form;
pub(crate) mod request_state;
pub(crate) mod round;

pub(crate) use feature::{InteractiveFeature, digest_of};
