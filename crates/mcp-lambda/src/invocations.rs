//! The runtime loop: polls the Runtime API for invocations, and posts their responses, in both invoke modes.
//!
//! It replaces the loop of `lambda_runtime`, which takes a quarter of the time of a warm invocation: it leaves `TCP_NODELAY` off,
//! writes the prelude of a stream, its delimiter and the first bytes as separate small writes, and has no hook to change that.
//! Here these three are ready together and sent in one write.

use std::{
    convert::Infallible,
    env,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::BodyExt;
use lambda_runtime::{Diagnostic, MetadataPrelude};
use mcp_server::Invocation;
use tokio::task::JoinSet;

use crate::{
    Body, EventError, EventResponse, EventSource, InvokeMode, LambdaInvocation, LambdaRequest, McpService, Transport,
    events::{sanitize_response, take_cookies},
    http::{bad_request, internal_error},
    logs::REJECTION,
    runtime_api::{BoxError, RequestBody, RuntimeApi, whole},
};

const NEXT: &str = "/2018-06-01/runtime/invocation/next";
const RESTORE_NEXT: &str = "/2018-06-01/runtime/restore/next";
static REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
static INVOCATION_ID: HeaderName = HeaderName::from_static("lambda-runtime-invocation-id");
static DEADLINE_MS: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");
static TRACE_ID: HeaderName = HeaderName::from_static("lambda-runtime-trace-id");
const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
const STREAM_CONTENT_TYPE: &str = "application/vnd.awslambda.http-integration-response";

/// Separates the prelude of a streamed response from its body.
const DELIMITER: [u8; 8] = [0; 8];

/// Serves invocations until the execution environment ends, `concurrency` at a time.
pub(crate) async fn run(service: McpService, concurrency: usize) -> Result<(), BoxError> {
    let mut api = RuntimeApi::from_env()?;
    if env::var("AWS_LAMBDA_INITIALIZATION_TYPE").as_deref() == Ok("snap-start") {
        service.server().before_snapshot().await;
        // Blocks until an environment is restored from the snapshot.
        let restored = api.call(api.request("GET", RESTORE_NEXT).body(whole(""))?).await?;
        if !restored.status().is_success() {
            return Err(format!("the Runtime API responded with {} to a restore request", restored.status()).into());
        }
        api.disconnect();
        service.server().after_restore().await;
    }
    if concurrency == 1 {
        return serve(api, service).await.map(|never| match never {});
    }
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        workers.spawn(serve(api.with_new_connection(), service.clone()));
    }
    // A worker ends only by failing. The others continue; when the last one has failed, the process ends, and Lambda starts another
    // execution environment.
    let mut last = Ok(());
    while let Some(ended) = workers.join_next().await {
        last = ended.map_err(BoxError::from).flatten().map(|never| match never {});
        if let Err(error) = &last {
            tracing::error!(%error, remaining = workers.len(), "a worker has failed");
        }
    }
    last
}

async fn serve(mut api: RuntimeApi, service: McpService) -> Result<Infallible, BoxError> {
    loop {
        serve_next(&mut api, &service).await?;
    }
}

async fn serve_next(api: &mut RuntimeApi, service: &McpService) -> Result<(), BoxError> {
    let (headers, event) = next(api).await?;
    let headers = Headers(&headers);
    let request_id = headers.get(&REQUEST_ID).unwrap_or_default();
    let invocation = headers.invocation(request_id);
    #[cfg(feature = "store")]
    if let Some(job) = service.command_of(&event, &invocation) {
        let result = AssertUnwindSafe(job).catch_unwind().await;
        let request = job_request(api, request_id, result)?;
        send(api, &headers, request_id, request).await;
        return Ok(());
    }
    #[cfg(feature = "otel")]
    let deadline = invocation.deadline;
    let answer = AssertUnwindSafe(respond_in_mode(service, &event, invocation)).catch_unwind().await;
    drop(event);
    let request = match answer {
        Ok(Ok(answer)) => match answer.into_request(api, request_id) {
            Ok(request) => request,
            Err(error) => {
                tracing::error!(request_id, %error, "a response could not be serialized");
                error_request(api, request_id, "Serialization", error.to_string())?
            }
        },
        Ok(Err(error)) => {
            tracing::error!(request_id, "{error}");
            error_request(api, request_id, "UnknownEvent", error.to_string())?
        }
        Err(_) => error_request(api, request_id, "Panic", "the service panicked".to_owned())?,
    };
    send(api, &headers, request_id, request).await;
    #[cfg(feature = "otel")]
    mcp_otel::flush(deadline).await;
    Ok(())
}

