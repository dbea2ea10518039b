//! A function as a separate process, with a fake Runtime API.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use mcp_lambda::{HttpConfig, McpService};
use mcp_server::InitError;
use mcp_testing::{McpRequest, Via, event_of, tools_call};
use serde_json::{Value, json};

use crate::common::{State, server};

/// The timeout of a failing test; long enough for a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// With this variable, the test binary runs as a function; the value selects which.
const ROLE: &str = "TEST_FUNCTION_ROLE";

/// Not a test: the function that the tests below start as a separate process.
#[test]
fn function() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let code = mcp_lambda::main(async |config: HttpConfig| match role.as_str() {
        "plain" => McpService::new(server(), config),
        "closes" => {
            let server = server().on_close(async |_: Arc<State>| println!("the hook has run"));
            McpService::new(server, config)
        }
        "snapshots" => {
            let print = |what: &'static str| move |_: Arc<State>| async move { println!("{what}") };
            let server = server().around_snapshot(print("closed before"), print("opened after"));
            McpService::new(server, config)
        }
        "responses" => crate::process_responses::service(config),
        #[cfg(feature = "store")]
        "stores" => McpService::new(server().store(mcp_server::store::MemoryStore::new()), config),
        #[cfg(feature = "secrets")]
        "asks" => crate::secrets::service(config),
        "fails" => {
            Err(InitError::new("could not reach the database").with_source(std::io::Error::other("no route to host")))
        }
        _ => McpService::new(server().tool(crate::common::second_simple()), config),
    });
    assert_eq!(code, std::process::ExitCode::SUCCESS);
}

/// A request of the function to the Runtime API.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) line: String,
    head: String,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A fake Runtime API that serves events and records the responses.
pub(super) struct RuntimeApi {
    address: String,
    events: mpsc::Sender<String>,
    seen: mpsc::Receiver<Seen>,
}

impl RuntimeApi {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (events, handed_out) = mpsc::channel();
        let (record, seen) = mpsc::channel();
        let handed_out = Arc::new(Mutex::new(handed_out));
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (record, handed_out) = (record.clone(), Arc::clone(&handed_out));
                thread::spawn(move || serve(connection.unwrap(), &record, &handed_out));
            }
        });
        Self { address, events, seen }
    }

    pub(super) fn function(&self, role: &str, variables: &[(&str, &str)]) -> Function {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::function", "--nocapture"])
            .env(ROLE, role)
            .env("AWS_LAMBDA_RUNTIME_API", &self.address)
            .env("AWS_LAMBDA_FUNCTION_NAME", "fixture")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stderr) = (read_all(child.stdout.take()), read_all(child.stderr.take()));
        Function { child, stdout, stderr }
    }

    fn next_seen(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).expect("the function asks the Runtime API for something")
    }

    /// Serves a request as an event, and returns the response of the function.
    pub(super) fn answer(&self, request: McpRequest) -> Seen {
        self.answer_http(&request.into_http())
    }

    /// The same for any HTTP request.
    pub(super) fn answer_http(&self, request: &Request<Bytes>) -> Seen {
        self.answer_event(event_of(Via::FunctionUrl, request).to_string())
    }

    fn answer_event(&self, event: String) -> Seen {
        self.events.send(event).unwrap();
        loop {
            let seen = self.next_seen();
            if !seen.line.contains("/next ") && !seen.line.contains("/extension/") {
                return seen;
            }
        }
    }
}

fn read_all(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    let mut stream = stream.unwrap();
    thread::spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    })
}

