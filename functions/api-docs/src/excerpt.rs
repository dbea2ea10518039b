//! Excerpts: parts of a document with resolved references, limited in size.

mod references;
mod tree;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use self::{
    references::{MemberKind, References},
    tree::Tree,
};
use crate::document::{Document, Inherited, pointer_in};

pub(crate) use tree::size_of;

/// Maximum size of an excerpt as JSON, in bytes. A result contains it twice, as structured content and as text. It is
/// far below Lambda's limit of 6 MB, and suitable for a model's context.
const MAX_BYTES: usize = 48 * 1024;
/// Maximum number of references that are resolved per excerpt; further references remain `$ref`.
const MAX_REFERENCES: usize = 10_000;

/// Excerpt of the document.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Excerpt {
    /// The definition in the document, with references resolved. A resolved reference is in `x-ref`.
    // The keyword has no effect on JSON values; MCP Inspector warns about empty schemas.
    #[schemars(extend("minProperties" = 0))]
    pub(crate) definition: Value,
    /// Missing parts and how to read them; absent if the excerpt is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// Start of an excerpt.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Start<'a> {
    /// JSON pointer (RFC 6901); it is resolved through references.
    pub(crate) pointer: &'a str,
    /// Number of members, items or characters to skip.
    pub(crate) skip: usize,
}

/// Creates the excerpt of a value with inherited members; `None` if the start does not exist.
pub(crate) fn excerpt(
    document: &Document,
    value: &Value,
    inherited: &Inherited<'_>,
    start: Start<'_>,
) -> Option<Excerpt> {
    excerpt_of(document, (value, MemberKind::Keywords), inherited, start)
}

/// Creates the excerpt of the target of a reference within the document.
pub(crate) fn excerpt_at(document: &Document, reference: &str, start: Start<'_>) -> Option<Excerpt> {
    let pointer = pointer_in(reference)?;
    let none = Inherited::new();
    let mut references = References { document, left: MAX_REFERENCES };
    let target = references.walk((document.root(), MemberKind::Keywords), &none, &pointer)?;
    excerpt_of(document, target, &none, start)
}

fn excerpt_of(
    document: &Document,
    from: (&Value, MemberKind),
    inherited: &Inherited<'_>,
    start: Start<'_>,
) -> Option<Excerpt> {
    let mut references = References { document, left: MAX_REFERENCES };
    let (value, kind) = references.walk(from, inherited, start.pointer)?;
    if let Value::String(text) = value {
        return Some(excerpt_of_text(text, start.skip));
    }
    let mut tree = Tree::new(references);
    let none = Inherited::new();
    tree.grow(value, if start.pointer.is_empty() { inherited } else { &none }, start, kind);
    Some(Excerpt { definition: tree.value(0), note: tree.truncation.note() })
}

fn excerpt_of_text(text: &str, skip: usize) -> Excerpt {
    // JSON escapes take at most six bytes per byte of a character.
    let shown: String = text.chars().skip(skip).take(MAX_BYTES / 6).collect();
    let (end, all) = (skip + shown.chars().count(), text.chars().count());
    let note = match () {
        () if end < all => Some(format!("the text is incomplete: continue with `skip` {end} (of {all} characters)")),
        () if skip > 0 && skip >= all => Some(beyond(all)),
        () => None,
    };
    Excerpt { definition: shown.into(), note }
}

