//! Questions to the client: the form that a person fills in, and the state that travels meanwhile.

pub(crate) mod form;
pub(crate) mod request_state;
pub(crate) mod round;
