//! Streamed responses, as with a `RESPONSE_STREAM` URL.

use std::time::Duration;

use http_body_util::BodyExt;
use mcp_protocol::ProtocolVersion;
use mcp_testing::{Reply, Via, exchange_via, tools_call};
use serde_json::json;
use tower::ServiceExt;

use crate::common::{fixture, streaming_fixture};

/// Sends a request. Returns the headers and the frames of the response.
async fn frames(request: mcp_testing::McpRequest) -> (http::HeaderMap, Vec<String>) {
    let response = streaming_fixture().oneshot(request.clone().into_http()).await.unwrap();
    let (parts, mut body) = response.into_parts();
    let mut frames = Vec::new();
    while let Some(frame) = body.frame().await {
        frames.push(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap());
    }
    Reply::read(&request, parts.status, parts.headers.clone(), frames.concat().as_bytes());
    (parts.headers, frames)
}

#[tokio::test(start_paused = true)]
async fn notifications_are_streamed_and_the_result_is_last() {
    let request = tools_call("count", json!({ "to": 3, "pause_ms": 1000 })).progress_token(json!("t"));

    let response = streaming_fixture().oneshot(request.into_http()).await.unwrap();
    let start = tokio::time::Instant::now();
    let (parts, mut body) = response.into_parts();
    let mut times = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.unwrap().into_data().unwrap();
        assert!(frame.starts_with(b"data: {") && frame.ends_with(b"}\n\n"));
        times.push(start.elapsed().as_secs());
    }

    assert_eq!(parts.headers["content-type"], "text/event-stream");
    assert_eq!(parts.headers["x-accel-buffering"], "no");
    assert_eq!(times, [0, 1, 2, 2], "three notifications, then the result");
}

#[tokio::test]
async fn without_notifications_the_response_is_json() {
    let (headers, frames) = frames(tools_call("count", json!({ "to": 3 }))).await;

    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(frames.len(), 1);
}

#[tokio::test]
async fn a_client_that_accepts_only_json_gets_only_the_result() {
    let request = tools_call("count", json!({ "to": 3 })).progress_token(json!(1)).header("accept", "application/json");

    let (headers, frames) = frames(request).await;

    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(frames.len(), 1);
}

#[tokio::test]
async fn a_client_that_accepts_only_a_stream_gets_one() {
    let (headers, frames) = frames(tools_call("simple", json!({})).header("accept", "text/event-stream")).await;

    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(frames.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_sends_keep_alive_comments() {
    let response = streaming_fixture()
        .oneshot(tools_call("sleeps", json!({})).progress_token(json!(1)).into_http())
        .await
        .unwrap();
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    let start = tokio::time::Instant::now();
    let comment = body.frame().await.unwrap().unwrap().into_data().unwrap();

    assert_eq!(comment, ":\n\n");
    assert_eq!(start.elapsed(), Duration::from_secs(15));
}

#[tokio::test]
async fn an_error_after_the_first_event_ends_the_stream_as_a_message() {
    let sent = tools_call("sleeps", json!({})).progress_token(json!(1));
    let mut request = sent.clone().into_http();
    let deadline = std::time::Instant::now().checked_add(Duration::from_millis(600));
    request.extensions_mut().insert(mcp_server::Invocation { deadline, ..Default::default() });

    let response = streaming_fixture().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let reply = Reply::read(&sent, parts.status, parts.headers, &body.collect().await.unwrap().to_bytes());

    assert_eq!(reply.status, 200);
    assert_eq!(reply.messages.len(), 2);
    assert_eq!(reply.response()["error"]["code"], 504);
}

#[tokio::test]
async fn in_buffered_mode_the_complete_stream_is_sent() {
    for revision in ProtocolVersion::ALL {
        let request = tools_call("count", json!({ "to": 3 })).revision(revision).progress_token(json!(1));

        let reply = exchange_via(Via::FunctionUrl, &fixture(), request, Default::default()).await;

        assert_eq!(reply.headers["content-type"], "text/event-stream");
        assert_eq!(reply.messages.len(), 4);
    }
}

#[tokio::test]
async fn a_stream_may_be_larger_than_a_buffered_response() {
    const BYTES: usize = 20 * 1024 * 1024;

    let (_, frames) = frames(tools_call("large", json!({ "bytes": BYTES }))).await;

    assert!(frames.concat().len() > BYTES);
}
