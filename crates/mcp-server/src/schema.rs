//! JSON Schema of arguments and results (2020-12).

mod normalize;
mod result;
#[cfg(test)]
mod tests;
mod text;
mod whole;

use mcp_protocol::{JsonObject, mirrored::HEADER_ANNOTATION};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use self::normalize::{for_each_subschema, normalize};
pub(crate) use self::{
    result::{NewResultValidator, ResultValidator, Violation, result_validator},
    whole::with_whole_numbers,
};

/// The dialect that clients expect, and that is normalized for them.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Maximum length of a property's name.
const MAX_NAME_CHARS: usize = 64;

/// Returns the schema of `T`. Nested types are inlined, since many clients do not resolve `$ref`. The name of the Rust type
/// is removed, since it is of no use to a model.
pub(crate) fn input_schema_of<T: JsonSchema>() -> Value {
    schema_of::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

/// Returns the schema of `T` as serialized, which may differ from the deserialized form.
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

/// Converts a schema to one of arguments: MCP requires `"type": "object"` at its root.
///
/// # Errors
///
/// When the schema describes another type, which no arguments match.
pub(crate) fn into_input_schema(mut schema: Value) -> Result<Value, String> {
    let Some(members) = schema.as_object_mut() else {
        return Err("its schema is not a JSON object".to_owned());
    };
    match members.get("type") {
        Some(Value::String(kind)) if kind == "object" => Ok(schema),
        // The schema of an enum of structs has no type; its alternatives have.
        None => {
            members.insert("type".to_owned(), json!("object"));
            Ok(schema)
        }
        Some(other) => Err(format!("its arguments must be an object, but the schema has `\"type\": {other}`")),
    }
}

/// The origin of an input schema.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SchemaOrigin {
    /// Derived from a type.
    Derived,
    /// Hand-written, for [`Tool::raw`](crate::Tool::raw).
    HandWritten,
}

/// Returns the input schema of a tool, normalized for clients.
///
/// # Errors
///
/// When clients or model APIs would reject it.
pub(crate) fn tool_input_schema(schema: Value, origin: SchemaOrigin) -> Result<Value, String> {
    let schema = into_input_schema(schema)?;
    check_root(&schema, origin)?;
    let mut normalized = for_clients(schema.clone());
    if let Some(reference) = broken_reference(&schema, &normalized, &schema) {
        return Err(format!(
            "`\"$ref\": \"{reference}\"` points into a part of the schema that is rewritten for clients: move the part to `$defs`"
        ));
    }
    if let Some(members) = normalized.as_object_mut() {
        members.entry("properties").or_insert_with(|| json!({}));
    }
    check_names(&mut normalized)?;
    pin_mirrored_types(&mut normalized);
    Ok(normalized)
}

/// Normalizes a schema for clients, except one of another dialect.
pub(crate) fn for_clients(mut schema: Value) -> Value {
    if schema.get("$schema").and_then(Value::as_str).is_none_or(|own| own.trim_end_matches('#') == DIALECT) {
        normalize(&mut schema);
    }
    schema
}

/// Rejects unions: for one tool with a union as input schema, model APIs reject the whole request, with the tools of all
/// servers.
fn check_root(schema: &Value, origin: SchemaOrigin) -> Result<(), String> {
    let unions = ["oneOf", "anyOf", "enum", "not", "allOf"];
    // A derived `allOf` combines the unions of flattened enums. A hand-written one may be valid.
    let keyword = unions
        .iter()
        .find(|keyword| schema.get(*keyword).is_some() && (origin == SchemaOrigin::Derived || **keyword != "allOf"));
    let Some(keyword) = keyword else { return Ok(()) };
    let fix = match origin {
        SchemaOrigin::Derived => {
            "make the enum a field of a struct, without `#[serde(flatten)]`, or register a tool for each variant"
        }
        SchemaOrigin::HandWritten => "list all properties, describe the rule between them, and check it in the handler",
    };
    Err(format!("its schema has `{keyword}` at the root, for which model APIs reject the whole request: {fix}"))
}

