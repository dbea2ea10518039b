//! Tools whose names and schemas clients or model APIs reject (docs/clients.md, "Tool schemas that Anthropic, OpenAI and
//! Gemini reject").

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use jsonschema::Validator;
use mcp_protocol::{INTEROPERABLE_FORMATS, mirrored_parameters};
use serde_json::{Map, Value, json};

use super::{fault::Fault, report::Report};

/// Maximum number of places that a finding names.
const MAX_PLACES: usize = 5;
const MAX_NAME_CHARS: usize = 64;
/// Programs prefix a tool's name with the server's name.
const LONG_NAME_CHARS: usize = 40;
const MAX_DESCRIPTION_CHARS: usize = 1024;
const MAX_TOOLS: usize = 128;
/// Maximum number of examined subschemas of one schema, and of nested references.
const MAX_SUBSCHEMAS: usize = 20_000;
const MAX_REFERENCES: usize = 8;
/// Maximum size of a schema whose annotations are compared with each other.
const MAX_ANNOTATED_BYTES: usize = 256 * 1024;
#[derive(Debug, Default)]
struct Faults(BTreeMap<Fault, BTreeSet<String>>);

impl Faults {
    fn add(&mut self, fault: Fault, place: &str) {
        self.0.entry(fault).or_default().insert(place.to_owned());
    }
}

/// Examines the tools of a list.
pub(super) fn examine(tools: &[Value], report: &mut Report) {
    let mut faults = Faults::default();
    let mut names = BTreeSet::new();
    for tool in tools {
        let Some(name) = tool["name"].as_str().filter(|name| !name.is_empty()) else {
            faults.add(Fault::NoName, "one");
            continue;
        };
        if !names.insert(name) {
            faults.add(Fault::Namesakes, name);
        }
        examine_name(name, &mut faults);
        examine_texts(name, tool, &mut faults);
        examine_input(name, &tool["inputSchema"], &mut faults);
        if let Some(output) = tool.get("outputSchema").filter(|output| !output.is_null()) {
            if output["type"] != "object" {
                faults.add(Fault::Output, name);
            }
            Walk { root: output, tool: name, left: MAX_SUBSCHEMAS, faults: &mut faults }.schema(
                output,
                name,
                &mut Vec::new(),
            );
        }
    }
    for (fault, places) in &faults.0 {
        let (level, what, clients, fix) = fault.words();
        let mut shown: Vec<&str> = places.iter().take(MAX_PLACES).map(String::as_str).collect();
        let more = format!("{} more", places.len().saturating_sub(MAX_PLACES));
        if places.len() > MAX_PLACES {
            shown.push(&more);
        }
        let found = format!("{what}: {}", shown.join(", "));
        report.add("tools", level, found, clients.to_owned(), fix.to_owned());
    }
    if tools.len() > MAX_TOOLS {
        let found = format!("there are {}", tools.len());
        let fix = "offer fewer: models choose better, too";
        report.note("tools", found, format!("models of OpenAI, whose API rejects more than {MAX_TOOLS}"), fix);
    }
}

fn examine_name(name: &str, faults: &mut Faults) {
    let is_plain = |own: char| own.is_ascii_alphanumeric() || "_-".contains(own);
    let length = name.chars().count();
    if length > MAX_NAME_CHARS || !name.chars().all(is_plain) {
        faults.add(Fault::Name, name);
    } else if length > LONG_NAME_CHARS {
        faults.add(Fault::LongName, name);
    }
    if name.starts_with(|own: char| own.is_ascii_digit() || own == '-') {
        faults.add(Fault::FirstCharacter, name);
    }
}

fn examine_texts(name: &str, tool: &Value, faults: &mut Faults) {
    match tool["description"].as_str().map(|text| text.chars().count()) {
        None | Some(0) => faults.add(Fault::NoDescription, name),
        Some(length) if length > MAX_DESCRIPTION_CHARS => faults.add(Fault::LongDescription, name),
        Some(_) => {}
    }
    let annotations = &tool["annotations"];
    let is_titled = tool["title"].is_string() || annotations["title"].is_string();
    let has_hint = annotations["readOnlyHint"].is_boolean() || annotations["destructiveHint"].is_boolean();
    if !is_titled || !has_hint {
        faults.add(Fault::NoTitle, name);
    }
}

fn examine_input(name: &str, schema: &Value, faults: &mut Faults) {
    let Some(members) = schema.as_object() else {
        return faults.add(Fault::NoSchema, name);
    };
    if members.get("type").is_none_or(|own| own != "object") {
        faults.add(Fault::Root, name);
    } else if !members.get("properties").is_some_and(Value::is_object) {
        faults.add(Fault::NoProperties, name);
    }
    if ["anyOf", "oneOf", "allOf", "not", "enum"].iter().any(|union| members.contains_key(*union)) {
        faults.add(Fault::Union, name);
    }
    if schema.to_string().len() <= MAX_ANNOTATED_BYTES && mirrored_parameters(schema).is_err() {
        faults.add(Fault::Mirrored, name);
    }
    Walk { root: schema, tool: name, left: MAX_SUBSCHEMAS, faults }.schema(schema, name, &mut Vec::new());
}

