//! [`McpService`] as a `tower` service.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};

use super::{
    MAX_REQUEST_BYTES,
    responses::{bad_request, error_response},
};
use crate::{Body, McpService, body::BodyError};

impl tower_service::Service<Request<Bytes>> for McpService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.handle(request).await) })
    }
}

/// For layers, whose requests and responses have this body type.
impl tower_service::Service<Request<Body>> for McpService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            Ok(match body.bytes_up_to(MAX_REQUEST_BYTES).await {
                Ok(body) => service.handle(Request::from_parts(parts, body)).await,
                Err(BodyError::Truncated) => bad_request("the body of the request ended early"),
                Err(BodyError::TooLarge) => {
                    let message = format!("the body is larger than the limit of {MAX_REQUEST_BYTES} bytes");
                    error_response(StatusCode::PAYLOAD_TOO_LARGE, None, message)
                }
            })
        })
    }
}
