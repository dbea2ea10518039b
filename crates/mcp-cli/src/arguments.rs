//! The arguments of a tool or a prompt, as a person types them: `limit=5`, `point.x=1`, `text=@file`, or a whole object.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read as _},
    path::Path,
};

use anyhow::{Context, bail};
use mcp_protocol::json::{self, Budget};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{files, json_text};

/// Schemas that are looked into for one parameter: one that refers to itself has no end.
const MAX_SCHEMAS: usize = 1000;
/// What is read from standard input.
const MAX_INPUT_BYTES: u64 = 16 * 1024 * 1024;
/// JSON that a person gives is passed on as it is written.
const BUDGET: Budget = Budget::memory(usize::MAX);

/// Values by name, each as it was written.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Arguments(BTreeMap<String, Argument>);

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Argument {
    Value(Box<RawValue>),
    /// Of words such as `point.x=1`.
    Members(Arguments),
}

impl PartialEq for Argument {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Value(one), Self::Value(other)) => one.get() == other.get(),
            (Self::Members(one), Self::Members(other)) => one == other,
            _ => false,
        }
    }
}

/// Reads words by the types of a schema:
///
/// - `name=value`; `name=@file` and `name=@-` for the content of a file or standard input, `name=@@x` for the text `@x`
/// - `name.member=value` for a member of an object
/// - `{…}`, `@file`, `-` for a whole object
///
/// # Errors
///
/// When a word cannot be read, is of another type than the schema's, or gives a name a second time.
pub(crate) fn read(words: &[String], schema: &Value) -> anyhow::Result<Arguments> {
    read_from(words, schema, &mut content)
}

fn read_from(
    words: &[String],
    schema: &Value,
    content: &mut dyn FnMut(&str) -> anyhow::Result<String>,
) -> anyhow::Result<Arguments> {
    let mut arguments = Arguments::default();
    for word in words {
        let pair = word.split_once('=');
        let is_known = pair.is_some_and(|(name, _)| property(schema, schema, name).is_some());
        let object = match word.as_str() {
            _ if is_known => None,
            "-" => Some(content("-")?),
            word if word.starts_with('{') => Some(word.to_owned()),
            word => word.strip_prefix('@').map(&mut *content).transpose()?,
        };
        if let Some(object) = object {
            json::check(&object, BUDGET).with_context(|| format!("could not read `{word}`"))?;
            let members: json_text::Members<'_> =
                json::borrow(&object).with_context(|| format!("`{word}` is no JSON object"))?;
            for (name, value) in members.0 {
                arguments.insert(&name, Argument::Value(value.to_owned()))?;
            }
            continue;
        }
        let (name, text) = pair.with_context(|| format!("`{word}` is not written NAME=VALUE"))?;
        let text = match text.strip_prefix('@') {
            Some(escaped) if escaped.starts_with('@') => escaped.to_owned(),
            Some(source) => content(source)?,
            None => text.to_owned(),
        };
        arguments.insert_at(name, &text, schema, schema)?;
    }
    Ok(arguments)
}

impl Arguments {
    /// Puts a value where its name says: `a.b` is a member of `a`, unless that is the name of a parameter.
    fn insert_at(&mut self, name: &str, text: &str, root: &Value, schema: &Value) -> anyhow::Result<()> {
        if let Some(own) = property(root, schema, name) {
            return self.insert(name, Argument::Value(value(name, text, root, own)?));
        }
        if let Some((first, rest)) = name.split_once('.')
            && let Some(own) = property(root, schema, first)
        {
            let members = self.0.entry(first.to_owned()).or_insert_with(|| Argument::Members(Self::default()));
            let Argument::Members(members) = members else { bail!("`{first}` is given twice") };
            return members.insert_at(rest, text, root, own);
        }
        let Some(free) = free(root, schema) else {
            bail!("there is no parameter `{name}`; the tool takes ({})", signature(root));
        };
        self.insert(name, Argument::Value(value(name, text, root, free)?))
    }

