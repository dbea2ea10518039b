//! Rows of the table of changes.

use mcp_contract::{
    Class::{self, Breaking, Compatible, Wording},
    Contract,
};
use serde_json::{Value, json};

/// One kind of change, with an example.
pub(crate) struct Row {
    pub(crate) change: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) class: Class,
    pub(crate) is_one_way: bool,
    pub(crate) old: Value,
    pub(crate) new: Value,
}

pub(crate) fn contract(value: &Value) -> Contract {
    Contract::parse(&value.to_string()).unwrap()
}

/// A tool whose schema has one member `a` and requires `id`.
fn closed(a: &Value) -> Value {
    json!({ "type": "object", "properties": { "id": { "type": "integer" }, "a": a }, "required": ["id"],
        "additionalProperties": false })
}

fn open(a: &Value) -> Value {
    json!({ "type": "object", "properties": { "id": { "type": "integer" }, "a": a }, "required": ["id"] })
}

fn without(mut schema: Value, pointer: &str, name: &str) -> Value {
    schema.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(name);
    schema
}

fn with(mut schema: Value, name: &str, value: Value) -> Value {
    schema[name] = value;
    schema
}

fn tool(member: &str, value: &Value) -> Value {
    json!({ "tools": [{ "name": "t", "inputSchema": { "type": "object" }, member: value }] })
}

fn plain() -> Value {
    json!({ "tools": [{ "name": "t", "inputSchema": { "type": "object" } }] })
}

/// The schema of arguments changes.
fn input(change: &'static str, kind: &'static str, class: Class, old: &Value, new: &Value) -> Row {
    let (old, new) = (tool("inputSchema", old), tool("inputSchema", new));
    Row { change, kind, class, is_one_way: class == Compatible, old, new }
}

/// The schema of results changes.
fn output(change: &'static str, kind: &'static str, class: Class, old: &Value, new: &Value) -> Row {
    let (old, new) = (tool("outputSchema", old), tool("outputSchema", new));
    Row { change, kind, class, is_one_way: class == Compatible, old, new }
}

fn other(change: &'static str, kind: &'static str, class: Class, old: Value, new: Value) -> Row {
    Row { change, kind, class, is_one_way: false, old, new }
}

fn one_way(row: Row) -> Row {
    Row { is_one_way: true, ..row }
}

fn reversible(row: Row) -> Row {
    Row { is_one_way: false, ..row }
}

