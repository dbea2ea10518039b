//! Any text as JSON from a peer: the bounded parser returns the same value as serde_json, and accepts no duplicate
//! members.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_protocol::json::{self, Budget, JsonError};
use serde_json::Value;

fuzz_target!(|text: &str| {
    let plain = serde_json::from_str::<Value>(text);
    match (json::read::<Value>(text, Budget::of(text)), plain) {
        (Ok(value), Ok(plain)) => {
            assert_eq!(value, plain);
            // The serialized value has no violation either; numbers may be rounded.
            assert_eq!(json::check(&plain.to_string(), Budget::memory(usize::MAX / 2)), Ok(()));
        }
        (Ok(value), Err(error)) => panic!("{value} parsed from invalid JSON: {error}"),
        (Err(JsonError::Malformed(reason)), Ok(plain)) => panic!("valid JSON rejected: {plain}: {reason}"),
        // A violation is reported even if the text is not valid JSON.
        (Err(_), _) => {}
    }
});
