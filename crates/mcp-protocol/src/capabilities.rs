//! Client and server capabilities. Schema: [`ClientCapabilities`,
//! `ServerCapabilities`](https://modelcontextprotocol.io/specification/2026-07-28/schema).

#![expect(missing_docs, reason = "the schema documents items without a rule of their own")]

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{JsonObject, ProtocolVersion};

/// Capabilities of a client. A member is present if the client has the capability; its value lists the
/// sub-capabilities.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientCapabilities {
    /// Non-standard capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experimental: Option<JsonObject>,
    /// `roots/list`. Deprecated in 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots: Option<JsonObject>,
    /// `sampling/createMessage`. Deprecated in 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<JsonObject>,
    /// `elicitation/create`. Since 2025-06-18.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elicitation: Option<JsonObject>,
    /// Extensions by identifier. Since 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<JsonObject>,
}

impl ClientCapabilities {
    /// Creates the capabilities of a client that supports sampling.
    pub fn sampling() -> Self {
        Self { sampling: Some(JsonObject::new()), ..Self::default() }
    }

    /// Creates the capabilities of a client that supports elicitation in form mode.
    pub fn elicitation() -> Self {
        Self { elicitation: Some(JsonObject::from_iter([(FORM.to_owned(), json!({}))])), ..Self::default() }
    }

    /// Creates the capabilities of a client that supports elicitation in URL mode.
    pub fn elicitation_url() -> Self {
        Self { elicitation: Some(JsonObject::from_iter([(URL.to_owned(), json!({}))])), ..Self::default() }
    }

    /// Creates the capabilities of a client that supports roots.
    pub fn roots() -> Self {
        Self { roots: Some(JsonObject::new()), ..Self::default() }
    }

    /// Returns whether form mode elicitation is supported. Elicitation that is declared without a mode means form mode.
    pub fn has_elicitation_form(&self) -> bool {
        self.elicitation.as_ref().is_some_and(|modes| with_form(modes).contains_key(FORM))
    }

    /// Returns the part of `required` that these capabilities do not cover; empty if they cover all of it.
    #[must_use]
    pub fn missing(&self, required: &Self) -> Self {
        Self {
            experimental: missing_members(self.experimental.as_ref(), required.experimental.as_ref()),
            roots: missing_members(self.roots.as_ref(), required.roots.as_ref()),
            sampling: missing_members(self.sampling.as_ref(), required.sampling.as_ref()),
            elicitation: missing_members(
                self.elicitation.as_ref().map(with_form).as_ref(),
                required.elicitation.as_ref().map(with_form).as_ref(),
            ),
            extensions: missing_members(self.extensions.as_ref(), required.extensions.as_ref()),
        }
    }

    /// Returns whether no capability is declared.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

const FORM: &str = "form";
const URL: &str = "url";

/// Adds form mode if no mode is declared (2026-07-28, `client/elicitation`, "Capabilities").
fn with_form(modes: &JsonObject) -> JsonObject {
    if modes.is_empty() { JsonObject::from_iter([(FORM.to_owned(), json!({}))]) } else { modes.clone() }
}

fn missing_members(declared: Option<&JsonObject>, required: Option<&JsonObject>) -> Option<JsonObject> {
    let required = required?;
    let Some(declared) = declared else {
        return Some(required.clone());
    };
    let missing: JsonObject = required
        .iter()
        .filter(|(name, value)| declared.get(*name).is_none_or(|own| !covers(own, value)))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    (!missing.is_empty()).then_some(missing)
}

/// Returns whether a declared value has at least the members of the required value.
fn covers(declared: &Value, required: &Value) -> bool {
    match (declared, required) {
        (Value::Object(declared), Value::Object(required)) => {
            required.iter().all(|(name, value)| declared.get(name).is_some_and(|own| covers(own, value)))
        }
        (declared, required) => declared == required,
    }
}

/// Capabilities of a server. A member is present if the server has the capability.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerCapabilities {
    /// `notifications/message`. Deprecated in 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<JsonObject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<JsonObject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesCapability>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<JsonObject>,
    /// `completion/complete`. Since 2025-03-26.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completions: Option<JsonObject>,
    /// Non-standard capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experimental: Option<JsonObject>,
    /// Extensions by identifier. Since 2026-07-28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<JsonObject>,
}

impl ServerCapabilities {
    /// Returns a copy without the fields that `revision` does not define.
    #[must_use]
    pub fn for_revision(&self, revision: ProtocolVersion) -> Self {
        let mut own = self.clone();
        if revision < ProtocolVersion::V2025_03_26 {
            own.completions = None;
        }
        if !revision.is_modern() {
            own.extensions = None;
        }
        own
    }
}

/// Sub-capabilities of [`ServerCapabilities::resources`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourcesCapability {
    /// Whether clients can subscribe to updates of single resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<bool>,
    /// Whether the server sends `notifications/resources/list_changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_changed: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities(value: Value) -> ClientCapabilities {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn missing_returns_only_the_uncovered_capabilities() {
        let declared = capabilities(json!({ "elicitation": { "form": {} }, "roots": {} }));
        let required = capabilities(json!({ "elicitation": { "url": {} }, "roots": {}, "sampling": {} }));

        let missing = declared.missing(&required);

        assert_eq!(serde_json::to_value(missing).unwrap(), json!({ "elicitation": { "url": {} }, "sampling": {} }));
    }

    #[test]
    fn elicitation_without_a_mode_means_form_mode() {
        let missing = |declared: Value, required: Value| capabilities(declared).missing(&capabilities(required));

        for form in [json!({ "elicitation": {} }), json!({ "elicitation": { "form": {} } })] {
            assert!(missing(json!({ "elicitation": {} }), form.clone()).is_empty());
            assert!(missing(json!({ "elicitation": { "form": {} } }), form.clone()).is_empty());
            assert_eq!(missing(json!({ "elicitation": { "url": {} } }), form), ClientCapabilities::elicitation());
        }
        let url = json!({ "elicitation": { "url": {} } });
        assert_eq!(missing(json!({ "elicitation": {} }), url), ClientCapabilities::elicitation_url());
    }

    #[test]
    fn undeclared_requirements_are_not_missing() {
        let declared = capabilities(json!({ "sampling": { "tools": {}, "context": {} } }));

        assert!(declared.missing(&ClientCapabilities::sampling()).is_empty());
    }
}
