//! Seeded generator of schemas, mutated schemas and values.

use serde_json::{Map, Value, json};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "title"];
const PATTERNS: [&str; 3] = ["^a", "b$", "^[ab]*$"];
const TEXTS: [&str; 10] = ["", "a", "b", "ab", "abab", "aaaaaa", "ba", "x", "2026-01-02", "é👋"];

/// Linear congruential generator: the same numbers in each run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(3_037_000_493))
    }

    /// Returns a number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % limit as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Generates an object schema with definitions, like the schema of a tool's arguments.
pub(crate) fn root(random: &mut Random) -> Value {
    let mut schema = object(random, 3);
    schema["$defs"] = json!({
        "leaf": schema_of(random, 1),
        "tree": { "type": "object", "properties": { "a": scalar(random), "b": { "$ref": "#/$defs/tree" } } },
    });
    schema
}

fn schema_of(random: &mut Random, depth: usize) -> Value {
    if depth == 0 {
        return scalar(random);
    }
    match random.below(12) {
        0..4 => scalar(random),
        4..6 => object(random, depth - 1),
        6 => {
            let mut list = json!({ "type": "array", "items": schema_of(random, depth - 1) });
            sometimes(random, &mut list, "minItems", &[json!(0), json!(1), json!(2)]);
            sometimes(random, &mut list, "maxItems", &[json!(2), json!(3)]);
            sometimes(random, &mut list, "uniqueItems", &[json!(true), json!(false)]);
            list
        }
        7 => json!({ "anyOf": [schema_of(random, depth - 1), { "type": "null" }] }),
        8 => json!({ "anyOf": [schema_of(random, depth - 1), schema_of(random, depth - 1)] }),
        9 => {
            let variant = |tag: &str, own: Value| json!({ "type": "object", "properties": { "a": { "const": tag }, "b": own }, "required": ["a"] });
            json!({ "oneOf": [variant("x", schema_of(random, depth - 1)), variant("y", schema_of(random, depth - 1))] })
        }
        10 => json!({ "$ref": *random.of(&["#/$defs/leaf", "#/$defs/tree"]) }),
        _ => json!({ "allOf": [schema_of(random, depth - 1)], "description": "all" }),
    }
}

fn scalar(random: &mut Random) -> Value {
    match random.below(8) {
        0..3 => {
            let mut text = json!({ "type": "string" });
            sometimes(random, &mut text, "minLength", &[json!(0), json!(1), json!(2)]);
            sometimes(random, &mut text, "maxLength", &[json!(2), json!(4), json!(10)]);
            sometimes(random, &mut text, "pattern", &PATTERNS.map(Value::from));
            sometimes(random, &mut text, "format", &[json!("date")]);
            text
        }
        3..5 => {
            let mut number = json!({ "type": *random.of(&["integer", "number"]) });
            sometimes(random, &mut number, "minimum", &[json!(-1), json!(0), json!(1.5)]);
            sometimes(random, &mut number, "exclusiveMinimum", &[json!(-2), json!(0)]);
            sometimes(random, &mut number, "maximum", &[json!(3), json!(4), json!(4.5)]);
            sometimes(random, &mut number, "exclusiveMaximum", &[json!(4), json!(6)]);
            sometimes(random, &mut number, "multipleOf", &[json!(1), json!(2), json!(0.5)]);
            number
        }
        5 => {
            json!({ "enum": random.of(&[json!(["a", "b"]), json!(["a"]), json!([1, "ab", null]), json!([true, 2.0])]) })
        }
        6 => json!({ "type": ["string", "null"] }),
        _ => random
            .of(&[json!({ "type": "boolean" }), json!({}), json!({ "type": "null" }), json!({ "const": 3 })])
            .clone(),
    }
}

fn object(random: &mut Random, depth: usize) -> Value {
    let mut properties = Map::new();
    for name in NAMES {
        if random.one_in(2) {
            properties.insert(name.to_owned(), schema_of(random, depth));
        }
    }
    let required: Vec<&String> = properties.keys().filter(|_| random.one_in(3)).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "required": required });
    let others = [json!(false), json!(false), json!(true), json!({ "type": "string" })];
    sometimes(random, &mut schema, "additionalProperties", &others);
    schema
}

fn sometimes(random: &mut Random, schema: &mut Value, keyword: &str, values: &[Value]) {
    if random.one_in(3) {
        schema[keyword] = random.of(values).clone();
    }
}

/// Returns the schema with one or two changes at random locations.
pub(crate) fn mutated(random: &mut Random, schema: &Value) -> Value {
    let mut schema = schema.clone();
    for _ in 0..=random.below(2) {
        let mut places = Vec::new();
        collect(&schema, String::new(), &mut places);
        let place = random.of(&places).clone();
        let target = schema.pointer_mut(&place).unwrap();
        let changed = changed(random, target.clone(), place.is_empty());
        *target = changed;
    }
    schema
}

