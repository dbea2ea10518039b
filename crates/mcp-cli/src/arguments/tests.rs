use serde_json::json;

use super::{schema::signature, *};

fn read_words(words: &[&str], schema: &Value) -> anyhow::Result<String> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let mut content = |source: &str| match source {
        "text" => Ok("{\"a\": 1}\n".to_owned()),
        "lines" => Ok("red, blue\r\n\n2\n".to_owned()),
        "list" => Ok("[\n\"a\"]\n".to_owned()),
        "-" => Ok("{\"limit\": 1.10, \"other\": [1]}".to_owned()),
        other => bail!("there is no {other}"),
    };
    check(&words)?;
    let reader = Reader { root: schema, taker: Taker::Tool };
    Ok(serde_json::to_string(&read_from(&words, reader, &mut content)?)?)
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
        "lines": { "type": "array", "items": { "$ref": "#/$defs/L" } },
        "shade": { "anyOf": [{ "enum": ["dark", "light"] }, { "type": "null" }] },
        "hues": { "type": "array", "items": { "enum": ["red", "blue"] } },
    }, "required": ["name"], "$defs": {
        "P": { "type": "object", "properties": { "x": { "type": "number" }, "next": { "$ref": "#/$defs/P" } } },
        "T": { "type": "array", "items": { "type": "string" } },
        "L": { "type": "object", "properties": { "a": { "type": "integer" }, "tags": { "$ref": "#/$defs/T" } } },
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
            vec!["lines.1.a=2", "lines.0.a=1", "lines.0.tags.0=x", "lines.0.tags.1=5", "lines.1.tags=y,z"],
            r#"{"lines":[{"a":1,"tags":["x","5"]},{"a":2,"tags":["y","z"]}]}"#,
        ),
        (
            vec!["lines.0={\"a\":1}", "ids.0=7", "hues=red,blue"],
            r#"{"hues":["red","blue"],"ids":[7],"lines":[{"a":1}]}"#,
        ),
        (vec!["tags=@lines"], r#"{"tags":["red, blue","2"]}"#),
        (vec!["tags=@list"], "{\"tags\":[\n\"a\"]}"),
        (vec!["level=1.0", "shade=dark", "colour=red"], r#"{"colour":"red","level":1.0,"shade":"dark"}"#),
        (vec!["name=@text", "any=@text", "note=@@text"], r#"{"any":{"a": 1},"name":"{\"a\": 1}\n","note":"@text"}"#),
        (vec!["-", "name=x"], r#"{"limit":1.10,"name":"x","other":[1]}"#),
        (vec!["@text", "{\"b\":{\"c\":2.50}}"], r#"{"a":1,"b":{"c":2.50}}"#),
    ] {
        assert_eq!(read_words(&words, &schema()).unwrap(), expected, "{words:?}");
    }
    assert_eq!(
        signature(&schema()),
        "a.b?: integer, any?: any, colour?: \"red\"|\"1\", either?: integer|string, hues?: string[], ids?: integer[], level?: \
         1|2, limit?: integer, lines?: object[], list?: array, maybe?: boolean, most?: integer, name: string, note?: \
         string, point?: object, ratio?: number, shade?: \"dark\"|\"light\", tags?: string[]"
    );
}

#[test]
fn what_the_schema_does_not_allow_is_refused() {
    for (words, expected) in [
        (vec!["limit=many"], "`limit` must be of type integer"),
        (vec!["limit=1.5"], "`limit` must be of type integer"),
        (vec!["most=many"], "of type integer or null"),
        (vec!["maybe=yes"], "of type boolean or null"),
        (vec!["level=high"], "`level` must be one of 1, 2, not `high`"),
        (vec!["level=3"], "`level` must be one of 1, 2, not `3`"),
        (vec!["shade=dim"], "`shade` must be one of dark, light, null, not `dim`"),
        (vec!["hues=red,green"], "`hues` must be one of red, blue, not `green`"),
        (vec!["name.x=1"], "`name` must be of type string, and has no members"),
        (vec!["lines.a=1"], "`lines` is a list: write `lines.0`"),
        (vec!["lines.1.a=1"], "`lines.0` is missing"),
        (vec!["lines.18446744073709551615.a=1"], "`lines.0` is missing"),
        (vec!["lines.18446744073709551616.a=1"], "`lines` is a list"),
        (vec!["lines.0.a=x"], "`lines.0.a` must be of type integer"),
        (vec!["lines.0.b=x"], "no parameter `lines.0.b`; `lines.0` takes (a?: integer, tags?: string[])"),
        (vec!["lines.0.a=1", "lines.00.a=2"], "`lines.0.a` is given twice"),
        (vec!["lines.0.a=1", "lines.0={}"], "`lines.0` is given twice"),
        (vec!["-", "name=@-"], "standard input is given twice"),
        (vec!["name=@-", "note=@-"], "standard input is given twice"),
        (vec!["ids=[1"], "of type array"),
        (vec!["ids=1,b"], "of type integer, not `b`"),
        (vec!["point.x=a"], "`point.x` must be of type number"),
        (vec!["point.y=1"], "no parameter `point.y`; `point` takes (next?: object, x?: number)"),
        (vec!["point.next.y=1"], "no parameter `point.next.y`; `point.next` takes (next?: object, x?: number)"),
        (vec!["other=1"], "no parameter `other`; the tool takes ("),
        (vec!["x"], "NAME=VALUE"),
        (vec!["limit=1", "limit=2"], "`limit` is given twice"),
        (vec!["limit=1", "-"], "`limit` is given twice"),
        (vec!["point={}", "point.x=1"], "`point` is given twice"),
        (vec!["point.x=1", "point.x=1"], "`point.x` is given twice"),
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
