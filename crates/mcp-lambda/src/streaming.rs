//! The runtime loop for Function URLs that stream (`RESPONSE_STREAM`).
//!
//! `lambda_runtime` 1.5 streams too, but leaves `TCP_NODELAY` off and writes the prelude, its delimiter and the first
//! bytes as separate small writes, which then wait about 40 ms for a delayed acknowledgement. It has no hook to change
//! that, while the client below it does. So this loop speaks the Runtime API through that client, with no delay, and
//! with prelude, delimiter and first bytes ready together, which the client sends in one write. Everything else stays with `lambda_runtime`, buffered mode included.

use std::{
    convert::Infallible,
    env,
    error::Error,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response, header};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper_util::client::legacy::connect::HttpConnector;
use lambda_runtime::MetadataPrelude;
use lambda_runtime_api_client::{BoxError, PooledClient, body::Body as ApiBody, build_request};
use mcp_server::Invocation;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    Body, McpService,
    run::{deadline, respond},
};

const NEXT: &str = "/2018-06-01/runtime/invocation/next";
const RESTORE_NEXT: &str = "/2018-06-01/runtime/restore/next";
const REQUEST_ID: &str = "lambda-runtime-aws-request-id";
const INVOCATION_ID: &str = "lambda-runtime-invocation-id";
const DEADLINE_MS: &str = "lambda-runtime-deadline-ms";
const TRACE_ID: &str = "lambda-runtime-trace-id";
const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";
const STREAM_CONTENT_TYPE: &str = "application/vnd.awslambda.http-integration-response";

/// Ends the prelude.
const DELIMITER: [u8; 8] = [0; 8];

/// Serves invocations until the environment ends, `concurrency` at a time.
pub(crate) async fn run(service: McpService, concurrency: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    let client = PooledClient::builder().with_connector(connector()).with_pool_size(concurrency).build();
    let client = Arc::new(client);
    if env::var("AWS_LAMBDA_INITIALIZATION_TYPE").as_deref() == Ok("snap-start") {
        service.router().before_snapshot().await;
        // Blocks until an environment is restored from the snapshot; the connection does not survive that.
        let request = build_request().uri(RESTORE_NEXT).body(ApiBody::empty())?;
        let restored = client.call(request).await?;
        if !restored.status().is_success() {
            return Err(format!("the Runtime API answered {} to a request to restore", restored.status()).into());
        }
        client.reset_pool();
        service.router().after_restore().await;
    }
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        let (client, service) = (Arc::clone(&client), service.clone());
        workers.spawn(async move { serve(&client, &service).await });
    }
    // No worker ends by itself. When one fails, the others go on; when the last has failed, the environment ends, and
    // Lambda starts another.
    let mut last = Ok(());
    while let Some(ended) = workers.join_next().await {
        last = ended.map_err(BoxError::from).flatten().map(|never| match never {});
        if let Err(error) = &last {
            tracing::error!(%error, remaining = workers.len(), "a worker has failed");
        }
    }
    last
}

async fn serve(client: &PooledClient, service: &McpService) -> Result<Infallible, BoxError> {
    loop {
        serve_next(client, service).await?;
    }
}

/// A connector that sends each write at once.
fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector
}

async fn serve_next(client: &PooledClient, service: &McpService) -> Result<(), BoxError> {
    let next = client.call(build_request().uri(NEXT).body(ApiBody::empty())?).await?;
    let (parts, body) = next.into_parts();
    if !parts.status.is_success() {
        return Err(format!("the Runtime API answered {} to a request for the next invocation", parts.status).into());
    }
    let event = body.collect().await?.to_bytes();
    let headers = Headers(&parts.headers);
    let request_id = headers.get(REQUEST_ID).unwrap_or_default().to_owned();
    let invocation = Invocation {
        request_id: request_id.clone(),
        deadline: headers.get(DEADLINE_MS).and_then(|ms| deadline(ms.parse().ok()?)),
        xray_trace_id: headers.get(TRACE_ID).map(str::to_owned),
        ..Invocation::default()
    };
    let answer = AssertUnwindSafe(respond(service, &event, invocation)).catch_unwind().await;
    let request = match answer {
        Ok(Ok((_, response))) => response_request(&request_id, response)?,
        Ok(Err(error)) => {
            tracing::error!(request_id = request_id, "{error}");
            error_request(&request_id, "UnknownEvent", &error.to_string())?
        }
        Err(_) => error_request(&request_id, "Panic", "answering the request panicked")?,
    };
    let request = headers.with_invocation_id(request);
    let answer = client.call(request).await;
    // The platform refuses an answer that comes too late; the next invocation is none the worse for it.
    match answer {
        Ok(response) if response.status().is_success() => {}
        Ok(response) => {
            tracing::warn!(request_id = request_id, status = %response.status(), "an answer was refused")
        }
        Err(error) => tracing::warn!(request_id = request_id, %error, "an answer could not be sent"),
    }
    Ok(())
}

