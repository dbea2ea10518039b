//! Changes of the shipped functions' contracts since the first version, as docs/contracts.md lists them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

use std::fs;

use mcp_contract::{Class, Contract, Lock, compare};

#[test]
fn the_documentation_lists_the_changes_since_the_first_version() {
    let project = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let page = fs::read_to_string(format!("{project}/docs/contracts.md")).unwrap();
    let mut expected = Vec::new();
    for (function, first) in [
        ("greeter", include_str!("data/first-greeter.json")),
        ("event-logger", include_str!("data/first-event-logger.json")),
        ("api-docs", include_str!("data/first-api-docs.json")),
    ] {
        let lock = fs::read_to_string(format!("{project}/functions/{function}/contract.lock.json")).unwrap();

        let changes = compare(&Contract::parse(first).unwrap(), Lock::parse(&lock).unwrap().contract());

        for change in changes.iter().filter(|own| own.class != Class::Wording) {
            expected.push(format!("| {function} | `{}` | {} |", change.name(), change.class));
        }
    }

    assert!(expected.iter().any(|own| own.ends_with("| breaking |")));
    assert!(page.contains(&expected.join("\n")), "docs/contracts.md needs:\n{}", expected.join("\n"));
}
