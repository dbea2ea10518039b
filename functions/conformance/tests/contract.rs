//! The function's contract. What the suite asks of it is in `scripts/conformance.py`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

use conformance::service;
use mcp_lambda::HttpConfig;
use mcp_testing::{assert_contract, state_key};

#[tokio::test]
async fn what_clients_see_is_the_golden_file() {
    let http = HttpConfig { state_key: Some(state_key()), ..HttpConfig::default() };

    let service = service(http).await.unwrap();

    assert_contract(&service, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"), None).await;
}

#[tokio::test]
async fn without_a_state_key_it_does_not_start_and_says_what_to_set() {
    let refusal = service(HttpConfig::default()).await.unwrap_err().to_string();

    assert!(refusal.contains("MCP_STATE_KEY") && refusal.contains("tool `test_sampling`"), "{refusal}");
}