/// Serves invocations until the environment ends, by a job in place of a server. It gets the event, and returns JSON or an error.
#[cfg(any(feature = "postgres", feature = "tasks"))]
pub(crate) async fn run_job<F, Fut>(job: F) -> Result<Infallible, BoxError>
where
    F: Fn(Bytes, Invocation) -> Fut,
    Fut: Future<Output = Result<Vec<u8>, BoxError>>,
{
    let mut api = RuntimeApi::from_env()?;
    loop {
        run_next(&mut api, &job).await?;
    }
}

/// Runs a job for one invocation. A panic of the job is its error, and the environment goes on.
#[cfg(any(feature = "postgres", feature = "tasks"))]
async fn run_next<F, Fut>(api: &mut RuntimeApi, job: &F) -> Result<(), BoxError>
where
    F: Fn(Bytes, Invocation) -> Fut,
    Fut: Future<Output = Result<Vec<u8>, BoxError>>,
{
    let (headers, event) = next(api).await?;
    let headers = Headers(&headers);
    let request_id = headers.get(&REQUEST_ID).unwrap_or_default();
    let invocation = headers.invocation(request_id);
    let result = AssertUnwindSafe(async { job(event, invocation).await }).catch_unwind().await;
    let request = job_request(api, request_id, result)?;
    send(api, &headers, request_id, request).await;
    Ok(())
}

/// The response to an invocation that is no HTTP request: JSON or an error. `Err` after a panic.
#[cfg(any(feature = "postgres", feature = "store"))]
fn job_request(
    api: &RuntimeApi,
    request_id: &str,
    result: std::thread::Result<Result<Vec<u8>, BoxError>>,
) -> Result<Request<RequestBody>, BoxError> {
    match result {
        Ok(Ok(json)) => {
            let request = api.request("POST", &format!("/2018-06-01/runtime/invocation/{request_id}/response"));
            Ok(request.header(header::CONTENT_TYPE, "application/json").body(whole(json))?)
        }
        Ok(Err(error)) => error_request(api, request_id, "JobFailed", mcp_server::error_chain(error.as_ref())),
        Err(_) => error_request(api, request_id, "Panic", "the job panicked".to_owned()),
    }
}

/// Waits for the next invocation: its headers, and the event.
async fn next(api: &mut RuntimeApi) -> Result<(HeaderMap, Bytes), BoxError> {
    let (parts, event) = api.call(api.request("GET", NEXT).body(whole(""))?).await?.into_parts();
    if !parts.status.is_success() {
        return Err(
            format!("the Runtime API responded with {} to a request for the next invocation", parts.status).into()
        );
    }
    Ok((parts.headers, event))
}

/// Sends the response to an invocation.
async fn send(api: &mut RuntimeApi, headers: &Headers<'_>, request_id: &str, mut request: Request<RequestBody>) {
    // Lambda rejects the response if this id is not that of the invocation.
    if let Some(id) = headers.0.get(&INVOCATION_ID) {
        request.headers_mut().insert(&INVOCATION_ID, id.clone());
    }
    // Lambda rejects a late response. That does not affect the next invocation.
    match api.call(request).await {
        Ok(response) if response.status().is_success() => {}
        Ok(response) => tracing::warn!(request_id, status = %response.status(), "the Runtime API rejected a response"),
        Err(error) => tracing::warn!(request_id, %error, "a response could not be sent"),
    }
}

struct Headers<'a>(&'a HeaderMap);