fn serve(mut socket: TcpStream, record: &mpsc::Sender<Seen>, events: &Mutex<mpsc::Receiver<String>>) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    while let Some(seen) = read_request(&mut reader) {
        let (line, is_register) = (seen.line.clone(), seen.line.contains("/extension/register"));
        if record.send(seen).is_err() {
            return;
        }
        let (head, body) = if line.starts_with("GET /2018-06-01/runtime/invocation/next") {
            let Ok(event) = events.lock().unwrap().recv() else { return };
            ("200 OK\r\nlambda-runtime-aws-request-id: req-1\r\nlambda-runtime-deadline-ms: 99999999999999", event)
        } else if line.starts_with("GET /2018-06-01/runtime/restore/next") {
            ("200 OK", String::new())
        } else if line.starts_with("GET ") {
            // An extension without events waits forever.
            thread::park();
            return;
        } else if is_register {
            let body = json!({ "functionName": "fixture", "functionVersion": "$LATEST", "handler": "bootstrap" });
            ("200 OK\r\nlambda-extension-identifier: ext-1", body.to_string())
        } else {
            ("202 Accepted", String::new())
        };
        let response = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if socket.write_all(response.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = Vec::new();
    if lower.contains("transfer-encoding: chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else {
        body.resize(length.unwrap_or(0), 0);
        reader.read_exact(&mut body).ok()?;
    }
    let line = head.lines().next()?.to_owned();
    Some(Seen { line, head: lower, body: String::from_utf8_lossy(&body).into_owned() })
}

pub(super) struct Function {
    child: Child,
    stdout: thread::JoinHandle<String>,
    stderr: thread::JoinHandle<String>,
}

impl Function {
    /// Waits until the process exits. Returns whether it succeeded, and its output.
    fn end(mut self) -> (bool, String) {
        let success = self.child.wait().unwrap().success();
        (success, self.stdout.join().unwrap() + &self.stderr.join().unwrap())
    }

    pub(super) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.end().1
    }
}

#[cfg(feature = "store")]
#[test]
fn a_function_with_a_store_deletes_the_rows_of_a_person() {
    let event = json!({ "mcpDeleteSubject": { "issuer": "https://issuer.example", "subject": "ada" } }).to_string();
    let key = ("MCP_STATE_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    for mode in ["buffered", "stream"] {
        let api = RuntimeApi::start();
        let function = api.function("stores", &[key, ("MCP_INVOKE_MODE", mode)]);

        let deleted = api.answer_event(event.clone());
        let answered = api.answer(mcp_testing::tools_list());
        function.kill();

        assert!(deleted.line.contains("/response"), "{deleted:?}");
        assert_eq!(deleted.json(), json!({ "deleted": 0, "left": 0 }));
        assert!(answered.body.contains("tools"), "{answered:?}");
    }
    let api = RuntimeApi::start();
    let function = api.function("plain", &[key]);
    let rejected = api.answer_event(event);
    function.kill();
    assert!(rejected.line.contains("/error"), "a function without a store: {rejected:?}");
}

#[test]
fn an_invalid_setting_fails_the_init_phase_by_name() {
    let api = RuntimeApi::start();

    let function = api.function("plain", &[("MCP_INVOKE_MODE", "streaming")]);
    let seen = api.next_seen();
    let (success, output) = function.end();

    assert!(seen.line.starts_with("POST /2018-06-01/runtime/init/error"), "{seen:?}");
    assert!(seen.head.contains("lambda-runtime-function-error-type: runtime.initerror"));
    let expected = "MCP_INVOKE_MODE must be `buffered` or `stream`, not `streaming`";
    assert_eq!(seen.json()["errorMessage"], expected);
    assert!(!success && output.contains("MCP_INVOKE_MODE"), "{output}");
}

#[test]
fn a_build_error_fails_the_init_phase_with_its_error_chain() {
    for (role, message) in [
        ("fails", "could not reach the database: no route to host"),
        ("has a mistake", "there are two tools named `simple`"),
    ] {
        let api = RuntimeApi::start();

        let function = api.function(role, &[]);
        let seen = api.next_seen();

        assert!(seen.line.starts_with("POST /2018-06-01/runtime/init/error"), "{seen:?}");
        assert_eq!(seen.json()["errorMessage"], message);
        assert!(!function.end().0);
    }
}

