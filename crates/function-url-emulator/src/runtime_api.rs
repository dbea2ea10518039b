//! Runtime API and Extensions API of one environment.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>,
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html>

use std::{
    convert::Infallible,
    io::IoSlice,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::{
    InvokeMode,
    environment::{Environment, Outcome, error_body},
};

const INVOCATION_ID: &str = "lambda-runtime-invocation-id";
const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";
const ERROR_TYPE_TRAILER: &str = "lambda-runtime-function-error-type";
const ERROR_BODY_TRAILER: &str = "lambda-runtime-function-error-body";
const HTTP_INTEGRATION: &str = "application/vnd.awslambda.http-integration-response";

/// Time for a function to exit after an init error.
const INIT_ERROR_GRACE: Duration = Duration::from_millis(500);
/// Delimiter after the prelude of a streamed response.
const DELIMITER: [u8; 8] = [0; 8];
/// Number of buffered parts of a streamed response before backpressure on the function.
const STREAM_BUFFER: usize = 64;

/// Serves the Runtime API of one environment until the task is aborted.
pub(crate) async fn serve(listener: TcpListener, environment: Arc<Environment>, started: Instant) {
    while let Ok((socket, _)) = listener.accept().await {
        let environment = Arc::clone(&environment);
        let reads = Arc::new(AtomicUsize::new(0));
        let io = TokioIo::new(CountingSocket { socket, reads: Arc::clone(&reads) });
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let (environment, reads) = (Arc::clone(&environment), Arc::clone(&reads));
                async move {
                    let response = handle(request, &environment, started, &reads).await;
                    reads.store(0, Ordering::Relaxed);
                    Ok::<_, Infallible>(response)
                }
            });
            // A killed environment aborts its connections. Pending invocations are completed by `Environment::end`.
            let _ = http1::Builder::new().serve_connection(io, service).await;
        });
    }
}

async fn handle(
    request: Request<Incoming>,
    environment: &Arc<Environment>,
    started: Instant,
    reads: &AtomicUsize,
) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let steps: Vec<&str> = path.split('/').skip(1).collect();
    match (request.method(), steps.as_slice()) {
        (&Method::GET, ["2018-06-01", "runtime", "invocation", "next"]) => next(environment, started).await,
        (&Method::POST, ["2018-06-01", "runtime", "invocation", id, "response"]) => {
            respond(request, environment, id, reads).await
        }
        (&Method::POST, ["2018-06-01", "runtime", "invocation", id, "error"]) => {
            let error = read_error(request).await;
            if environment.resolve(id, Outcome::FunctionError(error)).is_none() {
                return unknown_request();
            }
            environment.finish(id);
            accepted()
        }
        (&Method::POST, ["2018-06-01", "runtime", "init", "error"]) => {
            let error = read_error(request).await;
            environment.end(&format!("the function reported an init error: {error}"));
            // The process exits, or is killed after the grace period.
            let environment = Arc::clone(environment);
            tokio::spawn(async move {
                tokio::time::sleep(INIT_ERROR_GRACE).await;
                environment.kill();
            });
            accepted()
        }
        (&Method::POST, ["2020-01-01", "extension", "register"]) => {
            environment.register_extension();
            let body = json!({
                "functionName": environment.config.name,
                "functionVersion": "$LATEST",
                "handler": "bootstrap",
            });
            let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
            let identifier = http::HeaderValue::from_static("00000000-0000-4000-8000-000000000001");
            response.headers_mut().insert("lambda-extension-identifier", identifier);
            response
        }
        // An extension without subscriptions waits until the environment ends.
        (&Method::GET, ["2020-01-01", "extension", "event", "next"]) => {
            environment.extension_waits();
            std::future::pending().await
        }
        _ => plain(StatusCode::NOT_FOUND, error_body("NotFound", "unknown path of the Runtime API")),
    }
}

async fn next(environment: &Arc<Environment>, started: Instant) -> Response<Full<Bytes>> {
    let Ok(next) = environment.poll_next(started).await else {
        return plain(StatusCode::GONE, error_body("Ended", "the environment is shut down"));
    };
    let arn = format!("arn:aws:lambda:eu-west-1:123456789012:function:{}", environment.config.name);
    let response = Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", &next.request_id)
        .header(INVOCATION_ID, &next.request_id)
        .header("lambda-runtime-deadline-ms", next.deadline_ms.to_string())
        .header("lambda-runtime-invoked-function-arn", arn)
        .header("lambda-runtime-trace-id", &next.trace_id)
        .body(Full::new(next.event));
    response.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, Bytes::new()))
}

async fn respond(
    request: Request<Incoming>,
    environment: &Arc<Environment>,
    id: &str,
    reads: &AtomicUsize,
) -> Response<Full<Bytes>> {
    let repeated = request.headers().get(INVOCATION_ID).map(|repeated| repeated.as_bytes() == id.as_bytes());
    if !environment.is_active(id) || repeated == Some(false) {
        return unknown_request();
    }
    let streams = has(request.headers(), RESPONSE_MODE, "streaming");
    let response = if streams && environment.config.invoke_mode == InvokeMode::ResponseStream {
        stream(request, environment, id, reads).await
    } else {
        // A buffered invocation of a streaming function gets all bytes, including the prelude.
        whole(request, environment, id).await
    };
    environment.finish(id);
    response
}