impl<'a> Headers<'a> {
    fn get(&self, name: &HeaderName) -> Option<&'a str> {
        self.0.get(name)?.to_str().ok()
    }

    fn invocation(&self, request_id: &str) -> Invocation {
        Invocation {
            request_id: request_id.to_owned(),
            deadline: self.deadline(),
            ..LambdaInvocation::with_trace(self.get(&TRACE_ID).map(str::to_owned))
        }
    }

    fn deadline(&self) -> Option<Instant> {
        deadline(self.get(&DEADLINE_MS)?.parse().ok()?)
    }
}

/// Converts a deadline in milliseconds since the Unix epoch into an instant. `None` if it has passed: Lambda sends no such deadline,
/// but `cargo lambda watch` does, because it counts from the start of its process.
pub(crate) fn deadline(deadline_ms: u64) -> Option<Instant> {
    let deadline = UNIX_EPOCH.checked_add(Duration::from_millis(deadline_ms))?;
    Instant::now().checked_add(deadline.duration_since(SystemTime::now()).ok()?)
}

/// The response to an invocation.
enum InvocationResponse {
    Whole(EventResponse),
    Stream(Response<Body>),
}

async fn respond_in_mode(
    service: &McpService,
    event: &[u8],
    invocation: Invocation,
) -> Result<InvocationResponse, EventError> {
    match service.invoke_mode() {
        InvokeMode::Buffered => respond_buffered(service, event, invocation).await.map(InvocationResponse::Whole),
        InvokeMode::Stream => {
            respond(service, event, invocation).await.map(|(_, response)| InvocationResponse::Stream(response))
        }
    }
}

impl InvocationResponse {
    fn into_request(self, api: &RuntimeApi, request_id: &str) -> Result<Request<RequestBody>, BoxError> {
        let request = api.request("POST", &format!("/2018-06-01/runtime/invocation/{request_id}/response"));
        Ok(match self {
            Self::Whole(response) => {
                let request = request.header(header::CONTENT_TYPE, "application/json");
                request.body(whole(serde_json::to_vec(&response)?))?
            }
            Self::Stream(response) => request
                .header(header::CONTENT_TYPE, STREAM_CONTENT_TYPE)
                .header(RESPONSE_MODE, "streaming")
                .header(header::TRANSFER_ENCODING, "chunked")
                .body(RequestBody::Right(StreamedResponse::new(response)?))?,
        })
    }
}

