//! The binary with `MCP_ROLE=migrate`: started by hand, and as a Lambda function with the Runtime API of the test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use mcp_testing::{BackendKind, TestBackend};
use serde_json::{Value, json};

fn command(variables: &[(String, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_event-logger"));
    command.env_clear().env("MCP_ROLE", "migrate").envs(variables.iter().cloned()).stdout(Stdio::piped());
    command
}

/// Stops the process with the test.
struct Function(Child);

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Runtime API that sends one invocation.
struct RuntimeApi(TcpListener);

impl RuntimeApi {
    /// Sends an invocation to the function. Returns the path and the body of its response.
    fn invoke(&self) -> (String, Value) {
        let (stream, _) = self.0.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let (path, _) = request(&mut reader);
        assert_eq!(path, "/2018-06-01/runtime/invocation/next");
        let deadline = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() + 60_000;
        let head = format!(
            "HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id: abc\r\nlambda-runtime-deadline-ms: {deadline}\r\n\
             content-length: 2\r\n\r\n{{}}"
        );
        reader.get_mut().write_all(head.as_bytes()).unwrap();
        let (path, body) = request(&mut reader);
        reader.get_mut().write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").unwrap();
        (path, serde_json::from_slice(&body).unwrap())
    }
}

fn request(reader: &mut BufReader<TcpStream>) -> (String, Vec<u8>) {
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (first.split(' ').nth(1).unwrap().to_owned(), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_database_is_migrated_by_hand_and_the_report_is_printed() {
    for (kind, applied) in [(BackendKind::Postgres, json!([1, 2, 3, 4])), (BackendKind::Dsql, json!([1, 2, 3]))] {
        let backend = TestBackend::create(kind).await;

        let output = tokio::task::block_in_place(|| command(&backend.variables()).output().unwrap());

        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        let report: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(report, json!({ "applied": applied, "already_applied": 0 }));
        assert!(text.contains("the schema is up to date"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invocation_migrates_the_schema_and_serves_no_request() {
    let backend = TestBackend::create(BackendKind::Dsql).await;
    let api = RuntimeApi(TcpListener::bind("127.0.0.1:0").unwrap());
    let mut command = command(&backend.variables());
    command.env("AWS_LAMBDA_RUNTIME_API", api.0.local_addr().unwrap().to_string());
    let _function = Function(command.spawn().unwrap());

    let (path, report) = tokio::task::block_in_place(|| api.invoke());

    assert_eq!(path, "/2018-06-01/runtime/invocation/abc/response");
    assert_eq!(report, json!({ "applied": [1, 2, 3], "already_applied": 0 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_migration_is_the_error_of_its_invocation() {
    let backend = TestBackend::create(BackendKind::Dsql).await;
    let api = RuntimeApi(TcpListener::bind("127.0.0.1:0").unwrap());
    let mut variables = backend.variables();
    variables.extend([("AWS_ACCESS_KEY_ID".to_owned(), "other".to_owned())]);
    let mut command = command(&variables);
    command.env("AWS_LAMBDA_RUNTIME_API", api.0.local_addr().unwrap().to_string());
    let _function = Function(command.spawn().unwrap());

    let (path, error) = tokio::task::block_in_place(|| api.invoke());

    assert_eq!(path, "/2018-06-01/runtime/invocation/abc/error");
    assert_eq!(error["errorType"], "JobFailed");
    let message = error["errorMessage"].as_str().unwrap();
    assert!(message.starts_with("could not migrate the database: ") && message.contains("access denied"), "{message}");
}

#[tokio::test]
async fn another_role_or_a_wrong_setting_is_an_init_error() {
    for (name, value, expected) in
        [("MCP_ROLE", "admin", "`serve` or `migrate`"), ("DB_APP_ROLE_ARN", "x", "DB_AUTH=dsql")]
    {
        let url = ("DATABASE_URL".to_owned(), "postgres://app:x@127.0.0.1:1/events".to_owned());

        let output = command(&[url, (name.to_owned(), value.to_owned())]).output().unwrap();

        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!output.status.success() && text.contains(name) && text.contains(expected), "{text}");
    }
}
