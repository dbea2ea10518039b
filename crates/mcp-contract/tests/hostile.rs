//! Hostile contracts: the comparison is bounded in time and memory, and never reports `compatible` when it reaches a bound.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

use mcp_contract::{Change, Class, Contract, MAX_BYTES, compare};
use serde_json::{Map, Value, json};

fn contract(schema: &Value) -> Contract {
    Contract::parse(&json!({ "tools": [{ "name": "t", "inputSchema": schema }] }).to_string()).unwrap()
}

fn changes(old: &Value, new: &Value) -> Vec<Change> {
    compare(&contract(old), &contract(new))
}

#[track_caller]
fn assert_not_comparable(old: &Value, new: &Value) {
    let changes = changes(old, new);
    assert!(
        changes.iter().any(|own| own.class == Class::Breaking && own.kind == "not-comparable"),
        "{:?}",
        changes.first()
    );
}

/// Definitions of which each refers twice to the next one: 2^60 paths.
fn shared(last: &Value) -> Value {
    let mut definitions = Map::new();
    for level in 0..60 {
        let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
        definitions.insert(format!("d{level}"), json!({ "type": "object", "properties": { "a": next, "b": next } }));
    }
    definitions.insert("d60".to_owned(), last.clone());
    json!({ "$ref": "#/$defs/d0", "$defs": definitions })
}

#[test]
fn shared_definitions_do_not_multiply() {
    assert_not_comparable(&shared(&json!({ "type": "string" })), &shared(&json!({ "type": ["string", "null"] })));
}

#[test]
fn unions_and_enums_are_limited() {
    let union = |count: usize, size: usize| {
        let of = |tag: usize| json!({ "type": "object", "properties": { format!("m{tag}"): { "minLength": size } } });
        json!({ "anyOf": (0..count).map(of).collect::<Vec<_>>() })
    };
    let choices = |from: usize| json!({ "enum": (from..from + 1500).collect::<Vec<_>>() });

    assert_not_comparable(&union(2000, 1), &union(2000, 2));
    assert_not_comparable(&choices(0), &choices(1));
    // Within the limits, but more pairs than the comparison has steps for.
    let nested =
        |size| json!({ "properties": { "a": { "items": union(190, size) }, "b": { "items": union(190, size) } } });
    assert!(changes(&nested(1), &nested(2)).iter().any(|own| own.class == Class::Breaking));
}

#[test]
fn cyclic_references_terminate() {
    let circle = |own: Value| json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": own } });
    assert_not_comparable(&json!({ "type": "string" }), &circle(json!({ "$ref": "#/$defs/a" })));
    let union = json!({ "anyOf": [{ "$ref": "#/$defs/a" }, { "type": "integer" }] });
    assert_not_comparable(&json!({ "type": "string" }), &circle(union));
    let all = json!({ "allOf": [{ "$ref": "#/$defs/a" }, { "type": "integer" }] });
    assert_not_comparable(&json!({ "type": "string" }), &circle(all));
}

#[test]
fn an_unsupported_keyword_or_reference_is_breaking() {
    let text = json!({ "type": "string" });
    for new in [
        json!({ "type": "text" }),
        json!({ "type": "string", "maxLength": "5" }),
        json!({ "type": "string", "maxLength": -1 }),
        json!({ "$ref": "https://example.com/schema" }),
        json!({ "$ref": "#/$defs/missing" }),
        json!({ "type": "string", "$dynamicRef": "#a" }),
        json!({ "type": "string", "vendorKeyword": 1 }),
        json!({ "oneOf": [{ "type": "string" }, { "type": "string", "maxLength": 3 }] }),
        json!({ "type": "string", "const": "a", "enum": ["a"] }),
    ] {
        assert_not_comparable(&text, &new);
    }
    let draft = json!({ "$schema": "http://json-schema.org/draft-04/schema#", "type": "string" });
    assert_not_comparable(&text, &draft);
    // Equal subschemas whose references resolve to different definitions.
    let of = |leaf: &str| json!({ "properties": { "a": { "not": { "$ref": "#/$defs/x" } } }, "$defs": { "x": { "type": leaf } } });
    assert!(changes(&of("string"), &of("integer")).iter().any(|own| own.class == Class::Breaking));
}

#[test]
fn contracts_are_bounded() {
    let deep = format!("{}{}", r#"{"tools":[{"name":"t","inputSchema":"#, r#"{"items":"#.repeat(200));
    for (text, expected) in [
        (" ".repeat(MAX_BYTES + 1), "at most"),
        (deep, "nest"),
        (r#"{"tools":[{"name":"a"},{"name":"a"}]}"#.to_owned(), "two items"),
        (r#"{"tools":[{}]}"#.to_owned(), "has no `name`"),
        (r#"{"tools":{}}"#.to_owned(), "not an array"),
        ("{}".to_owned(), "lists nothing"),
        ("[]".to_owned(), "parse"),
        (format!(r#"{{"tools":[{}]}}"#, vec![r#"{"":0}"#; 1_000_000].join(",")), "parse"),
    ] {
        let error = Contract::parse(&text).unwrap_err().to_string();

        assert!(error.contains(expected) && error.len() < 1000, "{error}");
    }
}

#[test]
fn reports_are_bounded() {
    let tools: Vec<Value> = (0..12_000).map(|own| json!({ "name": format!("tool {own}") })).collect();
    let many = Contract::parse(&json!({ "tools": tools }).to_string()).unwrap();
    let none = Contract::parse(r#"{"tools":[],"capabilities":{}}"#).unwrap();
    let long = json!({ "type": "string", "enum": ["x".repeat(1_000_000)] });

    let removed = compare(&many, &none);
    let shown = changes(&long, &json!({ "type": "string", "enum": ["y".repeat(1_000_000)] }));

    assert!(removed.len() <= 10_001 && removed[0].kind == "not-comparable", "{}", removed.len());
    assert!(shown.iter().all(|own| own.to_string().len() < 2000));
    assert!(removed.iter().all(|own| !own.name().contains(' ')));
}