fn parameters() -> Vec<Row> {
    let (text, short) = (json!({ "type": "string" }), json!({ "type": "string", "maxLength": 5 }));
    let nullable = json!({ "anyOf": [text, { "type": "null" }] });
    let (one, two) = (json!({ "type": "string", "enum": ["x"] }), json!({ "type": "string", "enum": ["x", "y"] }));
    let (a, none) = (closed(&text), without(closed(&text), "/properties", "a"));
    let all = json!(["id", "a"]);
    let pattern = |own: &str| closed(&json!({ "type": "string", "pattern": own }));
    let list = |own: &Value| closed(&json!({ "type": "array", "items": own }));
    let tagged = |kinds: &[&str]| {
        let variants = kinds.iter().map(|kind| {
            json!({ "type": "object", "properties": { "kind": { "const": kind }, (*kind): text }, "required": ["kind", kind] })
        });
        closed(&json!({ "oneOf": variants.collect::<Vec<_>>() }))
    };
    let header = |name: &str| closed(&with(text.clone(), "x-mcp-header", json!(name)));
    let text_of = |own: &str| closed(&with(text.clone(), "description", json!(own)));
    vec![
        input("parameter removed", "member-removed", Breaking, &a, &none),
        one_way(input(
            "optional parameter of an open object removed",
            "member-removed",
            Breaking,
            &open(&text),
            &without(open(&text), "/properties", "a"),
        )),
        one_way(input(
            "required parameter added",
            "required-member-added",
            Breaking,
            &none,
            &with(a.clone(), "required", all.clone()),
        )),
        input("optional parameter added", "member-added", Compatible, &none, &a),
        input(
            "optional parameter added to an open object",
            "member-added-to-open-object",
            Breaking,
            &without(open(&text), "/properties", "a"),
            &open(&text),
        ),
        input("parameter becomes required", "member-required", Breaking, &a, &with(a.clone(), "required", all.clone())),
        input("parameter becomes optional", "member-optional", Compatible, &with(a.clone(), "required", all), &a),
        one_way(input(
            "parameter of another type",
            "type-changed",
            Breaking,
            &a,
            &closed(&json!({ "type": "boolean" })),
        )),
        input(
            "number becomes integer",
            "type-narrowed",
            Breaking,
            &closed(&json!({ "type": "number" })),
            &closed(&json!({ "type": "integer" })),
        ),
        input(
            "integer becomes number",
            "type-widened",
            Compatible,
            &closed(&json!({ "type": "integer" })),
            &closed(&json!({ "type": "number" })),
        ),
        input("`null` is no longer accepted", "null-removed", Breaking, &closed(&nullable), &a),
        input("`null` is accepted", "null-added", Compatible, &a, &closed(&nullable)),
        input("choice of a parameter removed", "choice-removed", Breaking, &closed(&two), &closed(&one)),
        input("choice of a parameter added", "choice-added", Compatible, &closed(&one), &closed(&two)),
        input("free text becomes a choice", "choice-removed", Breaking, &a, &closed(&two)),
        input("maximum length lowered", "bound-narrowed", Breaking, &a, &closed(&short)),
        input("maximum length raised or removed", "bound-widened", Compatible, &closed(&short), &a),
        input(
            "minimum raised",
            "bound-narrowed",
            Breaking,
            &closed(&json!({ "type": "integer", "minimum": 1 })),
            &closed(&json!({ "type": "integer", "minimum": 2 })),
        ),
        input(
            "exclusive maximum becomes inclusive",
            "bound-widened",
            Compatible,
            &closed(&json!({ "type": "number", "exclusiveMaximum": 2 })),
            &closed(&json!({ "type": "number", "maximum": 2 })),
        ),
        input(
            "number of items limited",
            "bound-narrowed",
            Breaking,
            &list(&text),
            &closed(&json!({ "type": "array", "items": text, "maxItems": 3 })),
        ),
        input("bound of the items of a list lowered", "bound-narrowed", Breaking, &list(&text), &list(&short)),
        input("pattern added", "constraint-added", Breaking, &a, &pattern("^a")),
        input("pattern removed", "constraint-removed", Compatible, &pattern("^a"), &a),
        one_way(input("another pattern", "constraint-changed", Breaking, &pattern("^a"), &pattern("^b"))),
        input(
            "format added",
            "constraint-added",
            Breaking,
            &a,
            &closed(&json!({ "type": "string", "format": "date" })),
        ),
        input(
            "items must be unique",
            "constraint-added",
            Breaking,
            &list(&text),
            &closed(&json!({ "type": "array", "items": text, "uniqueItems": true })),
        ),
        input("object closed", "object-closed", Breaking, &open(&text), &a),
        input("object opened", "object-opened", Compatible, &a, &open(&text)),
        reversible(input(
            "alternative of a parameter removed",
            "alternative-removed",
            Breaking,
            &tagged(&["x", "y"]),
            &tagged(&["x"]),
        )),
        input(
            "alternative of a parameter added",
            "alternative-added",
            Compatible,
            &tagged(&["x"]),
            &tagged(&["x", "y"]),
        ),
        reversible(input(
            "same values in another form",
            "rewritten",
            Compatible,
            &closed(&nullable),
            &closed(&json!({ "type": ["string", "null"] })),
        )),
        input(
            "keyword that cannot be compared",
            "not-comparable",
            Breaking,
            &a,
            &closed(&json!({ "type": "string", "if": { "minLength": 1 }, "then": { "maxLength": 2 } })),
        ),
        input("header for a parameter (`x-mcp-header`) added", "header-added", Breaking, &a, &header("A")),
        input("header for a parameter removed", "header-removed", Compatible, &header("A"), &a),
        reversible(input(
            "default changed",
            "default-changed",
            Compatible,
            &closed(&with(text.clone(), "default", json!("x"))),
            &closed(&with(text.clone(), "default", json!("y"))),
        )),
        input("description of a parameter changed", "schema-text", Wording, &text_of("one"), &text_of("two")),
        input(
            "extension (`x-…`) changed",
            "schema-extension",
            Wording,
            &a,
            &closed(&with(text.clone(), "x-order", json!(1))),
        ),
    ]
}

