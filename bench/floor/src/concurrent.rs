//! As many invocations at once as `AWS_LAMBDA_MAX_CONCURRENCY` says, on as many threads as there are cores.

use lambda_runtime::{Error, Runtime, service_fn};

#[tokio::main]
async fn main() -> Result<(), Error> {
    Runtime::new(service_fn(bench_floor::answer)).run_concurrent().await
}
