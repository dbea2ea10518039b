//! Rewrites schemas into the subset of JSON Schema (2020-12) that clients and model APIs accept.
//!
//! Each step preserves the set of values that a schema accepts, except for `format`, which is an annotation.

use std::mem;

use mcp_protocol::{INTEROPERABLE_FORMATS, JsonObject};
use serde_json::{Number, Value, json};

const OF_NUMBERS: [&str; 5] = ["multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
const OF_STRINGS: [&str; 7] =
    ["minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType", "contentSchema"];
const OF_ARRAYS: [&str; 8] =
    ["minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains", "items", "prefixItems"];
const OF_OBJECTS: [&str; 9] = [
    "minProperties",
    "maxProperties",
    "required",
    "dependentRequired",
    "dependentSchemas",
    "properties",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
];

/// Rewrites a schema at every depth.
pub(super) fn normalize(schema: &mut Value) {
    match schema {
        Value::Bool(true) => *schema = json!({}),
        Value::Bool(false) => *schema = json!({ "not": {} }),
        Value::Object(members) => {
            add_items(members);
            for_each_subschema(members, &mut normalize);
            remove_unknown_format(members);
            replace_const(members);
            merge_choices(members);
            split_types(members);
        }
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {}
    }
}

/// Calls `visit` with each direct subschema. `true` and `false` are skipped where every client supports them.
pub(super) fn for_each_subschema(members: &mut JsonObject, visit: &mut dyn FnMut(&mut Value)) {
    for (keyword, value) in members {
        match (keyword.as_str(), value) {
            ("properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas", Value::Object(map)) => {
                map.values_mut().for_each(&mut *visit);
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(list)) => list.iter_mut().for_each(&mut *visit),
            ("additionalProperties" | "unevaluatedProperties" | "unevaluatedItems", Value::Bool(_)) => {}
            (
                "additionalProperties"
                | "unevaluatedProperties"
                | "unevaluatedItems"
                | "propertyNames"
                | "items"
                | "contains"
                | "contentSchema"
                | "not"
                | "if"
                | "then"
                | "else",
                schema,
            ) => visit(schema),
            _ => {}
        }
    }
}

fn remove_unknown_format(members: &mut JsonObject) {
    if members.get("format").and_then(Value::as_str).is_some_and(|format| !INTEROPERABLE_FORMATS.contains(&format)) {
        members.remove("format");
    }
}

/// Adds `items` to an array: tuples have only `prefixItems`, and clients without support for it need the types of the
/// elements.
fn add_items(members: &mut JsonObject) {
    let prefix = members.get("prefixItems").and_then(Value::as_array);
    let has_items = members.get("items").is_some_and(|items| !items.is_boolean() || prefix.is_none());
    if has_items || members.contains_key("unevaluatedItems") || !(prefix.is_some() || may_be(members, "array")) {
        return;
    }
    let mut items = json!({});
    let most = members.get("maxItems").and_then(Value::as_u64);
    let length = prefix.map_or(0, Vec::len) as u64;
    if let Some(prefix) = prefix
        && (members.get("items") == Some(&json!(false)) || most.is_some_and(|most| most <= length))
    {
        let mut distinct: Vec<&Value> = Vec::new();
        prefix.iter().for_each(|own| {
            if !distinct.contains(&own) {
                distinct.push(own);
            }
        });
        match distinct[..] {
            [] => {}
            [only] => items = only.clone(),
            _ if distinct.iter().any(|own| **own == json!(true) || **own == json!({})) => {}
            _ => items = json!({ "anyOf": distinct }),
        }
        // `items` describes elements beyond the prefix: there are none.
        members.insert("maxItems".to_owned(), json!(most.map_or(length, |most| most.min(length))));
    }
    members.insert("items".to_owned(), items);
}

fn may_be(members: &JsonObject, kind: &str) -> bool {
    match members.get("type") {
        Some(Value::String(own)) => own == kind,
        Some(Value::Array(kinds)) => kinds.iter().any(|own| own == kind),
        _ => false,
    }
}

/// Replaces a constant by an `enum` of one value: some model APIs do not support `const`.
fn replace_const(members: &mut JsonObject) {
    let is_free = !members.contains_key("enum");
    match members.get("const") {
        Some(Value::Null) if is_free && members.get("type").is_none_or(|kind| kind == "null") => {
            members.remove("const");
            members.insert("type".to_owned(), json!("null"));
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) if is_free => {
            let value = members.remove("const");
            members.insert("enum".to_owned(), Value::Array(value.into_iter().collect()));
        }
        _ => {}
    }
}

/// Merges string alternatives, such as documented variants of an enum, into one `enum`; their comments are added to
/// the description.
fn merge_choices(members: &mut JsonObject) {
    for keyword in ["oneOf", "anyOf"] {
        let Some(Value::Array(alternatives)) = members.get_mut(keyword) else { continue };
        let count = alternatives.iter().filter(|own| is_choice(own)).count();
        let is_all = count == alternatives.len();
        if count == 0 || (count == 1 && !is_all) {
            continue;
        }
        let place = alternatives.iter().position(is_choice).unwrap_or_default();
        let (choices, mut others): (Vec<Value>, Vec<Value>) = mem::take(alternatives).into_iter().partition(is_choice);
        let is_free = !members.contains_key("enum") && members.get("type").is_none_or(|kind| kind == "string");
        if is_all && is_free {
            members.remove(keyword);
            merge_into(members, &choices);
        } else {
            let mut merged = JsonObject::new();
            merge_into(&mut merged, &choices);
            others.insert(place, Value::Object(merged));
            members.insert(keyword.to_owned(), Value::Array(others));
        }
    }
}

/// Reports whether a schema is a choice of strings, with annotations only.
fn is_choice(schema: &Value) -> bool {
    let known = ["type", "enum", "title", "description", "deprecated"];
    schema.as_object().is_some_and(|members| {
        members.get("type") == Some(&json!("string"))
            && members.get("enum").is_some_and(Value::is_array)
            && members.keys().all(|name| known.contains(&name.as_str()))
    })
}

fn merge_into(members: &mut JsonObject, choices: &[Value]) {
    let mut values: Vec<Value> = Vec::new();
    let mut lines: Vec<String> =
        members.get("description").and_then(Value::as_str).map(str::to_owned).into_iter().collect();
    for choice in choices {
        let own = choice["enum"].as_array().map(Vec::as_slice).unwrap_or_default();
        let texts = ["title", "description"].map(|name| choice[name].as_str());
        let mut comment = texts.into_iter().flatten().collect::<Vec<_>>().join(": ");
        if choice["deprecated"] == true {
            comment = format!("deprecated. {comment}").trim_end().to_owned();
        }
        if !comment.is_empty() {
            let names: Vec<String> = own.iter().filter_map(|value| Some(format!("`{}`", value.as_str()?))).collect();
            lines.push(format!("- {}: {comment}", names.join(", ")));
        }
        let new = own.iter().filter(|value| !values.contains(value)).cloned().collect::<Vec<_>>();
        values.extend(new);
    }
    members.insert("type".to_owned(), json!("string"));
    members.insert("enum".to_owned(), Value::Array(values));
    if !lines.is_empty() {
        members.insert("description".to_owned(), json!(lines.join("\n")));
    }
}

/// Splits types into alternatives, each with the bounds that apply to it: clients do not support lists of types, nor
/// `null` among the values of an `enum`.
fn split_types(members: &mut JsonObject) {
    let values = members.get("enum").and_then(Value::as_array).cloned();
    let kinds: Vec<String> = match members.get("type") {
        Some(Value::String(kind)) => vec![kind.clone()],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => match values.as_deref().map(kinds_of) {
            Some(kinds) if kinds.len() == 1 || kinds.contains(&"null") => {
                kinds.into_iter().map(str::to_owned).collect()
            }
            _ => return,
        },
    };
    let alternatives: Vec<JsonObject> =
        kinds.iter().filter_map(|kind| alternative(members, kind, values.as_deref())).collect();
    let Some((first, others)) = alternatives.split_first() else { return };
    members.remove("enum");
    if others.is_empty() {
        members.extend(first.clone());
        return;
    }
    members.remove("type");
    alternatives.iter().flat_map(JsonObject::keys).for_each(|keyword| drop(members.remove(keyword)));
    let alternatives = Value::Array(alternatives.into_iter().map(Value::Object).collect());
    if let Some(own) = members.remove("anyOf") {
        let all = members.entry("allOf").or_insert_with(|| json!([]));
        all.as_array_mut().into_iter().for_each(|all| all.push(json!({ "anyOf": own })));
    }
    members.insert("anyOf".to_owned(), alternatives);
}

/// Returns the part of a schema that applies to values of one type; `None` if it allows no such value.
fn alternative(members: &JsonObject, kind: &str, values: Option<&[Value]>) -> Option<JsonObject> {
    let mut own = JsonObject::from_iter([("type".to_owned(), json!(kind))]);
    if let Some(values) = values {
        let values: Vec<&Value> = values.iter().filter(|value| is_of_kind(value, kind)).collect();
        if values.is_empty() {
            return None;
        }
        if kind != "null" {
            own.insert("enum".to_owned(), json!(values));
        }
    }
    let keywords: &[&str] = match kind {
        "integer" | "number" => &OF_NUMBERS,
        "string" => &OF_STRINGS,
        "array" => &OF_ARRAYS,
        "object" => &OF_OBJECTS,
        _ => &[],
    };
    let bounds = keywords.iter().filter_map(|keyword| Some(((*keyword).to_owned(), members.get(*keyword)?.clone())));
    own.extend(bounds);
    Some(own)
}

fn kinds_of(values: &[Value]) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    for value in values {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if is_integer(number) => "integer",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

fn is_of_kind(value: &Value, kind: &str) -> bool {
    match value {
        Value::Number(number) => kind == "number" || (kind == "integer" && is_integer(number)),
        value => kinds_of(std::slice::from_ref(value)) == [kind],
    }
}

fn is_integer(number: &Number) -> bool {
    number.as_f64().is_some_and(|value| value.fract() == 0.0)
}
