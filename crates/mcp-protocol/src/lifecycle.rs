//! How client and server meet. Schema: `InitializeResult` (2025-11-25), `DiscoverResult` (2026-07-28).

use serde::{Deserialize, Serialize};

use crate::{CacheScope, Implementation, JsonObject, ResultType, ServerCapabilities};

/// Result of `initialize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeResult {
    /// The version that the server wants to use.
    pub protocol_version: String,
    /// What the server can do.
    pub capabilities: ServerCapabilities,
    /// Who the server is.
    pub server_info: Implementation,
    /// How to use the server; may become part of the model's prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
}

/// Result of `server/discover`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiscoverResult {
    /// [`ResultType::Complete`].
    pub result_type: ResultType,
    /// The versions that the server speaks, newest first.
    pub supported_versions: Vec<String>,
    /// What the server can do.
    pub capabilities: ServerCapabilities,
    /// How to use the server; may become part of the model's prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// How long the result stays fresh, in milliseconds.
    pub ttl_ms: u64,
    /// Who may share the result.
    pub cache_scope: CacheScope,
    /// Holds the server's name and version.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}
