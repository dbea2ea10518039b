//! References within a document, and what an operation has from elsewhere in it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::{
    Document,
    operations::{MAX_TAGS, Operation},
};
use crate::budget::Spent;

/// What a fragment has in another form (RFC 3986, section 3.5).
const FRAGMENT: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}');

/// What stands in an operation for the security schemes that it names: its readers know nothing else of the document.
pub(crate) const SECURITY_SCHEMES: &str = "x-security-schemes";

/// References that are followed from one to the next.
pub(crate) const MAX_CHAIN: usize = 32;
/// Of a reference that is followed, and of each name that lists show or that is looked up.
pub(crate) const MAX_NAME_BYTES: usize = 2048;

/// What an operation has besides what is written in it; it goes before.
pub(crate) type Beside<'a> = BTreeMap<&'a str, Cow<'a, Value>>;

impl Document {
    /// What an operation has from its path and from the document: parameters, servers, security.
    pub(crate) fn beside<'a>(&'a self, operation: &'a Operation) -> Beside<'a> {
        let written = self.written(operation);
        let mut beside = Beside::new();
        if let Some(parameters) = &operation.parameters {
            beside.insert("parameters", Cow::Borrowed(parameters));
        }
        // Those of the document are for requests to the API.
        let root = Some(&self.root).filter(|_| !operation.is_webhook());
        for name in ["servers", "security"] {
            let inherited = || self.of_path(operation, name).or_else(|| root?.get(name));
            if let (None, Some(inherited)) = (written.and_then(|own| own.get(name)), inherited()) {
                beside.insert(name, Cow::Borrowed(inherited));
            }
        }
        let security = written.and_then(|own| own.get("security"));
        let schemes = self.security_schemes(security.or_else(|| beside.get("security").map(|own| &**own)));
        if !schemes.is_empty() {
            beside.insert(SECURITY_SCHEMES, Cow::Owned(schemes.into()));
        }
        beside
    }

    /// References to the schemes that security requirements name.
    fn security_schemes(&self, security: Option<&Value>) -> Map<String, Value> {
        let requirements = security.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
        let names = requirements.take(MAX_TAGS).flat_map(Map::keys).take(MAX_TAGS);
        let short = names.filter(|name| name.len() <= MAX_NAME_BYTES);
        let references = short.map(|name| {
            let reference = format!("#/components/securitySchemes/{}", fragment(name));
            (name.clone(), json!({ "$ref": reference }))
        });
        references.filter(|(_, scheme)| scheme["$ref"].as_str().and_then(|own| self.target(own)).is_some()).collect()
    }

    /// An operation as it is written.
    pub(crate) fn written(&self, operation: &Operation) -> Option<&Value> {
        self.of_path(operation, &operation.method.to_ascii_lowercase())
    }

    /// What a reference within the document leads to. Nothing is fetched for one that leads out of it.
    pub(crate) fn target(&self, reference: &str) -> Option<&Value> {
        if reference.len() > MAX_NAME_BYTES {
            return None;
        }
        self.root.pointer(&pointer_in(reference)?)
    }

    /// A member of a path item, which may go on at what it refers to: the nearest counts.
    fn of_path(&self, operation: &Operation, name: &str) -> Option<&Value> {
        let (items, _) = self.path_items(operation.section, &operation.path, |_| Ok(())).ok()?;
        items.into_iter().find_map(|item| item.get(name).filter(|own| own.is_object() || own.is_array()))
    }

    /// The item of a path and those that it refers to; and whether more may be elsewhere: behind a reference that leads
    /// nowhere in this document, or that is one too many. Each reference that is followed is counted.
    pub(super) fn path_items(
        &self,
        section: &str,
        path: &str,
        mut count: impl FnMut(&str) -> Result<(), Spent>,
    ) -> Result<(Vec<&Value>, bool), Spent> {
        let mut items = Vec::new();
        let mut seen = HashSet::new();
        let mut next = self.root.get(section).and_then(|paths| paths.get(path));
        while let Some(item) = next {
            items.push(item);
            let Some(reference) = item.get("$ref").and_then(Value::as_str) else { return Ok((items, false)) };
            if reference.len() > MAX_NAME_BYTES {
                return Ok((items, true));
            }
            if !seen.insert(reference) {
                return Ok((items, false));
            }
            if items.len() > MAX_CHAIN {
                break;
            }
            count(reference)?;
            next = self.target(reference);
        }
        Ok((items, !seen.is_empty()))
    }
}

/// The JSON pointer of a reference within the document: its fragment.
pub(crate) fn pointer_in(reference: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(reference.strip_prefix('#')?).decode_utf8().ok()
}

