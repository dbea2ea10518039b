//! Any bytes as a body: the parser and the whole service agree, and each request has a response.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_protocol::{Incoming, Message};
use serde_json::{Value, json};

mod common;

fuzz_target!(|input: &[u8]| {
    // The first byte selects the revision; the rest is the body.
    let Some((choice, body)) = input.split_first() else { return };
    let versions = ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
    let Ok(text) = std::str::from_utf8(body) else { return };
    let event = json!({
        "version": "2.0",
        "rawPath": "/mcp",
        "headers": {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": versions[usize::from(*choice) % versions.len()],
            "mcp-method": "tools/call",
            "mcp-name": "personalized_greeting",
        },
        "requestContext": { "http": { "method": "POST" }, "domainName": "localhost" },
        "body": text,
        "isBase64Encoded": false,
    });

    let response = common::respond(event.to_string().as_bytes()).expect("the event is valid");
    let messages = common::assert_well_formed(&response);

    match Incoming::parse(body) {
        Ok(Incoming::Single(Message::Request(request))) => {
            assert_eq!(messages.len(), 1, "a request has one response: {response}");
            let id: Value = serde_json::to_value(&request.id).expect("an id is JSON");
            assert_eq!(messages[0]["id"], id);
        }
        Ok(Incoming::Single(_)) => assert!(messages.iter().all(|message| message.get("error").is_some())),
        Ok(Incoming::Batch(_)) => {}
        Err(malformed) => assert_eq!(messages[0]["error"]["code"], malformed.code),
    }
});