struct Headers<'a>(&'a HeaderMap);

impl<'a> Headers<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name)?.to_str().ok()
    }

    /// Repeats the id that keeps an answer from reaching another invocation.
    fn with_invocation_id(&self, mut request: Request<ApiBody>) -> Request<ApiBody> {
        if let Some(id) = self.0.get(INVOCATION_ID) {
            request.headers_mut().insert(INVOCATION_ID, id.clone());
        }
        request
    }
}

fn response_request(request_id: &str, response: Response<Body>) -> Result<Request<ApiBody>, BoxError> {
    let (parts, body) = response.into_parts();
    let prelude = MetadataPrelude { status_code: parts.status, headers: parts.headers, cookies: Vec::new() };
    let before = [Bytes::from(serde_json::to_vec(&prelude)?), Bytes::from_static(&DELIMITER)].into_iter();
    Ok(build_request()
        .method("POST")
        .uri(format!("/2018-06-01/runtime/invocation/{request_id}/response"))
        .header(header::CONTENT_TYPE, STREAM_CONTENT_TYPE)
        .header(RESPONSE_MODE, "streaming")
        .header(header::TRANSFER_ENCODING, "chunked")
        .body(ApiBody::new(WithPrelude { before, body }))?)
}

fn error_request(request_id: &str, error_type: &str, message: &str) -> Result<Request<ApiBody>, BoxError> {
    let body = json!({ "errorType": error_type, "errorMessage": message }).to_string();
    Ok(build_request()
        .method("POST")
        .uri(format!("/2018-06-01/runtime/invocation/{request_id}/error"))
        .header(header::CONTENT_TYPE, "application/json")
        .header("lambda-runtime-function-error-type", error_type)
        .body(ApiBody::from(Bytes::from(body)))?)
}

/// A body after its prelude and delimiter. The three are frames of their own, as `cargo lambda watch` wants them, but
/// each is ready when the one before it is taken, so that the client writes them at once.
struct WithPrelude {
    before: std::array::IntoIter<Bytes, 2>,
    body: Body,
}

impl http_body::Body for WithPrelude {
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
    use hyper_util::rt::TokioIo;
    use mcp_server::{NoArguments, Server, Tool, ToolContext, ToolError};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::Semaphore,
    };
    use tower::ServiceExt;

    use super::*;
    use crate::{HttpConfig, InvokeMode};

    #[tokio::test]
    async fn each_write_is_sent_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();

        let connection: TokioIo<TcpStream> = connector().oneshot(uri).await.unwrap();

        assert!(connection.inner().nodelay().unwrap());
    }

    /// Goes on after each notification only when the reader has seen it.
    async fn counts(context: ToolContext<Arc<Semaphore>>, _: NoArguments) -> Result<String, ToolError> {
        for number in 1..=3 {
            context.progress(number.into(), None, None).await;
            context.state().acquire().await.map_err(ToolError::internal)?.forget();
        }
        Ok("done".to_owned())
    }

    fn service(seen: Arc<Semaphore>) -> McpService {
        let server = Server::new("test", "0.0.0", seen).tool(Tool::new("counts", counts));
        McpService::new(server, HttpConfig { invoke_mode: InvokeMode::Stream, ..HttpConfig::default() }).unwrap()
    }

    /// Hands out one invocation as the Runtime API does and returns what the answer was written in, write by write.
    async fn writes_of_answer(message: &str) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let client = PooledClient::builder().with_connector(connector()).with_endpoint(endpoint).build();
        let event = json!({
            "version": "2.0", "rawPath": "/mcp", "body": message, "isBase64Encoded": false,
            "headers": { "content-type": "application/json", "accept": "application/json, text/event-stream" },
            "requestContext": { "http": { "method": "POST" } },
        });
        let event = event.to_string();
        let seen = Arc::new(Semaphore::new(0));
        let service = service(Arc::clone(&seen));
        let worker = tokio::spawn(async move { serve_next(&client, &service).await });

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
            assert_ne!(read, 0, "the answer is not complete: {writes:?}");
            writes.push(String::from_utf8(buffer[..read].to_vec()).unwrap());
            seen.add_permits(1);
        }
        socket.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        worker.await.unwrap().unwrap();
        writes
    }

    #[tokio::test]
    async fn a_plain_answer_is_one_write() {
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
    async fn three_notifications_are_three_writes_the_first_with_the_prelude_and_the_result_is_the_last() {
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call",
            "params":{"name":"counts","_meta":{"progressToken":1}}}"#;

        let writes = writes_of_answer(call).await;

        let events = |write: &String| write.matches("data: ").count();
        assert_eq!(writes.iter().map(events).collect::<Vec<_>>(), [1, 1, 1, 1], "{writes:?}");
        assert!(writes[0].contains("statusCode"));
        assert!(writes[3].contains("done"));
    }
}
