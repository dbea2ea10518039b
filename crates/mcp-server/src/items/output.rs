//! Results of tools.

use mcp_protocol::{ContentBlock, JsonObject};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use crate::{
    arguments::derives::{DerivesJsonSchema, DerivesSerialize},
    schema,
};

/// The full result of a tool. Most tools return a simpler type that is [converted](IntoToolOutput) to it.
///
/// ```
/// # mod mcp_lambda { pub use mcp_protocol::ContentBlock; pub use mcp_server::*; }
/// use mcp_lambda::{ContentBlock, ToolOutput};
///
/// let picture = ContentBlock::image(b"...", "image/png");
/// let output = ToolOutput::new(["The chart.".into(), picture]).meta("com.example/chart", "bars");
/// # assert_eq!(output.content.len(), 2);
/// ```
#[derive(Debug, Clone, Default)]
pub struct ToolOutput {
    /// Content for the model.
    pub content: Vec<ContentBlock>,
    /// Structured content for programs.
    pub structured_content: Option<Box<RawValue>>,
    /// Whether the call failed. Usually a handler returns [`Err`] instead.
    pub is_error: bool,
    /// `_meta` of the result, for the client.
    pub meta: Option<JsonObject>,
}

impl ToolOutput {
    /// Creates a result of text, images, audio, links and resources.
    pub fn new<B: Into<ContentBlock>>(content: impl IntoIterator<Item = B>) -> Self {
        Self { content: content.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Adds a member to `_meta` of the result, which is for the client and not sent to the model.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.meta.get_or_insert_default().insert(key.into(), value.into());
        self
    }

    pub(crate) fn error(text: impl Into<String>) -> Self {
        Self { is_error: true, ..Self::new([text.into()]) }
    }
}

/// A type that a tool's handler may return.
#[diagnostic::on_unimplemented(
    message = "a tool returns text, content, `ToolOutput`, or `Json` of a type of its own, not `{Self}`",
    label = "its handler returns `Result<{Self}, HandlerError>`",
    note = "the type in `Json` derives `Serialize` of serde and `JsonSchema` of schemars"
)]
pub trait IntoToolOutput: Send {
    /// Returns the schema of the structured content, if there is one.
    fn output_schema() -> Option<Value> {
        None
    }

    /// Converts the value to the result.
    ///
    /// # Errors
    ///
    /// When the value cannot be serialized as JSON.
    fn into_tool_output(self) -> Result<ToolOutput, serde_json::Error>;
}

impl IntoToolOutput for ToolOutput {
    fn into_tool_output(self) -> Result<ToolOutput, serde_json::Error> {
        Ok(self)
    }
}

impl IntoToolOutput for String {
    fn into_tool_output(self) -> Result<ToolOutput, serde_json::Error> {
        Ok(ToolOutput::new([self]))
    }
}

impl IntoToolOutput for &'static str {
    fn into_tool_output(self) -> Result<ToolOutput, serde_json::Error> {
        Ok(ToolOutput::new([self]))
    }
}

impl IntoToolOutput for ContentBlock {
    fn into_tool_output(self) -> Result<ToolOutput, serde_json::Error> {
        Ok(ToolOutput::new([self]))
    }
}

impl IntoToolOutput for Vec<ContentBlock> {
    fn into_tool_output(self) -> Result<ToolOutput, serde_json::Error> {
        Ok(ToolOutput::new(self))
    }
}

