//! JSON Schema of arguments and results (2020-12).

use mcp_protocol::{JsonObject, mirrored::HEADER_ANNOTATION};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

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
    use mcp_protocol::mirrored_parameters;

    use super::*;

    fn schema(property: &Value) -> Value {
        json!({ "type": "object", "properties": { "region": property } })
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
