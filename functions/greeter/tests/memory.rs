//! Memory of a request. It is a separate test binary, since it measures the whole process.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use greeter::service;
use mcp_lambda::HttpConfig;
use mcp_testing::{PeakAlloc, assert_memory_is_bounded};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

#[tokio::test]
async fn no_body_takes_more_memory_than_eight_times_its_size_and_4_mib() {
    let count = assert_memory_is_bounded(&service(HttpConfig::default()).await.unwrap(), 64 * 1024).await;

    assert!(count > 700, "{count} bodies");
}
