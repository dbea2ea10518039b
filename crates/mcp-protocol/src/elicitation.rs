//! Elicitation: requests for input from the user of a client. Schema: [`ElicitRequestFormParams`,
//! `ElicitRequestURLParams`, `ElicitResult`](https://modelcontextprotocol.io/specification/2026-07-28/schema).

#![expect(missing_docs, reason = "the schema documents items without a rule of their own")]

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

use crate::JsonObject;

/// Parameters of `elicitation/create`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ElicitRequestParams {
    /// URL mode, for data that must not pass through the client, such as passwords.
    Url(ElicitRequestUrlParams),
    /// Form mode: the client shows a form with the requested fields.
    Form(ElicitRequestFormParams),
}

/// Form mode: the client shows a form with the requested fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ElicitRequestFormParams {
    /// Always `form` if present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<FormMode>,
    /// Text that explains the request to the user.
    pub message: String,
    /// Fields of the form.
    pub requested_schema: RequestedSchema,
}

/// The value `form` of the member `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FormMode {
    /// The value `form` of the member `mode`.
    #[serde(rename = "form")]
    Form,
}

/// URL mode: the client asks the user to open a URL. Since 2025-11-25.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ElicitRequestUrlParams {
    /// Always `url`.
    pub mode: UrlMode,
    /// Text that explains the request to the user.
    pub message: String,
    /// URL that the user opens.
    pub url: String,
}

/// The value `url` of the member `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UrlMode {
    /// The value `url` of the member `mode`.
    #[serde(rename = "url")]
    Url,
}

/// JSON Schema of a form: a flat object with primitive members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestedSchema {
    /// JSON Schema dialect.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The value `object`.
    #[serde(rename = "type")]
    kind: ObjectKind,
    /// Fields in display order.
    pub properties: Properties,
    /// Names of the mandatory fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ObjectKind {
    Object,
}

impl RequestedSchema {
    /// Creates a form without fields.
    pub fn new() -> Self {
        Self { schema: None, kind: ObjectKind::Object, properties: Properties(Vec::new()), required: Vec::new() }
    }

    /// Adds an optional field.
    #[must_use]
    pub fn optional(mut self, name: impl Into<String>, field: impl Into<PrimitiveSchemaDefinition>) -> Self {
        self.properties.0.push((name.into(), field.into()));
        self
    }

    /// Adds a mandatory field.
    #[must_use]
    pub fn required(mut self, name: impl Into<String>, field: impl Into<PrimitiveSchemaDefinition>) -> Self {
        let name = name.into();
        self.required.push(name.clone());
        self.optional(name, field)
    }
}

impl Default for RequestedSchema {
    fn default() -> Self {
        Self::new()
    }
}

/// Form fields by name. Serialization and deserialization keep their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties(pub Vec<(String, PrimitiveSchemaDefinition)>);

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, field)| (name, field)))
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PropertiesVisitor;

        impl<'de> Visitor<'de> for PropertiesVisitor {
            type Value = Properties;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of form fields")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Properties, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = members.next_entry()? {
                    fields.push(field);
                }
                Ok(Properties(fields))
            }
        }

        deserializer.deserialize_map(PropertiesVisitor)
    }
}

/// Schema of one form field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum PrimitiveSchemaDefinition {
    /// A string, free or from an enumeration.
    String(StringField),
    /// Schema of a number.
    Number(NumberSchema),
    /// An integer.
    Integer(NumberSchema),
    /// Schema of a boolean.
    Boolean(BooleanSchema),
    /// Multiple selection of strings.
    Array(MultiSelectField),
}

/// Schema of a field whose value is a string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StringField {
    /// Single selection with display titles.
    Titled(TitledSingleSelectEnumSchema),
    /// Single selection with display titles, in the format of the revisions before 2025-11-25.
    LegacyTitled(LegacyTitledEnumSchema),
    /// Single selection.
    Untitled(UntitledSingleSelectEnumSchema),
    /// Schema of a string.
    Plain(StringSchema),
}

impl StringField {
    /// Returns the allowed values; `None` for free text.
    pub fn options(&self) -> Option<Vec<&str>> {
        match self {
            Self::Titled(field) => Some(field.one_of.iter().map(|option| option.value.as_str()).collect()),
            Self::LegacyTitled(field) => Some(field.options.iter().map(String::as_str).collect()),
            Self::Untitled(field) => Some(field.options.iter().map(String::as_str).collect()),
            Self::Plain(_) => None,
        }
    }
}

/// Schema of a field whose value is a list of strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MultiSelectField {
    /// Multiple selection with display titles.
    Titled(TitledMultiSelectEnumSchema),
    /// Multiple selection of strings.
    Untitled(UntitledMultiSelectEnumSchema),
}

impl MultiSelectField {
    /// Returns the allowed values.
    pub fn options(&self) -> Vec<&str> {
        match self {
            Self::Titled(field) => field.items.any_of.iter().map(|option| option.value.as_str()).collect(),
            Self::Untitled(field) => field.items.options.iter().map(String::as_str).collect(),
        }
    }
}

