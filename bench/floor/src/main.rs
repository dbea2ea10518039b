//! Sequential invocations on one thread.

use lambda_runtime::{Error, Runtime, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Runtime::new(service_fn(bench_floor::respond)).run().await
}