fn results() -> Vec<Row> {
    let (text, nullable) =
        (json!({ "type": "string" }), json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }));
    let (one, two) = (json!({ "type": "string", "enum": ["x"] }), json!({ "type": "string", "enum": ["x", "y"] }));
    let (a, none) = (open(&text), without(open(&text), "/properties", "a"));
    let (closed_a, closed_none) = (closed(&text), without(closed(&text), "/properties", "a"));
    let all = json!(["id", "a"]);
    let point = json!({ "type": "object", "properties": { "x": { "type": "integer" } }, "required": ["x"] });
    let either = json!({ "anyOf": [point, { "type": "null" }] });
    vec![
        reversible(output("member of a result removed", "member-removed", Breaking, &a, &none)),
        reversible(output("optional member of a result added", "member-added", Compatible, &none, &a)),
        output(
            "required member of a result added",
            "member-added",
            Compatible,
            &none,
            &with(a.clone(), "required", all.clone()),
        ),
        output("member added to a closed result", "member-added-to-closed-object", Breaking, &closed_none, &closed_a),
        output(
            "member of a result becomes optional",
            "member-optional",
            Breaking,
            &with(a.clone(), "required", all.clone()),
            &a,
        ),
        output(
            "member of a result becomes required",
            "member-required",
            Compatible,
            &a,
            &with(a.clone(), "required", all),
        ),
        one_way(output(
            "member of a result of another type",
            "type-changed",
            Breaking,
            &a,
            &open(&json!({ "type": "boolean" })),
        )),
        output("member of a result may be `null`", "null-added", Breaking, &a, &open(&nullable)),
        output("member of a result is never `null`", "null-removed", Compatible, &open(&nullable), &a),
        output("choice of a result added", "choice-added", Breaking, &open(&one), &open(&two)),
        output("choice of a result removed", "choice-removed", Compatible, &open(&two), &open(&one)),
        output(
            "bound of a result raised or removed",
            "bound-widened",
            Breaking,
            &open(&json!({ "type": "integer", "maximum": 9 })),
            &open(&json!({ "type": "integer" })),
        ),
        output(
            "bound of a result lowered",
            "bound-narrowed",
            Compatible,
            &open(&json!({ "type": "integer" })),
            &open(&json!({ "type": "integer", "maximum": 9 })),
        ),
        output(
            "format of a result removed",
            "constraint-removed",
            Breaking,
            &open(&json!({ "type": "string", "format": "date" })),
            &a,
        ),
        output("result opened", "object-opened", Breaking, &closed_a, &a),
        one_way(output(
            "object of a result is always `null`",
            "alternative-removed",
            Breaking,
            &open(&either),
            &open(&json!({ "type": "null" })),
        )),
        one_way(other("output schema added", "output-added", Compatible, plain(), tool("outputSchema", &a))),
        other("output schema removed", "output-removed", Breaking, tool("outputSchema", &a), plain()),
        output(
            "description of a member changed",
            "schema-text",
            Wording,
            &a,
            &open(&with(text, "description", json!("new"))),
        ),
    ]
}

