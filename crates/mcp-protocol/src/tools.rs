//! Types of `tools/list` and `tools/call`. Schema: [`Tool`, `ListToolsResult`, `CallToolRequestParams`,
//! `CallToolResult`](https://modelcontextprotocol.io/specification/2026-07-28/schema).

#![expect(missing_docs, reason = "the schema documents items without a rule of their own")]

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::{ContentBlock, Icon, JsonObject, ProtocolVersion, jsonrpc::present};

/// Definition of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// Unique within the server.
    pub name: String,
    /// Display name. Since 2025-06-18.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Purpose and use of the tool, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of the arguments; its `type` is `object`.
    pub input_schema: Value,
    /// JSON Schema of the structured result. Since 2025-06-18; an object until 2025-11-25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// Hints about the behavior. Since 2025-03-26.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<ToolAnnotations>,
    /// Icons for display. Since 2025-11-25.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub icons: Vec<Icon>,
    /// Implementation-defined metadata. Since 2025-06-18.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

impl Tool {
    /// Returns the tool without the fields that `revision` may not have.
    #[must_use]
    pub fn for_revision(&self, revision: ProtocolVersion) -> Cow<'_, Self> {
        if revision.is_modern() {
            return Cow::Borrowed(self);
        }
        let mut own = self.clone();
        // Until 2025-11-25, the schema of a property must be an object, not `true` or `false`.
        spell_out_boolean_properties(&mut own.input_schema);
        own.output_schema = own.output_schema.filter(is_object_schema);
        own.output_schema.iter_mut().for_each(spell_out_boolean_properties);
        if !revision.may_have(ProtocolVersion::V2025_11_25) {
            own.icons.clear();
        }
        if !revision.may_have(ProtocolVersion::V2025_06_18) {
            own.title = None;
            own.output_schema = None;
            own.meta = None;
        }
        if revision < ProtocolVersion::V2025_03_26 {
            own.annotations = None;
        }
        Cow::Owned(own)
    }
}

fn is_object_schema(schema: &Value) -> bool {
    schema.get("type") == Some(&json!("object"))
}

fn spell_out_boolean_properties(schema: &mut Value) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties.into_iter().flat_map(JsonObject::values_mut) {
        match property {
            Value::Bool(true) => *property = json!({}),
            Value::Bool(false) => *property = json!({ "not": {} }),
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {}
        }
    }
}

/// Hints about the behavior of a tool. Clients must not rely on the hints of an untrusted server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolAnnotations {
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The tool does not modify its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_hint: Option<bool>,
    /// The tool may delete or overwrite data. Default: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destructive_hint: Option<bool>,
    /// Repeated calls with the same arguments have no further effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotent_hint: Option<bool>,
    /// The tool interacts with external systems. Default: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_world_hint: Option<bool>,
}

/// Result of `tools/list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListToolsResult<'a> {
    /// Since 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_type: Option<ResultType>,
    pub tools: Vec<Cow<'a, Tool>>,
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

/// Result of `tools/call`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallToolResult {
    /// Since 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_type: Option<ResultType>,
    /// Content for the model.
    pub content: Vec<ContentBlock>,
    /// JSON text for programs. Since 2025-06-18; must be an object until 2025-11-25.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub structured_content: Option<Box<RawValue>>,
    /// Whether the tool failed. The content then has the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_error: Option<bool>,
    /// Holds the server's name and version since 2026-07-28.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

impl CallToolResult {
    /// Converts the result to `revision`: removes the fields that it does not define.
    #[must_use]
    pub fn for_revision(mut self, revision: ProtocolVersion) -> Self {
        let is_object = |value: &RawValue| value.get().starts_with('{');
        self.structured_content = self.structured_content.filter(|value| {
            revision.is_modern() || (revision.may_have(ProtocolVersion::V2025_06_18) && is_object(value))
        });
        if revision < ProtocolVersion::V2025_11_25 {
            self.content = self.content.into_iter().map(|block| block.for_revision(revision)).collect();
        }
        self.result_type = self.result_type.filter(|_| revision.is_modern());
        self
    }

    /// Returns all text blocks, joined by newlines. Useful in tests.
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self
            .content
            .iter()
            .filter_map(|block| if let ContentBlock::Text(block) = block { Some(block.text.as_str()) } else { None })
            .collect();
        texts.join("\n")
    }
}

/// Type of a result. Since 2026-07-28.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultType {
    /// The request is complete.
    Complete,
    /// The client must repeat the request with responses to the input requests.
    InputRequired,
}

/// Scope of a cached result. Since 2026-07-28.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheScope {
    /// Shared caches may store the result.
    Public,
    /// Only requests with the same authorization may reuse the result.
    Private,
}
