//! Parameters of a request, read once: the members that any method has, each unread.
//! Schema: `CallToolRequestParams`, `GetPromptRequestParams`, `ReadResourceRequestParams`, `PaginatedRequestParams`,
//! `CompleteRequestParams`, `InitializeRequestParams`, `SetLevelRequestParams`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{self, JsonError};

/// The members of `params`, as they came. `null` counts as absent. A member that is there twice makes the parameters invalid.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestParams<'a> {
    /// Metadata: see [`RequestMeta`](crate::RequestMeta).
    #[serde(borrow, rename = "_meta", default)]
    pub meta: Option<&'a RawValue>,
    /// Which tool or prompt: see [`name`](Self::name).
    #[serde(borrow, default)]
    pub name: Option<&'a RawValue>,
    /// Which resource: see [`uri`](Self::uri).
    #[serde(borrow, default)]
    pub uri: Option<&'a RawValue>,
    /// Arguments of a tool or prompt: an object when well-formed.
    #[serde(borrow, default)]
    pub arguments: Option<&'a RawValue>,
    /// Where a list goes on: see [`cursor`](Self::cursor).
    #[serde(borrow, default)]
    pub cursor: Option<&'a RawValue>,
    /// Answers to what the server asked last, by the keys of their questions: an object when well-formed. Since 2026-07-28.
    #[serde(borrow, default)]
    pub input_responses: Option<&'a RawValue>,
    /// The state that the server wants back: see [`request_state`](Self::request_state). Since 2026-07-28.
    #[serde(borrow, default)]
    pub request_state: Option<&'a RawValue>,
    /// What has the argument to complete: a [`CompletionReference`](crate::CompletionReference).
    #[serde(borrow, rename = "ref", default)]
    pub reference: Option<&'a RawValue>,
    /// The argument to complete: a [`CompletionArgument`](crate::CompletionArgument).
    #[serde(borrow, default)]
    pub argument: Option<&'a RawValue>,
    /// What else is known when an argument is completed: a [`CompletionContext`](crate::CompletionContext).
    #[serde(borrow, default)]
    pub context: Option<&'a RawValue>,
    /// The revision that `initialize` asks for: see [`protocol_version`](Self::protocol_version).
    #[serde(borrow, default)]
    pub protocol_version: Option<&'a RawValue>,
    /// The level of `logging/setLevel`: a [`LoggingLevel`](crate::LoggingLevel).
    #[serde(borrow, default)]
    pub level: Option<&'a RawValue>,
}

impl<'a> RequestParams<'a> {
    /// Reads the members of a request's parameters. Without any there are none.
    ///
    /// # Errors
    ///
    /// When the parameters are no object, or have a member twice.
    pub fn read(params: Option<&'a RawValue>) -> Result<Self, JsonError> {
        match params.map(RawValue::get) {
            None => Ok(Self::default()),
            // A struct could be read from an array, too.
            Some(text) if text.starts_with('{') => json::borrow(text),
            Some(_) => Err(JsonError::Malformed("the parameters are an object".to_owned())),
        }
    }

    /// Which tool or prompt.
    ///
    /// # Errors
    ///
    /// When there is no name, or it is no string.
    pub fn name(&self) -> Result<Cow<'a, str>, JsonError> {
        required("name", self.name)
    }

    /// Which resource.
    ///
    /// # Errors
    ///
    /// When there is no URI, or it is no string.
    pub fn uri(&self) -> Result<Cow<'a, str>, JsonError> {
        required("uri", self.uri)
    }

    /// Where a list goes on: a `nextCursor` of the same list.
    ///
    /// # Errors
    ///
    /// When it is no string.
    pub fn cursor(&self) -> Result<Option<Cow<'a, str>>, JsonError> {
        self.cursor.map(|raw| text("cursor", raw)).transpose()
    }

    /// The state that the server wants back, as it was given out.
    ///
    /// # Errors
    ///
    /// When it is no string.
    pub fn request_state(&self) -> Result<Option<Cow<'a, str>>, JsonError> {
        self.request_state.map(|raw| text("requestState", raw)).transpose()
    }

    /// The revision that `initialize` asks for.
    ///
    /// # Errors
    ///
    /// When there is none, or it is no string.
    pub fn protocol_version(&self) -> Result<Cow<'a, str>, JsonError> {
        required("protocolVersion", self.protocol_version)
    }
}

fn required<'a>(member: &'static str, raw: Option<&'a RawValue>) -> Result<Cow<'a, str>, JsonError> {
    text(member, raw.ok_or_else(|| JsonError::Malformed(format!("missing field `{member}`")))?)
}

/// A string, borrowed unless it has escapes.
fn text<'a>(member: &'static str, raw: &'a RawValue) -> Result<Cow<'a, str>, JsonError> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let text: Result<Text<'_>, _> = json::borrow(raw.get());
    text.map(|text| text.0).map_err(|_| JsonError::Malformed(format!("`{member}` must be a string")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn members_are_read_once_and_null_is_absent() {
        let params =
            RequestParams::read(Some(raw(r#"{"name":"a\nb","uri":null,"arguments":{"x":1},"other":[]}"#))).unwrap();

        assert_eq!(params.name().unwrap(), "a\nb");
        assert_eq!(params.arguments.unwrap().get(), r#"{"x":1}"#);
        assert!(params.uri.is_none() && params.cursor().unwrap().is_none());
        assert!(RequestParams::read(None).unwrap().name.is_none());
    }

    #[test]
    fn what_is_no_object_or_has_a_member_twice_is_refused() {
        for text in [r#"["name"]"#, r#"{"name":"a","name":"b"}"#, r#"{"_meta":{},"_meta":{}}"#, "1"] {
            assert!(RequestParams::read(Some(raw(text))).is_err(), "{text}");
        }
        for (text, complaint) in [("{}", "missing field `name`"), (r#"{"name":1}"#, "`name` must be a string")] {
            let params = RequestParams::read(Some(raw(text))).unwrap();
            assert!(params.name().unwrap_err().to_string().contains(complaint), "{text}");
        }
    }
}