#[cfg(test)]
thread_local! {
    /// Bytes of names of which references were made.
    static MADE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A name as a part of a reference.
fn fragment(name: &str) -> String {
    #[cfg(test)]
    MADE.set(MADE.get() + name.len());
    utf8_percent_encode(&name.replace('~', "~0").replace('/', "~1"), FRAGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        budget::Meter,
        document::{
            operations::PATHS,
            tests::{BUDGET, definition_of, parse, refusal},
        },
    };

    #[test]
    fn a_path_goes_on_at_what_it_refers_to() {
        let document = parse(&json!({
            "openapi": "3.1.0",
            "paths": {
                "/a": { "$ref": "#/components/pathItems/B", "get": { "operationId": "own" }, "servers": [{ "url": "/a" }] },
                "/loop": { "$ref": "#/paths/~1loop", "put": { "operationId": "once" } },
                "/other": { "$ref": "./other.yaml", "get": { "operationId": "beside" } },
                "/nowhere": { "$ref": "#/components/pathItems/Nowhere" },
                "x-ext": { "get": { "operationId": "extension" } },
            },
            "components": { "pathItems": {
                "B": { "$ref": "#/components/pathItems/C", "get": { "operationId": "farther" }, "servers": [] },
                "C": { "post": { "operationId": "chained" }, "parameters": [{ "name": "id", "in": "query" }] },
            } },
        }));

        let ids: Vec<_> = document.operations().iter().map(|own| own.id.as_str()).collect();
        assert_eq!(ids, ["own", "chained", "once", "beside"]);
        assert_eq!(
            definition_of(&document, document.operation("chained").unwrap()),
            json!({
                "operationId": "chained",
                "servers": [{ "url": "/a" }],
                "parameters": [{ "name": "id", "in": "query" }],
            })
        );
        assert_eq!(document.elsewhere(), ["/nowhere", "/other"]);
    }

    #[test]
    fn an_operation_refers_to_the_security_schemes_that_it_names() {
        let document = parse(&json!({
            "openapi": "3.0.0",
            "paths": { "/a": { "get": { "security": [{ "a/b~{c}": [], "unknown": [] }, { "d": ["read"] }] } } },
            "components": { "securitySchemes": { "a/b~{c}": { "type": "http" }, "d": { "type": "oauth2" }, "e": {} } },
        }));

        let definition = definition_of(&document, &document.operations()[0]);

        assert_eq!(
            definition[SECURITY_SCHEMES],
            json!({
                "a/b~{c}": { "$ref": "#/components/securitySchemes/a~1b~0%7Bc%7D" },
                "d": { "$ref": "#/components/securitySchemes/d" },
            })
        );
    }

    /// 8.4
    #[test]
    fn a_chain_of_paths_is_followed_for_so_many_steps() {
        // Each path goes on at the next: without a bound, all of them are read for each.
        let paths: Map<_, _> = (0..2000)
            .map(|number| {
                let next = format!("#/paths/~1p{:04}", number + 1);
                (format!("/p{number:04}"), json!({ "$ref": next }))
            })
            .chain([("/p2000".to_owned(), json!({ "get": { "operationId": "last" } }))])
            .collect();
        let root = json!({ "openapi": "3.1.0", "paths": paths });
        let document = parse(&root);
        let wanted = Arc::new(());
        let meter = Meter::new(BUDGET, &Arc::downgrade(&wanted));
        let mut steps = 0;
        for path in root["paths"].as_object().unwrap().keys() {
            let count = |_: &str| {
                steps += 1;
                Ok(())
            };
            assert!(document.path_items(PATHS, path, count).unwrap().0.len() <= MAX_CHAIN + 1);
        }

        assert!(steps <= 2000 * MAX_CHAIN, "{steps}");
        assert_eq!(document.operations().len(), 1 + MAX_CHAIN);
        assert_eq!(document.elsewhere().len(), 2000 - MAX_CHAIN);
        assert!(document.find_operations(&meter).is_ok());
    }

    /// 8.4
    #[test]
    fn all_paths_together_are_followed_for_so_many_bytes_of_references() {
        let name = |number: usize| format!("{number}{}", "x".repeat(1900));
        let refer = |number: usize| json!({ "$ref": format!("#/components/pathItems/{}", name(number)) });
        let items: Map<_, _> = (0..MAX_CHAIN).map(|number| (name(number), refer(number + 1))).collect();
        let paths: Map<_, _> = (0..1000).map(|number| (format!("/{number}"), refer(0))).collect();

        let root = json!({ "openapi": "3.1.0", "paths": paths, "components": { "pathItems": items } });

        assert!(refusal(&root.to_string()).contains("too many references"), "{}", refusal(&root.to_string()));
    }

    /// F9
    #[test]
    fn names_that_are_looked_up_have_a_length_that_is_checked_first() {
        let long = "/".repeat(MAX_NAME_BYTES + 1);
        let parameter = |description: &str| json!({ "name": long, "in": "query", "description": description });
        let document = parse(&json!({
            "openapi": "3.1.0",
            "security": [{ long.clone(): [], "short": [] }],
            "paths": {
                "/a": { "parameters": [parameter("shared")], "get": { "parameters": [parameter("own")] } },
                "/b": { "$ref": format!("#/{long}"), "put": {} },
            },
            "components": { "securitySchemes": { long.clone(): {}, "short": {} } },
        }));

        MADE.set(0);
        let definition = definition_of(&document, &document.operations()[0]);

        assert_eq!(MADE.get(), "short".len());
        let schemes = definition[SECURITY_SCHEMES].as_object().unwrap();
        assert_eq!(schemes.keys().collect::<Vec<_>>(), ["short"]);
        // Long names are not compared: both are there.
        assert_eq!(definition["parameters"], json!([parameter("shared"), parameter("own")]));
        assert_eq!(document.elsewhere(), ["/b"]);
    }

    #[test]
    fn a_reference_is_a_pointer_in_a_fragment() {
        let document = parse(&json!({
            "openapi": "3.0.0",
            "paths": { "/a b/{id}": { "get": { "operationId": "x" } }, "/c": { "$ref": "#/paths/~1a%20b~1%7Bid%7D" } },
        }));

        assert_eq!(document.operations().len(), 2);
        assert!(document.target("#/paths/~1a%20b~1%7Bid%7D/get").is_some());
        assert!(document.target("other.yaml#/paths").is_none());
        assert!(document.target("https://example.com/#/paths").is_none());
    }
}
