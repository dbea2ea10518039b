//! HTTP server of the function's URL on loopback.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use crate::{
    Cors, Envelope, asynchronous,
    environment::Outcome,
    function::{Function, RoutingError, new_request_id},
    payload::MAX_PAYLOAD_BYTES,
};

type Body = BoxBody<Bytes, std::io::Error>;

/// Id of the environment that served a request. The service does not send this header.
const ENVIRONMENT: HeaderName = HeaderName::from_static("x-emulator-environment");

/// Serves a function's URL until the task is aborted.
pub(crate) async fn serve(listener: TcpListener, address: SocketAddr, function: Arc<Function>) {
    let requests = Arc::new(AtomicU64::new(0));
    while let Ok((socket, peer)) = listener.accept().await {
        let _ = socket.set_nodelay(true);
        let (function, requests) = (Arc::clone(&function), Arc::clone(&requests));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let function = Arc::clone(&function);
                let number = requests.fetch_add(1, Ordering::Relaxed);
                async move { Ok::<_, Infallible>(handle(request, function, number, [address, peer]).await) }
            });
            // An aborted connection is not an error of the emulator.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn handle(
    request: Request<Incoming>,
    function: Arc<Function>,
    number: u64,
    [address, peer]: [SocketAddr; 2],
) -> Response<Body> {
    if let Some(queue) = &function.queue
        && asynchronous::is_invoke(request.uri().path())
    {
        let (parts, body) = request.into_parts();
        let Ok(event) = Limited::new(body, MAX_PAYLOAD_BYTES).collect().await else {
            return message(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException");
        };
        let status = queue.accept(&function, parts.uri.path(), &parts.headers, event.to_bytes());
        let mut response = Response::new(whole(Bytes::new()));
        *response.status_mut() = status;
        return response;
    }
    let cors = function.config.cors.clone();
    let origin = request.headers().get(header::ORIGIN).cloned();
    if let (Some(cors), Some(origin)) = (&cors, &origin)
        && request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        // The URL responds to a preflight request; the function is not invoked.
        let mut response = Response::new(whole(Bytes::new()));
        cors.add_headers(origin, response.headers_mut());
        return response;
    }
    // The invocation continues if the client disconnects.
    let invoked = tokio::spawn(invoke(request, function, number, [address, peer])).await;
    let mut response = invoked.unwrap_or_else(|_| message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"));
    if let (Some(cors), Some(origin)) = (&cors, &origin) {
        cors.add_headers(origin, response.headers_mut());
    }
    response
}

async fn invoke(
    request: Request<Incoming>,
    function: Arc<Function>,
    number: u64,
    [address, peer]: [SocketAddr; 2],
) -> Response<Body> {
    let front = function.config.front;
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, 2 * front.max_bytes()).collect().await else {
        return too_large(front.max_bytes());
    };
    // The domain name is that of the URL, not the `Host` header of the client.
    let domain_name = function.config.domain_name.clone().unwrap_or_else(|| address.to_string());
    let body = body.to_bytes();
    if front.limits_body() && body.len() > front.max_bytes() {
        return too_large(front.max_bytes());
    }
    let request_id = new_request_id();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // Zero is not a valid span id.
    let span = number + 1;
    let trace_id = format!("Root=1-{seconds:08x}-{number:024x};Parent={span:016x};Sampled=0");
    let envelope = Envelope {
        request_id: request_id.clone(),
        domain_name,
        trace_id: trace_id.clone(),
        source_ip: peer.ip().to_string(),
    };
    let event = front.event(&Request::from_parts(parts, body), &envelope).to_string();
    if event.len() > MAX_PAYLOAD_BYTES {
        return too_large(front.max_bytes());
    }
    let mut response = match function.invoke(request_id.clone(), trace_id.clone(), event.into()).await {
        Err(RoutingError::Throttled) => throttled(),
        Err(RoutingError::CannotStart(error)) => {
            message(StatusCode::BAD_GATEWAY, &format!("Internal Server Error: {error}"))
        }
        Ok((environment, outcome)) => {
            let mut response = respond(&function, outcome);
            response.headers_mut().insert(ENVIRONMENT, environment.into());
            response
        }
    };
    front.finish_headers(response.headers_mut());
    let headers = response.headers_mut();
    for (name, value) in [("x-amzn-requestid", &request_id), ("x-amzn-trace-id", &trace_id)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

fn respond(function: &Function, outcome: Outcome) -> Response<Body> {
    match outcome {
        Outcome::Response(result) => match function.config.front.response(&result) {
            Ok(response) => response.map(whole),
            Err(_) => bad_gateway(),
        },
        Outcome::Stream { prelude, parts } => {
            // The prelude has the format of a buffered response; the body follows the prelude.
            let Ok(response) = function.config.front.response(prelude_as_result(prelude).to_string().as_bytes()) else {
                return bad_gateway();
            };
            let parts = ReceiverStream::new(parts).map(|part| part.map(Frame::data).map_err(std::io::Error::other));
            response.map(|_| BoxBody::new(StreamBody::new(parts)))
        }
        Outcome::FunctionError(_)
        | Outcome::TooLarge
        | Outcome::TimedOut
        | Outcome::Crashed
        | Outcome::Undelivered
        | Outcome::InitFailed => bad_gateway(),
    }
}

fn prelude_as_result(mut prelude: Value) -> Value {
    if prelude.get("statusCode").is_none()
        && let Some(members) = prelude.as_object_mut()
    {
        members.insert("statusCode".to_owned(), 200.into());
    }
    prelude
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn message(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::from(serde_json::json!({ "Message": text }).to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn too_large(limit: usize) -> Response<Body> {
    message(
        StatusCode::PAYLOAD_TOO_LARGE,
        &format!("Request must be smaller than {limit} bytes for the InvokeFunction operation"),
    )
}

fn throttled() -> Response<Body> {
    let body =
        r#"{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}"#;
    let mut response = Response::new(whole(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Returns a 502 without details: errors of a function are not exposed to clients.
fn bad_gateway() -> Response<Body> {
    let mut response = Response::new(whole(Bytes::from_static(b"Internal Server Error")));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

impl Cors {
    /// Adds the CORS headers of the URL to the function's response. If the function sends the same headers, they are
    /// duplicated, and browsers reject the response.
    fn add_headers(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
        let is_allowed = self.allow_origins.iter().any(|own| own == "*" || own.as_bytes() == origin.as_bytes());
        if !is_allowed {
            return;
        }
        headers.append(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        for (name, values) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, &self.allow_methods),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, &self.allow_headers),
        ] {
            if let Ok(value) = HeaderValue::from_str(&values.join(","))
                && !values.is_empty()
            {
                headers.append(name, value);
            }
        }
    }
}