#[test]
fn outside_of_lambda_the_error_says_how_to_run_it() {
    let mut api = RuntimeApi::start();
    api.address = String::new();

    let (success, output) = api.function("plain", &[]).end();

    assert!(!success);
    assert!(output.contains("AWS_LAMBDA_RUNTIME_API is not set") && output.contains("make dev"), "{output}");
    assert!(output.contains("`cargo lambda watch` (`pip install cargo-lambda`)"), "{output}");
}

#[test]
fn a_misspelt_variable_is_warned_about() {
    let api = RuntimeApi::start();

    let function = api.function("plain", &[("MCP_INVOKEMODE", "stream")]);
    api.next_seen();

    assert!(function.kill().contains("MCP_INVOKEMODE"));
}

#[test]
fn a_panic_of_a_tool_does_not_end_the_environment() {
    for mode in ["buffered", "stream"] {
        let api = RuntimeApi::start();
        let function = api.function("plain", &[("MCP_INVOKE_MODE", mode)]);

        let panicked = api.answer(tools_call("panics", json!({})));
        let served = api.answer(tools_call("simple", json!({})));

        assert!(panicked.line.starts_with("POST /2018-06-01/runtime/invocation/req-1/response"), "{panicked:?}");
        assert!(panicked.body.contains("-32603") && panicked.body.contains("req-1"), "{panicked:?}");
        assert!(served.body.contains("simple"), "{served:?}");
        function.kill();
    }
}

#[test]
fn a_panic_is_one_log_event_without_caller_data() {
    let api = RuntimeApi::start();
    let function = api.function("plain", &[("AWS_LAMBDA_LOG_FORMAT", "JSON")]);

    // The panic message contains the text.
    let forged = "é\n{\"_aws\":{},\"message\":\"s3cret\"}\ns3cret";
    api.answer(tools_call("checks", json!({ "text": forged })));
    api.answer(tools_call("panics", json!({})));

    let output = function.kill();
    let lines = output.lines().filter(|line| line.contains("the code panicked"));
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{output}");
    assert!(!output.contains("s3cret"), "{output}");
    assert!(lines.iter().all(|line| line["location"].as_str().is_some_and(|at| at.contains(".rs:"))), "{output}");
    assert_eq!((lines[0].get("reason"), &lines[1]["reason"]), (None, &json!("at once")));
}

#[test]
fn no_log_level_shows_a_body() {
    for mode in ["buffered", "stream"] {
        let api = RuntimeApi::start();
        let function = api.function("plain", &[("MCP_INVOKE_MODE", mode), ("RUST_LOG", "trace")]);

        let request = tools_call("echo", json!({ "text": "s3cret" })).header("authorization", "Bearer s3cret");
        let served = api.answer(request);
        let output = function.kill();

        assert!(served.body.contains("s3cret"), "{served:?}");
        assert!(!output.contains("s3cret"), "{output}");
    }
}

#[test]
fn each_call_is_one_json_log_event_with_metrics() {
    for mode in ["buffered", "stream"] {
        let api = RuntimeApi::start();
        let function = api.function("plain", &[("MCP_INVOKE_MODE", mode)]);

        api.answer(tools_call("simple", json!({})));
        api.answer(tools_call("fails_inside", json!({})));
        let output = function.kill();

        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let calls: Vec<Value> = lines.filter(|line| line["target"] == "mcp_lambda::call").collect();
        assert_eq!(calls.len(), 2, "{output}");
        for (call, level, item, metrics) in [
            (&calls[0], "INFO", "simple", &["duration_ms", "cold_starts"][..]),
            (&calls[1], "ERROR", "fails_inside", &["duration_ms", "faults"][..]),
        ] {
            assert_eq!((&call["level"], &call["item"]), (&json!(level), &json!(item)));
            assert_eq!((&call["function_name"], &call["request_id"]), (&json!("fixture"), &json!("req-1")));
            let [embedded] = &call["_aws"]["CloudWatchMetrics"].as_array().unwrap()[..] else { panic!("{call}") };
            assert_eq!(embedded["Dimensions"], json!([["function_name"], ["function_name", "item"]]));
            let named: Vec<_> = embedded["Metrics"].as_array().unwrap().iter().map(|own| &own["Name"]).collect();
            assert_eq!(named, metrics);
            assert!(metrics.iter().all(|name| call[*name].is_number()), "{call}");
        }
    }
}

