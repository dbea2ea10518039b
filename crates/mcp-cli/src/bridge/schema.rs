//! Values that the bridge checks against a schema of the server's: answers to forms, and structured results.
//!
//! Both the schema and, often, the value are the server's, so that the cost of the check is bounded before it begins. What would
//! cost more is not checked.

use mcp_protocol::json::shortened;
use serde_json::Value;

use crate::received;

/// Parts of a schema, with those that its references lead to.
const MAX_PARTS: usize = 2_000;
/// Parts of a schema, times the bytes of a value.
const MAX_WORK: usize = 50_000_000;
const MAX_DEPTH: usize = 100;

/// Checks a value. What cannot be checked, such as one with a schema that refers to itself, is taken.
///
/// # Errors
///
/// What is wrong first.
pub(super) fn check(schema: &str, value: &str) -> Result<(), String> {
    let (Ok(schema), Ok(read)) = (received::read::<Value>(schema), received::read::<Value>(value)) else {
        return Ok(());
    };
    let mut parts = 0;
    let is_bounded = count(&schema, &schema, 0, &mut parts);
    let work = parts.saturating_mul(value.len());
    // Without a way to fetch what a reference to another place means.
    let Some(validator) = jsonschema::validator_for(&schema).ok().filter(|_| is_bounded && work <= MAX_WORK) else {
        tracing::info!("a value is not checked: its schema cannot be used");
        return Ok(());
    };
    let Err(error) = validator.validate(&read) else { return Ok(()) };
    let path = shortened(&error.instance_path().as_str().trim_start_matches('/').replace('/', "."));
    let place = if path.is_empty() { String::new() } else { format!("`{path}`: ") };
    Err(format!("{place}{}", shortened(&error.masked_with("the value"))))
}

/// Counts the parts of a schema; whether they have an end.
fn count(schema: &Value, root: &Value, depth: usize, parts: &mut usize) -> bool {
    *parts += 1;
    if *parts > MAX_PARTS || depth > MAX_DEPTH {
        return false;
    }
    match schema {
        Value::Object(members) => members.iter().all(|(name, own)| match (name.as_str(), own) {
            // Counted where a reference leads to them.
            ("$defs" | "definitions", _) => true,
            ("$ref", Value::String(target)) => {
                let target = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
                target.is_some_and(|target| count(target, root, depth + 1, parts))
            }
            ("$dynamicRef" | "$recursiveRef", _) => false,
            _ => count(own, root, depth + 1, parts),
        }),
        Value::Array(elements) => elements.iter().all(|own| count(own, root, depth + 1, parts)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C28
    #[test]
    fn a_value_fits_its_schema() {
        let schema = r##"{"type":"object","properties":{"n":{"$ref":"#/$defs/N"}},"required":["n"],"$defs":{"N":{"type":"integer","minimum":1}}}"##;

        assert_eq!(check(schema, r#"{"n":1.0}"#), Ok(()));
        assert_eq!(check(schema, r#"{"n":0}"#).unwrap_err(), "`n`: the value is less than the minimum of 1");
        assert!(check(schema, "{}").unwrap_err().contains("\"n\""));
    }

    /// C28: what a hostile schema would make of it is not begun.
    #[test]
    fn a_schema_without_an_end_is_not_used() {
        let doubling: Vec<String> = (0..40)
            .map(|n| format!(r##""d{n}":{{"allOf":[{{"$ref":"#/$defs/d{0}"}},{{"$ref":"#/$defs/d{0}"}}]}}"##, n + 1))
            .collect();
        let doubling = format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{},"d40":false}}}}"##, doubling.join(","));
        let wide = format!(r#"{{"enum":[{}0]}}"#, "0,".repeat(3_000));
        for schema in [
            r##"{"$ref":"#"}"##,
            r##"{"properties":{"a":{"$ref":"#"}}}"##,
            r#"{"$ref":"https://example.com/s"}"#,
            &doubling,
            &wide,
        ] {
            assert_eq!(check(schema, r#"{"a":{"a":1}}"#), Ok(()), "{schema}");
        }
        let names: Vec<String> = (0..100).map(|n| format!(r#""a{n}""#)).collect();
        let parts = format!(r#"{{"type":"object","required":[{}]}}"#, names.join(","));
        assert!(check(&parts, r#""x""#).is_err());
        assert_eq!(check(&parts, &format!(r#""{}""#, "x".repeat(1_000_000))), Ok(()));
    }
}
