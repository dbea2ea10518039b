//! Any bytes as an OpenAPI document: rejected, or parsed; then its operations and schemas are read.

#![no_main]

use api_docs::{Budget, Document};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = Document::parse(bytes, Budget::of_function(128)) else { return };
    api_docs::read_some(&document);
});
