//! The entry points of the fuzz target `mcpl`: processing of a server's response without the server.

use std::{sync::LazyLock, time::Duration};

use mcp_protocol::{json, meta, method};
use reqwest::Client;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    authorizer::Authorizer, bridge, call, challenge::Challenge, described, message::Envelope, output, received,
    session::Answer, upstream::Upstream,
};

/// An upstream without a server.
static UPSTREAM: LazyLock<Upstream> =
    LazyLock::new(|| Upstream::new(Client::new(), Duration::MAX, String::new(), Authorizer::Headers));

/// Reads the body of an answer to a request, as a stream or not, and returns the lines that are passed on.
pub async fn read(is_stream: bool, method: &str, body: &[u8]) -> Vec<String> {
    let params = match method {
        method::INITIALIZE => json!({}),
        _ => json!({ "_meta": { meta::PROTOCOL_VERSION: "2026-07-28" } }),
    };
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let Ok(request) = Envelope::parse(&request) else { return Vec::new() };
    let (output, mut lines) = mpsc::unbounded_channel();
    let response = http::Response::new(reqwest::Body::from(body.to_vec())).into();
    UPSTREAM.read(&request, response, is_stream, &output).await;
    drop(output);
    let mut passed_on = Vec::new();
    while let Some(line) = lines.recv().await {
        read_as_command(&line.text);
        bridge::read(&line.text);
        passed_on.push(line.text);
    }
    read_as_command(&String::from_utf8_lossy(body));
    passed_on
}

/// Formats a message as the commands do.
fn read_as_command(text: &str) {
    let _ = Challenge::of(&http::HeaderMap::new(), text);
    call::text(text);
    let Ok(value) = received::read::<Value>(text) else { return };
    described::tool(&json!({ "inputSchema": value }));
    output::of_json(text);
    for written in [output::json(&value).unwrap_or_default(), output::json_as_written(text)] {
        assert!(json::borrow::<IgnoredAny>(&written).is_ok(), "it is JSON: {written}");
    }
    let _ = Answer::of(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8.7: the seeds are read, also in halves; what the target does without nightly.
    #[tokio::test]
    async fn the_seeds_are_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/mcpl");
        let mut passed_on = 0;
        for seed in std::fs::read_dir(folder).unwrap() {
            let seed = std::fs::read(seed.unwrap().path()).unwrap();
            let (choice, body) = seed.split_first().unwrap();
            let method = ["tools/list", "tools/call", "initialize"][usize::from(choice >> 1) % 3];
            for end in (0..=body.len()).rev() {
                for line in read(choice & 1 == 1, method, &body[..end]).await {
                    assert!(!line.contains(['\n', '\r']) && received::check(&line).is_ok(), "{line}");
                    passed_on += 1;
                }
            }
        }
        assert!(passed_on > 6, "{passed_on}");
    }
}