    fn insert(&mut self, name: &str, argument: Argument) -> anyhow::Result<()> {
        if self.0.insert(name.to_owned(), argument).is_some() {
            bail!("`{name}` is given twice");
        }
        Ok(())
    }
}

/// The content of a file, or of standard input by the name `-`.
fn content(source: &str) -> anyhow::Result<String> {
    if source != "-" {
        return files::read_text(Path::new(source)).with_context(|| format!("could not read {source}"));
    }
    let mut text = String::new();
    let input = io::stdin().lock().take(MAX_INPUT_BYTES + 1).read_to_string(&mut text);
    let bytes = input.context("could not read standard input")?;
    if bytes as u64 > MAX_INPUT_BYTES {
        bail!("standard input has more than {MAX_INPUT_BYTES} bytes");
    }
    Ok(text)
}

/// A text as a value of its schema.
fn value(name: &str, text: &str, root: &Value, schema: &Value) -> anyhow::Result<Box<RawValue>> {
    let kinds = kinds(root, schema);
    let takes = |kind: &str| kinds.contains(kind);
    let as_text = || serde_json::value::to_raw_value(text).context("could not write a text");
    if takes("string") && kinds.iter().all(|kind| matches!(*kind, "string" | "null")) {
        return as_text();
    }
    // Unbounded JSON: an argument that the user has typed, which stays text.
    let parsed = serde_json::from_str::<Box<RawValue>>(text.trim()).ok().filter(|_| json::check(text, BUDGET).is_ok());
    if let Some(parsed) = parsed
        && (kinds.is_empty() || kinds_of(parsed.get()).iter().any(|kind| takes(kind)))
    {
        return Ok(parsed);
    }
    if kinds.is_empty() || takes("string") {
        return as_text();
    }
    if takes("array") && !text.trim_start().starts_with('[') {
        let items = part(root, schema, "items").unwrap_or(&Value::Null);
        let words = if text.is_empty() { Vec::new() } else { text.split(',').collect() };
        let items: Vec<Box<RawValue>> =
            words.into_iter().map(|word| value(name, word.trim(), root, items)).collect::<Result<_, _>>()?;
        return serde_json::value::to_raw_value(&items).context("could not write a list");
    }
    let kinds: Vec<&str> = kinds.into_iter().collect();
    bail!("`{name}` must be of type {}, not `{}`", kinds.join(" or "), json::shortened(text));
}

/// The types that a JSON text is a value of.
fn kinds_of(text: &str) -> &'static [&'static str] {
    match text.as_bytes().first() {
        Some(b'"') => &["string"],
        Some(b'{') => &["object"],
        Some(b'[') => &["array"],
        Some(b't' | b'f') => &["boolean"],
        Some(b'n') => &["null"],
        _ if is_whole(text) => &["integer", "number"],
        _ => &["number"],
    }
}

/// Whether a number has no fraction: `5`, `5.0` and `1e3` have none.
fn is_whole(number: &str) -> bool {
    let is_decimal = !number.contains(['.', 'e', 'E']);
    is_decimal || number.parse::<f64>().is_ok_and(|number| number.fract() == 0.0)
}

/// The types that a schema allows, through references and alternatives; none if it allows any.
fn kinds<'a>(root: &'a Value, schema: &'a Value) -> BTreeSet<&'a str> {
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

/// What a reference within the document leads to.
fn target<'a>(root: &'a Value, schema: &Value) -> Option<&'a Value> {
    root.pointer(schema["$ref"].as_str()?.strip_prefix('#')?)
}

/// A part of a schema, such as `items`, by itself or through references and alternatives.
fn part<'a>(root: &'a Value, schema: &'a Value, keyword: &str) -> Option<&'a Value> {
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
fn property<'a>(root: &'a Value, schema: &'a Value, name: &str) -> Option<&'a Value> {
    part(root, schema, "properties")?.get(name)
}

/// The schema of members that are not listed; `None` if there are to be none. A schema that lists some and says nothing of
/// others allows them too, but a misspelt name is more likely: those are given in a whole object.
fn free<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    match part(root, schema, "additionalProperties") {
        Some(Value::Bool(false)) => None,
        Some(free) => Some(free),
        None if part(root, schema, "patternProperties").is_some() => Some(&Value::Null),
        None => part(root, schema, "properties").is_none().then_some(&Value::Null),
    }
}

