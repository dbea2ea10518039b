//! Results of `initialize` and `server/discover`. Schema:
//! [`InitializeResult`](https://modelcontextprotocol.io/specification/2025-11-25/schema) (2025-11-25),
//! [`DiscoverResult`](https://modelcontextprotocol.io/specification/2026-07-28/schema) (2026-07-28).

#![expect(missing_docs, reason = "the schema documents items without a rule of their own")]

use serde::{Deserialize, Serialize};

use crate::{CacheScope, Implementation, JsonObject, ResultType, ServerCapabilities};

/// Result of `initialize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeResult {
    /// Protocol version that the server selected.
    pub protocol_version: String,
    pub capabilities: ServerCapabilities,
    pub server_info: Implementation,
    /// Usage instructions for the model. Clients may add them to the system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
}

/// Result of `server/discover`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiscoverResult {
    /// Always [`ResultType::Complete`].
    pub result_type: ResultType,
    /// Supported protocol versions, newest first.
    pub supported_versions: Vec<String>,
    pub capabilities: ServerCapabilities,
    /// Usage instructions for the model. Clients may add them to the system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// Time to live of the result, in milliseconds.
    pub ttl_ms: u64,
    /// Whether shared caches may store the result.
    pub cache_scope: CacheScope,
    /// Holds the server's name and version.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}
