//! Request parameters: the members that any method has, each unparsed. Schema: `CallToolRequestParams`,
//! `GetPromptRequestParams`, `ReadResourceRequestParams`, `PaginatedRequestParams`, `CompleteRequestParams`,
//! `InitializeRequestParams`, `SetLevelRequestParams`
//! (<https://modelcontextprotocol.io/specification/2026-07-28/schema>).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{self, JsonError};

/// Unparsed members of `params`. `null` counts as absent. Duplicate members make the parameters invalid.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestParams<'a> {
    /// Metadata: a [`RequestMeta`](crate::RequestMeta).
    #[serde(borrow, rename = "_meta", default)]
    pub meta: Option<&'a RawValue>,
    /// Name of the tool or prompt: see [`name`](Self::name).
    #[serde(borrow, default)]
    pub name: Option<&'a RawValue>,
    /// URI of the resource: see [`uri`](Self::uri).
    #[serde(borrow, default)]
    pub uri: Option<&'a RawValue>,
    /// Arguments of a tool or prompt: an object if well-formed.
    #[serde(borrow, default)]
    pub arguments: Option<&'a RawValue>,
    /// Position in a list: see [`cursor`](Self::cursor).
    #[serde(borrow, default)]
    pub cursor: Option<&'a RawValue>,
    /// Responses to the input requests of the previous result, by key: an object if well-formed. Since 2026-07-28.
    #[serde(borrow, default)]
    pub input_responses: Option<&'a RawValue>,
    /// State of the previous result: see [`request_state`](Self::request_state). Since 2026-07-28.
    #[serde(borrow, default)]
    pub request_state: Option<&'a RawValue>,
    /// Owner of the argument to complete: a [`CompletionReference`](crate::CompletionReference).
    #[serde(borrow, rename = "ref", default)]
    pub reference: Option<&'a RawValue>,
    /// The argument to complete: a [`CompletionArgument`](crate::CompletionArgument).
    #[serde(borrow, default)]
    pub argument: Option<&'a RawValue>,
    /// Further input to a completion: a [`CompletionContext`](crate::CompletionContext).
    #[serde(borrow, default)]
    pub context: Option<&'a RawValue>,
    /// Protocol version that `initialize` requests: see [`protocol_version`](Self::protocol_version).
    #[serde(borrow, default)]
    pub protocol_version: Option<&'a RawValue>,
    /// Level of `logging/setLevel`: a [`LoggingLevel`](crate::LoggingLevel).
    #[serde(borrow, default)]
    pub level: Option<&'a RawValue>,
    /// Id of a task: see [`task_id`](Self::task_id).
    #[cfg(feature = "tasks")]
    #[serde(borrow, default)]
    pub task_id: Option<&'a RawValue>,
}

impl<'a> RequestParams<'a> {
    /// Splits the parameters of a request into members. Absent parameters have no members.
    ///
    /// # Errors
    ///
    /// Returns an error if the parameters are not an object, or have duplicate members.
    pub fn read(params: Option<&'a RawValue>) -> Result<Self, JsonError> {
        match params.map(RawValue::get) {
            None => Ok(Self::default()),
            // serde would also deserialize a struct from an array.
            Some(text) if text.starts_with('{') => json::borrow(text),
            Some(_) => Err(JsonError::Malformed("`params` must be an object".to_owned())),
        }
    }

    /// Returns the name of the tool or prompt.
    ///
    /// # Errors
    ///
    /// Returns an error if the name is missing or not a string.
    pub fn name(&self) -> Result<Cow<'a, str>, JsonError> {
        required("name", self.name)
    }

    /// Returns the URI of the resource.
    ///
    /// # Errors
    ///
    /// Returns an error if the URI is missing or not a string.
    pub fn uri(&self) -> Result<Cow<'a, str>, JsonError> {
        required("uri", self.uri)
    }

    /// Returns the position in a list: a `nextCursor` of the same list.
    ///
    /// # Errors
    ///
    /// Returns an error if the value is not a string.
    pub fn cursor(&self) -> Result<Option<Cow<'a, str>>, JsonError> {
        self.cursor.map(|raw| text("cursor", raw)).transpose()
    }

    /// Returns the state of the previous result, unchanged by the client.
    ///
    /// # Errors
    ///
    /// Returns an error if the value is not a string.
    pub fn request_state(&self) -> Result<Option<Cow<'a, str>>, JsonError> {
        self.request_state.map(|raw| text("requestState", raw)).transpose()
    }

    /// Returns the protocol version that `initialize` requests.
    ///
    /// # Errors
    ///
    /// Returns an error if the version is missing or not a string.
    pub fn protocol_version(&self) -> Result<Cow<'a, str>, JsonError> {
        required("protocolVersion", self.protocol_version)
    }

    /// Returns the id of the task.
    ///
    /// # Errors
    ///
    /// Returns an error if the id is missing or not a string.
    #[cfg(feature = "tasks")]
    pub fn task_id(&self) -> Result<Cow<'a, str>, JsonError> {
        required("taskId", self.task_id)
    }
}

fn required<'a>(member: &'static str, raw: Option<&'a RawValue>) -> Result<Cow<'a, str>, JsonError> {
    text(member, raw.ok_or_else(|| JsonError::Malformed(format!("missing field `{member}`")))?)
}

/// Parses a string; borrows it unless it has escapes.
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
    fn members_are_split_and_null_is_absent() {
        let params =
            RequestParams::read(Some(raw(r#"{"name":"a\nb","uri":null,"arguments":{"x":1},"other":[]}"#))).unwrap();

        assert_eq!(params.name().unwrap(), "a\nb");
        assert_eq!(params.arguments.unwrap().get(), r#"{"x":1}"#);
        assert!(params.uri.is_none() && params.cursor().unwrap().is_none());
        assert!(RequestParams::read(None).unwrap().name.is_none());
    }

    #[test]
    fn non_objects_and_duplicate_members_are_rejected() {
        for text in [r#"["name"]"#, r#"{"name":"a","name":"b"}"#, r#"{"_meta":{},"_meta":{}}"#, "1"] {
            assert!(RequestParams::read(Some(raw(text))).is_err(), "{text}");
        }
        for (text, complaint) in [("{}", "missing field `name`"), (r#"{"name":1}"#, "`name` must be a string")] {
            let params = RequestParams::read(Some(raw(text))).unwrap();
            assert!(params.name().unwrap_err().to_string().contains(complaint), "{text}");
        }
    }
}
