//! Types, choices and members of arguments in a tool's schema, which may refer to itself.

use std::collections::BTreeSet;

use serde_json::Value;

/// Maximum number of schemas that are visited for one parameter, since a schema may refer to itself.
const MAX_SCHEMAS: usize = 1000;
/// Maximum number of choices in a signature.
const MAX_SHOWN_CHOICES: usize = 10;

/// The types that a schema allows, through references and alternatives; none if it allows any.
pub(crate) fn kinds<'a>(root: &'a Value, schema: &'a Value) -> BTreeSet<&'a str> {
    let mut kinds = BTreeSet::new();
    match collect_kinds(root, schema, &mut kinds, &mut 0) {
        true => kinds,
        false => BTreeSet::new(),
    }
}

/// Adds the types of a schema; whether it names any.
fn collect_kinds<'a>(root: &'a Value, schema: &'a Value, kinds: &mut BTreeSet<&'a str>, seen: &mut usize) -> bool {
    *seen += 1;
    if *seen > MAX_SCHEMAS {
        return false;
    }
    let listed = schema["type"].as_array().into_iter().flatten();
    let own: Vec<&str> = [&schema["type"]].into_iter().chain(listed).filter_map(Value::as_str).collect();
    if !own.is_empty() {
        kinds.extend(own);
        return true;
    }
    let values = schema["enum"].as_array().into_iter().flatten();
    let values: Vec<&Value> = schema.get("const").into_iter().chain(values).collect();
    if !values.is_empty() {
        for value in values {
            kinds.insert(kind_of_value(value));
        }
        return true;
    }
    if let Some(target) = target(root, schema) {
        return collect_kinds(root, target, kinds, seen);
    }
    for alternatives in ["anyOf", "oneOf"] {
        if let Some(alternatives) = schema[alternatives].as_array() {
            // One that allows anything makes all of them do.
            return alternatives.iter().all(|own| collect_kinds(root, own, kinds, seen));
        }
    }
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let mut is_named = false;
    for part in parts {
        is_named |= collect_kinds(root, part, kinds, seen);
    }
    // Without a type of its own, it has members or items all the same.
    for (keyword, kind) in [("properties", "object"), ("items", "array")] {
        if !is_named && schema.get(keyword).is_some() {
            kinds.insert(kind);
            is_named = true;
        }
    }
    is_named
}

fn kind_of_value(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Resolves a reference within the document.
fn target<'a>(root: &'a Value, schema: &Value) -> Option<&'a Value> {
    root.pointer(schema["$ref"].as_str()?.strip_prefix('#')?)
}

/// A part of a schema, such as `items`, by itself or through references and alternatives.
pub(crate) fn part<'a>(root: &'a Value, schema: &'a Value, keyword: &str) -> Option<&'a Value> {
    fn find<'a>(root: &'a Value, schema: &'a Value, keyword: &str, seen: &mut usize) -> Option<&'a Value> {
        *seen += 1;
        if *seen > MAX_SCHEMAS {
            return None;
        }
        let parts = ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|own| schema[own].as_array()).flatten();
        schema
            .get(keyword)
            .or_else(|| target(root, schema).into_iter().chain(parts).find_map(|own| find(root, own, keyword, seen)))
    }
    find(root, schema, keyword, &mut 0)
}

/// The schema of a parameter.
pub(crate) fn property<'a>(root: &'a Value, schema: &'a Value, name: &str) -> Option<&'a Value> {
    part(root, schema, "properties")?.get(name)
}

/// The schema of members that are not listed; `None` if there are to be none. A schema that lists some and says nothing of
/// others allows them too, but a misspelt name is more likely: those are given in a whole object.
pub(crate) fn free<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    match part(root, schema, "additionalProperties") {
        Some(Value::Bool(false)) => None,
        Some(free) => Some(free),
        None if part(root, schema, "patternProperties").is_some() => Some(&Value::Null),
        None => part(root, schema, "properties").is_none().then_some(&Value::Null),
    }
}

/// The values that a schema allows, if it lists them: `enum` and `const`, through references and alternatives.
pub(crate) fn choices<'a>(root: &'a Value, schema: &'a Value) -> Option<Vec<&'a Value>> {
    fn collect<'a>(root: &'a Value, schema: &'a Value, seen: &mut usize) -> Option<Vec<&'a Value>> {
        *seen += 1;
        if *seen > MAX_SCHEMAS {
            return None;
        }
        if let Some(only) = schema.get("const") {
            return Some(vec![only]);
        }
        if let Some(values) = schema["enum"].as_array() {
            return Some(values.iter().collect());
        }
        if schema["type"] == "null" {
            return Some(vec![&Value::Null]);
        }
        if let Some(target) = target(root, schema) {
            return collect(root, target, seen);
        }
        for alternatives in ["anyOf", "oneOf"] {
            if let Some(alternatives) = schema[alternatives].as_array() {
                let all: Option<Vec<_>> = alternatives.iter().map(|own| collect(root, own, seen)).collect();
                return Some(all?.into_iter().flatten().collect());
            }
        }
        schema["allOf"].as_array()?.iter().find_map(|own| collect(root, own, seen))
    }
    // `null` by itself is a type.
    collect(root, schema, &mut 0).filter(|choices| choices.iter().any(|choice| !choice.is_null()))
}

/// Choices as they are typed.
pub(crate) fn shown_choices(choices: &[&Value]) -> String {
    let shown = choices.iter().map(|choice| match choice {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// `name: string, limit?: integer`.
pub(crate) fn signature(schema: &Value) -> String {
    signature_of(schema, schema)
}

/// The same of an object within a schema.
pub(crate) fn signature_of(root: &Value, schema: &Value) -> String {
    let required = required(root, schema);
    let properties = part(root, schema, "properties").and_then(Value::as_object).into_iter().flatten();
    let mut parameters: Vec<String> = properties
        .map(|(name, property)| {
            let mark = if required.contains(&name.as_str()) { "" } else { "?" };
            format!("{name}{mark}: {}", kind(root, property))
        })
        .collect();
    if free(root, schema).is_some() && schema.is_object() {
        parameters.push("…".to_owned());
    }
    parameters.join(", ")
}

/// The names of the members that an object must have.
pub(crate) fn required<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a str> {
    let required = part(root, schema, "required").and_then(Value::as_array);
    required.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The type of a parameter for display: `integer|string`, `integer[]`, its choices as JSON, or `any`.
pub(crate) fn kind(root: &Value, schema: &Value) -> String {
    if let Some(choices) = choices(root, schema) {
        let choices = choices.into_iter().filter(|choice| !choice.is_null());
        let mut shown: Vec<String> = choices.clone().take(MAX_SHOWN_CHOICES).map(ToString::to_string).collect();
        if choices.count() > MAX_SHOWN_CHOICES {
            shown.push("…".to_owned());
        }
        return shown.join("|");
    }
    let of_items = |kind: &str| match part(root, schema, "items").filter(|_| kind == "array") {
        Some(items) => match kinds(root, items).into_iter().collect::<Vec<_>>().as_slice() {
            [one] => format!("{one}[]"),
            _ => "array".to_owned(),
        },
        None => kind.to_owned(),
    };
    let kinds = kinds(root, schema).into_iter().filter(|kind| *kind != "null").map(of_items).collect::<Vec<_>>();
    if kinds.is_empty() { "any".to_owned() } else { kinds.join("|") }
}
