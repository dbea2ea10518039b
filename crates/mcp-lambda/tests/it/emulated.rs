//! The service as processes behind an emulated Function URL: several environments, frozen, killed.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use bytes::Bytes;
use function_url_emulator::{Emulator, FunctionConfig, InvokeError, InvokeMode};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use mcp_protocol::ProtocolVersion;
use mcp_testing::{McpRequest, TestIssuer, Via, event_of, tools_call, tools_list};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::properties::{assert_well_formed, id, json_value};

async fn emulator(folder: &Path, mode: InvokeMode, environments: usize) -> Emulator {
    emulator_of("plain", folder, mode, environments).await
}

async fn emulator_of(role: &str, folder: &Path, mode: InvokeMode, environments: usize) -> Emulator {
    emulator_with(role, folder, mode, environments, []).await
}

async fn emulator_with(
    role: &str,
    folder: &Path,
    mode: InvokeMode,
    environments: usize,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Emulator {
    let bootstrap = folder.join("bootstrap");
    let test = std::env::current_exe().unwrap();
    fs::write(&bootstrap, format!("#!/bin/sh\nexec '{}' --exact process::function --nocapture\n", test.display()))
        .unwrap();
    fs::set_permissions(&bootstrap, fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = FunctionConfig::new("fixture", bootstrap);
    config.variables.insert("TEST_FUNCTION_ROLE".to_owned(), role.to_owned());
    let invoke_mode = if mode == InvokeMode::Buffered { "buffered" } else { "stream" };
    config.variables.insert("MCP_INVOKE_MODE".to_owned(), invoke_mode.to_owned());
    config.variables.extend(variables);
    config.invoke_mode = mode;
    config.warm_environments = environments;
    Emulator::start(config).await.unwrap()
}

async fn send(emulator: &Emulator, request: McpRequest) -> Response<Vec<String>> {
    send_watched(emulator, request, |_| {}).await
}

/// Sends a request. Returns its status and the reads in which the response arrived; `seen` is called for each.
async fn send_watched(emulator: &Emulator, request: McpRequest, mut seen: impl FnMut(&str)) -> Response<Vec<String>> {
    let request: Request<Full<Bytes>> = request.into_http().map(Full::new);
    let address = emulator.url().trim_start_matches("http://").to_owned();
    let mut socket = tokio::net::TcpStream::connect(&address).await.unwrap();
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut head = format!("{} {} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n", parts.method, parts.uri);
    for (name, value) in &parts.headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&body).await.unwrap();
    let mut reads = Vec::new();
    let mut buffer = vec![0; 65536];
    loop {
        match socket.read(&mut buffer).await.unwrap() {
            0 => break,
            read => {
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                seen(&text);
                reads.push(text);
            }
        }
    }
    let status: u16 = reads[0].split(' ').nth(1).unwrap().parse().unwrap();
    Response::builder().status(status).body(reads).unwrap()
}

#[tokio::test]
async fn each_notification_arrives_when_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = emulator(folder.path(), InvokeMode::ResponseStream, 1).await;
    let request = tools_call("gated", json!({ "folder": folder.path() })).progress_token(json!(1));

    // The tool continues only after its last notification was received: if it were buffered, this would not end.
    let mut notifications = 0;
    let response = send_watched(&emulator, request, |read| {
        for _ in read.matches("notifications/progress") {
            notifications += 1;
            fs::write(folder.path().join(notifications.to_string()), "").unwrap();
        }
    })
    .await;

    let with_progress = response.body().iter().filter(|read| read.contains("notifications/progress")).count();
    assert_eq!((notifications, with_progress), (3, 3), "{response:?}");
    assert!(response.body().concat().contains("through all gates"));
    let writes = emulator.environments()[0].stream_writes;
    assert!(writes.is_some_and(|writes| writes <= 5), "three notifications, the result, the end: {writes:?}");
    emulator.stop().await;
}

#[tokio::test]
async fn an_environment_killed_between_requests_is_replaced() {
    for mode in [InvokeMode::Buffered, InvokeMode::ResponseStream] {
        let folder = tempfile::tempdir().unwrap();
        let emulator = emulator(folder.path(), mode, 3).await;
        for round in 0..9 {
            let response = send(&emulator, tools_call("echo", json!({ "text": format!("round {round}") }))).await;

            assert_eq!(response.status(), 200, "{response:?}");
            assert!(response.body().concat().contains(&format!("round {round}")));
            if round % 2 == 0 {
                let victim = emulator.environments()[0].id;
                assert!(emulator.kill(victim));
            }
        }
        emulator.stop().await;
    }
}