/// Rejects names of properties that model APIs do not accept.
fn check_names(schema: &mut Value) -> Result<(), String> {
    let Some(members) = schema.as_object_mut() else { return Ok(()) };
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let mut names = members.get("properties").and_then(Value::as_object).into_iter().flat_map(JsonObject::keys);
    let odd = names.find(|name| !(1..=MAX_NAME_CHARS).contains(&name.len()) || !name.chars().all(is_allowed));
    if let Some(name) = odd {
        return Err(format!(
            "its schema has a property {name:?}, whose name model APIs reject: use 1 to {MAX_NAME_CHARS} of \
             A-Z a-z 0-9 _ - . (`#[serde(rename = \"…\")]` renames a field)"
        ));
    }
    let mut result = Ok(());
    for_each_subschema(members, &mut |schema| {
        if result.is_ok() {
            result = check_names(schema);
        }
    });
    result
}

/// Returns a `$ref` whose pointer is valid in one schema and invalid in the other.
fn broken_reference<'a>(before: &Value, after: &Value, part: &'a Value) -> Option<&'a str> {
    match part {
        Value::Object(members) => {
            let reference = members.get("$ref").and_then(Value::as_str).filter(|reference| {
                let pointer = reference.strip_prefix('#');
                pointer.is_some_and(|own| before.pointer(own).is_some() && after.pointer(own).is_none())
            });
            reference.or_else(|| members.values().find_map(|part| broken_reference(before, after, part)))
        }
        Value::Array(parts) => parts.iter().find_map(|part| broken_reference(before, after, part)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Removes `null` from the types of mirrored parameters: clients drop a tool whose mirrored parameter has more than one
/// type, and a missing parameter is equivalent to null.
fn pin_mirrored_types(schema: &mut Value) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties.into_iter().flat_map(JsonObject::values_mut) {
        if property.get(HEADER_ANNOTATION).is_some()
            && let [only] = alternatives(property).collect::<Vec<_>>()[..]
            && let (Some(only), Some(members)) = (only.as_object().cloned(), property.as_object_mut())
        {
            members.remove("anyOf");
            for (keyword, value) in only {
                // The description of a field has precedence over that of its type.
                members.entry(keyword).or_insert(value);
            }
        }
        pin_mirrored_types(property);
    }
}

/// Returns the alternatives of a property without `null`: those of its `anyOf`, or the property itself.
fn alternatives(property: &Value) -> impl Iterator<Item = &Value> {
    let nested = property.get("anyOf").and_then(Value::as_array);
    let own = nested.is_none().then_some(property);
    own.into_iter().chain(nested.into_iter().flatten().filter(|own| own.get("type") != Some(&json!("null"))))
}

/// Returns the type of a property; an optional one is `[type, "null"]`, and `null` is never mirrored.
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

/// Summarizes the parameters on one line, for the error message about invalid arguments.
pub(crate) fn summary(schema: &Value) -> String {
    let empty = JsonObject::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    if properties.is_empty() {
        return "no arguments".to_owned();
    }
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let parameters = properties.iter().map(|(name, property)| {
        let kind = match kinds(property)[..] {
            [] => "see the tool's schema".to_owned(),
            ref kinds => kinds.join(" or "),
        };
        let need = if required.contains(&name.as_str()) { "required" } else { "optional" };
        format!("`{name}` ({kind}, {need})")
    });
    parameters.collect::<Vec<_>>().join(", ")
}

/// Returns the types of a schema, or of each alternative of its `anyOf`.
fn kinds(schema: &Value) -> Vec<&str> {
    match (schema.get("type"), schema.get("anyOf")) {
        (Some(Value::String(kind)), _) => vec![kind],
        (Some(Value::Array(kinds)), _) => kinds.iter().filter_map(Value::as_str).collect(),
        (None, Some(Value::Array(alternatives))) => {
            let kinds: Vec<Vec<&str>> = alternatives.iter().map(kinds).collect();
            if kinds.iter().any(Vec::is_empty) { Vec::new() } else { kinds.concat() }
        }
        _ => Vec::new(),
    }
}
