//! `tools/list` and `tools/call`. Schema: `Tool`, `ListToolsResult`, `CallToolRequestParams`, `CallToolResult`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::{ContentBlock, Icon, JsonObject, ProtocolVersion, jsonrpc::present};

/// A tool as a client sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// Identifies the tool within its server.
    pub name: String,
    /// A name for people. Since 2025-06-18.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it does and when to use it: the model reads this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of the arguments; `type` is `object`.
    pub input_schema: Value,
    /// JSON Schema of the structured result. Since 2025-06-18; an object until 2025-11-25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// How the tool behaves. Since 2025-03-26.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<ToolAnnotations>,
    /// Pictures of it. Since 2025-11-25.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub icons: Vec<Icon>,
    /// Anything else. Since 2025-06-18.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

impl Tool {
    /// The same without what `revision` may not have.
    #[must_use]
    pub fn for_revision(&self, revision: ProtocolVersion) -> Cow<'_, Self> {
        if revision.is_modern() {
            return Cow::Borrowed(self);
        }
        let mut own = self.clone();
        // Until 2025-11-25 the schema of a property is an object, never `true` or `false`.
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

/// How a tool behaves. Hints: a client that does not trust the server must not rely on them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolAnnotations {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_hint: Option<bool>,
    /// May destroy or overwrite; assumed unless denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destructive_hint: Option<bool>,
    /// Doing it twice with the same arguments does nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotent_hint: Option<bool>,
    /// Touches a world beyond the server's own; assumed unless denied.
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
    /// The tools of this page.
    pub tools: Vec<Cow<'a, Tool>>,
    /// Where the next page begins; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// How long the result stays fresh, in milliseconds. Since 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Who may share the result. Since 2026-07-28.
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
    /// What the tool returned, for the model.
    pub content: Vec<ContentBlock>,
    /// What the tool returned, for programs, as JSON text. Since 2025-06-18; an object until 2025-11-25.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub structured_content: Option<Box<RawValue>>,
    /// Whether the tool failed; the content then says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_error: Option<bool>,
    /// Holds the server's name and version since 2026-07-28.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

impl CallToolResult {
    /// The same in the words of `revision`.
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

    /// All text blocks, one a line: what most tests want to see.
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self
            .content
            .iter()
            .filter_map(|block| if let ContentBlock::Text(block) = block { Some(block.text.as_str()) } else { None })
            .collect();
        texts.join("\n")
    }
}

/// How a result is to be read. Since 2026-07-28.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultType {
    /// The request is done.
    Complete,
    /// The client must answer questions and ask again.
    InputRequired,
}

/// Who may share a cached result. Since 2026-07-28.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheScope {
    /// Anyone.
    Public,
    /// Only whoever presents the same authorization.
    Private,
}
