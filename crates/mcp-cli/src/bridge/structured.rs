//! Structured results of tools, checked against the schemas that a list of tools gave for them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use mcp_protocol::json;
use serde_json::value::RawValue;

use super::{member, schema, text_member};
use crate::received;

/// The schemas that are kept.
const MAX_KEPT_BYTES: usize = 4 * 1024 * 1024;

/// The schemas of results, by the tools' names.
#[derive(Default)]
pub(super) struct OutputSchemas(Mutex<HashMap<String, Box<RawValue>>>);

impl OutputSchemas {
    /// Caches the output schemas of a result of `tools/list`.
    pub(super) fn learn(&self, result: &RawValue) {
        let tools = member(result, "tools").and_then(|own| received::read::<Vec<Box<RawValue>>>(own.get()).ok());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes: usize = kept.iter().map(|(name, schema)| name.len() + schema.get().len()).sum();
        for tool in tools.unwrap_or_default() {
            let Some(name) = text_member(&tool, "name") else { continue };
            match member(&tool, "outputSchema") {
                Some(schema) if bytes + schema.get().len() <= MAX_KEPT_BYTES => {
                    bytes += name.len() + schema.get().len();
                    kept.insert(name, schema.to_owned());
                }
                _ => _ = kept.remove(&name),
            }
        }
    }

    /// Checks the result of `tools/call`.
    ///
    /// # Errors
    ///
    /// What does not fit.
    pub(super) fn check(&self, call: &RawValue, result: &RawValue) -> Result<(), String> {
        let is_error = member(result, "isError").is_some_and(|own| own.get() == "true");
        let structured = member(result, "structuredContent").filter(|_| !is_error);
        let (Some(structured), Some(name)) = (structured, text_member(call, "name")) else { return Ok(()) };
        let schema = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        let checked = schema.map_or(Ok(()), |schema| schema::check(schema.get(), structured.get()));
        checked.map_err(|error| {
            format!(
                "the structured result of {} does not fit the tool's output schema: {error}",
                json::shortened(&name)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C28
    #[test]
    fn a_structured_result_fits_the_schema_of_its_tool() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let schemas = OutputSchemas::default();
        let schema = r#"{"type":"object","properties":{"n":{"type":"number"}}}"#;
        schemas.learn(&raw(&format!(r#"{{"tools":[{{"name":"t","outputSchema":{schema}}},{{"name":"u"}}]}}"#)));
        let check = |call: &str, result: &str| schemas.check(&raw(call), &raw(result));

        let error = check(r#"{"name":"t"}"#, r#"{"structuredContent":{"n":"x"}}"#).unwrap_err();
        assert!(error.contains("`n`"), "{error}");
        for (call, result) in [
            (r#"{"name":"t"}"#, r#"{"structuredContent":{"n":1}}"#),
            (r#"{"name":"t"}"#, r#"{"isError":true,"structuredContent":{"n":"x"}}"#),
            (r#"{"name":"t"}"#, r#"{"content":[]}"#),
            (r#"{"name":"u"}"#, r#"{"structuredContent":5}"#),
            (r#"{"name":"v"}"#, r#"{"structuredContent":5}"#),
        ] {
            check(call, result).unwrap();
        }
        schemas.learn(&raw(r#"{"tools":[{"name":"t"}]}"#));
        check(r#"{"name":"t"}"#, r#"{"structuredContent":{"n":"x"}}"#).unwrap();
    }
}
