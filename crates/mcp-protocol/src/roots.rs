//! Directories that a client opens to servers. Schema: `Root`, `ListRootsResult`. Deprecated in 2026-07-28.

use serde::{Deserialize, Serialize};

use crate::JsonObject;

/// The client's answer to `roots/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRootsResult {
    /// The directories.
    pub roots: Vec<Root>,
}

/// A directory of the client's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// A `file://` URI.
    pub uri: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Anything else.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}
