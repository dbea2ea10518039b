//! Contract of the function with its clients. `scripts/conformance.py` runs the suite.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

use conformance::{Config, service};
use mcp_lambda::HttpConfig;
use mcp_testing::{assert_contract, state_key};

#[tokio::test]
async fn contract_equals_the_golden_file() {
    let http = HttpConfig { state_key: Some(state_key()), ..HttpConfig::default() };

    let service = service(Config { http, database: None }).await.unwrap();

    assert_contract(&service, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"), None).await;
}

#[tokio::test]
async fn missing_state_key_is_an_init_error() {
    let error = service(Config::default()).await.unwrap_err().to_string();

    assert!(error.contains("MCP_STATE_KEY") && error.contains("the server has a store"), "{error}");
}
