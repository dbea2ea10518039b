//! The same service with its own `main`: the loop of `lambda_runtime`, a layer around all responses, and a route in addition to the
//! endpoint.

use std::convert::Infallible;

use conformance::Config;
use http::{HeaderValue, Request, Response, header};
use mcp_lambda::{
    Env, FromEnv,
    transport::{self, Body},
};
use tower::{service_fn, util::MapResponseLayer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let env = Env::process();
    transport::init_logs(&env);
    let service = conformance::service(Config::from_env(&env)?).await?;
    service.connect_tasks(&env)?;
    let service = service.public_route("/health", 0, service_fn(health)).layer(MapResponseLayer::new(with_security));
    service.warm().await;
    lambda_runtime::run(service.into_lambda_service()).await
}

/// A route for health checks.
async fn health(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::whole("ok")))
}

/// A layer that adds a header to every response.
fn with_security(mut response: Response<Body>) -> Response<Body> {
    let value = HeaderValue::from_static("max-age=63072000");
    response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, value);
    response
}