/// A traversal of one schema and its references.
struct Walk<'a> {
    root: &'a Value,
    tool: &'a str,
    left: usize,
    faults: &'a mut Faults,
}

impl Walk<'_> {
    /// Visits a subschema. `references` are those that are being followed.
    fn schema(&mut self, schema: &Value, place: &str, references: &mut Vec<String>) {
        let members = match schema {
            Value::Bool(_) => return self.faults.add(Fault::Boolean, place),
            Value::Object(members) if self.left > 0 => members,
            _ => return,
        };
        self.left -= 1;
        self.keywords(members, place);
        if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
            self.reference(reference, place, references);
        }
        let each = |name: &str| members.get(name).and_then(Value::as_object).into_iter().flatten();
        for (name, property) in each("properties") {
            if name.is_empty()
                || name.len() > MAX_NAME_CHARS
                || !name.bytes().all(|own| own.is_ascii_alphanumeric() || b"_.-".contains(&own))
            {
                self.faults.add(Fault::PropertyName, &format!("{place}.{name}"));
            }
            self.typed(property, &format!("{place}.{name}"));
            self.schema(property, &format!("{place}.{name}"), references);
        }
        for (_, own) in each("patternProperties") {
            self.schema(own, &format!("{place}.*"), references);
        }
        for name in ["items", "contains", "not", "if", "then", "else", "propertyNames"] {
            if let Some(own) = members.get(name).filter(|own| !(name == "items" && own.is_boolean())) {
                self.schema(own, &format!("{place}.{name}"), references);
            }
        }
        // For objects, `false` and `true` are common and accepted by all clients.
        if let Some(own) = members.get("additionalProperties").filter(|own| own.is_object()) {
            self.schema(own, &format!("{place}.*"), references);
        }
        for name in ["anyOf", "oneOf", "allOf", "prefixItems"] {
            for (index, own) in members.get(name).and_then(Value::as_array).into_iter().flatten().enumerate() {
                let place = format!("{place}.{name}[{index}]");
                if name != "allOf" {
                    self.typed(own, &place);
                }
                self.schema(own, &place, references);
            }
        }
    }

    fn keywords(&mut self, members: &Map<String, Value>, place: &str) {
        if members.get("type").is_some_and(Value::is_array) {
            self.faults.add(Fault::TypeList, place);
        }
        if let Some(format) =
            members.get("format").and_then(Value::as_str).filter(|own| !INTEROPERABLE_FORMATS.contains(own))
        {
            self.faults.add(Fault::Format, &format!("{place} ({format})"));
        }
        if let Some(pattern) = members.get("pattern").and_then(Value::as_str)
            && !is_ecmascript(pattern)
        {
            self.faults.add(Fault::Pattern, place);
        }
        let values = || members.get("enum").and_then(Value::as_array).into_iter().flatten();
        if values().any(Value::is_null) {
            self.faults.add(Fault::NullInEnum, place);
        } else if values().any(|value| !value.is_string()) {
            self.faults.add(Fault::NumberEnum, place);
        }
        if members.get("type").is_some_and(|own| own == "array") && !members.contains_key("items") {
            self.faults.add(Fault::NoItems, place);
        }
        if members.contains_key("oneOf") {
            self.faults.add(Fault::OneOf, place);
        }
    }

    /// Whether a schema with keywords declares the type of its values. `{}` explicitly allows any.
    fn typed(&mut self, schema: &Value, place: &str) {
        const ANNOTATIONS: [&str; 4] = ["title", "description", "default", "examples"];
        const KINDS: [&str; 7] = ["type", "$ref", "enum", "const", "anyOf", "oneOf", "allOf"];
        let Some(members) = schema.as_object() else { return };
        let has_keywords = members.keys().any(|name| !ANNOTATIONS.contains(&name.as_str()));
        if has_keywords && !members.keys().any(|name| KINDS.contains(&name.as_str())) {
            self.faults.add(Fault::NoType, place);
        }
    }

    fn reference(&mut self, reference: &str, place: &str, references: &mut Vec<String>) {
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let Some(target) = target else {
            return self.faults.add(Fault::Reference, &format!("{place} ({reference})"));
        };
        if references.iter().any(|own| own == reference) {
            return self.faults.add(Fault::Recursion, self.tool);
        }
        references.push(reference.to_owned());
        if references.len() <= MAX_REFERENCES {
            self.schema(target, place, references);
        }
        references.pop();
    }
}

