//! The service for `lambda_runtime::run`, for functions with their own `main` or with layers of that crate.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;
use lambda_runtime::{Diagnostic, FunctionResponse, LambdaEvent, SnapStartResource, StreamResponse};
use mcp_server::Invocation;
use serde_json::value::RawValue;
use tower_service::Service;

use crate::{
    Body, EventError, EventResponse, InvokeMode, LambdaInvocation, McpService,
    invocations::{deadline, prelude, respond, respond_buffered},
};

/// An [`McpService`] for `lambda_runtime`: a service from events to responses in the format of their source, in the invoke mode of
/// the [`HttpConfig`](crate::HttpConfig). Made with [`McpService::into_lambda_service`].
///
/// ```no_run
/// use lambda_runtime::Error;
/// use mcp_lambda::{Env, FromEnv, HttpConfig, McpService, Server, transport};
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), Error> {
///     let env = Env::process();
///     transport::init_logs(&env);
///     let service = McpService::new(Server::new("greeter", "0.1.0", ()), HttpConfig::from_env(&env)?)?;
///     lambda_runtime::run(service.into_lambda_service()).await
/// }
/// ```
///
/// It is a [`SnapStartResource`] that runs the server's hooks before a snapshot and after a restore: pass a clone to
/// `Runtime::register_snapstart_resource`. `lambda_runtime` calls neither [`McpService::warm`] nor [`McpService::close`]: call them
/// in your `main`.
#[derive(Debug, Clone)]
pub struct LambdaService(McpService);

/// The body of a response as the stream type of `lambda_runtime`.
#[derive(Debug)]
pub struct BodyStream(Body);

/// The response type of [`LambdaService`]: buffered or streamed.
pub type LambdaResponse = FunctionResponse<EventResponse, BodyStream>;

impl McpService {
    /// Converts the service into one for `lambda_runtime::run` and `lambda_runtime::run_concurrent`.
    pub fn into_lambda_service(self) -> LambdaService {
        LambdaService(self)
    }
}

impl Service<LambdaEvent<Box<RawValue>>> for LambdaService {
    type Response = LambdaResponse;
    type Error = EventError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, EventError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), EventError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, LambdaEvent { payload, context, .. }: LambdaEvent<Box<RawValue>>) -> Self::Future {
        let Self(service) = self.clone();
        Box::pin(async move {
            let invocation = Invocation {
                request_id: context.request_id,
                deadline: deadline(context.deadline),
                ..LambdaInvocation::with_trace(context.xray_trace_id)
            };
            let event = payload.get().as_bytes();
            Ok(match service.invoke_mode() {
                InvokeMode::Buffered => {
                    FunctionResponse::BufferedResponse(respond_buffered(&service, event, invocation).await?)
                }
                InvokeMode::Stream => {
                    let (_, response) = respond(&service, event, invocation).await?;
                    let (metadata_prelude, body) = prelude(response);
                    FunctionResponse::StreamingResponse(StreamResponse { metadata_prelude, stream: BodyStream(body) })
                }
            })
        })
    }
}

impl SnapStartResource for LambdaService {
    fn before_snapshot(&self) -> lambda_runtime::BoxFuture<'_, Result<(), lambda_runtime::Error>> {
        Box::pin(async {
            self.0.server().before_snapshot().await;
            Ok(())
        })
    }

    fn after_restore(&self) -> lambda_runtime::BoxFuture<'_, Result<(), lambda_runtime::Error>> {
        Box::pin(async {
            self.0.server().after_restore().await;
            Ok(())
        })
    }
}

impl Stream for BodyStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(http_body::Body::poll_frame(Pin::new(&mut self.0), cx)) {
                // Trailers are dropped: the stream has bytes only.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => return Poll::Ready(Some(Ok(bytes))),
                    Err(_) => continue,
                },
                Some(Err(never)) => match never {},
                None => return Poll::Ready(None),
            }
        }
    }
}

impl From<EventError> for Diagnostic {
    fn from(error: EventError) -> Self {
        Self { error_type: "UnknownEvent".to_owned(), error_message: error.to_string() }
    }
}