#[tokio::test]
async fn an_environment_killed_during_a_request_yields_one_502() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = emulator(folder.path(), InvokeMode::Buffered, 2).await;

    let (killed, _) = tokio::join!(send(&emulator, tools_call("sleeps", json!({}))), async {
        let busy = loop {
            match emulator.environments().iter().find(|environment| environment.is_busy) {
                Some(environment) => break environment.id,
                None => tokio::task::yield_now().await,
            }
        };
        emulator.kill(busy)
    });
    let mut statuses = vec![killed.status().as_u16()];
    for _ in 0..6 {
        statuses.push(send(&emulator, tools_call("simple", json!({}))).await.status().as_u16());
    }

    assert_eq!(statuses, [502, 200, 200, 200, 200, 200, 200]);
    emulator.stop().await;
}

/// Deterministic values of a strategy.
fn samples<S: Strategy>(strategy: &S, count: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// The JSON-RPC messages of a response of any content type.
#[track_caller]
fn messages_of(response: &Response<Vec<String>>) -> Vec<Value> {
    let text = response.body().concat();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let lines = body.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
    let messages: Vec<Value> =
        lines.filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!messages.is_empty() || response.status() == 202 || body.starts_with('['), "{head}\n{body}");
    assert!(messages.iter().all(|message| message["jsonrpc"] == "2.0"), "{body}");
    messages
}

#[tokio::test]
async fn any_body_gets_a_well_formed_response_and_any_request_exactly_one() {
    for mode in [InvokeMode::Buffered, InvokeMode::ResponseStream] {
        let folder = tempfile::tempdir().unwrap();
        let emulator = emulator(folder.path(), mode, 1).await;

        for body in samples(&prop::collection::vec(any::<u8>(), 0..256), 100) {
            let response = send(&emulator, tools_call("echo", json!({})).body(body)).await;

            assert!((400..500).contains(&response.status().as_u16()), "{response:?}");
            messages_of(&response);
        }
        for body in samples(&json_value(), 200) {
            let response = send(&emulator, tools_call("echo", json!({})).body(body.to_string())).await;

            assert!((200..500).contains(&response.status().as_u16()), "{response:?}");
            messages_of(&response);
        }
        let methods = prop::sample::select(vec!["tools/call", "tools/list", "server/discover", "ping", "no/such"]);
        for (id, method, arguments, revision) in
            samples(&(id(), methods, json_value(), 0..ProtocolVersion::ALL.len()), 200)
        {
            let request = McpRequest::new(method, json!({ "name": "echo", "arguments": arguments }))
                .id(id.clone())
                .revision(ProtocolVersion::ALL[revision])
                .header("mcp-name", "echo");

            let messages = messages_of(&send(&emulator, request).await);

            let responses: Vec<&Value> = messages.iter().filter(|message| message.get("id").is_some()).collect();
            assert_eq!(responses.len(), 1, "{method} {arguments}");
            assert_eq!(responses[0]["id"], id);
        }

        let environments = emulator.environments();
        assert_eq!((environments.len(), environments[0].id, environments[0].invocations), (1, 1, 500));
        emulator.stop().await;
    }
}

#[tokio::test]
async fn any_event_is_rejected_or_served_and_the_environment_survives() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = emulator(folder.path(), InvokeMode::Buffered, 1).await;

    let mut rejected = 0;
    for event in samples(&prop::collection::vec(any::<u8>(), 0..256), 100) {
        // Random bytes are not an event: the function reports an error, and does not crash.
        match emulator.invoke(event).await {
            Err(InvokeError::FunctionError(error)) => assert!(error["errorMessage"].is_string(), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    let places =
        prop::sample::select(vec!["/body", "/headers", "/headers/accept", "/requestContext/http/method", "/rawPath"]);
    for (place, value) in samples(&(places, json_value()), 200) {
        let mut event = event_of(Via::FunctionUrl, &tools_list().into_http());
        *event.pointer_mut(place).unwrap() = value;
        match emulator.invoke(event.to_string()).await {
            Ok(answer) => drop(assert_well_formed(&serde_json::from_slice(&answer).unwrap())),
            Err(InvokeError::FunctionError(_)) => rejected += 1,
            Err(other) => panic!("{other:?}"),
        }
    }

    assert!((1..200).contains(&rejected), "both happen: {rejected}");
    let environments = emulator.environments();
    assert_eq!((environments.len(), environments[0].id, environments[0].invocations), (1, 1, 300));
    emulator.stop().await;
}

#[tokio::test]
async fn a_service_that_cannot_be_built_is_a_502() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = emulator_of("fails", folder.path(), InvokeMode::Buffered, 0).await;

    assert_eq!(send(&emulator, tools_call("simple", json!({}))).await.status(), 502);
    emulator.stop().await;
}

#[tokio::test]
async fn keys_may_be_fetched_in_the_init_phase() {
    for (warm, fetches) in [("1", 1), ("0", 0)] {
        let (folder, issuer) = (tempfile::tempdir().unwrap(), TestIssuer::start().await);
        let mut variables = issuer.variables();
        variables.push(("OIDC_WARM".to_owned(), warm.to_owned()));

        let emulator = emulator_with("plain", folder.path(), InvokeMode::Buffered, 1, variables).await;

        assert_eq!(issuer.key_fetches(), fetches, "{warm}");
        emulator.stop().await;
    }
}
