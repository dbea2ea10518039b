//! Validation of arguments against a hand-written schema, at bounded cost.
//!
//! A validator visits a value once for each branch of a union. Where branches refer back to the schema itself, the
//! visits double with each level of nesting; and an explanation collects the errors of all branches. Both are bounded
//! here.

use std::collections::BTreeMap;

use mcp_protocol::json::shortened;
use serde_json::Value;

use super::check::Check;

/// Longer invalid arguments are rejected without a path.
const MAX_EXPLAINED_BYTES: usize = 4096;
/// Maximum number of visits of one value, by the references of a recursive schema.
const MAX_VISITS: f64 = 100_000.0;
/// The same where each visit may leave an error.
const MAX_EXPLAINED_VISITS: f64 = 1_000.0;

/// Compiles a hand-written schema. `jsonschema` is built without support for fetching references.
///
/// # Errors
///
/// When the schema is invalid.
pub(crate) fn compile(schema: &Value) -> Result<Check, String> {
    let validator = jsonschema::validator_for(schema).map_err(|error| error.to_string())?;
    let references = recursive_references(schema);
    let max_depth = max_depth(references, MAX_VISITS);
    let max_explained_depth = self::max_depth(references, MAX_EXPLAINED_VISITS);
    Ok(Box::new(move |value, bytes| {
        let depth = depth(value);
        if depth > max_depth {
            return Err(format!(
                "invalid arguments: they are nested {depth} levels deep; the schema of this tool, which refers to itself in \
                 {references} places, allows {max_depth}"
            ));
        }
        if validator.is_valid(value) {
            return Ok(());
        }
        if bytes > MAX_EXPLAINED_BYTES || depth > max_explained_depth {
            return Err(format!(
                "invalid arguments: they do not match the input schema of this tool; the path is reported for arguments of at most \
                 {MAX_EXPLAINED_BYTES} bytes, nested {max_explained_depth} levels deep"
            ));
        }
        // The first violation; its message masks the value, which would be copied as a whole.
        let Err(error) = validator.validate(value) else { return Ok(()) };
        let pointer = error.instance_path().as_str();
        let path = shortened(&pointer.trim_start_matches('/').replace('/', "."));
        let place = if path.is_empty() { String::new() } else { format!("`{path}`: ") };
        let given = value.pointer(pointer).map(shortened).unwrap_or_default();
        Err(format!("invalid arguments: {place}{}; given: {given}", shortened(&error.masked_with("the value"))))
    }))
}

/// Returns the depth at which a schema with this many references to itself visits a value at most `visits` times.
fn max_depth(references: usize, visits: f64) -> usize {
    const SMALLEST: usize = 4;
    match u32::try_from(references) {
        Ok(0 | 1) => mcp_protocol::json::MAX_DEPTH,
        Ok(references) => {
            let depth = (visits.ln() / f64::from(references).ln()).floor();
            // A small positive number.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 17")]
            let depth = depth as usize;
            depth.max(SMALLEST)
        }
        Err(_) => SMALLEST,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Counts the references of a schema that are recursive. References of unsupported kinds count as references to the
/// root.
fn recursive_references(schema: &Value) -> usize {
    let mut edges = Vec::new();
    collect(schema, ROOT, true, &mut edges);
    let mut targets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in &edges {
        targets.entry(from).or_default().push(to);
    }
    let reaches = |from: &str, to: &str| {
        let (mut seen, mut open) = (Vec::new(), vec![from]);
        while let Some(place) = open.pop() {
            if place == to {
                return true;
            }
            if !seen.contains(&place) {
                seen.push(place);
                open.extend(targets.get(place).into_iter().flatten());
            }
        }
        false
    };
    edges.iter().filter(|(from, to)| reaches(to, from)).count()
}

const ROOT: &str = "#";

/// Collects references, as pairs of the containing and the referenced definition.
fn collect(schema: &Value, place: &str, is_root: bool, edges: &mut Vec<(String, String)>) {
    let Value::Object(members) = schema else {
        for element in schema.as_array().into_iter().flatten() {
            collect(element, place, false, edges);
        }
        return;
    };
    for (keyword, value) in members {
        match keyword.as_str() {
            "$ref" | "$dynamicRef" | "$recursiveRef" => {
                let name = value.as_str().unwrap_or_default();
                let definition = ["#/$defs/", "#/definitions/"].iter().find_map(|folder| name.strip_prefix(folder));
                let is_definition = keyword == "$ref" && definition.is_some_and(|name| !name.contains('/'));
                edges.push((place.to_owned(), if is_definition { name } else { ROOT }.to_owned()));
            }
            "$defs" | "definitions" if is_root => {
                for (name, definition) in value.as_object().into_iter().flatten() {
                    collect(definition, &format!("#/{keyword}/{name}"), false, edges);
                }
            }
            // Data, not schemas.
            "default" | "const" | "enum" | "examples" => {}
            _ => collect(value, place, false, edges),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tree(branches: usize) -> Value {
        let branch = |kind| json!({ "properties": { "kind": { "const": kind }, "child": { "$ref": "#" } }, "required": ["kind"] });
        json!({ "type": "object", "oneOf": (0..branches).map(branch).collect::<Vec<_>>() })
    }

    fn nested(levels: usize, kind: Value) -> Value {
        (0..levels).fold(json!({ "kind": kind }), |child, _| json!({ "kind": 0, "child": child }))
    }

    /// A union that refers to itself.
    #[test]
    fn a_recursive_union_has_a_maximum_depth() {
        let check = compile(&tree(2)).unwrap();

        assert!(check(&nested(5, json!(0)), 100).is_ok());
        assert!(check(&nested(5, json!(7)), 100).unwrap_err().contains("not valid"));
        assert!(check(&nested(14, json!(7)), 100).unwrap_err().contains("do not match the input schema"));
        let error = check(&nested(60, json!(7)), 1_000).unwrap_err();
        assert!(error.contains("61 levels deep") && error.contains("allows 16"), "{error}");
    }

    #[test]
    fn recursive_references_are_counted() {
        let defs = |a: Value, b: Value| json!({ "$ref": "#/$defs/a", "$defs": { "a": a, "b": b } });
        for (schema, count) in [
            (json!({ "type": "object" }), 0),
            (tree(3), 3),
            (defs(json!({ "anyOf": [{ "$ref": "#/$defs/b" }, { "$ref": "#/$defs/b" }] }), json!({})), 0),
            (defs(json!({ "items": { "$ref": "#/$defs/b" } }), json!({ "items": { "$ref": "#/$defs/a" } })), 2),
            (defs(json!({ "items": { "$ref": "#/$defs/a" } }), json!({})), 1),
            (json!({ "properties": { "x": { "$dynamicRef": "#node" } } }), 1),
            (json!({ "const": { "$ref": "#" } }), 0),
        ] {
            assert_eq!(recursive_references(&schema), count, "{schema}");
        }
    }

    #[test]
    fn a_violation_has_its_path_and_the_actual_value() {
        let check = compile(&json!({ "properties": { "a": { "items": { "maximum": 3 } } } })).unwrap();

        let error = check(&json!({ "a": [1, 5, 6] }), 20).unwrap_err();

        assert_eq!(error, "invalid arguments: `a.1`: the value is greater than the maximum of 3; given: 5");
        assert!(check(&json!({ "a": [1, 5, 6] }), 5_000).unwrap_err().contains("at most 4096 bytes"));
    }
}
