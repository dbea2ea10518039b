//! Serialization of results.

use mcp_protocol::{CallToolResult, Implementation, JsonObject, ProtocolVersion, ResultType, meta};
use serde_json::Value;

use super::call::{CallOutcome, Rendered, ResultKind};
use crate::ToolOutput;

/// Serializes results. The parts that all results share are rendered once.
pub(crate) struct Renderer {
    server_info: Value,
    /// The end of a modern result's JSON text: `_meta` and the closing brace.
    rendered_meta: String,
}

impl Renderer {
    pub(crate) fn new(info: &Implementation) -> Self {
        // A type of this crate with strings and lists only, which cannot fail.
        let server_info = serde_json::to_value(info).unwrap_or_default();
        let mut renderer = Self { server_info, rendered_meta: String::new() };
        renderer.rendered_meta = format!(r#","_meta":{}}}"#, Value::Object(renderer.meta()));
        renderer
    }

    /// Returns `_meta` of a modern result.
    pub(crate) fn meta(&self) -> JsonObject {
        JsonObject::from_iter([(meta::SERVER_INFO.to_owned(), self.server_info.clone())])
    }

    /// Returns `_meta` of a result in a revision; `None` in older ones.
    pub(crate) fn meta_for(&self, revision: ProtocolVersion) -> Option<JsonObject> {
        revision.is_modern().then(|| self.meta())
    }

    pub(crate) fn tool_outcome(&self, output: ToolOutput, revision: ProtocolVersion) -> CallOutcome {
        let kind = if output.is_error { ResultKind::Failed } else { ResultKind::Complete };
        match self.render_tool(output, revision) {
            Ok(json) => CallOutcome::from(Ok(Rendered::Own(json))).of_kind(kind),
            Err(error) => CallOutcome::fault(error),
        }
    }

    /// Renders a failed call as a result, which the model reads.
    pub(crate) fn tool_error(&self, text: String, revision: ProtocolVersion) -> CallOutcome {
        self.tool_outcome(ToolOutput::error(text), revision)
    }

    fn render_tool(&self, output: ToolOutput, revision: ProtocolVersion) -> Result<String, serde_json::Error> {
        let has_own_meta = output.meta.is_some();
        let meta = output.meta.map(|own| {
            let mut meta = self.meta_for(revision).unwrap_or_default();
            meta.extend(own);
            meta
        });
        let result = CallToolResult {
            result_type: Some(ResultType::Complete),
            content: output.content,
            structured_content: output.structured_content,
            is_error: output.is_error.then_some(true),
            meta,
        };
        let mut json = serde_json::to_string(&result.for_revision(revision))?;
        // An author's raw JSON may contain line breaks between tokens; an SSE event must not.
        if json.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
            json = json.replace(['\n', '\r'], " ");
        }
        // The shared part is appended where the object ends.
        if revision.is_modern() && !has_own_meta && json.pop().is_some() {
            json.push_str(&self.rendered_meta);
        }
        Ok(json)
    }
}

/// Returns the outcome with this result.
pub(crate) fn outcome_of<T: serde::Serialize>(result: &T) -> CallOutcome {
    match serde_json::to_string(result) {
        Ok(json) => CallOutcome::from(Ok(Rendered::Own(json))),
        Err(error) => CallOutcome::fault(error),
    }
}

/// Serializes a type of this crate with strings, numbers, lists and JSON only, which cannot fail.
pub(crate) fn shared<T: serde::Serialize>(value: &T) -> Rendered {
    Rendered::Shared(serde_json::to_string(value).unwrap_or_default().into())
}