fn items() -> Vec<Row> {
    let tools = |names: &[&str]| {
        let tools = names.iter().map(|name| json!({ "name": name, "inputSchema": { "type": "object" } }));
        json!({ "tools": tools.collect::<Vec<_>>() })
    };
    let hint = |name: &str, value: bool| tool("annotations", &json!({ name: value }));
    let scopes = |own: &[&str]| tool("_meta", &json!({ "securitySchemes": [{ "type": "oauth2", "scopes": own }] }));
    let anonymous = tool("_meta", &json!({ "securitySchemes": [{ "type": "noauth" }] }));
    let prompt = |arguments: Value| json!({ "prompts": [{ "name": "p", "arguments": arguments }] });
    let needed = || json!([{ "name": "a", "required": true }]);
    let resource = |uri: &str, mime: &str| json!({ "resources": [{ "uri": uri, "name": "r", "mimeType": mime }] });
    let template = |uri: &str| json!({ "resourceTemplates": [{ "uriTemplate": uri, "name": "r" }] });
    let capable = |own: Value| json!({ "capabilities": own });
    vec![
        other("tool removed or renamed", "item-removed", Breaking, tools(&["t", "u"]), tools(&["t"])),
        one_way(other("tool added", "item-added", Compatible, tools(&["t"]), tools(&["t", "u"]))),
        other(
            "title or description of a tool changed",
            "text",
            Wording,
            tool("title", &json!("A")),
            tool("title", &json!("B")),
        ),
        other(
            "hint promises less, such as `readOnlyHint` false",
            "hint-weakened",
            Breaking,
            hint("readOnlyHint", true),
            plain(),
        ),
        one_way(other("hint promises more", "hint-strengthened", Compatible, plain(), hint("destructiveHint", false))),
        other("scope added, or a token required", "access-narrowed", Breaking, anonymous.clone(), scopes(&["a:read"])),
        one_way(other(
            "scope removed, or no token required",
            "access-widened",
            Compatible,
            scopes(&["a:read", "b"]),
            scopes(&["a:read"]),
        )),
        other(
            "member of `_meta` added",
            "meta-added",
            Compatible,
            anonymous,
            tool("_meta", &json!({ "securitySchemes": [{ "type": "noauth" }], "vendor/x": 1 })),
        ),
        other(
            "member that is not known changed",
            "not-comparable",
            Breaking,
            plain(),
            tool("execution", &json!({ "taskSupport": "required" })),
        ),
        other("argument of a prompt removed", "argument-removed", Breaking, prompt(needed()), prompt(json!([]))),
        one_way(other(
            "optional argument of a prompt added",
            "argument-added",
            Compatible,
            prompt(json!([])),
            prompt(json!([{ "name": "a" }])),
        )),
        other(
            "required argument of a prompt added",
            "required-argument-added",
            Breaking,
            prompt(json!([])),
            prompt(needed()),
        ),
        other(
            "argument of a prompt becomes required",
            "argument-required",
            Breaking,
            prompt(json!([{ "name": "a" }])),
            prompt(needed()),
        ),
        one_way(other(
            "argument of a prompt becomes optional",
            "argument-optional",
            Compatible,
            prompt(needed()),
            prompt(json!([{ "name": "a" }])),
        )),
        other(
            "media type of a resource changed",
            "media-type-changed",
            Breaking,
            resource("a:b", "text/plain"),
            resource("a:b", "text/html"),
        ),
        other(
            "name or size of a resource changed",
            "resource-details",
            Compatible,
            resource("a:b", "text/plain"),
            json!({ "resources": [{ "uri": "a:b", "name": "s", "mimeType": "text/plain" }] }),
        ),
        other(
            "template of resources removed",
            "item-removed",
            Breaking,
            json!({ "resourceTemplates": [{ "uriTemplate": "a:{b}", "name": "r" }, { "uriTemplate": "c:{d}", "name": "s" }] }),
            template("a:{b}"),
        ),
        other(
            "capability removed",
            "capability-removed",
            Breaking,
            capable(json!({ "tools": {}, "completions": {} })),
            capable(json!({ "tools": {} })),
        ),
        one_way(other(
            "capability added",
            "capability-added",
            Compatible,
            capable(json!({})),
            capable(json!({ "resources": { "subscribe": true } })),
        )),
        other(
            "instructions changed",
            "text",
            Wording,
            json!({ "capabilities": {}, "instructions": "a" }),
            json!({ "capabilities": {}, "instructions": "b" }),
        ),
        other(
            "lifetime of a list changed",
            "caching",
            Compatible,
            json!({ "capabilities": {}, "caching": { "tools/list": { "ttlMs": 1 } } }),
            json!({ "capabilities": {}, "caching": { "tools/list": { "ttlMs": 2 } } }),
        ),
    ]
}

/// All rows, in the order of the table.
pub(crate) fn rows() -> Vec<Row> {
    [parameters(), results(), items()].into_iter().flatten().collect()
}
