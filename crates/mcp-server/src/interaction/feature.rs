//! The feature `interactive`: links the cryptography that interactive handlers need.

use crate::interaction::request_state::NewCipher;

/// Implemented for every type if the crate is built with the feature `interactive`, for none without it.
#[diagnostic::on_unimplemented(
    message = "a handler that takes an `InteractiveContext` needs the feature `interactive` of `mcp-lambda`",
    label = "this handler is interactive",
    note = "add `features = [\"interactive\"]` to `mcp-lambda` in Cargo.toml"
)]
pub trait InteractiveFeature {
    fn new_cipher() -> NewCipher;
}

#[cfg(feature = "interactive")]
impl<T> InteractiveFeature for T {
    fn new_cipher() -> NewCipher {
        NewCipher(super::cipher::new_cipher)
    }
}

#[cfg(feature = "interactive")]
pub(crate) use super::cipher::digest_of;

/// Never called: without the feature, no handler takes an `InteractiveContext`.
#[cfg(not(feature = "interactive"))]
pub(crate) fn digest_of(_: &str) -> String {
    String::new()
}