async fn whole(request: Request<Incoming>, environment: &Arc<Environment>, id: &str) -> Response<Full<Bytes>> {
    let limit = environment.config.front.max_bytes();
    let mut body = request.into_body();
    let mut bytes = BytesMut::new();
    let mut is_too_large = false;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            environment.fail("the function aborted its response");
            return plain(StatusCode::BAD_REQUEST, error_body("Truncated", "the response is incomplete"));
        };
        if let Some(data) = frame.data_ref().filter(|_| !is_too_large) {
            bytes.extend_from_slice(data);
            is_too_large = bytes.len() > limit;
        }
    }
    if is_too_large {
        environment.resolve(id, Outcome::TooLarge);
        let message = format!("the response exceeds {limit} bytes");
        return plain(StatusCode::PAYLOAD_TOO_LARGE, error_body("Function.ResponseSizeTooLarge", &message));
    }
    environment.resolve(id, Outcome::Response(bytes.freeze()));
    accepted()
}

/// Forwards the parts of a streamed response.
async fn stream(
    request: Request<Incoming>,
    environment: &Arc<Environment>,
    id: &str,
    reads: &AtomicUsize,
) -> Response<Full<Bytes>> {
    let is_http = has(request.headers(), "content-type", HTTP_INTEGRATION);
    let (sender, receiver) = mpsc::channel(STREAM_BUFFER);
    let mut receiver = Some(receiver);
    let mut body = request.into_body();
    let mut beginning = BytesMut::new();
    if !is_http && let Some(parts) = receiver.take() {
        // Without the content type of an HTTP integration, the bytes are the body of a 200.
        environment.resolve(id, Outcome::Stream { prelude: json!({ "statusCode": 200 }), parts });
    }
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                environment.fail("the function aborted its response");
                let _ = sender.send(Err(format!("the stream was aborted: {error}"))).await;
                return plain(StatusCode::BAD_REQUEST, error_body("Truncated", "the response is incomplete"));
            }
        };
        if let Some(trailers) = frame.trailers_ref() {
            if let Some(error) = trailer(trailers, ERROR_TYPE_TRAILER) {
                let detail = trailer(trailers, ERROR_BODY_TRAILER).unwrap_or_default();
                let _ = sender.send(Err(format!("the function failed while streaming: {error} {detail}"))).await;
            }
            continue;
        }
        let Ok(data) = frame.into_data() else { continue };
        let Some(waiting) = receiver.take() else {
            // A client that disconnects does not stop the invocation, which is billed to its end.
            let _ = sender.send(Ok(data)).await;
            continue;
        };
        beginning.extend_from_slice(&data);
        let Some(end) = beginning.windows(DELIMITER.len()).position(|window| window == DELIMITER) else {
            receiver = Some(waiting);
            continue;
        };
        let Ok(prelude) = serde_json::from_slice::<Value>(&beginning[..end]) else {
            let error = json!({ "errorType": "InvalidPrelude", "errorMessage": "the prelude is not JSON" });
            environment.resolve(id, Outcome::FunctionError(error));
            return plain(StatusCode::BAD_REQUEST, error_body("InvalidPrelude", "the prelude is not JSON"));
        };
        environment.resolve(id, Outcome::Stream { prelude, parts: waiting });
        let rest = beginning.split_off(end + DELIMITER.len()).freeze();
        if !rest.is_empty() {
            let _ = sender.send(Ok(rest)).await;
        }
    }
    if receiver.is_some() {
        let error = json!({ "errorType": "InvalidPrelude", "errorMessage": "the response ended before its delimiter" });
        environment.resolve(id, Outcome::FunctionError(error));
    }
    environment.record_writes(reads.load(Ordering::Relaxed));
    accepted()
}

async fn read_error(request: Request<Incoming>) -> Value {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    serde_json::from_slice(&body).unwrap_or_default()
}

fn has(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers.get(name).and_then(|own| own.to_str().ok()).is_some_and(|own| own.eq_ignore_ascii_case(value))
}

fn trailer(trailers: &HeaderMap, name: &str) -> Option<String> {
    Some(String::from_utf8_lossy(trailers.get(name)?.as_bytes()).into_owned())
}

fn unknown_request() -> Response<Full<Bytes>> {
    plain(StatusCode::BAD_REQUEST, error_body("InvalidRequestID", "no active invocation has this id"))
}

fn accepted() -> Response<Full<Bytes>> {
    plain(StatusCode::ACCEPTED, Bytes::from_static(br#"{"status":"OK"}"#))
}

fn plain(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}

/// Socket that counts non-empty reads. On loopback, the bytes of one write arrive in one read unless the reader is
/// slow.
struct CountingSocket {
    socket: TcpStream,
    reads: Arc<AtomicUsize>,
}

impl AsyncRead for CountingSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(cx, buf);
        if result.is_ready() && buf.filled().len() > before {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

impl AsyncWrite for CountingSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