/// Whether a pattern is a regular expression of ECMAScript.
fn is_ecmascript(pattern: &str) -> bool {
    static VALIDATOR: OnceLock<Option<Validator>> = OnceLock::new();
    let validator = VALIDATOR.get_or_init(|| {
        let options = jsonschema::options().should_validate_formats(true);
        options.build(&json!({ "format": "regex" })).ok()
    });
    validator.as_ref().is_none_or(|validator| validator.is_valid(&json!(pattern)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Level;

    fn faults_of(tool: Value) -> Vec<(Level, String)> {
        let mut own = json!({
            "name": "t", "title": "T", "description": "What it does.", "annotations": { "readOnlyHint": true },
            "inputSchema": { "type": "object", "properties": {} },
        });
        for (name, value) in tool.as_object().unwrap() {
            own[name] = value.clone();
        }
        let mut report = Report::default();
        examine(&[own], &mut report);
        report.findings.into_iter().map(|own| (own.level, own.found)).collect()
    }

    fn faults_of_property(schema: Value) -> Vec<String> {
        let input = json!({ "type": "object", "properties": { "p": schema }, "$defs": { "T": { "$ref": "#/$defs/T" }, "S": { "type": "string" } } });
        faults_of(json!({ "inputSchema": input })).into_iter().map(|(_, found)| found).collect()
    }

    /// 1.1 to 1.10
    #[test]
    fn schemas_that_clients_reject_are_found() {
        for (schema, expected) in [
            (json!({ "type": "integer", "format": "uint32" }), "t.p (uint32)"),
            (json!({ "type": ["string", "null"] }), "a list of types"),
            (json!({ "type": "string", "enum": ["a", null] }), "`null` in an `enum`"),
            (json!({ "enum": [1, 2] }), "an `enum` of other values"),
            (json!(true), "`true` or `false`"),
            (json!({ "type": "object", "properties": { "deep": true } }), "t.p.deep"),
            (json!({ "type": "array" }), "an array without `items`"),
            (json!({ "type": "array", "prefixItems": [{ "type": "number" }] }), "an array without `items`"),
            (json!({ "oneOf": [{ "const": "a" }] }), "with `oneOf`"),
            (json!({ "anyOf": [{ "minLength": 1 }, { "type": "null" }] }), "t.p.anyOf[0]"),
            (json!({ "minimum": 1 }), "no type"),
            (json!({ "type": "object", "properties": { "a b": { "type": "string" } } }), "t.p.a b"),
            (json!({ "type": "string", "pattern": "(?i)abc" }), "`pattern`"),
            (json!({ "$ref": "#/$defs/T" }), "refers to itself"),
            (json!({ "$ref": "#/$defs/None" }), "leads to nothing"),
            (json!({ "$ref": "https://example.com/schema.json" }), "leads to nothing"),
        ] {
            let found = faults_of_property(schema.clone());

            assert!(found.len() == 1 && found[0].contains(expected), "{schema}: {found:?}");
        }
        for schema in [
            json!({}),
            json!({ "description": "Anything." }),
            json!({ "anyOf": [{ "type": "string", "format": "date-time" }, { "type": "null" }] }),
            json!({ "type": "array", "items": { "$ref": "#/$defs/S" } }),
            json!({ "type": "object", "additionalProperties": false }),
            json!({ "type": "string", "pattern": "^(?:a|b)(?=c)[A-Z]+$", "enum": ["a"] }),
        ] {
            assert_eq!(faults_of_property(schema.clone()), Vec::<String>::new(), "{schema}");
        }
    }

    /// 1.5, 1.6, and names
    #[test]
    fn tools_that_clients_reject_are_found() {
        for (tool, level, expected) in [
            (json!({ "inputSchema": null }), Level::Problem, "without an `inputSchema`"),
            (json!({ "inputSchema": {} }), Level::Problem, "not of the type `object`"),
            (json!({ "inputSchema": { "type": "object" } }), Level::Problem, "without `properties`"),
            (json!({ "inputSchema": { "type": "object", "properties": {}, "anyOf": [] } }), Level::Problem, "a union"),
            (json!({ "outputSchema": { "type": "array", "items": {} } }), Level::Problem, "an output schema"),
            (json!({ "name": "a.b" }), Level::Problem, "outside of"),
            (json!({ "name": "a".repeat(65) }), Level::Problem, "more than 64"),
            (json!({ "name": "a".repeat(41) }), Level::Note, "more than 40"),
            (json!({ "name": "1st" }), Level::Note, "neither a letter"),
            (json!({ "name": "" }), Level::Problem, "without a name"),
            (json!({ "description": "" }), Level::Note, "without a description"),
            (json!({ "description": "x".repeat(1025) }), Level::Note, "more than 1024"),
            (json!({ "annotations": null }), Level::Note, "without `title`"),
        ] {
            let found = faults_of(tool.clone());

            assert!(found.len() == 1 && found[0].0 == level && found[0].1.contains(expected), "{tool}: {found:?}");
        }
        assert_eq!(faults_of(json!({})), []);
    }

    #[test]
    fn a_finding_names_a_few_places() {
        let tool =
            |index: usize| json!({ "name": format!("t{index}"), "title": "", "annotations": { "readOnlyHint": true } });
        let mut report = Report::default();

        examine(&(0..200).map(tool).collect::<Vec<_>>(), &mut report);

        let found = |text: &str| report.findings.iter().any(|own| own.found.contains(text));
        assert!(found("t0, t1, t10, t100, t101, 195 more") && found("there are 200"));
    }
}
