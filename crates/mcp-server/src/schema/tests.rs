//! Rust types, and the schemas that clients receive for them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use garde::Validate;
use mcp_protocol::mirrored_parameters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{SchemaOrigin, for_clients, input_schema_of, output_schema_of, tool_input_schema};
use crate::{HandlerError, NoArguments, Tool, ToolContext};

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema matters")]
struct Holder<T> {
    value: T,
}

macro_rules! schema_only {
    ($($item:item)*) => { $(
        #[derive(Deserialize, Serialize, JsonSchema, Validate)]
        #[garde(allow_unvalidated)]
        #[allow(dead_code, reason = "only its schema matters")]
        $item
    )* };
}

schema_only! {
    #[serde(rename_all = "lowercase")]
    enum Size { Small, Large }

    /// What is on it.
    enum Topping {
        /// With basil
        Basil,
        /// With olives
        Olives,
        Plain,
    }

    enum Only {
        /// There is no other.
        One,
    }

    struct Point { x: f64, y: f64 }

    #[serde(tag = "type", rename_all = "lowercase")]
    enum Shape {
        Circle { radius: u32 },
        Point,
    }

    enum Step {
        /// Stop here.
        Stop,
        /// Turn around.
        Turn,
        Walk { steps: u8 },
    }

    #[serde(untagged)]
    enum TextOrNumber { Text(String), Number(i64) }

    struct Bounded {
        /// The most.
        #[garde(range(min = 1, max = 100))]
        limit: Option<u32>,
        #[garde(length(chars, min = 1, max = 5))]
        name: Option<String>,
        #[schemars(inner(length(max = 3)))]
        #[garde(length(max = 2))]
        tags: Option<Vec<String>>,
        /// The size.
        #[serde(default)]
        size: Option<Size>,
        /// On it.
        topping: Topping,
    }

    struct Formats {
        #[schemars(extend("format" = "date-time"))]
        moment: String,
        #[schemars(extend("format" = "date"))]
        day: Option<String>,
        #[schemars(extend("format" = "time"))]
        time: String,
        #[schemars(extend("format" = "duration"))]
        span: String,
        #[schemars(extend("format" = "partial-date-time"))]
        naive: Option<String>,
        #[schemars(extend("format" = "partial-time"))]
        naive_time: String,
        #[schemars(extend("format" = "uuid"))]
        id: String,
        #[schemars(extend("format" = "uri"))]
        link: String,
        #[schemars(email)]
        email: String,
        #[schemars(extend("format" = "iri"))]
        iri: String,
        #[schemars(extend("format" = "semver"))]
        version: Option<String>,
    }

    struct Flattened {
        id: u8,
        #[serde(flatten)]
        point: Point,
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    }

    struct Anything { any: Value, #[serde(default)] maybe: Option<Value>, list: Vec<Value> }

    struct Tree { name: String, point: Option<Point>, children: Vec<Tree>, parent: Option<Box<Tree>> }

    struct Renamed { #[serde(rename = "größe")] size: u8 }

    struct Deep { list: Vec<Option<Renamed>> }

    struct WithUnion { id: u8, #[serde(flatten)] shape: Shape }

    struct WithUnions { #[serde(flatten)] shape: Shape, #[serde(flatten)] step: Step }
}

/// One case: its name, the schema before and after normalization, and the expected schema.
struct Case {
    name: String,
    before: Value,
    after: Value,
    expected: Value,
}

/// Returns the cases of a type as a property, in arguments and in results.
fn cases_of<T: JsonSchema>(entry: &str, expected: &Value) -> Vec<Case> {
    let name = format!("{entry} {}", std::any::type_name::<T>());
    let (arguments, result) = (input_schema_of::<Holder<T>>(), output_schema_of::<Holder<T>>());
    let as_input = tool_input_schema(arguments.clone(), SchemaOrigin::Derived).unwrap();
    let expected = json!({ "type": "object", "properties": { "value": expected }, "required": ["value"] });
    let mut of_input = expected.clone();
    if arguments.get("required").is_none() {
        of_input.as_object_mut().unwrap().remove("required");
    }
    vec![
        Case { name: format!("{name} (input)"), before: arguments, after: as_input, expected: of_input },
        Case { name: format!("{name} (output)"), after: for_clients(result.clone()), before: result, expected },
    ]
}

/// Returns the case of a type as the arguments of a tool.
fn case_of<T: JsonSchema>(entry: &str, expected: Value) -> Case {
    let before = input_schema_of::<T>();
    let after = tool_input_schema(before.clone(), SchemaOrigin::Derived).unwrap();
    Case { name: format!("{entry} {}", std::any::type_name::<T>()), before, after, expected }
}

/// Returns the case of a hand-written schema.
fn raw_case(entry: &str, before: Value, expected: Value) -> Case {
    Case {
        name: format!("{entry} by hand"),
        after: tool_input_schema(before.clone(), SchemaOrigin::HandWritten).unwrap(),
        before,
        expected,
    }
}

fn or_null(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn cases() -> Vec<Case> {
    let (string, number) = (json!({ "type": "string" }), json!({ "type": "number" }));
    let byte = json!({ "type": "integer", "minimum": 0, "maximum": 255 });
    let unsigned = json!({ "type": "integer", "minimum": 0 });
    let point = json!({ "type": "object", "properties": { "x": number, "y": number }, "required": ["x", "y"] });
    let size = json!({ "type": "string", "enum": ["small", "large"] });
    let comments = "- `Basil`: With basil\n- `Olives`: With olives";
    let topping = |own: &str| json!({ "type": "string", "enum": ["Plain", "Basil", "Olives"], "description": format!("{own}\n{comments}") });
    let pair = json!({ "type": "array", "prefixItems": [string, byte], "items": { "anyOf": [string, byte] },
        "minItems": 2, "maxItems": 2 });
    let shape = json!({ "oneOf": [
        { "type": "object", "properties": { "radius": unsigned, "type": { "type": "string", "enum": ["circle"] } },
          "required": ["type", "radius"] },
        { "type": "object", "properties": { "type": { "type": "string", "enum": ["point"] } }, "required": ["type"] },
    ] });
    let format = |name: &str| json!({ "type": "string", "format": name });
    let tree = |own: &str| {
        json!({ "type": "object", "properties": {
            "name": string, "point": or_null(point.clone()),
            "children": { "type": "array", "items": { "$ref": own } }, "parent": or_null(json!({ "$ref": own })),
        }, "required": ["name", "children"] })
    };
    let inner_tree = tree("#/$defs/Tree");
    let mut cases = vec![
        cases_of::<u8>("1.1", &byte),
        cases_of::<u16>("1.1", &json!({ "type": "integer", "minimum": 0, "maximum": 65535 })),
        cases_of::<u32>("1.1", &unsigned),
        cases_of::<u64>("1.1", &unsigned),
        cases_of::<usize>("1.1", &unsigned),
        cases_of::<i8>("1.1", &json!({ "type": "integer", "minimum": -128, "maximum": 127 })),
        cases_of::<i32>("1.1", &json!({ "type": "integer" })),
        cases_of::<i64>("1.1", &json!({ "type": "integer" })),
        cases_of::<f32>("1.1", &number),
        cases_of::<f64>("1.1", &number),
        cases_of::<IpAddr>("1.1", &string),
        cases_of::<Ipv4Addr>("1.1", &format("ipv4")),
        cases_of::<Vec<u64>>("1.1", &json!({ "type": "array", "items": unsigned })),
        cases_of::<BTreeMap<String, u64>>("1.1", &json!({ "type": "object", "additionalProperties": unsigned })),
        cases_of::<std::time::Duration>(
            "1.1",
            &json!({ "type": "object", "properties": { "secs": unsigned, "nanos": unsigned }, "required": ["secs", "nanos"] }),
        ),
        cases_of::<Option<String>>("1.2", &or_null(string.clone())),
        cases_of::<Option<bool>>("1.2", &or_null(json!({ "type": "boolean" }))),
        cases_of::<Option<u8>>("1.2", &or_null(byte.clone())),
        cases_of::<Option<Option<u8>>>("1.2", &or_null(byte.clone())),
        cases_of::<Option<f64>>("1.2", &or_null(number.clone())),
        cases_of::<Option<Ipv4Addr>>("1.2", &or_null(format("ipv4"))),
        cases_of::<Option<Point>>("1.2", &or_null(point.clone())),
        cases_of::<Option<Vec<String>>>("1.2", &or_null(json!({ "type": "array", "items": string }))),
        cases_of::<Option<BTreeMap<String, u8>>>(
            "1.2",
            &or_null(json!({ "type": "object", "additionalProperties": byte })),
        ),
        cases_of::<Vec<Option<String>>>("1.2", &json!({ "type": "array", "items": or_null(string.clone()) })),
        cases_of::<BTreeMap<String, Option<Point>>>(
            "1.2",
            &json!({ "type": "object", "additionalProperties": or_null(point.clone()) }),
        ),
        cases_of::<Option<Shape>>("1.2", &or_null(shape.clone())),
        cases_of::<TextOrNumber>("1.2", &json!({ "anyOf": [string, { "type": "integer" }] })),
        cases_of::<Option<Size>>("1.3", &or_null(size.clone())),
        cases_of::<Vec<Option<Size>>>("1.3", &json!({ "type": "array", "items": or_null(size.clone()) })),
        cases_of::<Value>("1.4", &json!({})),
        cases_of::<Option<Value>>("1.4", &json!({})),
        cases_of::<Vec<Value>>("1.4", &json!({ "type": "array", "items": {} })),
        cases_of::<Vec<Vec<Value>>>("1.4", &json!({ "type": "array", "items": { "type": "array", "items": {} } })),
        cases_of::<BTreeMap<String, Value>>("1.4", &json!({ "type": "object", "additionalProperties": true })),
        cases_of::<(String, u8)>("1.7", &pair),
        cases_of::<Option<(String, u8)>>("1.7", &or_null(pair.clone())),
        cases_of::<(u8, u8)>(
            "1.7",
            &json!({ "type": "array", "prefixItems": [byte, byte], "items": byte, "minItems": 2, "maxItems": 2 }),
        ),
        cases_of::<(Value, u8)>(
            "1.7",
            &json!({ "type": "array", "prefixItems": [{}, byte], "items": {}, "minItems": 2, "maxItems": 2 }),
        ),
        cases_of::<[u8; 3]>("1.7", &json!({ "type": "array", "items": byte, "minItems": 3, "maxItems": 3 })),
        cases_of::<Size>("1.8", &size),
        cases_of::<Topping>("1.8", &topping("What is on it.")),
        cases_of::<Option<Topping>>("1.8", &or_null(topping("What is on it."))),
        cases_of::<Vec<Topping>>("1.8", &json!({ "type": "array", "items": topping("What is on it.") })),
        cases_of::<Only>(
            "1.8",
            &json!({ "type": "string", "enum": ["One"], "description": "- `One`: There is no other." }),
        ),
        cases_of::<Shape>("1.8", &shape),
        cases_of::<Step>(
            "1.8",
            &json!({ "oneOf": [
                { "type": "string", "enum": ["Stop", "Turn"],
                  "description": "- `Stop`: Stop here.\n- `Turn`: Turn around." },
                { "type": "object", "properties": { "Walk": { "type": "object", "properties": { "steps": byte },
                  "required": ["steps"] } }, "required": ["Walk"], "additionalProperties": false },
            ] }),
        ),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>();
    cases.extend([
        case_of::<Formats>(
            "1.1",
            json!({ "type": "object", "properties": {
                "moment": format("date-time"), "day": or_null(format("date")), "time": format("time"),
                "span": format("duration"), "naive": or_null(string.clone()), "naive_time": string,
                "id": format("uuid"), "link": format("uri"), "email": format("email"), "iri": string,
                "version": or_null(string.clone()),
            }, "required": ["moment", "time", "span", "naive_time", "id", "link", "email", "iri"] }),
        ),
        case_of::<Bounded>(
            "1.2",
            json!({ "type": "object", "properties": {
                "limit": { "description": "The most.",
                    "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 100 }, { "type": "null" }] },
                "name": or_null(json!({ "type": "string", "minLength": 1, "maxLength": 5 })),
                "tags": or_null(json!({ "type": "array", "items": { "type": "string", "maxLength": 3 },
                    "maxItems": 2 })),
                "size": { "description": "The size.", "default": null, "anyOf": [size, { "type": "null" }] },
                "topping": topping("On it."),
            }, "required": ["topping"] }),
        ),
        case_of::<Anything>(
            "1.4",
            json!({ "type": "object", "properties": { "any": {}, "maybe": { "default": null },
                "list": { "type": "array", "items": {} } }, "required": ["any", "list"] }),
        ),
        case_of::<Flattened>(
            "1.4",
            json!({ "type": "object", "properties": { "id": byte, "x": number, "y": number },
                "required": ["id", "x", "y"], "additionalProperties": true }),
        ),
        case_of::<NoArguments>("1.6", json!({ "type": "object", "properties": {}, "additionalProperties": false })),
        case_of::<BTreeMap<String, bool>>(
            "1.6",
            json!({ "type": "object", "properties": {}, "additionalProperties": { "type": "boolean" } }),
        ),
        case_of::<Tree>("1.10", tree("#")),
        case_of::<Holder<Tree>>(
            "1.10",
            json!({ "type": "object", "properties": { "value": inner_tree.clone() }, "required": ["value"],
                "$defs": { "Tree": inner_tree } }),
        ),
        raw_case("1.6", json!({}), json!({ "type": "object", "properties": {} })),
        raw_case(
            "1.2",
            json!({ "type": "object", "properties": {
                "several": { "type": ["string", "integer", "null"], "minLength": 1, "minimum": 2, "title": "S" },
                "mixed": { "enum": ["a", 1, null] },
                "kind": { "const": null },
                "not_null": { "type": ["string", "null"], "enum": ["a"] },
                "closed": { "type": "array", "prefixItems": [{ "type": "string" }], "items": false },
                "open": { "type": "array", "prefixItems": [{ "type": "string" }] },
                "never": false,
                "list": { "type": "array" },
                "both": { "type": ["object", "null"], "anyOf": [{ "required": ["a"] }, { "type": "null" }] },
            }, "allOf": [{ "anyOf": [{ "required": ["kind"] }, { "required": ["list"] }, { "required": ["both"] },
                { "required": ["open"] }, { "required": ["several"] }] }] }),
            json!({ "type": "object", "properties": {
                "several": { "title": "S", "anyOf": [{ "type": "string", "minLength": 1 },
                    { "type": "integer", "minimum": 2 }, { "type": "null" }] },
                "mixed": { "anyOf": [{ "type": "string", "enum": ["a"] }, { "type": "integer", "enum": [1] },
                    { "type": "null" }] },
                "kind": { "type": "null" },
                "not_null": { "type": "string", "enum": ["a"] },
                "closed": { "type": "array", "prefixItems": [{ "type": "string" }], "items": { "type": "string" },
                    "maxItems": 1 },
                "open": { "type": "array", "prefixItems": [{ "type": "string" }], "items": {} },
                "never": { "not": {} },
                "list": { "type": "array", "items": {} },
                "both": { "anyOf": [{ "type": "object" }, { "type": "null" }],
                    "allOf": [{ "anyOf": [{ "required": ["a"] }, { "type": "null" }] }] },
            }, "allOf": [{ "anyOf": [{ "required": ["kind"] }, { "required": ["list"] }, { "required": ["both"] },
                { "required": ["open"] }, { "required": ["several"] }] }] }),
        ),
        raw_case(
            "other dialects",
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
                "properties": { "a": { "type": ["string", "null"] } } }),
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
                "properties": { "a": { "type": ["string", "null"] } } }),
        ),
    ]);
    cases
}

#[test]
fn schemas_are_normalized_for_clients() {
    let wrong = cases().into_iter().filter(|case| case.after != case.expected);
    let wrong: Vec<String> = wrong
        .map(|case| format!("{}:\n  is        {}\n  should be {}", case.name, case.after, case.expected))
        .collect();

    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// The derived and the normalized schema accept the same values.
#[test]
fn normalization_keeps_the_accepted_values() {
    let mut invalid = 0;
    for case in cases() {
        let before = jsonschema::validator_for(&case.before).unwrap();
        let after = jsonschema::validator_for(&case.after).unwrap();
        let mut valid = 0;
        // Arguments are objects, and so are the results here.
        for instance in instances(&case.before, &case.before, 4).iter().filter(|instance| instance.is_object()) {
            let is_valid = before.is_valid(instance);
            if is_valid {
                valid += 1
            } else {
                invalid += 1
            }

            assert_eq!(
                after.is_valid(instance),
                is_valid,
                "{}: {instance}\n{}\n{}",
                case.name,
                case.before,
                case.after
            );
        }
        assert!(valid > 0, "{}: no value is valid", case.name);
    }
    assert!(invalid > 0);
}

/// Returns values that match a schema, and values that violate it.
fn instances(schema: &Value, root: &Value, depth: usize) -> Vec<Value> {
    let long = "ä".repeat(6);
    let mut all: Vec<Value> = [json!(null), json!(true), json!(-129), json!(0), json!(1), json!(2), json!(1.0)].into();
    all.extend([json!(1.5), json!(300), json!(70_000), json!(""), json!("a"), json!(long), json!([]), json!({})]);
    all.extend([json!(["a"]), json!(["a", 1]), json!([1, 2]), json!([1, 2, 3]), json!([null]), json!({ "a": 1 })]);
    if depth == 0 {
        return all;
    }
    let own = |schema: &Value| instances(schema, root, depth - 1);
    if let Some(reference) = schema["$ref"].as_str() {
        all.extend(own(root.pointer(&reference[1..]).unwrap()));
    }
    all.extend(schema["enum"].as_array().into_iter().flatten().cloned());
    all.extend(schema.get("const").cloned());
    for keyword in ["oneOf", "anyOf", "allOf"] {
        all.extend(schema[keyword].as_array().into_iter().flatten().flat_map(own));
    }
    if let Some(properties) = schema["properties"].as_object() {
        let values: Vec<(&String, Vec<Value>)> =
            properties.iter().map(|(name, property)| (name, instances(property, root, depth.min(2) - 1))).collect();
        // An object of valid members, and variations of one member each.
        let fitting = values.iter().filter_map(|(name, values)| {
            let validator = jsonschema::validator_for(&with_definitions(&properties[*name], root)).unwrap();
            let value = values.iter().find(|value| validator.is_valid(value))?;
            Some(((*name).clone(), value.clone()))
        });
        let fitting: serde_json::Map<String, Value> = fitting.collect();
        all.push(Value::Object(fitting.clone()));
        for (name, property) in properties {
            let mut without = fitting.clone();
            without.remove(name);
            all.push(Value::Object(without));
            for value in own(property) {
                let mut object = fitting.clone();
                object.insert(name.clone(), value);
                all.push(Value::Object(object));
            }
        }
        let mut more = fitting;
        more.insert("unknown".to_owned(), json!(1));
        all.push(Value::Object(more));
    }
    for keyword in ["items", "additionalProperties"] {
        for value in schema.get(keyword).map(own).unwrap_or_default() {
            all.push(json!([value]));
            all.push(json!({ "key": value }));
        }
    }
    all
}

/// Returns a part of a schema with the definitions of the whole.
fn with_definitions(part: &Value, root: &Value) -> Value {
    let mut part = part.clone();
    if let (Some(members), Some(definitions)) = (part.as_object_mut(), root.get("$defs")) {
        members.insert("$defs".to_owned(), definitions.clone());
    }
    part
}

fn message<T: JsonSchema>() -> String {
    tool_input_schema(input_schema_of::<T>(), SchemaOrigin::Derived).unwrap_err()
}

fn raw_message(schema: Value) -> String {
    tool_input_schema(schema, SchemaOrigin::HandWritten).unwrap_err()
}

#[test]
fn a_union_at_the_root_of_arguments_is_rejected_with_the_fix() {
    for (message, keyword) in [
        (message::<Shape>(), "oneOf"),
        (message::<TextOrNumber>(), "anyOf"),
        (message::<WithUnion>(), "oneOf"),
        (message::<WithUnions>(), "allOf"),
    ] {
        assert!(message.contains(&format!("has `{keyword}` at the root")), "{message}");
        assert!(message.contains("make the enum a field of a struct"), "{message}");
    }
    for keyword in ["oneOf", "anyOf"] {
        let message = raw_message(json!({ "type": "object", keyword: [{ "required": ["a"] }, { "required": ["b"] }] }));

        assert!(message.contains(&format!("has `{keyword}` at the root")), "{message}");
        assert!(message.contains("check it in the handler"), "{message}");
    }
}

#[test]
#[should_panic(expected = "tool `draw`: its schema has `oneOf` at the root")]
fn a_union_at_the_root_names_its_tool() {
    async fn draw(_: ToolContext<()>, _: Shape) -> Result<String, HandlerError> {
        Ok(String::new())
    }

    drop(Tool::new("draw", draw));
}

#[test]
fn a_property_whose_name_model_apis_reject_is_named() {
    let long = "a".repeat(65);
    let nested = json!({ "type": "object", "properties": { "a": { "type": "array", "items": {
        "anyOf": [{ "type": "object", "properties": { "b c": {} } }] } } } });
    for (message, name) in [
        (message::<Renamed>(), "größe"),
        (message::<Deep>(), "größe"),
        (raw_message(json!({ "type": "object", "properties": { "": {} } })), ""),
        (raw_message(json!({ "type": "object", "properties": { &long: {} } })), &*long),
        (raw_message(nested), "b c"),
    ] {
        assert!(message.contains(&format!("a property {name:?}, whose name")), "{message}");
        assert!(message.contains("use 1 to 64 of"), "{message}");
    }
    let longest = json!({ "type": "object", "properties": { "a".repeat(64): {}, "A-1_b.c": {} } });
    assert!(tool_input_schema(longest, SchemaOrigin::HandWritten).is_ok());
}

#[test]
fn a_reference_into_a_rewritten_part_is_reported() {
    let schema = json!({ "type": "object", "properties": {
        "a": { "type": ["array", "null"], "items": { "type": "string" } }, "b": { "$ref": "#/properties/a/items" },
        "c": { "$ref": "#/properties/a" },
    } });

    assert!(raw_message(schema).contains("#/properties/a/items"));
}

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
fn an_optional_mirrored_parameter_has_a_single_type() {
    let by_hand = mirrored_parameters(&schema(&json!({ "type": ["integer", "null"], "x-mcp-header": "R" })));
    let typed = tool_input_schema(input_schema_of::<Optional>(), SchemaOrigin::Derived).unwrap();

    assert!(by_hand.is_err());
    assert_eq!(mirrored_parameters(&typed).unwrap().len(), 1);
    assert_eq!(typed["properties"]["region"]["type"], "integer");
    assert_eq!(typed["properties"]["other"], json!({ "anyOf": [{ "type": "integer" }, { "type": "null" }] }));
}
