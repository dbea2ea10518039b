//! Requests to the client: elicitation forms, rounds, and the encrypted `requestState`.

#[cfg(feature = "interactive")]
mod cipher;
mod feature;
pub(crate) mod form;
#[cfg(all(feature = "interactive", feature = "store"))]
pub mod legacy;
pub(crate) mod request_state;
pub(crate) mod round;

pub(crate) use feature::{InteractiveFeature, digest_of};
