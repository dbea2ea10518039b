//! Types of `completion/complete`. Schema: [`CompleteRequestParams`,
//! `CompleteResult`](https://modelcontextprotocol.io/specification/2026-07-28/schema).

#![expect(missing_docs, reason = "the schema documents items without a rule of their own")]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{JsonObject, ProtocolVersion, ResultType};

/// Owner of the argument to complete. Schema: `PromptReference`, `ResourceTemplateReference`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum CompletionReference {
    #[serde(rename = "ref/prompt")]
    Prompt {
        name: String,
        /// Display name. Since 2025-06-18.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
    },
    /// A resource template, in the field `uri`.
    #[serde(rename = "ref/resource")]
    Resource {
        /// URI template, or a URI.
        uri: String,
    },
}

/// Argument to complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionArgument {
    pub name: String,
    /// Text that the user has typed so far.
    pub value: String,
}

/// Further input to a completion. Since 2025-06-18.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionContext {
    /// Arguments whose values are already set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, String>,
}

/// Result of `completion/complete`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompleteResult {
    /// Since 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_type: Option<ResultType>,
    pub completion: Completion,
    /// Holds the server's name and version since 2026-07-28.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

impl CompleteResult {
    /// Converts the result to `revision`: removes the fields that it does not define.
    #[must_use]
    pub fn for_revision(mut self, revision: ProtocolVersion) -> Self {
        self.result_type = self.result_type.filter(|_| revision.is_modern());
        self
    }
}

/// Suggested values of an argument, the most likely first. Conversions from a list keep the first
/// [`MAX_VALUES`](Self::MAX_VALUES) values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Completion {
    /// Suggested values, at most [`MAX_VALUES`](Self::MAX_VALUES).
    pub values: Vec<String>,
    /// Total number of matching values, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Whether more values match than are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_more: Option<bool>,
}

impl Completion {
    /// Maximum number of values in a result.
    pub const MAX_VALUES: usize = 100;

    /// Truncates the values to [`MAX_VALUES`](Self::MAX_VALUES), and sets `total` and `has_more` if some are dropped.
    #[must_use]
    pub fn clamped(mut self) -> Self {
        if self.values.len() > Self::MAX_VALUES {
            self.total = self.total.or_else(|| u64::try_from(self.values.len()).ok());
            self.has_more = Some(true);
            self.values.truncate(Self::MAX_VALUES);
        }
        self
    }
}

impl<T: Into<String>> FromIterator<T> for Completion {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        Self { total: u64::try_from(values.len()).ok(), has_more: Some(false), values }.clamped()
    }
}

impl<T: Into<String>> From<Vec<T>> for Completion {
    fn from(values: Vec<T>) -> Self {
        values.into_iter().collect()
    }
}
