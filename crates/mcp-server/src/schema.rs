//! JSON Schema of arguments and results (2020-12), and the parameters that clients mirror into headers.

use mcp_protocol::JsonObject;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

/// The annotation that asks clients to mirror a parameter into a header (2026-07-28, Streamable HTTP, "Custom Headers
/// from Tool Parameters").
const HEADER_ANNOTATION: &str = "x-mcp-header";

/// The schema of `T`, as clients see it: nested types written out where they are used, since many clients do not
/// follow `$ref`, and without the name of the Rust type, which means nothing to a model.
pub(crate) fn input_schema_of<T: JsonSchema>() -> Value {
    let mut schema = schema_of::<T>(SchemaSettings::draft2020_12().for_deserialize());
    pin_mirrored_types(&mut schema);
    schema
}

/// The schema of `T` as it is written, which may differ from how it is read.
pub(crate) fn output_schema_of<T: JsonSchema>() -> Value {
    schema_of::<T>(SchemaSettings::draft2020_12().for_serialize())
}

fn schema_of<T: JsonSchema>(mut settings: SchemaSettings) -> Value {
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("title");
    schema.to_value()
}

/// Makes a schema fit for arguments: MCP wants `"type": "object"` at its root.
///
/// # Errors
///
/// When the schema describes something else, which no arguments could satisfy.
pub(crate) fn into_input_schema(mut schema: Value) -> Result<Value, String> {
    let Some(members) = schema.as_object_mut() else {
        return Err("its schema is not a JSON object".to_owned());
    };
    match members.get("type") {
        Some(Value::String(kind)) if kind == "object" => Ok(schema),
        // An enum of structs has no type of its own, only alternatives that have one.
        None => {
            members.insert("type".to_owned(), json!("object"));
            Ok(schema)
        }
        Some(other) => Err(format!("its arguments must be an object, but their schema says `\"type\": {other}`")),
    }
}

/// Clients drop a tool whose mirrored parameter has more than one type, so that an optional one (`[type, "null"]`) is
/// shown with its own alone: leaving it out is as good as null.
fn pin_mirrored_types(schema: &mut Value) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties.into_iter().flat_map(JsonObject::values_mut) {
        let primitive = property.get(HEADER_ANNOTATION).and(primitive_type(property)).map(str::to_owned);
        if let (Some(primitive), Some(members)) = (primitive, property.as_object_mut()) {
            members.insert("type".to_owned(), Value::from(primitive));
        }
        pin_mirrored_types(property);
    }
}

/// A parameter whose value clients repeat in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirroredParameter {
    /// The header's name after `Mcp-Param-`, in the author's spelling; header names ignore case.
    pub header: String,
    /// The chain of property names that leads to the value.
    pub path: Vec<String>,
}

/// Finds the `x-mcp-header` annotations of an input schema.
///
/// # Errors
///
/// When one breaks the specification's constraints; clients would drop the tool.
pub(crate) fn mirrored_parameters(schema: &Value) -> Result<Vec<MirroredParameter>, String> {
    let mut found = Vec::new();
    collect(schema, &mut Vec::new(), &mut found)?;
    if found.len() != count_annotations(schema) {
        return Err(format!(
            "`{HEADER_ANNOTATION}` may only stand on a property that is reached from the root by `properties` alone"
        ));
    }
    for (index, parameter) in found.iter().enumerate() {
        if found[..index].iter().any(|other| other.header.eq_ignore_ascii_case(&parameter.header)) {
            return Err(format!("`{HEADER_ANNOTATION}` \"{}\" is used twice", parameter.header));
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
        return Err(format!("`{HEADER_ANNOTATION}` \"{header}\" is no header name (RFC 9110, section 5.1)"));
    }
    match property.get("type").and_then(Value::as_str) {
        Some("string" | "integer" | "boolean") => Ok(header),
        _ => Err(format!(
            "`{HEADER_ANNOTATION}` \"{header}\" stands on a parameter that is no string, integer or boolean"
        )),
    }
}

/// The type of a property; an optional one is `[type, "null"]`, and `null` is never mirrored.
pub(crate) fn primitive_type(property: &Value) -> Option<&str> {
    match property.get("type")? {
        Value::String(kind) => Some(kind),
        Value::Array(kinds) => {
            let mut kinds = kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null");
            kinds.next().filter(|_| kinds.next().is_none())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Counts the annotations anywhere in a schema, but not properties that happen to have that name.
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

/// One line on each parameter: what an error message shows a model that called with the wrong ones.
pub(crate) fn summary(schema: &Value) -> String {
    let empty = JsonObject::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    if properties.is_empty() {
        return "no arguments".to_owned();
    }
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let parameters = properties.iter().map(|(name, property)| {
        let kind = match property.get("type") {
            Some(Value::String(kind)) => kind.clone(),
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
            _ => "see the tool's schema".to_owned(),
        };
        let need = if required.contains(&name.as_str()) { "required" } else { "optional" };
        format!("`{name}` ({kind}, {need})")
    });
    parameters.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(property: &Value) -> Value {
        json!({ "type": "object", "properties": { "region": property } })
    }

    #[test]
    fn annotations_are_found_with_their_path() {
        let schema = json!({ "type": "object", "properties": {
            "where": { "type": "object", "properties": { "region": { "type": "string", "x-mcp-header": "Region" } } },
            "x-mcp-header": { "type": "string" },
        } });

        let found = mirrored_parameters(&schema).unwrap();

        let path = vec!["where".to_owned(), "region".to_owned()];
        assert_eq!(found, [MirroredParameter { header: "Region".to_owned(), path }]);
    }

    #[test]
    fn annotations_that_clients_would_refuse_are_refused_here() {
        for (property, complaint) in [
            (json!({ "type": "string", "x-mcp-header": "" }), "is no header name"),
            (json!({ "type": "string", "x-mcp-header": "a b" }), "is no header name"),
            (json!({ "type": "string", "x-mcp-header": 5 }), "must be a string"),
            (json!({ "type": "number", "x-mcp-header": "R" }), "no string, integer or boolean"),
            (json!({ "x-mcp-header": "R" }), "no string, integer or boolean"),
            (json!({ "anyOf": [{ "type": "string", "x-mcp-header": "R" }] }), "by `properties` alone"),
            (json!({ "items": { "type": "string", "x-mcp-header": "R" } }), "by `properties` alone"),
        ] {
            let refusal = mirrored_parameters(&schema(&property)).unwrap_err();

            assert!(refusal.contains(complaint), "{property}: {refusal}");
        }
        let twice = json!({ "type": "object", "properties": {
            "a": { "type": "string", "x-mcp-header": "Region" },
            "b": { "type": "string", "x-mcp-header": "region" },
        } });
        assert!(mirrored_parameters(&twice).unwrap_err().contains("used twice"));
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema matters")]
    struct Optional {
        #[schemars(extend("x-mcp-header" = "R"))]
        region: Option<i64>,
        other: Option<i64>,
    }

    #[test]
    fn an_optional_parameter_is_mirrored_with_the_one_type_that_clients_take() {
        let by_hand = mirrored_parameters(&schema(&json!({ "type": ["integer", "null"], "x-mcp-header": "R" })));
        let typed = input_schema_of::<Optional>();

        assert!(by_hand.is_err());
        assert_eq!(mirrored_parameters(&typed).unwrap().len(), 1);
        assert_eq!(typed["properties"]["region"]["type"], "integer");
        assert_eq!(typed["properties"]["other"]["type"], json!(["integer", "null"]));
    }
}
