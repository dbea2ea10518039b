//! A store in a temporary folder, for tests.

#![cfg(test)]

use serde_json::json;

use super::{Credentials, Store};

pub(super) const SERVER: &str = "https://mcp.example.com/mcp";

/// The store of [`SERVER`], and the temporary folder that has it.
pub(super) fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::of(SERVER, Some(&folder.path().join("mcpl"))).unwrap();
    (folder, store)
}

pub(super) fn credentials(access_token: &str) -> Credentials {
    let kept = json!({
        "client_id": "c", "token_response": { "access_token": access_token }, "granted_scopes": [], "token_received_at": 0,
    });
    serde_json::from_value(kept).unwrap()
}