/// Pointers to all subschemas.
fn collect(schema: &Value, at: String, places: &mut Vec<String>) {
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        match (keyword.as_str(), value) {
            ("properties" | "$defs", Value::Object(map)) => {
                map.iter().for_each(|(name, own)| collect(own, format!("{at}/{keyword}/{name}"), places));
            }
            ("anyOf" | "oneOf" | "allOf", Value::Array(list)) => {
                list.iter()
                    .enumerate()
                    .for_each(|(index, own)| collect(own, format!("{at}/{keyword}/{index}"), places));
            }
            ("items", own) => collect(own, format!("{at}/items"), places),
            _ => {}
        }
    }
    places.push(at);
}

fn changed(random: &mut Random, mut schema: Value, is_root: bool) -> Value {
    let bounds = ["minLength", "maxLength", "minimum", "maximum", "exclusiveMaximum", "minItems", "maxItems"];
    if schema["properties"].is_object() && random.below(3) > 0 {
        let name = *random.of(&NAMES);
        let properties = schema["properties"].as_object_mut().unwrap();
        match random.below(4) {
            0 => drop(properties.insert(name.to_owned(), schema_of(random, 1))),
            1 => drop(properties.remove(name)),
            2 => {
                let required = properties.keys().filter(|_| random.one_in(2)).cloned().collect::<Vec<_>>();
                schema["required"] = json!(required);
            }
            _ => match schema.get("additionalProperties") {
                Some(_) => drop(schema.as_object_mut().unwrap().remove("additionalProperties")),
                None => schema["additionalProperties"] = json!(false),
            },
        }
        return schema;
    }
    match random.below(if is_root { 2 } else { 8 }) {
        0 => {
            schema["description"] = json!(format!("text {}", random.below(100)));
            schema
        }
        1 => {
            let members = schema.as_object_mut().unwrap();
            let keywords: Vec<String> =
                members.keys().filter(|own| own.as_str() != "$defs" && *own != "type").cloned().collect();
            if !keywords.is_empty() {
                members.remove(random.of(&keywords));
            }
            if is_root {
                members.insert("type".to_owned(), json!("object"));
            }
            schema
        }
        2 => json!({ "anyOf": [schema, { "type": "null" }] }),
        3 => schema["anyOf"].as_array().and_then(|own| own.first()).cloned().unwrap_or(json!({})),
        4 => {
            for keyword in bounds {
                if let Some(own) = schema.get(keyword).and_then(Value::as_u64) {
                    schema[keyword] = json!(own + random.below(3) as u64);
                }
            }
            if let Some(choices) = schema.get_mut("enum").and_then(Value::as_array_mut) {
                choices.push(json!("new"));
            }
            schema
        }
        5 => {
            let (keyword, value) =
                random.of(&[("not", json!({ "const": "a" })), ("minLength", json!(1)), ("maximum", json!(4))]).clone();
            schema[keyword] = value;
            schema
        }
        6 if schema["type"] == "integer" => {
            schema["type"] = json!("number");
            schema
        }
        _ => schema_of(random, 2),
    }
}

/// Generates a value that is often valid for a schema.
pub(crate) fn value_of(random: &mut Random, schema: &Value, root: &Value, depth: usize) -> Value {
    if depth == 0 || random.one_in(40) {
        return any(random);
    }
    if let Some(reference) = schema["$ref"].as_str() {
        return value_of(random, root.pointer(&reference[1..]).unwrap(), root, depth - 1);
    }
    if let Some(only) = schema.get("const") {
        return only.clone();
    }
    if let Some(choices) = schema["enum"].as_array() {
        return random.of(choices).clone();
    }
    for keyword in ["anyOf", "oneOf", "allOf"] {
        if let Some(list) = schema[keyword].as_array() {
            let alternative = random.below(list.len());
            return value_of(random, &list[alternative], root, depth - 1);
        }
    }
    match schema["type"].as_str() {
        Some("object") => {
            let mut members = Map::new();
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            for (name, own) in schema["properties"].as_object().into_iter().flatten() {
                if required.contains(&json!(name)) || random.one_in(2) {
                    members.insert(name.clone(), value_of(random, own, root, depth - 1));
                }
            }
            if schema["additionalProperties"] != false && random.one_in(2) {
                members.entry(*random.of(&NAMES)).or_insert(any(random));
            }
            Value::Object(members)
        }
        Some("array") => {
            let count = random.below(4);
            (0..count).map(|_| value_of(random, &schema["items"], root, depth - 1)).collect()
        }
        Some("string") => json!(*random.of(&TEXTS)),
        Some("integer") => json!(i32::try_from(random.below(9)).unwrap() - 3),
        Some("number") => json!(f64::from(i32::try_from(random.below(18)).unwrap() - 6) / 2.0),
        Some("boolean") => json!(random.one_in(2)),
        Some("null") => Value::Null,
        _ => any(random),
    }
}

fn any(random: &mut Random) -> Value {
    let text = *random.of(&TEXTS);
    random
        .of(&[
            json!(null),
            json!(true),
            json!(1),
            json!(2.0),
            json!(1.5),
            json!(text),
            json!([]),
            json!(["a"]),
            json!({}),
            json!({ "a": 1 }),
            json!({ "a": "x", "b": null }),
            json!(3),
        ])
        .clone()
}