/// `name: string, limit?: integer`.
pub(crate) fn signature(schema: &Value) -> String {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    let mut parameters: Vec<String> = properties
        .map(|(name, property)| {
            let kinds: Vec<&str> = kinds(schema, property).into_iter().filter(|kind| *kind != "null").collect();
            let kind = if kinds.is_empty() { "any".to_owned() } else { kinds.join("|") };
            let mark = if required.contains(&name.as_str()) { "" } else { "?" };
            format!("{name}{mark}: {kind}")
        })
        .collect();
    if free(schema, schema).is_some() && schema.is_object() {
        parameters.push("…".to_owned());
    }
    parameters.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_words(words: &[&str], schema: &Value) -> anyhow::Result<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut content = |source: &str| match source {
            "text" => Ok("{\"a\": 1}\n".to_owned()),
            "-" => Ok("{\"limit\": 1.10, \"other\": [1]}".to_owned()),
            other => bail!("there is no {other}"),
        };
        Ok(serde_json::to_string(&read_from(&words, schema, &mut content)?)?)
    }

    fn schema() -> Value {
        json!({ "properties": {
            "name": { "type": "string" }, "limit": { "type": "integer" }, "list": { "type": "array" },
            "maybe": { "type": ["boolean", "null"] }, "any": {}, "ratio": { "type": "number" },
            "most": { "anyOf": [{ "type": "integer" }, { "type": "null" }] },
            "note": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
            "point": { "$ref": "#/$defs/P" }, "colour": { "enum": ["red", "1"] }, "level": { "enum": [1, 2] },
            "ids": { "type": "array", "items": { "type": "integer" } }, "tags": { "anyOf": [{ "$ref": "#/$defs/T" }, { "type": "null" }] },
            "either": { "oneOf": [{ "type": "string" }, { "type": "integer" }] }, "a.b": { "type": "integer" },
        }, "required": ["name"], "$defs": {
            "P": { "type": "object", "properties": { "x": { "type": "number" }, "next": { "$ref": "#/$defs/P" } } },
            "T": { "type": "array", "items": { "type": "string" } },
        } })
    }

    /// c01, and section 9, "nested, lists, files, standard input"
    #[test]
    fn words_are_read_by_the_types_of_the_schema() {
        for (words, expected) in [
            (
                vec!["name=5", "limit=5", "any=x=y", "most=5", "note=5"],
                r#"{"any":"x=y","limit":5,"most":5,"name":"5","note":"5"}"#,
            ),
            (vec!["list=[1,\"a\"]", "maybe=true"], r#"{"list":[1,"a"],"maybe":true}"#),
            (vec!["maybe=null", "most=null", "note=null"], r#"{"maybe":null,"most":null,"note":"null"}"#),
            (vec!["any={\"a\":1}"], r#"{"any":{"a":1}}"#),
            (vec!["any=1.10", "limit=123456789012345678901"], r#"{"any":1.10,"limit":123456789012345678901}"#),
            (vec!["limit=5.0", "ratio=1e3"], r#"{"limit":5.0,"ratio":1e3}"#),
            (vec!["point={\"x\":1}"], r#"{"point":{"x":1}}"#),
            (vec!["point.x=1", "point.next.next.x=2"], r#"{"point":{"next":{"next":{"x":2}},"x":1}}"#),
            (vec!["a.b=1"], r#"{"a.b":1}"#),
            (vec!["colour=1", "level=1"], r#"{"colour":"1","level":1}"#),
            (vec!["ids=1,2", "tags=a, 2"], r#"{"ids":[1,2],"tags":["a","2"]}"#),
            (vec!["ids=", "tags=one"], r#"{"ids":[],"tags":["one"]}"#),
            (vec!["either=5", "name="], r#"{"either":5,"name":""}"#),
            (vec!["either=five"], r#"{"either":"five"}"#),
            (
                vec!["name=@text", "any=@text", "note=@@text"],
                r#"{"any":{"a": 1},"name":"{\"a\": 1}\n","note":"@text"}"#,
            ),
            (vec!["-", "name=x"], r#"{"limit":1.10,"name":"x","other":[1]}"#),
            (vec!["@text", "{\"b\":{\"c\":2.50}}"], r#"{"a":1,"b":{"c":2.50}}"#),
        ] {
            assert_eq!(read_words(&words, &schema()).unwrap(), expected, "{words:?}");
        }
        assert_eq!(
            signature(&schema()),
            "a.b?: integer, any?: any, colour?: string, either?: integer|string, ids?: array, level?: integer, limit?: \
             integer, list?: array, maybe?: boolean, most?: integer, name: string, note?: string, point?: object, ratio?: \
             number, tags?: array"
        );
    }

    #[test]
    fn what_the_schema_does_not_allow_is_refused() {
        for (words, expected) in [
            (vec!["limit=many"], "`limit` must be of type integer"),
            (vec!["limit=1.5"], "`limit` must be of type integer"),
            (vec!["most=many"], "of type integer or null"),
            (vec!["maybe=yes"], "of type boolean or null"),
            (vec!["level=high"], "of type integer"),
            (vec!["ids=[1"], "of type array"),
            (vec!["ids=1,b"], "of type integer, not `b`"),
            (vec!["point.x=a"], "`x` must be of type number"),
            (vec!["point.y=1"], "no parameter `y`"),
            (vec!["other=1"], "no parameter `other`"),
            (vec!["x"], "NAME=VALUE"),
            (vec!["limit=1", "limit=2"], "`limit` is given twice"),
            (vec!["limit=1", "-"], "`limit` is given twice"),
            (vec!["point={}", "point.x=1"], "`point` is given twice"),
            (vec!["point.x=1", "point.x=1"], "`x` is given twice"),
            (vec!["point.x=1", "point={}"], "`point` is given twice"),
            (vec!["name=@none"], "there is no none"),
            (vec!["{\"a\":1,\"a\":2}"], "duplicate field"),
            (vec!["{"], "is no JSON object"),
        ] {
            let error = format!("{:#}", read_words(&words, &schema()).unwrap_err());
            assert!(error.contains(expected), "{words:?}: {error}");
        }
    }

    /// c02
    #[test]
    fn members_that_are_not_listed_are_taken_where_the_schema_has_them() {
        for (schema, expected) in [
            (json!({ "type": "object", "additionalProperties": true }), Some(r#"{"x":1,"y":"a"}"#)),
            (json!({ "type": "object" }), Some(r#"{"x":1,"y":"a"}"#)),
            (Value::Null, Some(r#"{"x":1,"y":"a"}"#)),
            (
                json!({ "properties": { "z": {} }, "additionalProperties": { "type": "string" } }),
                Some(r#"{"x":"1","y":"a"}"#),
            ),
            (json!({ "properties": { "z": {} }, "patternProperties": { "^.$": {} } }), Some(r#"{"x":1,"y":"a"}"#)),
            (json!({ "properties": { "z": {} } }), None),
            (json!({ "additionalProperties": false }), None),
        ] {
            assert_eq!(read_words(&["x=1", "y=a"], &schema).ok().as_deref(), expected, "{schema}");
        }
        assert_eq!(signature(&json!({ "type": "object", "additionalProperties": true })), "…");
    }

    /// A schema of a server may refer to itself, in as many ways as it likes.
    #[test]
    fn a_schema_that_has_no_end_is_left() {
        let own = json!({ "$ref": "#/$defs/A" });
        let schema = json!({
            "properties": { "a": own, "b": { "$ref": "#" }, "c": { "$ref": "#/none" } },
            "$defs": { "A": { "anyOf": [own, own, own, { "allOf": [own, own] }] } },
        });

        assert_eq!(read_words(&["a=1", "b.a=x", "c=1"], &schema).unwrap(), r#"{"a":1,"b":{"a":"x"},"c":1}"#);
        assert_eq!(signature(&schema), "a?: any, b?: object, c?: any");
    }
}
