//! Fidelity tests: one for each line of the table in the crate documentation. The function uses `lambda_runtime`, which
//! implements the protocol of the real service.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    num::NonZeroU64,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use function_url_emulator::{
    AsynchronousConfig, AsynchronousReport, Cors, Emulator, Front, FunctionConfig, InvokeMode,
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use lambda_runtime::{Error, FunctionResponse, LambdaEvent, MetadataPrelude, StreamResponse, service_fn};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_stream::{Stream, StreamExt};

/// Makes this test binary run as a function; the value selects its behavior.
const ROLE: &str = "TEST_FUNCTION_ROLE";

/// Entry point of the function under test; not a test.
#[test]
fn function() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        match role.as_str() {
            "raw" => raw_function(),
            "keeps running after an init error" => {
                let path = "/2018-06-01/runtime/init/error";
                // If the socket were closed now, the emulator could miss the report.
                let _socket = post(path, "", r#"{"errorType":"Settings","errorMessage":"none"}"#);
                tokio::time::sleep(Duration::from_secs(600)).await;
            }
            "hangs at shutdown" => {
                lambda_runtime::spawn_graceful_shutdown_handler(|| async {
                    println!("the shutdown hook hangs");
                    std::future::pending().await
                })
                .await;
            }
            "hangs at init" => tokio::time::sleep(Duration::from_secs(600)).await,
            "exits at init" => std::process::exit(3),
            "panics at init" => panic!("no settings"),
            "with extension" => {
                lambda_runtime::spawn_graceful_shutdown_handler(|| async { println!("the shutdown hook has run") })
                    .await;
            }
            _ => {}
        }
        lambda_runtime::Runtime::new(service_fn(handler)).run_concurrent().await.unwrap();
    });
}