#[test]
fn an_unknown_event_is_reported_and_the_next_one_is_served() {
    for mode in ["buffered", "stream"] {
        let api = RuntimeApi::start();
        let function = api.function("plain", &[("MCP_INVOKE_MODE", mode)]);
        assert!(api.next_seen().line.contains("/next "));

        api.events.send(r#"{"Records":[]}"#.to_owned()).unwrap();
        let error = api.next_seen();
        let served = api.answer(tools_call("simple", json!({})));

        assert!(error.line.starts_with("POST /2018-06-01/runtime/invocation/req-1/error"), "{error:?}");
        let message = error.json()["errorMessage"].as_str().unwrap().to_owned();
        assert!(message.contains("expected the event of a Function URL"), "{message}");
        assert!(served.body.contains("simple"));
        function.kill();
    }
}

#[test]
fn concurrent_polling_needs_max_concurrency() {
    for mode in ["buffered", "stream"] {
        for (concurrency, expected) in [("1", 1), ("3", 3)] {
            let api = RuntimeApi::start();
            let variables = [("MCP_INVOKE_MODE", mode), ("AWS_LAMBDA_MAX_CONCURRENCY", concurrency)];
            let function = api.function("plain", &variables);

            // Each worker gets an event that never ends, so that the number of polls is the number of workers.
            let sleep = event_of(Via::FunctionUrl, &tools_call("sleeps", json!({})).into_http()).to_string();
            let asked: Vec<Seen> = (0..expected)
                .map(|_| {
                    let seen = api.next_seen();
                    api.events.send(sleep.clone()).unwrap();
                    seen
                })
                .collect();
            let output = function.kill();

            assert!(asked.iter().all(|seen| seen.line.contains("/next ")), "{asked:?}");
            let more: Vec<Seen> = api.seen.try_iter().collect();
            assert!(more.is_empty(), "{concurrency} at once, and not {more:?}: {output}");
        }
    }
}

#[test]
fn the_close_hook_runs_on_sigterm_and_an_extension_is_registered_only_for_it() {
    for mode in ["buffered", "stream"] {
        let api = RuntimeApi::start();
        let function = api.function("closes", &[("MCP_INVOKE_MODE", mode)]);
        let first = api.next_seen();
        assert!(first.line.contains("/extension/register"), "{first:?}");
        while !api.next_seen().line.contains("/invocation/next") {}

        let pid = function.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let (success, output) = function.end();

        assert!(success && output.contains("the hook has run"), "{output}");

        let api = RuntimeApi::start();
        let function = api.function("plain", &[("MCP_INVOKE_MODE", mode)]);
        let first = api.next_seen();
        assert!(first.line.contains("/invocation/next"), "nothing is registered without a hook: {first:?}");
        function.kill();
    }
}

#[test]
fn snapshot_hooks_run_before_the_snapshot_and_after_the_restore() {
    for mode in ["buffered", "stream"] {
        let api = RuntimeApi::start();
        let variables = [("MCP_INVOKE_MODE", mode), ("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")];
        let function = api.function("snapshots", &variables);
        let restored = api.next_seen();

        let served = api.answer(tools_call("simple", json!({})));
        let output = function.kill();

        assert!(restored.line.contains("/restore/next"), "{restored:?}");
        assert!(served.body.contains("simple"), "{served:?}");
        let (before, after) = (output.find("closed before"), output.find("opened after"));
        assert!(before.is_some() && before < after, "{output}");

        let api = RuntimeApi::start();
        let function = api.function("snapshots", &[("MCP_INVOKE_MODE", mode)]);
        api.answer(tools_call("simple", json!({})));
        let output = function.kill();
        assert!(!output.contains("closed before"), "there is no snapshot: {output}");
    }
}
