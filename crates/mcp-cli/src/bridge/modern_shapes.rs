//! Requests and results between a modern client and a legacy server, translated for the other side.

use std::collections::BTreeMap;

use mcp_protocol::{json, meta, method};
use serde_json::{json, value::RawValue};

use super::member;
use crate::{
    message::{with_members, with_part, without_members},
    received,
};

/// Members of `_meta` that describe the client, which a legacy server gets in the handshake.
const SAID_ONCE: [&str; 4] = [meta::PROTOCOL_VERSION, meta::CLIENT_INFO, meta::CLIENT_CAPABILITIES, meta::LOG_LEVEL];

/// Adds the members of a modern result.
pub(super) fn completed(result: &RawValue, method: &str) -> String {
    const CACHEABLE: [&str; 5] = [
        method::TOOLS_LIST,
        method::PROMPTS_LIST,
        method::RESOURCES_LIST,
        method::RESOURCES_TEMPLATES_LIST,
        method::RESOURCES_READ,
    ];
    // Before 2026-07-28 the name has no meaning.
    let own = match member(result, "resultType") {
        Some(_) => without_members(result.get(), &["resultType"]),
        None => result.get().to_owned(),
    };
    let mut members = vec![r#""resultType":"complete""#];
    if CACHEABLE.contains(&method) {
        for (name, text) in [("ttlMs", r#""ttlMs":0"#), ("cacheScope", r#""cacheScope":"private""#)] {
            if member(result, name).is_none() {
                members.push(text);
            }
        }
    }
    with_members(&own, &members.join(","))
}

/// Removes the members that a legacy server gets in the handshake.
pub(super) fn without_what_is_said_once(params: &str) -> String {
    let own = json::borrow::<&RawValue>(params).ok().and_then(|params| member(params, "_meta"));
    let Some(own) = own else { return params.to_owned() };
    let Ok(members) = received::read::<BTreeMap<String, Box<RawValue>>>(own.get()) else {
        return params.to_owned();
    };
    let kept: Vec<String> = members
        .iter()
        .filter(|(name, _)| !SAID_ONCE.contains(&name.as_str()))
        .map(|(name, value)| format!("{}:{value}", json!(name)))
        .collect();
    with_part(params, own.get(), &format!("{{{}}}", kept.join(",")))
}
