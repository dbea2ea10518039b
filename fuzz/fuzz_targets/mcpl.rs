//! Any bytes as the response of a server to `mcpl`: accepted or rejected; each forwarded line is one message.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));

fuzz_target!(|input: &[u8]| {
    // The first byte selects the format of the response and the method of its request; the rest is the body.
    let Some((choice, body)) = input.split_first() else { return };
    let method = ["tools/list", "tools/call", "initialize"][usize::from(choice >> 1) % 3];
    let lines = RUNTIME.block_on(mcp_cli::fuzzing::read(choice & 1 == 1, method, body));
    for line in lines {
        assert!(!line.contains(['\n', '\r']), "{line:?}");
        serde_json::from_str::<IgnoredAny>(&line).expect("a line of JSON");
    }
});
