//! Tool parameters that clients repeat in headers, declared by `x-mcp-header` annotations in the input schema
//! (2026-07-28, Streamable HTTP, ["Custom Headers from Tool
//! Parameters"](https://modelcontextprotocol.io/specification/2026-07-28/basic/transports)).

use serde_json::Value;

/// Schema annotation that makes clients mirror a parameter in a header.
pub const HEADER_ANNOTATION: &str = "x-mcp-header";

/// Maximum number of mirrored parameters: each stores its path.
const MAX_MIRRORED: usize = 100;

/// Parameter whose value clients repeat in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirroredParameter {
    /// Header name after `Mcp-Param-`, as written in the schema. Header names are case-insensitive.
    pub header: String,
    /// Property names from the root to the value.
    pub path: Vec<String>,
}

/// Returns the `x-mcp-header` annotations of an input schema.
///
/// # Errors
///
/// Returns an error if an annotation violates the specification: clients would drop the tool.
pub fn mirrored_parameters(schema: &Value) -> Result<Vec<MirroredParameter>, String> {
    let mut found = Vec::new();
    collect(schema, &mut Vec::new(), &mut found)?;
    if found.len() != count_annotations(schema) {
        return Err(format!(
            "`{HEADER_ANNOTATION}` is only allowed on a property that is reachable from the root through `properties` alone"
        ));
    }
    for (index, parameter) in found.iter().enumerate() {
        if found[..index].iter().any(|other| other.header.eq_ignore_ascii_case(&parameter.header)) {
            return Err(format!("duplicate `{HEADER_ANNOTATION}` \"{}\"", parameter.header));
        }
    }
    Ok(found)
}

fn collect(schema: &Value, path: &mut Vec<String>, found: &mut Vec<MirroredParameter>) -> Result<(), String> {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        path.push(name.clone());
        if let Some(header) = property.get(HEADER_ANNOTATION) {
            let header = check_annotation(header, property)?;
            if found.len() == MAX_MIRRORED {
                return Err(format!("more than {MAX_MIRRORED} parameters have `{HEADER_ANNOTATION}`"));
            }
            found.push(MirroredParameter { header: header.to_owned(), path: path.clone() });
        }
        collect(property, path, found)?;
        path.pop();
    }
    Ok(())
}

fn check_annotation<'a>(header: &'a Value, property: &Value) -> Result<&'a str, String> {
    let header = header.as_str().ok_or_else(|| format!("`{HEADER_ANNOTATION}` must be a string"))?;
    if header.is_empty() || !header.bytes().all(is_token_byte) {
        return Err(format!("`{HEADER_ANNOTATION}` \"{header}\" is not a header name (RFC 9110, section 5.1)"));
    }
    match property.get("type").and_then(Value::as_str) {
        Some("string" | "integer" | "boolean") => Ok(header),
        _ => Err(format!("the parameter with `{HEADER_ANNOTATION}` \"{header}\" must be a string, integer or boolean")),
    }
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Counts the annotations anywhere in a schema, except properties of that name.
fn count_annotations(schema: &Value) -> usize {
    match schema {
        Value::Object(members) => {
            let own = usize::from(members.contains_key(HEADER_ANNOTATION));
            let nested = members.iter().map(|(keyword, value)| match (keyword.as_str(), value) {
                // Maps from names to schemas.
                (
                    "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas",
                    Value::Object(map),
                ) => map.values().map(count_annotations).sum(),
                // Data, not schemas.
                ("default" | "const" | "enum" | "examples", _) => 0,
                (_, value) => count_annotations(value),
            });
            own + nested.sum::<usize>()
        }
        Value::Array(items) => items.iter().map(count_annotations).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(property: &Value) -> Value {
        json!({ "type": "object", "properties": { "region": property } })
    }

    #[test]
    fn annotations_are_returned_with_their_path() {
        let schema = json!({ "type": "object", "properties": {
            "where": { "type": "object", "properties": { "region": { "type": "string", "x-mcp-header": "Region" } } },
            "x-mcp-header": { "type": "string" },
        } });

        let found = mirrored_parameters(&schema).unwrap();

        let path = vec!["where".to_owned(), "region".to_owned()];
        assert_eq!(found, [MirroredParameter { header: "Region".to_owned(), path }]);
    }

    /// Schema of a foreign server, with possibly long and nested names.
    #[test]
    fn mirrored_parameters_are_limited_to_100() {
        let schema = |count: usize| {
            let property =
                |index| (format!("p{index}"), json!({ "type": "string", "x-mcp-header": format!("h{index}") }));
            json!({ "type": "object", "properties": Value::Object((0..count).map(property).collect()) })
        };

        assert_eq!(mirrored_parameters(&schema(100)).unwrap().len(), 100);
        assert!(mirrored_parameters(&schema(101)).unwrap_err().contains("more than 100"));
    }

    #[test]
    fn invalid_annotations_are_rejected() {
        for (property, complaint) in [
            (json!({ "type": "string", "x-mcp-header": "" }), "is not a header name"),
            (json!({ "type": "string", "x-mcp-header": "a b" }), "is not a header name"),
            (json!({ "type": "string", "x-mcp-header": 5 }), "must be a string"),
            (json!({ "type": "number", "x-mcp-header": "R" }), "must be a string, integer or boolean"),
            (json!({ "x-mcp-header": "R" }), "must be a string, integer or boolean"),
            (json!({ "anyOf": [{ "type": "string", "x-mcp-header": "R" }] }), "through `properties` alone"),
            (json!({ "items": { "type": "string", "x-mcp-header": "R" } }), "through `properties` alone"),
        ] {
            let error = mirrored_parameters(&schema(&property)).unwrap_err();

            assert!(error.contains(complaint), "{property}: {error}");
        }
        let twice = json!({ "type": "object", "properties": {
            "a": { "type": "string", "x-mcp-header": "Region" },
            "b": { "type": "string", "x-mcp-header": "region" },
        } });
        assert!(mirrored_parameters(&twice).unwrap_err().contains("duplicate"));
    }
}