fn error_request(
    api: &RuntimeApi,
    request_id: &str,
    error_type: &'static str,
    error_message: String,
) -> Result<Request<RequestBody>, BoxError> {
    let diagnostic = Diagnostic { error_type: error_type.to_owned(), error_message };
    Ok(api
        .request("POST", &format!("/2018-06-01/runtime/invocation/{request_id}/error"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(ERROR_TYPE, HeaderValue::from_static(error_type))
        .body(whole(serde_json::to_vec(&diagnostic)?))?)
}

/// Reports an init error to Lambda (Runtime API, "Initialization error").
pub(crate) async fn report_init_error(message: String) -> Result<(), BoxError> {
    let mut api = RuntimeApi::from_env()?;
    let diagnostic = Diagnostic { error_type: "InitError".to_owned(), error_message: message };
    let request = api
        .request("POST", "/2018-06-01/runtime/init/error")
        .header(header::CONTENT_TYPE, "application/json")
        .header(ERROR_TYPE, "Runtime.InitError")
        .body(whole(serde_json::to_vec(&diagnostic)?))?;
    api.call(request).await?;
    Ok(())
}

/// Serves one event. Returns the kind of event and the response.
pub(crate) async fn respond(
    service: &McpService,
    event: &[u8],
    invocation: Invocation,
) -> Result<(EventSource, Response<Body>), EventError> {
    let LambdaRequest { request, source, domain_name, iam } = match LambdaRequest::from_event(event) {
        Ok(request) => request,
        Err(EventError::BadRequest { source, reason }) => {
            let request_id = invocation.request_id;
            tracing::info!(
                name: REJECTION,
                request_id,
                reason,
                monotonic_counter.invalid_calls = 1,
                "request rejected: malformed event"
            );
            return Ok((source, bad_request(reason)));
        }
        Err(unknown @ EventError::Unknown(_)) => return Err(unknown),
    };
    let transport = Transport { source, domain_name, iam };
    let request_id = invocation.request_id.clone();
    let mut response = service.serve(request, invocation, Some(&transport)).await;
    if let Err(reason) = sanitize_response(source, &mut response) {
        tracing::error!(request_id, reason, "a response cannot be sent");
        response = internal_error(&request_id);
    }
    Ok((source, response))
}

/// Serves one event and returns a complete response in the format that its source expects. For a runtime loop or a test of your own.
///
/// # Errors
///
/// [`EventError::Unknown`] when the event is not an HTTP request. A malformed HTTP request is not an error: its response has status 400.
pub async fn respond_buffered(
    service: &McpService,
    event: &[u8],
    invocation: Invocation,
) -> Result<EventResponse, EventError> {
    let (source, response) = respond(service, event, invocation).await?;
    let (parts, body) = response.into_parts();
    let Ok(body) = body.collect().await;
    Ok(EventResponse::new(source, Response::from_parts(parts, body.to_bytes())))
}

/// Splits a response into the prelude of a stream and the body.
pub(crate) fn prelude(response: Response<Body>) -> (MetadataPrelude, Body) {
    let (mut parts, body) = response.into_parts();
    let cookies = take_cookies(&mut parts.headers);
    (MetadataPrelude { status_code: parts.status, headers: parts.headers, cookies }, body)
}

/// A streamed response: prelude, delimiter and body. They are separate frames, which `cargo lambda watch` requires, but all are ready
/// at once, so that the HTTP client sends them in one write.
pub(crate) struct StreamedResponse {
    before: std::array::IntoIter<Bytes, 2>,
    body: Body,
}

impl StreamedResponse {
    fn new(response: Response<Body>) -> serde_json::Result<Self> {
        let (prelude, body) = prelude(response);
        let before = [Bytes::from(serde_json::to_vec(&prelude)?), Bytes::from_static(&DELIMITER)].into_iter();
        Ok(Self { before, body })
    }
}

impl http_body::Body for StreamedResponse {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        match this.before.next() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Pin::new(&mut this.body).poll_frame(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mcp_server::{HandlerError, NoArguments, Server, Tool, ToolContext};
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::Semaphore,
    };

    use super::*;
    use crate::{HttpConfig, InvokeMode};

    /// Sends three notifications, each after the reader has received the previous one.
    async fn counts(context: ToolContext<Arc<Semaphore>>, _: NoArguments) -> Result<String, HandlerError> {
        for number in 1..=3 {
            context.progress(number, None, None).await;
            context.state().acquire().await?.forget();
        }
        Ok("done".to_owned())
    }

    fn service(seen: Arc<Semaphore>) -> McpService {
        let server = Server::new("test", "0.0.0", seen).tool(Tool::new("counts", counts));
        McpService::new(server, HttpConfig { invoke_mode: InvokeMode::Stream, ..HttpConfig::default() }).unwrap()
    }

    /// Serves one invocation as the Runtime API does. Returns the writes in which the response was sent.
    async fn writes_of_answer(message: &str) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut api = RuntimeApi::at(&listener.local_addr().unwrap().to_string()).unwrap();
        let event = json!({
            "version": "2.0", "rawPath": "/mcp", "body": message, "isBase64Encoded": false,
            "headers": { "content-type": "application/json", "accept": "application/json, text/event-stream" },
            "requestContext": { "http": { "method": "POST" } },
        });
        let event = event.to_string();
        let seen = Arc::new(Semaphore::new(0));
        let service = service(Arc::clone(&seen));
        let worker = tokio::spawn(async move { serve_next(&mut api, &service).await });

        let (mut socket, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 65536];
        let read = socket.read(&mut buffer).await.unwrap();
        assert!(buffer[..read].starts_with(b"GET /2018-06-01/runtime/invocation/next"));
        let head = format!(
            "HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id: abc\r\nlambda-runtime-invocation-id: xyz\r\n\
             content-length: {}\r\n\r\n",
            event.len()
        );
        socket.write_all(format!("{head}{event}").as_bytes()).await.unwrap();
        let mut writes: Vec<String> = Vec::new();
        while writes.last().is_none_or(|last| !last.ends_with("0\r\n\r\n")) {
            let read = socket.read(&mut buffer).await.unwrap();
            assert_ne!(read, 0, "the response is not complete: {writes:?}");
            writes.push(String::from_utf8(buffer[..read].to_vec()).unwrap());
            seen.add_permits(1);
        }
        socket.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        worker.await.unwrap().unwrap();
        writes
    }

    #[tokio::test]
    async fn a_response_without_notifications_is_one_write() {
        let writes = writes_of_answer(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;

        assert_eq!(writes.len(), 1, "{writes:?}");
        let head = writes[0].to_ascii_lowercase();
        assert!(head.starts_with("post /2018-06-01/runtime/invocation/abc/response"));
        for header in [
            "lambda-runtime-function-response-mode: streaming",
            "lambda-runtime-invocation-id: xyz",
            "transfer-encoding: chunked",
            "content-type: application/vnd.awslambda.http-integration-response",
        ] {
            assert!(head.contains(header), "{head}");
        }
        assert!(writes[0].contains("\"statusCode\":200") && writes[0].contains("\r\n\0\0\0\0\0\0\0\0\r\n"));
        assert!(writes[0].contains(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
    }

    #[tokio::test]
    async fn each_notification_is_one_write_and_the_first_includes_the_prelude() {
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call",
            "params":{"name":"counts","_meta":{"progressToken":1}}}"#;

        let writes = writes_of_answer(call).await;

        let events = |write: &String| write.matches("data: ").count();
        assert_eq!(writes.iter().map(events).collect::<Vec<_>>(), [1, 1, 1, 1], "{writes:?}");
        assert!(writes[0].contains("statusCode"));
        assert!(writes[3].contains("done"));
    }

    #[cfg(any(feature = "postgres", feature = "tasks"))]
    #[tokio::test]
    async fn a_panic_of_a_job_is_reported_and_the_next_job_runs() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut api = RuntimeApi::at(&listener.local_addr().unwrap().to_string()).unwrap();
        let jobs = tokio::spawn(async move {
            let job = |event: Bytes, _| async move {
                assert_ne!(event, "panic");
                Ok(event.to_vec())
            };
            for _ in 0..2 {
                run_next(&mut api, &job).await.unwrap();
            }
        });
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 65536];
        let mut reports = Vec::new();
        for event in ["panic", "fine!"] {
            assert_ne!(socket.read(&mut buffer).await.unwrap(), 0);
            let head = "HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id: abc\r\ncontent-length: 5\r\n\r\n";
            socket.write_all(format!("{head}{event}").as_bytes()).await.unwrap();
            let mut report = String::new();
            while !report.ends_with('}') && !report.ends_with("fine!") {
                let read = socket.read(&mut buffer).await.unwrap();
                assert_ne!(read, 0, "{report}");
                report.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
            }
            socket.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            reports.push(report);
        }
        jobs.await.unwrap();

        assert!(reports[0].starts_with("POST /2018-06-01/runtime/invocation/abc/error"), "{reports:?}");
        assert!(reports[0].contains("the job panicked"), "{reports:?}");
        assert!(reports[1].starts_with("POST /2018-06-01/runtime/invocation/abc/response"), "{reports:?}");
    }

    #[test]
    fn a_deadline_in_the_past_is_none() {
        assert_eq!(deadline(0), None);
        assert_eq!(deadline(600_000), None, "what `cargo lambda watch` sends");
        assert!(deadline(u64::MAX / 2).is_none_or(|deadline| deadline > Instant::now()));
        let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(60);
        let soon = deadline(u64::try_from(soon.as_millis()).unwrap()).unwrap();
        assert!(soon.duration_since(Instant::now()) > Duration::from_secs(50));
    }
}
