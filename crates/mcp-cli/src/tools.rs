//! What a list of tools says that a client has to do: which parameters to mirror, and which tools to leave out.

use std::collections::HashMap;

use mcp_protocol::{MirroredParameter, mirrored_parameters};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::message::with_part;

/// The tools that were listed.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    mirrored: HashMap<String, Vec<MirroredParameter>>,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    tools: &'a RawValue,
    #[serde(rename = "nextCursor")]
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    name: String,
    #[serde(default)]
    input_schema: Value,
}

impl Tools {
    /// Whether a tool has been listed.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.mirrored.contains_key(name)
    }

    /// The parameters that a tool wants mirrored.
    pub(crate) fn mirrored(&self, name: &str) -> &[MirroredParameter] {
        self.mirrored.get(name).map_or(&[], Vec::as_slice)
    }

    /// Learns from the result of `tools/list`. Returns the cursor of the next page, and, if a tool has annotations that
    /// the specification forbids, the message without it; everything else stays as it was written.
    pub(crate) fn learn(&mut self, message: &str, result: &RawValue) -> (Option<String>, Option<String>) {
        let Ok(list) = serde_json::from_str::<List<'_>>(result.get()) else {
            return (None, None);
        };
        let Ok(tools) = serde_json::from_str::<Vec<&RawValue>>(list.tools.get()) else {
            return (list.next_cursor, None);
        };
        let kept: Vec<&str> = tools.iter().filter(|tool| self.keep(tool)).map(|tool| tool.get()).collect();
        let without =
            (kept.len() < tools.len()).then(|| with_part(message, list.tools.get(), &format!("[{}]", kept.join(","))));
        (list.next_cursor, without)
    }

    fn keep(&mut self, tool: &RawValue) -> bool {
        let Ok(listed) = serde_json::from_str::<Listed>(tool.get()) else {
            // The client may make sense of it.
            return true;
        };
        match mirrored_parameters(&listed.input_schema) {
            Ok(mirrored) => {
                self.mirrored.insert(listed.name, mirrored);
                true
            }
            Err(mistake) => {
                tracing::warn!(tool = listed.name, mistake, "a tool is left out");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Shape;

    #[test]
    fn a_tool_with_a_bad_annotation_is_left_out_and_nothing_else_changes() {
        let bad =
            r#"{"name":"bad","inputSchema":{"type":"object","properties":{"a":{"type":"number","x-mcp-header":"A"}}}}"#;
        let good = r#"{ "name":"good", "x":1e400,"inputSchema":{"type":"object","properties":{"b":{"type":"string","x-mcp-header":"B"}}}}"#;
        let message = format!(r#"{{"id":1, "result":{{"z":[],"tools":[{bad}, {good}],"nextCursor":"c"}}}}"#);
        let shape: Shape<'_> = serde_json::from_str(&message).unwrap();
        let mut tools = Tools::default();

        let (next, without) = tools.learn(&message, shape.result.unwrap());

        assert_eq!(next.as_deref(), Some("c"));
        assert_eq!(without.unwrap(), format!(r#"{{"id":1, "result":{{"z":[],"tools":[{good}],"nextCursor":"c"}}}}"#));
        assert!(tools.knows("good") && !tools.knows("bad"));
        assert_eq!(tools.mirrored("good")[0].header, "B");
    }
}
