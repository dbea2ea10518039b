//! Any text as JSON of a peer: what the bounded reader takes is what serde_json reads, and no member of it is there twice.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_protocol::json::{self, Budget, JsonError};
use serde_json::Value;

fuzz_target!(|text: &str| {
    let plain = serde_json::from_str::<Value>(text);
    match (json::read::<Value>(text, Budget::of(text)), plain) {
        (Ok(value), Ok(plain)) => {
            assert_eq!(value, plain);
            // Written again, it has no violation either; a number may be rounded.
            assert_eq!(json::check(&plain.to_string(), Budget::memory(usize::MAX / 2)), Ok(()));
        }
        (Ok(value), Err(error)) => panic!("{value} of what is no JSON: {error}"),
        (Err(JsonError::Malformed(reason)), Ok(plain)) => panic!("{plain} is JSON: {reason}"),
        // A violation is one, whether the rest is JSON or not.
        (Err(_), _) => {}
    }
});
