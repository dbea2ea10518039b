//! Memory of a request. It is a separate test binary, since it measures the whole process.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use event_logger::{Config, service};
use mcp_lambda::{Env, FromEnv};
use mcp_testing::{PeakAlloc, TestDatabase, assert_memory_is_bounded};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

#[tokio::test]
async fn no_body_takes_more_memory_than_eight_times_its_size_and_4_mib() {
    let database = TestDatabase::create().await;
    let variables = [("DATABASE_URL", database.url()), ("MCP_AUTH", "dangerously-off")];
    let config = Config::from_env(&Env::from_pairs(variables.into_iter())).unwrap();

    let count = assert_memory_is_bounded(&service(config).await.unwrap(), 64 * 1024).await;

    assert!(count > 700, "{count} bodies");
}
