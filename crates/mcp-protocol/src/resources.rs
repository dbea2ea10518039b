//! Types of `resources/list`, `resources/templates/list` and `resources/read`. Schema: [`Resource`, `ResourceTemplate`,
//! `ReadResourceRequestParams`, `ReadResourceResult`](https://modelcontextprotocol.io/specification/2026-07-28/schema).

#![expect(missing_docs, reason = "the schema documents items without a rule of their own")]

use serde::{Deserialize, Serialize};

use crate::{Annotations, CacheScope, Icon, JsonObject, ProtocolVersion, ResourceContents, ResultType};

/// Definition of a resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// Unique within the server.
    pub uri: String,
    /// Programmatic name.
    pub name: String,
    /// Display name. Since 2025-06-18.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Size in bytes before encoding, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Icons for display. Since 2025-11-25.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub icons: Vec<Icon>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    /// Implementation-defined metadata. Since 2025-06-18.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

impl Resource {
    /// Creates a resource with a URI and a name. The other fields are unset.
    pub fn new(uri: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            name: name.into(),
            title: None,
            description: None,
            mime_type: None,
            size: None,
            icons: Vec::new(),
            annotations: None,
            meta: None,
        }
    }

    /// Returns a copy without the fields that `revision` does not define.
    #[must_use]
    pub fn for_revision(&self, revision: ProtocolVersion) -> Self {
        let mut own = self.clone();
        if !revision.may_have(ProtocolVersion::V2025_11_25) {
            own.icons.clear();
        }
        if !revision.may_have(ProtocolVersion::V2025_06_18) {
            own.title = None;
            own.meta = None;
            own.annotations.iter_mut().for_each(|annotations| annotations.last_modified = None);
        }
        own
    }
}

/// Definition of resources whose URIs follow a pattern.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceTemplate {
    /// URI template ([RFC 6570](https://www.rfc-editor.org/rfc/rfc6570)).
    pub uri_template: String,
    /// Programmatic name.
    pub name: String,
    /// Display name. Since 2025-06-18.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Media type, if all resources have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Icons for display. Since 2025-11-25.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub icons: Vec<Icon>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    /// Implementation-defined metadata. Since 2025-06-18.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

impl ResourceTemplate {
    /// Creates a template with a pattern and a name. The other fields are unset.
    pub fn new(uri_template: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            uri_template: uri_template.into(),
            name: name.into(),
            title: None,
            description: None,
            mime_type: None,
            icons: Vec::new(),
            annotations: None,
            meta: None,
        }
    }

    /// Returns a copy without the fields that `revision` does not define.
    #[must_use]
    pub fn for_revision(&self, revision: ProtocolVersion) -> Self {
        let mut own = self.clone();
        if !revision.may_have(ProtocolVersion::V2025_11_25) {
            own.icons.clear();
        }
        if !revision.may_have(ProtocolVersion::V2025_06_18) {
            own.title = None;
            own.meta = None;
            own.annotations.iter_mut().for_each(|annotations| annotations.last_modified = None);
        }
        own
    }
}

/// Result of `resources/list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListResourcesResult {
    /// Since 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_type: Option<ResultType>,
    pub resources: Vec<Resource>,
    /// Cursor of the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// Time to live of the result, in milliseconds. Since 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Whether shared caches may store the result. Since 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_scope: Option<CacheScope>,
    /// Holds the server's name and version since 2026-07-28.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

/// Result of `resources/templates/list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListResourceTemplatesResult {
    /// Since 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_type: Option<ResultType>,
    pub resource_templates: Vec<ResourceTemplate>,
    /// Cursor of the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// Time to live of the result, in milliseconds. Since 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Whether shared caches may store the result. Since 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_scope: Option<CacheScope>,
    /// Holds the server's name and version since 2026-07-28.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

/// Result of `resources/read`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadResourceResult {
    /// Since 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_type: Option<ResultType>,
    /// Contents of the resource; several if the URI denotes several resources.
    pub contents: Vec<ResourceContents>,
    /// Time to live of the result, in milliseconds. Since 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Whether shared caches may store the result. Since 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_scope: Option<CacheScope>,
    /// Holds the server's name and version since 2026-07-28.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

impl ReadResourceResult {
    /// Converts the result to `revision`: removes the fields that it does not define.
    #[must_use]
    pub fn for_revision(mut self, revision: ProtocolVersion) -> Self {
        if !revision.may_have(ProtocolVersion::V2025_06_18) {
            self.contents.iter_mut().for_each(ResourceContents::drop_meta);
        }
        if !revision.is_modern() {
            self.result_type = None;
            self.ttl_ms = None;
            self.cache_scope = None;
        }
        self
    }
}
