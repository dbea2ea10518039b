//! Any bytes as the answer of a server to `mcpl`: read or refused, and what is passed on is one message a line.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));

fuzz_target!(|input: &[u8]| {
    // The first byte chooses how the answer comes and what it answers, the rest is its body.
    let Some((choice, body)) = input.split_first() else { return };
    let method = ["tools/list", "tools/call", "initialize"][usize::from(choice >> 1) % 3];
    let lines = RUNTIME.block_on(mcp_cli::fuzzing::read(choice & 1 == 1, method, body));
    for line in lines {
        assert!(!line.contains(['\n', '\r']), "{line:?}");
        serde_json::from_str::<IgnoredAny>(&line).expect("a line of JSON");
    }
});