/// Sends a request to the Runtime API and returns the socket.
fn post(path: &str, head: &str, body: &str) -> TcpStream {
    let mut socket = TcpStream::connect(std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap()).unwrap();
    let length = if head.contains("chunked") { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    write!(socket, "POST {path} HTTP/1.1\r\nhost: x\r\n{head}{length}\r\n{body}").unwrap();
    socket
}

/// Runs a function without `lambda_runtime`. The path of the request selects its behavior.
fn raw_function() {
    loop {
        let mut socket = TcpStream::connect(std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap()).unwrap();
        write!(socket, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut event = String::new();
        socket.read_to_string(&mut event).unwrap();
        let id = event.lines().find_map(|line| line.strip_prefix("lambda-runtime-aws-request-id: ")).unwrap();
        let path = format!("/2018-06-01/runtime/invocation/{id}/response");
        let streams = "lambda-runtime-function-response-mode: streaming\r\ntransfer-encoding: chunked\r\n\
             content-type: application/vnd.awslambda.http-integration-response\r\n";
        let begins = "11\r\n{\"statusCode\":200\r\n1\r\n}\r\n8\r\n\0\0\0\0\0\0\0\0\r\n4\r\npart\r\n";
        let mut response = if event.contains("/trailers") {
            let trailers = "trailer: lambda-runtime-function-error-type\r\n";
            let ends = "0\r\nLambda-Runtime-Function-Error-Type: Broken\r\n\r\n";
            post(&path, &format!("{streams}{trailers}"), &format!("{begins}{ends}"))
        } else if event.contains("/aborts") {
            let mut aborted = post(&path, streams, begins);
            aborted.shutdown(Shutdown::Write).unwrap();
            // Waits until the emulator has detected the incomplete response; an earlier exit would be reported as a
            // crash.
            let _ = aborted.read(&mut [0; 64]);
            std::process::exit(9)
        } else if event.contains("/wrong-id") {
            let mut rejected = post(&path, "lambda-runtime-invocation-id: another\r\n", "{}");
            let mut status = [0; 12];
            rejected.read_exact(&mut status).unwrap();
            post(
                &path,
                "",
                &serde_json::json!({ "statusCode": 200, "body": String::from_utf8_lossy(&status) }).to_string(),
            )
        } else {
            post(&path, "", r#"{"statusCode":200,"body":"raw"}"#)
        };
        // Requests the next invocation after the response was accepted.
        let _ = response.read(&mut [0; 64]);
    }
}

type Parts = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

async fn handler(event: LambdaEvent<Value>) -> Result<FunctionResponse<Value, Parts>, Error> {
    let request = &event.payload;
    let path = request["rawPath"].as_str().or(request["path"].as_str()).unwrap_or_default();
    let query = request["rawQueryString"].as_str().unwrap_or_default();
    let answer = match path {
        "/event" => json!({ "statusCode": 200, "body": request.to_string() }),
        "/bare" => json!({ "no": "status" }),
        "/challenge" => json!({
            "statusCode": 401, "body": "",
            "headers": { "WWW-Authenticate": "Bearer", "Connection": "close", "Access-Control-Allow-Origin": "https://a.example" },
            "multiValueHeaders": { "WWW-Authenticate": ["Bearer"] },
            "cookies": ["a=1"],
        }),
        "/large" => json!({ "statusCode": 200, "body": "x".repeat(query.parse()?) }),
        "/fail" => return Err("broken".into()),
        "/panic" => panic!("at once"),
        "/crash" => std::process::exit(7),
        "/hang" => std::future::pending().await,
        "/wait" => {
            println!("waiting");
            while !Path::new(query).exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            println!("waited");
            json!({ "statusCode": 200, "body": "waited" })
        }
        "/stream" | "/stream-error" => {
            return Ok(FunctionResponse::StreamingResponse(stream(path == "/stream-error")));
        }
        _ => json!({ "statusCode": 200, "body": std::process::id().to_string() }),
    };
    Ok(FunctionResponse::BufferedResponse(answer))
}

fn stream(breaks: bool) -> StreamResponse<Parts> {
    let last = if breaks { Err(Error::from("failed while streaming")) } else { Ok(Bytes::from("three")) };
    let parts = [Ok(Bytes::from("one ")), Ok(Bytes::from("two ")), last];
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "text/plain".parse().unwrap());
    let metadata_prelude =
        MetadataPrelude { status_code: StatusCode::CREATED, headers, cookies: vec!["a=1".to_owned()] };
    StreamResponse { metadata_prelude, stream: Box::pin(tokio_stream::iter(parts)) }
}

/// A running function and its output.
struct TestFunction {
    emulator: Emulator,
    log: Arc<Mutex<String>>,
    folder: TempDir,
}

impl TestFunction {
    async fn start(role: &str, configure: impl FnOnce(&mut FunctionConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = FunctionConfig::new("fixture", bootstrap(folder.path()));
        config.variables.insert(ROLE.to_owned(), role.to_owned());
        configure(&mut config);
        let log = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&log);
        let write = move |environment: u32, line: &str| {
            sink.lock().unwrap().push_str(&format!("[{environment}] {line}\n"));
        };
        Self { emulator: Emulator::start_with_log(config, write).await.unwrap(), log, folder }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (mut parts, body) = request.into_parts();
        parts.uri = format!("{}{}", self.emulator.url(), parts.uri).parse().unwrap();
        client.request(Request::from_parts(parts, body)).await.unwrap()
    }

    async fn get(&self, path: &str) -> (StatusCode, HeaderMap, String) {
        whole(self.send(Request::get(path).body(Full::default()).unwrap()).await).await
    }

    /// Returns the id of the environment that served a request.
    async fn environment_of(&self, path: &str) -> u32 {
        let (status, headers, body) = self.get(path).await;
        assert_eq!(status, 200, "{body}");
        headers["x-emulator-environment"].to_str().unwrap().parse().unwrap()
    }

    /// Returns the file that `/wait` waits for.
    fn gate(&self) -> PathBuf {
        self.folder.path().join("gate")
    }

    fn open_gate(&self) {
        fs::write(self.gate(), "").unwrap();
    }

    fn waiting(&self) -> impl Future<Output = (StatusCode, HeaderMap, String)> + use<> {
        let (url, gate) = (self.emulator.url(), self.gate());
        async move {
            let client = Client::builder(TokioExecutor::new()).build_http();
            let request =
                Request::get(format!("{url}/wait?{}", gate.display())).body(Full::<Bytes>::default()).unwrap();
            whole(client.request(request).await.unwrap()).await
        }
    }

    /// Invokes the function asynchronously with a path, and returns the status.
    async fn queue(&self, path: &str, query: &str) -> StatusCode {
        let event = json!({ "path": path, "rawQueryString": query }).to_string();
        let request = Request::post("/2015-03-31/functions/fixture/invocations")
            .header("authorization", "AWS4-HMAC-SHA256")
            .header("x-amz-invocation-type", "Event");
        self.send(request.body(Full::from(event)).unwrap()).await.status()
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        for _ in 0..30_000 {
            if condition(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("timed out: {what}; {:?}; {}", self.emulator.environments(), self.log());
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn is_stopped(&self, process_id: i32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{process_id}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    }
}

async fn whole(response: Response<Incoming>) -> (StatusCode, HeaderMap, String) {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

/// Creates a `bootstrap` that runs this test binary as a function.
fn bootstrap(folder: &Path) -> PathBuf {
    let path = folder.join("bootstrap");
    let test = std::env::current_exe().unwrap();
    fs::write(&path, format!("#!/bin/sh\nexec '{}' --exact function --nocapture\n", test.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn one(config: &mut FunctionConfig) {
    config.warm_environments = 1;
    config.reserved_environments = 1;
}

#[tokio::test]
async fn requests_are_converted_to_payload_version_2() {
    let running = TestFunction::start("plain", |_| {}).await;

    let request = Request::post("/event?a=1").header("X-Name", "ü").body(Full::from("text")).unwrap();
    let (status, headers, body) = whole(running.send(request).await).await;

    let event: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!(
        (&event["version"], &event["rawPath"], &event["rawQueryString"]),
        (&json!("2.0"), &json!("/event"), &json!("a=1"))
    );
    assert_eq!(event["requestContext"]["domainName"], running.emulator.url().trim_start_matches("http://"));
    assert_eq!(event["requestContext"]["http"]["method"], "POST");
    assert_eq!(event["isBase64Encoded"], true, "no content type declares it as text");
    assert!(headers.contains_key("x-amzn-requestid") && headers.contains_key("x-amzn-trace-id"));
}

/// A regression: with request ids that repeat, a second run on the same database was deduplicated as a retry of the first.
#[tokio::test]
async fn request_ids_are_random_uuids() {
    let mut ids = HashSet::new();
    for _ in 0..2 {
        let running = TestFunction::start("plain", |_| {}).await;
        for _ in 0..2 {
            let (_, headers, body) = running.get("/event").await;
            let event: Value = serde_json::from_str(&body).unwrap();
            let id = headers["x-amzn-requestid"].to_str().unwrap().to_owned();

            assert_eq!(event["requestContext"]["requestId"], id.as_str());
            let bytes = id.as_bytes();
            let is_uuid = id.split('-').map(str::len).eq([8, 4, 4, 4, 12])
                && bytes.iter().all(|byte| matches!(byte, b'-' | b'0'..=b'9' | b'a'..=b'f'));
            assert!(is_uuid && bytes[14] == b'4' && matches!(bytes[19], b'8'..=b'9' | b'a' | b'b'), "{id}");
            ids.insert(id);
        }
    }
    assert_eq!(ids.len(), 4, "{ids:?}");
}

#[tokio::test]
async fn rest_api_and_load_balancer_events() {
    for (front, has) in [
        (Front::RestApi, &["multiValueHeaders", "resource"][..]),
        (Front::LoadBalancer { multi_value: false }, &["headers"]),
        (Front::LoadBalancer { multi_value: true }, &["multiValueHeaders"]),
    ] {
        let running = TestFunction::start("plain", |config| config.front = front).await;

        let (status, _, body) = running.get("/event").await;

        let event: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status.as_u16(), &event["httpMethod"], &event["path"]), (200, &json!("GET"), &json!("/event")));
        assert!(has.iter().all(|name| event.get(name).is_some()), "{front:?}: {event}");
    }
}

#[tokio::test]
async fn consecutive_requests_reach_different_frozen_environments() {
    let running = TestFunction::start("plain", |config| config.warm_environments = 3).await;

    let mut served = Vec::new();
    for _ in 0..6 {
        served.push(running.environment_of("/").await);
    }
    let are_stopped = |running: &TestFunction| {
        let environments = running.emulator.environments();
        environments.iter().all(|environment| environment.is_frozen && running.is_stopped(environment.process_id))
    };
    running.until("all frozen", are_stopped).await;

    assert_eq!(served.iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(served.windows(2).all(|pair| pair[0] != pair[1]), "{served:?}");
    let environments = running.emulator.environments();
    assert!(environments.iter().all(|environment| environment.invocations == 2 && environment.peak_memory_kib > 0));
    assert!(running.emulator.invocations().iter().all(|invocation| !invocation.is_cold));
}

#[tokio::test]
async fn manually_frozen_environment_thaws_for_its_next_request() {
    let running = TestFunction::start("plain", |config| {
        one(config);
        config.freeze = false;
    })
    .await;
    let process = running.emulator.environments()[0].process_id;
    assert!(!running.is_stopped(process));

    assert!(running.emulator.freeze(1));
    running.until("it is stopped", |running| running.is_stopped(process)).await;

    assert_eq!(running.environment_of("/").await, 1);
    assert!(!running.is_stopped(process));
    assert!(!running.emulator.freeze(2), "no such environment");
    let call = tokio::spawn(running.waiting());
    running.until("busy", |running| running.log().contains("] waiting")).await;
    assert!(!running.emulator.freeze(1), "a busy environment is not frozen");
    running.open_gate();
    assert_eq!(call.await.unwrap().0, 200);
}

#[tokio::test]
async fn environments_scale_up_to_the_limit_then_requests_are_throttled() {
    let running = TestFunction::start("plain", |config| config.reserved_environments = 2).await;

    let first = tokio::spawn(running.waiting());
    running.until("one busy", |running| running.log().matches("] waiting").count() == 1).await;
    let second = tokio::spawn(running.waiting());
    running.until("two busy", |running| running.log().matches("] waiting").count() == 2).await;
    let (throttled, _, body) = running.get("/").await;
    running.open_gate();
    let (first, second) = (first.await.unwrap(), second.await.unwrap());

    assert_eq!(throttled, 429);
    assert!(body.contains("ReservedFunctionConcurrentInvocationLimitExceeded"));
    assert_eq!((first.0.as_u16(), second.0.as_u16()), (200, 200));
    assert_ne!(first.1["x-emulator-environment"], second.1["x-emulator-environment"]);
    assert_eq!(running.get("/").await.0, 200);
    assert!(running.emulator.invocations()[..2].iter().all(|invocation| invocation.is_cold));
}

#[tokio::test]
async fn managed_instance_serves_concurrent_requests() {
    let running = TestFunction::start("plain", |config| {
        one(config);
        config.concurrency = 3;
    })
    .await;

    let calls: Vec<_> = (0..3).map(|_| tokio::spawn(running.waiting())).collect();
    running.until("three at once", |running| running.log().matches("] waiting").count() == 3).await;
    assert_eq!(running.get("/").await.0, 429);
    running.open_gate();

    for call in calls {
        assert_eq!(call.await.unwrap().0, 200);
    }
    assert_eq!(running.emulator.environments().len(), 1);
}

#[tokio::test]
async fn timeout_crash_and_kill_end_the_environment() {
    let running = TestFunction::start("plain", |config| config.timeout = Duration::from_secs(4)).await;
    let mut last = running.environment_of("/").await;
    for path in ["/crash", "/hang"] {
        let (status, _, body) = running.get(path).await;
        assert_eq!((status.as_u16(), body.as_str()), (502, "Internal Server Error"), "{path}");

        let fresh = running.environment_of("/").await;
        assert!(fresh > last, "{path}");
        last = fresh;
    }
    assert!(running.emulator.kill(last));
    running.until("the environment has exited", |running| running.emulator.environments().is_empty()).await;

    assert!(running.environment_of("/").await > last, "a new environment serves the next request");
    assert!(!running.emulator.kill(last), "the environment has already exited");
}

#[tokio::test]
async fn kill_during_a_request_is_one_502() {
    let running = TestFunction::start("plain", |_| {}).await;

    let call = tokio::spawn(running.waiting());
    running.until("busy", |running| running.log().contains("] waiting")).await;
    running.emulator.kill(1);

    assert_eq!(call.await.unwrap().0, 502);
    assert_eq!(running.environment_of("/").await, 2);
}

#[tokio::test]
async fn function_errors_are_502_and_the_environment_continues() {
    let running = TestFunction::start("plain", one).await;

    for path in ["/fail", "/panic"] {
        assert_eq!(running.get(path).await.0, 502, "{path}");
    }

    assert_eq!(running.environment_of("/").await, 1);
    assert!(running.log().contains("the function reported an error"), "{}", running.log());
}

#[tokio::test]
async fn failed_init_ends_the_environment() {
    for role in ["hangs at init", "exits at init", "panics at init"] {
        let running = TestFunction::start(role, |config| config.init_timeout = Duration::from_millis(300)).await;

        assert_eq!(running.get("/").await.0, 502, "{role}");
        running.until("the environment has exited", |running| running.emulator.environments().is_empty()).await;
    }
}

#[tokio::test]
async fn challenge_header_is_renamed_except_by_a_load_balancer() {
    for (front, name) in [
        (Front::FunctionUrl, "x-amzn-remapped-www-authenticate"),
        (Front::RestApi, "x-amzn-remapped-www-authenticate"),
        (Front::LoadBalancer { multi_value: true }, "www-authenticate"),
    ] {
        let running = TestFunction::start("plain", |config| config.front = front).await;

        let (status, headers, _) = running.get("/challenge").await;

        assert_eq!((status.as_u16(), &headers[name]), (401, &"Bearer".parse().unwrap()), "{front:?}");
        assert_eq!(headers.contains_key("www-authenticate"), name == "www-authenticate");
        assert!(!headers.contains_key("connection"));
    }
}

#[tokio::test]
async fn result_without_status_is_the_body_of_a_200() {
    let running = TestFunction::start("plain", |_| {}).await;

    let (status, headers, body) = running.get("/bare").await;

    assert_eq!((status.as_u16(), body.as_str()), (200, r#"{"no":"status"}"#));
    assert_eq!(headers["content-type"], "application/json");
}

#[tokio::test]
async fn request_and_response_are_limited_to_6_mb() {
    const LIMIT: usize = 6 * 1024 * 1024;
    let running = TestFunction::start("plain", |_| {}).await;
    let post = |length: usize| {
        let body = Full::from("x".repeat(length));
        Request::post("/").header("content-type", "text/plain").body(body).unwrap()
    };

    assert_eq!(running.send(post(LIMIT - 4096)).await.status(), 200);
    assert_eq!(running.send(post(LIMIT)).await.status(), 413);
    assert_eq!(running.get(&format!("/large?{}", LIMIT - 4096)).await.2.len(), LIMIT - 4096);
    assert_eq!(running.get(&format!("/large?{LIMIT}")).await.0, 502);
}

fn streams(config: &mut FunctionConfig) {
    config.invoke_mode = InvokeMode::ResponseStream;
}

#[tokio::test]
async fn prelude_of_a_stream_is_the_response_head() {
    let running = TestFunction::start("plain", streams).await;

    let (status, headers, body) = running.get("/stream").await;

    assert_eq!((status.as_u16(), body.as_str()), (201, "one two three"));
    assert_eq!(
        (&headers["content-type"], &headers["set-cookie"]),
        (&"text/plain".parse().unwrap(), &"a=1".parse().unwrap())
    );
    running.until("counted", |running| running.emulator.environments()[0].stream_writes.is_some()).await;
    assert!(running.emulator.environments()[0].stream_writes >= Some(1));
}

#[tokio::test]
async fn buffered_result_behind_a_streaming_url_is_the_body() {
    let running = TestFunction::start("plain", streams).await;

    let (status, _, body) = running.get("/bare").await;

    assert_eq!((status.as_u16(), body.as_str()), (200, r#"{"no":"status"}"#));
}

#[tokio::test]
async fn streamed_response_behind_a_buffered_url_includes_its_prelude() {
    let running = TestFunction::start("plain", |_| {}).await;

    let (status, _, body) = running.get("/stream").await;

    assert_eq!(status, 200);
    assert!(body.starts_with(r#"{"statusCode":201"#) && body.ends_with("one two three"), "{body}");
}

#[tokio::test]
async fn only_environments_with_an_extension_get_sigterm() {
    let with = TestFunction::start("with extension", |config| config.warm_environments = 1).await;
    let without = TestFunction::start("plain", |config| config.warm_environments = 1).await;

    assert!(with.emulator.retire(1).await && without.emulator.retire(1).await);

    with.until("the hook", |running| running.log().contains("the shutdown hook has run")).await;
    assert!(!without.log().contains("the shutdown hook has run"));
    assert!(with.emulator.environments().is_empty() && without.emulator.environments().is_empty());
}

#[tokio::test]
async fn idle_environments_are_shut_down() {
    let running = TestFunction::start("plain", |config| {
        config.warm_environments = 2;
        config.idle_timeout = Duration::from_millis(50);
    })
    .await;

    running.until("both have exited", |running| running.emulator.environments().is_empty()).await;

    assert_eq!(running.environment_of("/").await, 3);
}

#[tokio::test]
async fn client_disconnect_does_not_stop_the_invocation() {
    let running = TestFunction::start("plain", one).await;

    let call = tokio::spawn(running.waiting());
    running.until("busy", |running| running.log().contains("] waiting")).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    running.open_gate();

    running.until("completed", |running| running.log().contains("] waited")).await;
    running.until("idle", |running| running.emulator.environments().iter().all(|e| !e.is_busy)).await;
    assert_eq!(running.environment_of("/").await, 1);
}

#[tokio::test]
async fn url_cors_handles_preflights_and_adds_headers() {
    let running = TestFunction::start("plain", |config| {
        let list = |value: &str| vec![value.to_owned()];
        config.cors = Some(Cors {
            allow_origins: list("https://a.example"),
            allow_methods: list("POST"),
            allow_headers: list("content-type"),
        });
    })
    .await;
    let preflight = Request::options("/")
        .header("origin", "https://a.example")
        .header("access-control-request-method", "POST")
        .body(Full::default())
        .unwrap();

    let (status, headers, _) = whole(running.send(preflight).await).await;
    let call = Request::get("/challenge").header("origin", "https://a.example").body(Full::default()).unwrap();
    let (_, called, _) = whole(running.send(call).await).await;

    assert_eq!((status.as_u16(), &headers["access-control-allow-methods"]), (200, &"POST".parse().unwrap()));
    assert!(!headers.contains_key("x-emulator-environment"), "the function was not invoked");
    assert_eq!(called.get_all("access-control-allow-origin").iter().count(), 2, "browsers reject duplicates");
}

#[tokio::test]
async fn stop_ends_all_processes_and_closes_the_port() {
    let running = TestFunction::start("plain", |config| config.warm_environments = 2).await;
    let processes: Vec<i32> = running.emulator.environments().iter().map(|e| e.process_id).collect();
    let url = running.emulator.url();

    running.emulator.stop().await;

    for process in processes {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z"), "{stat}");
    }
    assert!(TcpStream::connect(url.trim_start_matches("http://")).is_err());
}

/// Returns the parts of a stream, and whether it ended without an error.
async fn parts_of(running: &TestFunction, path: &str) -> (String, bool) {
    let response = running.send(Request::get(path).body(Full::default()).unwrap()).await;
    let mut parts = response.into_body().into_data_stream();
    let mut text = String::new();
    while let Some(part) = parts.next().await {
        match part {
            Ok(part) => text.push_str(&String::from_utf8_lossy(&part)),
            Err(_) => return (text, false),
        }
    }
    (text, true)
}

#[tokio::test]
async fn aborted_stream_aborts_the_response() {
    for path in ["/trailers", "/aborts"] {
        let running = TestFunction::start("raw", streams).await;

        let (text, is_whole) = parts_of(&running, path).await;

        assert!(!is_whole && (text == "part" || text.is_empty()), "{path}: {text}");
        assert_eq!(running.get("/").await.0, 200);
    }
    // `lambda_runtime` 1.5 writes its error trailers into the body instead.
    let running = TestFunction::start("plain", streams).await;
    assert!(parts_of(&running, "/stream-error").await.0.starts_with("one two "));
}

#[tokio::test]
async fn response_with_another_invocation_id_is_rejected() {
    let running = TestFunction::start("raw", |_| {}).await;

    assert_eq!(running.get("/wrong-id").await.2, "HTTP/1.1 400");
}

#[tokio::test]
async fn init_error_kills_a_function_that_keeps_running() {
    let running = TestFunction::start("keeps running after an init error", |_| {}).await;

    assert_eq!(running.get("/").await.0, 502);

    assert!(running.log().contains("Settings"), "{}", running.log());
    running.emulator.stop().await;
}

#[tokio::test]
async fn hanging_shutdown_hook_is_killed() {
    let running = TestFunction::start("hangs at shutdown", |config| config.warm_environments = 1).await;
    let process = running.emulator.environments()[0].process_id;

    assert!(running.emulator.retire(1).await);

    assert!(running.log().contains("the shutdown hook hangs"), "{}", running.log());
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z"), "{stat}");
}

#[tokio::test]
async fn load_balancer_limits_bodies_to_1_mb() {
    const LIMIT: usize = 1024 * 1024;
    let running =
        TestFunction::start("plain", |config| config.front = Front::LoadBalancer { multi_value: false }).await;
    let post = |length: usize| Request::post("/").body(Full::from("x".repeat(length))).unwrap();

    assert_eq!(running.send(post(LIMIT)).await.status(), 200);
    assert_eq!(running.send(post(LIMIT + 1)).await.status(), 413);
}

#[tokio::test]
async fn non_utf8_output_does_not_affect_the_function() {
    let folder = tempfile::tempdir().unwrap();
    let inner = bootstrap(folder.path());
    let outer = folder.path().join("outer");
    // Without `exec`, signals must reach the whole process group.
    fs::write(&outer, format!("#!/bin/sh\nprintf '\\377\\376\\n'\n'{}'\n", inner.display())).unwrap();
    fs::set_permissions(&outer, fs::Permissions::from_mode(0o755)).unwrap();
    let running = TestFunction::start("plain", |config| config.binary = outer).await;

    let (status, _, inner_process) = running.get("/").await;
    assert_eq!(status, 200);
    let inner_process: i32 = inner_process.parse().unwrap();
    running.until("the whole group is frozen", |running| running.is_stopped(inner_process)).await;
    running.emulator.stop().await;

    let is_gone = || {
        let stat = fs::read_to_string(format!("/proc/{inner_process}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z")
    };
    for _ in 0..1000 {
        if is_gone() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the function still runs after its environment ended");
}

#[tokio::test]
async fn asynchronous_invocations_are_delivered_at_least_once_and_retried_within_the_concurrency() {
    let queue = AsynchronousConfig {
        retry_after: Duration::from_millis(20),
        maximum_event_age: Duration::from_secs(5),
        duplicate_every: NonZeroU64::new(2),
    };
    let running = TestFunction::start("plain", |config| {
        config.asynchronous = Some(queue);
        config.reserved_environments = 1;
    })
    .await;
    let invoke = async |path: &str, name: &str, headers: &[(&str, &str)]| {
        let mut request = Request::post(format!("/2015-03-31/functions/{name}/invocations"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        running.send(request.body(Full::from(json!({ "path": path }).to_string())).unwrap()).await.status()
    };
    let event = [("authorization", "AWS4-HMAC-SHA256"), ("x-amz-invocation-type", "Event")];

    assert_eq!(invoke("/", "fixture", &event[1..]).await, 403);
    assert_eq!(invoke("/", "fixture", &event[..1]).await, 501);
    assert_eq!(invoke("/", "other", &event).await, 404);
    assert!(running.emulator.invocations().is_empty());
    assert_eq!(invoke("/fail", "fixture", &event).await, 202);
    let count = |running: &TestFunction| running.emulator.invocations().len();
    running.until("two retries", |running| count(running) == 3).await;
    assert_eq!(invoke("/", "fixture", &event).await, 202);
    running.until("a duplicate", |running| count(running) == 5).await;
    assert_eq!(invoke("/", "fixture", &event).await, 202);
    running.until("one delivery", |running| count(running) == 6).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(count(&running), 6, "nothing is delivered again");
    assert_eq!(running.emulator.environments().len(), 1);
}

#[tokio::test]
async fn asynchronous_invocations_share_the_concurrency_of_the_url() {
    let running = TestFunction::start("plain", |config| {
        config.asynchronous = Some(AsynchronousConfig::default());
        config.reserved_environments = 1;
    })
    .await;

    assert_eq!(running.queue("/wait", &running.gate().display().to_string()).await, 202);
    running.until("the event runs", |running| running.log().contains("] waiting")).await;
    assert_eq!(running.get("/").await.0, 429);
    assert_eq!(running.queue("/", "").await, 202);
    running.until("both are accepted", |running| running.emulator.asynchronous().unwrap().events == 2).await;
    assert!(running.emulator.invocations().is_empty(), "the second event waits");
    running.open_gate();
    running.until("both have run", |running| running.emulator.invocations().len() == 2).await;

    let expected = AsynchronousReport { events: 2, duplicates: 0, retries: 0, dropped: 0 };
    assert_eq!(running.emulator.asynchronous(), Some(expected));
}

#[tokio::test]
async fn asynchronous_event_is_dropped_after_three_crashes_or_at_its_maximum_age() {
    let start = async |maximum_event_age: Duration| {
        let queue =
            AsynchronousConfig { retry_after: Duration::from_millis(20), maximum_event_age, duplicate_every: None };
        TestFunction::start("plain", |config| {
            config.asynchronous = Some(queue);
            config.reserved_environments = 1;
        })
        .await
    };
    let dropped = |running: &TestFunction| running.emulator.asynchronous().unwrap().dropped;
    let crashing = start(Duration::from_secs(3600)).await;
    let aging = start(Duration::from_millis(100)).await;

    assert_eq!(crashing.queue("/crash", "").await, 202);
    crashing.until("the event is dropped", |running| dropped(running) == 1).await;
    assert_eq!((crashing.emulator.invocations().len(), crashing.emulator.asynchronous().unwrap().retries), (3, 2));

    let busy = tokio::spawn(aging.waiting());
    aging.until("busy", |running| running.log().contains("] waiting")).await;
    assert_eq!(aging.queue("/", "").await, 202);
    aging.until("the event is too old", |running| dropped(running) == 1).await;
    aging.open_gate();
    assert_eq!(busy.await.unwrap().0, 200);
    assert_eq!(aging.emulator.invocations().len(), 1, "the event was not delivered");
}