fn beyond(all: usize) -> String {
    format!("`skip` is beyond the end: the total is {all}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::{references::FOLLOWED, tree::VISITED, *};
    use crate::{budget::Budget, document::MAX_CHAIN};

    fn parse(document: &str) -> Document {
        Document::parse(document.as_bytes(), Budget::of_function(4096)).unwrap()
    }

    /// Returns the excerpt of a schema in a document with the given schemas.
    fn of(schemas: Value, name: &str, pointer: &str, skip: usize) -> (Value, String) {
        let document = json!({ "openapi": "3.1.0", "components": { "schemas": schemas } }).to_string();
        let document = parse(&document);
        let start = Start { pointer, skip };
        let excerpt = excerpt(&document, document.schema(name).unwrap(), &Inherited::new(), start).unwrap();
        (excerpt.definition, excerpt.note.unwrap_or_default())
    }

    fn reference(name: &str) -> Value {
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    #[test]
    fn references_are_resolved_and_siblings_are_kept() {
        let schemas = json!({
            "A": { "properties": { "b": { "$ref": "#/components/schemas/B", "description": "overrides" } } },
            "B": { "$ref": "#/components/schemas/C", "title": "B" },
            "C": { "type": "string", "title": "C", "description": "farther" },
        });

        let (a, note) = of(schemas, "A", "", 0);

        let b =
            json!({ "type": "string", "title": "B", "description": "overrides", "x-ref": "#/components/schemas/B" });
        assert_eq!((a, note.as_str()), (json!({ "properties": { "b": b } }), ""));
    }

    #[test]
    fn cycles_are_cut() {
        let schemas = json!({
            "Loop": reference("Loop"),
            "Node": { "properties": { "next": reference("Node"), "twice": [reference("Leaf"), reference("Leaf")] } },
            "Leaf": { "type": "null" },
        });

        let (node, note) = of(schemas.clone(), "Node", "", 0);
        let (own, _) = of(schemas, "Loop", "", 0);

        // The root schema is not reached by a reference, so it appears once more.
        assert_eq!(node["properties"]["next"]["properties"]["next"], reference("Node"));
        assert_eq!(node["properties"]["twice"][1]["type"], "null");
        assert!(note.contains("1 references are cycles"), "{note}");
        assert_eq!(own, reference("Loop"));
    }

    #[test]
    fn data_and_names_are_not_references() {
        let schema = json!({
            "enum": [{ "$ref": "#/components/schemas/A" }],
            "example": { "$ref": "#/components/schemas/A" },
            "examples": [{ "$ref": "#/components/schemas/A" }],
            "properties": { "$ref": { "type": "string" }, "default": reference("B"), "const": { "const": reference("B") } },
            "items": { "$ref": "https://example.com/schema.json" },
            "not": { "$ref": "#/components/schemas/Missing" },
        });

        let (read, note) = of(json!({ "A": schema.clone(), "B": { "type": "null" } }), "A", "", 0);

        let mut expected = schema;
        expected["properties"]["default"] = json!({ "type": "null", "x-ref": "#/components/schemas/B" });
        assert_eq!((read, note.as_str()), (expected, ""));
    }

    #[test]
    fn data_of_examples_and_links_is_not_a_reference() {
        let data = json!({ "$ref": "#/components/schemas/B", "note": "data" });
        let parameter = json!({
            "examples": {
                "one": { "value": data },
                "two": { "$ref": "#/components/schemas/Shared" },
                "value": { "value": [data], "summary": "a name like a keyword" },
            },
            "links": { "next": { "parameters": { "id": data }, "requestBody": data, "server": reference("B") } },
            "properties": { "examples": { "properties": { "value": reference("B") } } },
        });
        let schemas = json!({ "A": parameter, "B": { "type": "null" }, "Shared": { "value": data } });

        let (read, note) = of(schemas.clone(), "A", "", 0);
        let (part, _) = of(schemas, "A", "/examples/two/value", 0);

        let resolved = json!({ "type": "null", "x-ref": "#/components/schemas/B" });
        let mut expected = parameter;
        expected["examples"]["two"] = json!({ "value": data, "x-ref": "#/components/schemas/Shared" });
        expected["links"]["next"]["server"] = resolved.clone();
        expected["properties"]["examples"]["properties"]["value"] = resolved;
        assert_eq!((read, note.as_str()), (expected, ""));
        assert_eq!(part, data);
    }

    #[test]
    fn excerpts_are_limited_and_say_how_to_continue() {
        // Each of 60 schemas refers to all schemas.
        let properties: Map<_, _> =
            (0..60).map(|number| (format!("p{number}"), reference(&format!("S{number}")))).collect();
        let schemas: Map<_, _> = (0..60)
            .map(|number| (format!("S{number}"), json!({ "description": "\"quoted\" ", "properties": properties })))
            .collect();

        let (read, note) = of(schemas.into(), "S0", "", 0);

        let size = read.to_string().len();
        assert!((MAX_BYTES / 2..=MAX_BYTES).contains(&size), "{size}");
        assert!(note.contains("not resolved for length"), "{note}");
        // Parts near the root are included.
        assert!(read["properties"]["p59"]["x-ref"].is_string());
    }

    #[test]
    fn members_that_do_not_fit_are_not_visited() {
        let references = |count: usize, name: &str| {
            let properties: Map<_, _> = (0..count).map(|number| (format!("p{number}"), reference(name))).collect();
            json!({ "properties": properties })
        };
        let members: Map<_, _> = (0..1_000_000).map(|number| (format!("p{number}"), 1.into())).collect();
        let schemas = json!({
            "Long": { "enum": vec![1; 1_000_000] },
            "Wide": members,
            "Inherited": { "$ref": "#/components/schemas/Wide", "type": "object" },
            // It almost fits.
            "Near": vec![10; 15_000],
            "Z": references(600, "Long"),
            "Y": references(600, "Inherited"),
            "X": references(600, "Near"),
        });
        let document = json!({ "openapi": "3.1.0", "components": { "schemas": schemas } }).to_string();
        let document = parse(&document);

        for name in ["Z", "Y", "X", "Long", "Wide", "Inherited"] {
            VISITED.set(0);
            let schema = document.schema(name).unwrap();
            let read = excerpt(&document, schema, &Inherited::new(), Start::default()).unwrap();

            // The members of the root are visited once.
            assert!(VISITED.get() < 2_000_000, "{name}: {}", VISITED.get());
            assert!(read.definition.to_string().len() <= MAX_BYTES, "{name}");
            assert!(read.note.is_some_and(|note| note.contains("for length") || note.contains("(of 100000")), "{name}");
        }
    }

    #[test]
    fn schema_chains_are_bounded() {
        let mut schemas: Map<_, _> =
            (0..2000).map(|number| (format!("S{number}"), reference(&format!("S{}", number + 1)))).collect();
        schemas.insert("S2000".to_owned(), json!({ "type": "null" }));
        let starts: Map<_, _> = (0..1000).map(|number| (format!("p{number}"), reference("S0"))).collect();
        schemas.insert("All".to_owned(), json!({ "properties": starts }));
        let schemas = Value::from(schemas);

        FOLLOWED.set(0);
        let (near, _) = of(schemas.clone(), &format!("S{}", 2000 - MAX_CHAIN), "", 0);
        let (far, _) = of(schemas.clone(), "S0", "", 0);
        assert!(FOLLOWED.get() <= 2 * MAX_CHAIN, "{}", FOLLOWED.get());
        assert_eq!(near["type"], "null");
        assert_eq!((&far["$ref"], far.get("type")), (&json!("#/components/schemas/S33"), None));

        FOLLOWED.set(0);
        let (all, _) = of(schemas, "All", "", 0);
        assert!(FOLLOWED.get() <= MAX_REFERENCES, "{}", FOLLOWED.get());
        assert!(all.to_string().len() <= MAX_BYTES);
    }

    #[test]
    fn cut_values_are_read_by_their_pointer() {
        let values: Vec<_> = (0..4000).map(|number| json!({ "const": format!("value {number}") })).collect();
        let schemas =
            json!({ "A": { "description": "é".repeat(20_000), "properties": { "a/b": { "oneOf": values } } } });

        let (whole, note) = of(schemas.clone(), "A", "", 0);
        assert!(whole.to_string().len() <= MAX_BYTES);
        assert_eq!(whole["properties"]["a/b"]["oneOf"], json!({ "x-cut": "/properties/a~1b/oneOf" }));
        assert!(whole["description"].as_str().unwrap().ends_with("(x-cut: /description)"));
        assert!(note.contains("2 values were cut"), "{note}");

        let mut read = Vec::new();
        loop {
            let (part, note) = of(schemas.clone(), "A", "/properties/a~1b/oneOf", read.len());
            assert!(part.to_string().len() <= MAX_BYTES);
            read.extend(part.as_array().unwrap().clone());
            if note.is_empty() {
                break;
            }
            assert!(note.contains(&format!("`skip` {}", read.len())), "{note}");
        }
        assert_eq!(read, values);

        let (text, note) = of(schemas, "A", "/description", 15_000);
        assert_eq!((text.as_str().unwrap().chars().count(), note.as_str()), (5_000, ""));
    }

    #[test]
    fn skip_reaches_the_end() {
        let schemas = json!({ "A": { "a": 1, "b".repeat(MAX_BYTES): 2, "c": 3, "t": "text" } });

        let (first, note) = of(schemas.clone(), "A", "", 0);
        assert_eq!(first, json!({ "a": 1 }));
        assert!(note.contains("`skip` 1 (of 4)"), "{note}");
        let (none, note) = of(schemas.clone(), "A", "", 1);
        assert_eq!(none, json!({}));
        assert!(note.contains("member 1 is too long") && note.contains("`skip` 2 (of 4)"), "{note}");
        assert_eq!(of(schemas.clone(), "A", "", 2), (json!({ "c": 3, "t": "text" }), String::new()));
        for (pointer, skip, all) in [("", 4, "the total is 4"), ("", 9, "the total is 4"), ("/t", 4, "the total is 4")]
        {
            let (_, note) = of(schemas.clone(), "A", pointer, skip);
            assert!(note.contains(all), "{note}");
        }
    }

    #[test]
    fn deep_nesting_is_cut_below_the_limits_of_parsers() {
        let schemas: Map<_, _> = (0..500)
            .map(|number| (format!("S{number}"), json!({ "items": reference(&format!("S{}", number + 1)) })))
            .collect();

        let (read, note) = of(schemas.into(), "S0", "", 0);

        assert!(serde_json::from_str::<Value>(&read.to_string()).is_ok());
        assert!(note.contains("1 references were not resolved"), "{note}");
    }
}