/// A structured result, made by [`Json(value)`](fn@Json): the value as `structuredContent`, its JSON as a text block for
/// clients that read only text, and its schema as the tool's output schema. The type of the value derives `Serialize` and
/// `JsonSchema`.
///
/// [`with_text`](Self::with_text) replaces the text block, [`with_content`](Self::with_content) adds images, audio, links
/// and resources after it; the output schema stays.
///
/// Until 2025-11-25 structured content must be an object; older clients get other values as text only.
///
/// ```
/// # mod mcp_lambda { pub use mcp_protocol::ContentBlock; pub use mcp_server::*; }
/// use mcp_lambda::{ContentBlock, HandlerError, Json, NoArguments, Tool, ToolContext};
/// use schemars::JsonSchema;
/// use serde::Serialize;
///
/// #[derive(Serialize, JsonSchema)]
/// struct Thumbnail {
///     /// In pixels.
///     width: u32,
///     /// In pixels.
///     height: u32,
/// }
///
/// async fn thumbnail(_: ToolContext<()>, _: NoArguments) -> Result<Json<Thumbnail>, HandlerError> {
///     let picture = ContentBlock::image(b"...", "image/png");
///     Ok(Json(Thumbnail { width: 64, height: 48 }).with_text("The picture in 64 x 48 pixels.").with_content([picture]))
/// }
///
/// let tool = Tool::new("thumbnail", thumbnail).description("Returns a small version of the picture.").read_only();
/// # let _ = tool;
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Json<T> {
    /// The value.
    pub value: T,
    text: Option<String>,
    content: Vec<ContentBlock>,
    meta: Option<JsonObject>,
}

/// Returns `value` as a structured result. See [the type](struct@Json).
#[expect(non_snake_case, reason = "it is the constructor of the type of that name")]
pub fn Json<T>(value: T) -> Json<T> {
    Json { value, text: None, content: Vec::new(), meta: None }
}

impl<T> Json<T> {
    /// Replaces the JSON in the text block, for clients that read only text.
    #[must_use]
    pub fn with_text(self, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..self }
    }

    /// Adds images, audio, links or resources after the text block.
    #[must_use]
    pub fn with_content<B: Into<ContentBlock>>(mut self, content: impl IntoIterator<Item = B>) -> Self {
        self.content.extend(content.into_iter().map(Into::into));
        self
    }

    /// Adds a member to `_meta` of the result, which is for the client and not sent to the model.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.meta.get_or_insert_default().insert(key.into(), value.into());
        self
    }
}

impl<T: DerivesSerialize + DerivesJsonSchema + Send> IntoToolOutput for Json<T> {
    fn output_schema() -> Option<Value> {
        Some(schema::output_schema_of::<T>())
    }

    fn into_tool_output(self) -> Result<ToolOutput, serde_json::Error> {
        let json = to_raw_value(&self.value)?;
        let text = self.text.unwrap_or_else(|| json.get().to_owned());
        let mut content = Vec::with_capacity(1 + self.content.len());
        content.push(ContentBlock::text(text));
        content.extend(self.content);
        Ok(ToolOutput { content, structured_content: Some(json), is_error: false, meta: self.meta })
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::Serialize;
    use serde_json::json;

    use super::*;

    #[derive(Serialize, JsonSchema)]
    struct Sum {
        sum: u32,
    }

    #[test]
    fn a_structured_result_with_other_content_keeps_its_schema() {
        let picture = ContentBlock::image([1], "image/png");
        let link = ContentBlock::resource_link("sums", "sums://all");
        let result =
            Json(Sum { sum: 3 }).with_text("three").with_content([picture.clone()]).with_content([link.clone()]);
        assert!(Json::<Sum>::output_schema().unwrap()["properties"]["sum"].is_object());

        let output = result.meta("com.example/a", 1).meta("com.example/b", json!(["x"])).into_tool_output().unwrap();

        assert_eq!(output.content, [ContentBlock::text("three"), picture, link]);
        assert_eq!(output.structured_content.unwrap().get(), r#"{"sum":3}"#);
        assert_eq!(json!(output.meta), json!({ "com.example/a": 1, "com.example/b": ["x"] }));
    }

    #[test]
    fn a_structured_result_without_text_has_its_json_as_text() {
        let output = Json(Sum { sum: 3 }).with_content(["more"]).into_tool_output().unwrap();

        assert_eq!(output.content, [ContentBlock::text(r#"{"sum":3}"#), ContentBlock::text("more")]);
    }
}
