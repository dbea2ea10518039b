//! Any bytes as an event: rejected, or processed with a well-formed HTTP response.

#![no_main]

use libfuzzer_sys::fuzz_target;

mod common;

fuzz_target!(|event: &[u8]| {
    if let Some(response) = common::respond(event) {
        common::assert_well_formed(&response);
    }
});
