//! Concurrent invocations (`AWS_LAMBDA_MAX_CONCURRENCY`), with one thread per core.

use lambda_runtime::{Error, Runtime, service_fn};

#[tokio::main]
async fn main() -> Result<(), Error> {
    Runtime::new(service_fn(bench_floor::respond)).run_concurrent().await
}
