//! Questions to the person at a client. Schema: `ElicitRequestFormParams`, `ElicitRequestURLParams`, `ElicitResult`.

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
    /// A page to visit, for what must not pass through the client.
    Url(ElicitRequestUrlParams),
    /// A form to fill in.
    Form(ElicitRequestFormParams),
}

/// A form to fill in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ElicitRequestFormParams {
    /// [`FormMode`], or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<FormMode>,
    /// Why it is asked.
    pub message: String,
    /// The fields of the form.
    pub requested_schema: RequestedSchema,
}

/// The word `form`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FormMode {
    /// The word `form`.
    #[serde(rename = "form")]
    Form,
}

/// A page to visit. Since 2025-11-25.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ElicitRequestUrlParams {
    /// [`UrlMode`].
    pub mode: UrlMode,
    /// Why it is asked.
    pub message: String,
    /// The page.
    pub url: String,
}

/// The word `url`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UrlMode {
    /// The word `url`.
    #[serde(rename = "url")]
    Url,
}

/// The fields of a form: a flat object of simple values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestedSchema {
    /// The dialect, if it matters.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The word `object`.
    #[serde(rename = "type")]
    kind: ObjectKind,
    /// The fields, in the order that they should be shown in.
    pub properties: Properties,
    /// Names of the fields that must be filled in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ObjectKind {
    Object,
}

impl RequestedSchema {
    /// A form without fields.
    pub fn new() -> Self {
        Self { schema: None, kind: ObjectKind::Object, properties: Properties(Vec::new()), required: Vec::new() }
    }

    /// Adds a field that may be left empty.
    #[must_use]
    pub fn optional(mut self, name: impl Into<String>, field: impl Into<PrimitiveSchemaDefinition>) -> Self {
        self.properties.0.push((name.into(), field.into()));
        self
    }

    /// Adds a field that must be filled in.
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

/// Fields by name, in order.
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
                f.write_str("an object of fields")
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

/// One field of a form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum PrimitiveSchemaDefinition {
    /// Text, or one of several texts.
    String(StringField),
    /// A number.
    Number(NumberSchema),
    /// A whole number.
    Integer(NumberSchema),
    /// Yes or no.
    Boolean(BooleanSchema),
    /// Some of several texts.
    Array(MultiSelectField),
}

/// A field whose value is a string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StringField {
    /// One of several texts that have titles.
    Titled(TitledSingleSelectEnumSchema),
    /// The same as it was written before 2025-11-25.
    LegacyTitled(LegacyTitledEnumSchema),
    /// One of several texts.
    Untitled(UntitledSingleSelectEnumSchema),
    /// Any text.
    Plain(StringSchema),
}

impl StringField {
    /// The texts to choose from; `None` if any text will do.
    pub fn options(&self) -> Option<Vec<&str>> {
        match self {
            Self::Titled(field) => Some(field.one_of.iter().map(|option| option.value.as_str()).collect()),
            Self::LegacyTitled(field) => Some(field.options.iter().map(String::as_str).collect()),
            Self::Untitled(field) => Some(field.options.iter().map(String::as_str).collect()),
            Self::Plain(_) => None,
        }
    }
}

/// A field whose value is a list of strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MultiSelectField {
    /// Some of several texts that have titles.
    Titled(TitledMultiSelectEnumSchema),
    /// Some of several texts.
    Untitled(UntitledMultiSelectEnumSchema),
}

impl MultiSelectField {
    /// The texts to choose from.
    pub fn options(&self) -> Vec<&str> {
        match self {
            Self::Titled(field) => field.items.any_of.iter().map(|option| option.value.as_str()).collect(),
            Self::Untitled(field) => field.items.options.iter().map(String::as_str).collect(),
        }
    }
}

/// Any text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StringSchema {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What to fill in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Least number of characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_length: Option<u64>,
    /// Greatest number of characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u64>,
    /// `email`, `uri`, `date` or `date-time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// What is filled in beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// A number.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NumberSchema {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What to fill in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The least value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<serde_json::Number>,
    /// The greatest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<serde_json::Number>,
    /// What is filled in beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Number>,
}

/// Yes or no.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BooleanSchema {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What to fill in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What is filled in beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
}

/// One of several texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UntitledSingleSelectEnumSchema {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What to fill in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The texts.
    #[serde(rename = "enum")]
    pub options: Vec<String>,
    /// What is chosen beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// One of several texts that have titles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TitledSingleSelectEnumSchema {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What to fill in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The texts.
    pub one_of: Vec<TitledOption>,
    /// What is chosen beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// One of several texts that have titles, as it was written before 2025-11-25.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LegacyTitledEnumSchema {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What to fill in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The texts.
    #[serde(rename = "enum")]
    pub options: Vec<String>,
    /// Their titles, in the same order.
    pub enum_names: Vec<String>,
    /// What is chosen beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// Some of several texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UntitledMultiSelectEnumSchema {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What to fill in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The least number to choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_items: Option<u64>,
    /// The greatest number to choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_items: Option<u64>,
    /// The texts.
    pub items: UntitledItems,
    /// What is chosen beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Vec<String>>,
}

/// The texts of an [`UntitledMultiSelectEnumSchema`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UntitledItems {
    #[serde(rename = "type")]
    kind: StringKind,
    /// The texts.
    #[serde(rename = "enum")]
    pub options: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StringKind {
    String,
}

impl UntitledMultiSelectEnumSchema {
    /// Any number of these texts.
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

/// Some of several texts that have titles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TitledMultiSelectEnumSchema {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What to fill in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The least number to choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_items: Option<u64>,
    /// The greatest number to choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_items: Option<u64>,
    /// The texts.
    pub items: TitledItems,
    /// What is chosen beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Vec<String>>,
}

/// The texts of a [`TitledMultiSelectEnumSchema`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TitledItems {
    /// The texts.
    pub any_of: Vec<TitledOption>,
}

/// A text to choose, and what the person sees for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TitledOption {
    /// The text.
    #[serde(rename = "const")]
    pub value: String,
    /// What the person sees.
    pub title: String,
}

impl TitledOption {
    /// A text and what the person sees for it.
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

/// The client's answer to `elicitation/create`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ElicitResult {
    /// What the person did.
    pub action: ElicitAction,
    /// What was filled in, if a form was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<JsonObject>,
}

/// What a person did with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ElicitAction {
    /// Agreed.
    Accept,
    /// Refused.
    Decline,
    /// Went away without deciding.
    Cancel,
}