/// Schema of a string.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StringSchema {
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Help text for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Minimum number of characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_length: Option<u64>,
    /// Maximum number of characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u64>,
    /// `email`, `uri`, `date` or `date-time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Prefilled value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// Schema of a number.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NumberSchema {
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Help text for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Minimum value, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<serde_json::Number>,
    /// Maximum value, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<serde_json::Number>,
    /// Prefilled value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Number>,
}

/// Schema of a boolean.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BooleanSchema {
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Help text for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Prefilled value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
}

/// Single selection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UntitledSingleSelectEnumSchema {
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Help text for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Allowed values.
    #[serde(rename = "enum")]
    pub options: Vec<String>,
    /// Preselected value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// Single selection with display titles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TitledSingleSelectEnumSchema {
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Help text for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Allowed values.
    pub one_of: Vec<TitledOption>,
    /// Preselected value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// Single selection with display titles, in the format of the revisions before 2025-11-25.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LegacyTitledEnumSchema {
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Help text for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Allowed values.
    #[serde(rename = "enum")]
    pub options: Vec<String>,
    /// Display titles, in the same order as the values.
    pub enum_names: Vec<String>,
    /// Preselected value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// Multiple selection of strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UntitledMultiSelectEnumSchema {
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Help text for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Minimum number of selected values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_items: Option<u64>,
    /// Maximum number of selected values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_items: Option<u64>,
    /// Allowed values.
    pub items: UntitledItems,
    /// Preselected value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Vec<String>>,
}

/// Allowed values of an [`UntitledMultiSelectEnumSchema`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UntitledItems {
    #[serde(rename = "type")]
    kind: StringKind,
    /// Allowed values.
    #[serde(rename = "enum")]
    pub options: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StringKind {
    String,
}

impl UntitledMultiSelectEnumSchema {
    /// Creates a selection of any number of `options`.
    pub fn new<T: Into<String>>(options: impl IntoIterator<Item = T>) -> Self {
        let options = options.into_iter().map(Into::into).collect();
        Self {
            title: None,
            description: None,
            min_items: None,
            max_items: None,
            items: UntitledItems { kind: StringKind::String, options },
            default: None,
        }
    }
}

/// Multiple selection with display titles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TitledMultiSelectEnumSchema {
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Help text for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Minimum number of selected values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_items: Option<u64>,
    /// Maximum number of selected values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_items: Option<u64>,
    /// Allowed values.
    pub items: TitledItems,
    /// Preselected value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Vec<String>>,
}

/// Allowed values of a [`TitledMultiSelectEnumSchema`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TitledItems {
    /// Allowed values.
    pub any_of: Vec<TitledOption>,
}

/// Value with a display title.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TitledOption {
    #[serde(rename = "const")]
    pub value: String,
    /// Display title.
    pub title: String,
}

impl TitledOption {
    /// Creates an option from its value and display title.
    pub fn new(value: impl Into<String>, title: impl Into<String>) -> Self {
        Self { value: value.into(), title: title.into() }
    }
}

impl From<StringSchema> for PrimitiveSchemaDefinition {
    fn from(field: StringSchema) -> Self {
        Self::String(StringField::Plain(field))
    }
}

impl From<UntitledSingleSelectEnumSchema> for PrimitiveSchemaDefinition {
    fn from(field: UntitledSingleSelectEnumSchema) -> Self {
        Self::String(StringField::Untitled(field))
    }
}

impl From<TitledSingleSelectEnumSchema> for PrimitiveSchemaDefinition {
    fn from(field: TitledSingleSelectEnumSchema) -> Self {
        Self::String(StringField::Titled(field))
    }
}

impl From<LegacyTitledEnumSchema> for PrimitiveSchemaDefinition {
    fn from(field: LegacyTitledEnumSchema) -> Self {
        Self::String(StringField::LegacyTitled(field))
    }
}

impl From<UntitledMultiSelectEnumSchema> for PrimitiveSchemaDefinition {
    fn from(field: UntitledMultiSelectEnumSchema) -> Self {
        Self::Array(MultiSelectField::Untitled(field))
    }
}

impl From<TitledMultiSelectEnumSchema> for PrimitiveSchemaDefinition {
    fn from(field: TitledMultiSelectEnumSchema) -> Self {
        Self::Array(MultiSelectField::Titled(field))
    }
}

impl From<BooleanSchema> for PrimitiveSchemaDefinition {
    fn from(field: BooleanSchema) -> Self {
        Self::Boolean(field)
    }
}

/// Result of `elicitation/create`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ElicitResult {
    /// Action of the user.
    pub action: ElicitAction,
    /// Values of the form fields, if a form was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<JsonObject>,
}

/// Action of the user on an elicitation request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ElicitAction {
    /// The user submitted the form or agreed to open the URL.
    Accept,
    /// The user explicitly declined.
    Decline,
    /// The user dismissed the request without a choice.
    Cancel,
}
