//! Sampling: requests to the model of a client. Schema: [`CreateMessageRequestParams`,
//! `CreateMessageResult`](https://modelcontextprotocol.io/specification/2026-07-28/schema). Deprecated in 2026-07-28.

#![expect(missing_docs, reason = "the schema documents items without a rule of their own")]

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AudioContent, ContentBlock, ImageContent, JsonObject, Role, TextContent, Tool};

/// Parameters of `sampling/createMessage`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateMessageRequestParams {
    pub messages: Vec<SamplingMessage>,
    /// Maximum number of tokens to generate.
    pub max_tokens: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// Preferences for the selection of a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_preferences: Option<ModelPreferences>,
    /// MCP servers whose context is added. Values other than `None` need the client's `sampling.context`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_context: Option<IncludeContext>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Texts at which the model stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_sequences: Vec<String>,
    /// Provider-specific metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<JsonObject>,
    /// Tools that the model may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// Whether the model may, must or must not use tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
}

impl CreateMessageRequestParams {
    /// Creates a request with one text message of the user.
    pub fn question(text: impl Into<String>, max_tokens: u64) -> Self {
        Self { messages: vec![SamplingMessage::text(Role::User, text)], max_tokens, ..Self::default() }
    }
}

/// Message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SamplingMessage {
    pub role: Role,
    pub content: OneOrMany<SamplingMessageContentBlock>,
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

impl SamplingMessage {
    /// Creates a message with one text block.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        let block = TextContent { text: text.into(), annotations: None, meta: None };
        Self { role, content: OneOrMany::One(SamplingMessageContentBlock::Text(block)), meta: None }
    }
}

/// One value or a list of values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    /// Returns the values as a slice.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::Many(values) => values,
            Self::One(value) => std::slice::from_ref(value),
        }
    }
}

/// Content block of a sampling message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SamplingMessageContentBlock {
    /// Text.
    Text(TextContent),
    /// A picture.
    Image(ImageContent),
    Audio(AudioContent),
    /// Tool call of the model.
    ToolUse(ToolUseContent),
    /// Result of a tool call.
    ToolResult(ToolResultContent),
}

/// Tool call of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolUseContent {
    /// Correlates the result with the tool call.
    pub id: String,
    /// Name of the tool.
    pub name: String,
    /// Arguments of the tool.
    pub input: JsonObject,
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

/// Result of a tool call of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolResultContent {
    /// Id of the [`ToolUseContent`].
    pub tool_use_id: String,
    /// Content for the model.
    pub content: Vec<ContentBlock>,
    /// JSON value for programs.
    #[serde(default, deserialize_with = "crate::jsonrpc::present", skip_serializing_if = "Option::is_none")]
    pub structured_content: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_error: Option<bool>,
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

/// Preferences for the selection of a model. Priorities are from 0 to 1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelPreferences {
    /// Names, or parts of names, of models, in order of preference. The client takes the first match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<ModelHint>,
    /// Importance of low cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_priority: Option<f64>,
    /// Importance of low latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_priority: Option<f64>,
    /// Importance of capability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intelligence_priority: Option<f64>,
}

/// Name, or part of the name, of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelHint {
    /// For example `sonnet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Tool use of the model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolChoice {
    /// [`ToolChoiceMode::Auto`] unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ToolChoiceMode>,
}

/// Tool use of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolChoiceMode {
    /// The model may use tools.
    Auto,
    /// The model must use a tool.
    Required,
    /// The model must not use tools.
    None,
}

/// Servers whose context is added to a sampling request. Values other than `None` need the client's `sampling.context`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IncludeContext {
    None,
    ThisServer,
    AllServers,
}

/// Result of `sampling/createMessage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateMessageResult {
    /// Always [`Role::Assistant`].
    pub role: Role,
    pub content: OneOrMany<SamplingMessageContentBlock>,
    /// Name of the model.
    pub model: String,
    /// Reason why the model stopped, such as `endTurn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<String>,
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

impl CreateMessageResult {
    /// Returns all text blocks, joined by newlines.
    pub fn text(&self) -> String {
        let texts = self.content.as_slice().iter().filter_map(|block| match block {
            SamplingMessageContentBlock::Text(block) => Some(block.text.as_str()),
            SamplingMessageContentBlock::Image(_)
            | SamplingMessageContentBlock::Audio(_)
            | SamplingMessageContentBlock::ToolUse(_)
            | SamplingMessageContentBlock::ToolResult(_) => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }
}
