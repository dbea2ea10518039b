//! What a list of tools says that a client has to do: which parameters to mirror, and which tools to leave out.

use std::collections::HashMap;

use mcp_protocol::{
    MirroredParameter,
    json::{self, Budget},
    mirrored_parameters,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{message::with_part, received};

/// What a schema may cost in memory: about 20,000 values, more than the schemas of a hundred tools have. Much less than a
/// message's budget, since each annotation is compared with all before it.
const SCHEMA_BUDGET: Budget = Budget::memory(8 * 1024 * 1024);
/// The names that are kept.
const MAX_KEPT_BYTES: usize = 4 * 1024 * 1024;

/// The tools that were listed.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    mirrored: HashMap<String, Vec<MirroredParameter>>,
    kept_bytes: usize,
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
struct Listed<'a> {
    name: String,
    #[serde(borrow)]
    input_schema: Option<&'a RawValue>,
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
        let Ok(list) = json::borrow::<List<'_>>(result.get()) else {
            return (None, None);
        };
        let Ok(tools) = received::read::<Vec<Box<RawValue>>>(list.tools.get()) else {
            return (list.next_cursor, None);
        };
        let kept: Vec<&str> = tools.iter().filter(|tool| self.keep(tool)).map(|tool| tool.get()).collect();
        let without =
            (kept.len() < tools.len()).then(|| with_part(message, list.tools.get(), &format!("[{}]", kept.join(","))));
        (list.next_cursor, without)
    }

    fn keep(&mut self, tool: &RawValue) -> bool {
        let Ok(listed) = json::borrow::<Listed<'_>>(tool.get()) else {
            // The client may make sense of it.
            return true;
        };
        let schema = listed.input_schema.map_or("null", RawValue::get);
        let mirrored = json::read::<Value>(schema, SCHEMA_BUDGET).map_err(|error| error.to_string());
        match mirrored.and_then(|schema| mirrored_parameters(&schema)) {
            Ok(mirrored) => {
                self.note(listed.name, mirrored);
                true
            }
            Err(mistake) => {
                tracing::warn!(tool = listed.name, mistake, "a tool is left out");
                false
            }
        }
    }

    /// Keeps what a tool wants, unless a server has listed more tools than there is room for.
    fn note(&mut self, name: String, mirrored: Vec<MirroredParameter>) {
        let texts = mirrored.iter().flat_map(|own| own.path.iter().chain([&own.header]));
        let bytes = name.len() + texts.map(String::len).sum::<usize>();
        if self.kept_bytes + bytes > MAX_KEPT_BYTES {
            tracing::warn!("the server has listed too many tools: forgetting those before");
            (self.mirrored, self.kept_bytes) = (HashMap::new(), 0);
        }
        if self.mirrored.insert(name, mirrored).is_none() {
            self.kept_bytes += bytes;
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
