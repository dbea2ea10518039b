//! References within a document, and members that an operation inherits.

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
use crate::budget::LimitExceeded;

/// Characters that are percent-encoded in a fragment (RFC 3986, section 3.5).
const FRAGMENT: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}');

/// Member of an excerpt with the security schemes of the operation, since readers do not see the rest of the document.
pub(crate) const SECURITY_SCHEMES: &str = "x-security-schemes";

/// Maximum length of a chain of references.
pub(crate) const MAX_CHAIN: usize = 32;
/// Maximum length of a followed reference, and of each name that is listed or looked up.
pub(crate) const MAX_NAME_BYTES: usize = 2048;

/// Inherited members of an operation. They precede its own members.
pub(crate) type Inherited<'a> = BTreeMap<&'a str, Cow<'a, Value>>;

impl Document {
    /// Returns the members that an operation inherits from its path and the document: parameters, servers, security.
    pub(crate) fn inherited<'a>(&'a self, operation: &'a Operation) -> Inherited<'a> {
        let written = self.written(operation);
        let mut members = Inherited::new();
        if let Some(parameters) = &operation.parameters {
            members.insert("parameters", Cow::Borrowed(parameters));
        }
        // Servers and security of the document apply to requests to the API, not to webhooks.
        let root = Some(&self.root).filter(|_| !operation.is_webhook());
        for name in ["servers", "security"] {
            let inherited = || self.of_path(operation, name).or_else(|| root?.get(name));
            if let (None, Some(inherited)) = (written.and_then(|own| own.get(name)), inherited()) {
                members.insert(name, Cow::Borrowed(inherited));
            }
        }
        let security = written.and_then(|own| own.get("security"));
        let schemes = self.security_schemes(security.or_else(|| members.get("security").map(|own| &**own)));
        if !schemes.is_empty() {
            members.insert(SECURITY_SCHEMES, Cow::Owned(schemes.into()));
        }
        members
    }

    /// Returns references to the schemes of security requirements.
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

    /// Returns the unmodified definition of an operation.
    pub(crate) fn written(&self, operation: &Operation) -> Option<&Value> {
        self.of_path(operation, &operation.method.to_ascii_lowercase())
    }

    /// Resolves a reference within the document. External references are not fetched.
    pub(crate) fn target(&self, reference: &str) -> Option<&Value> {
        if reference.len() > MAX_NAME_BYTES {
            return None;
        }
        self.root.pointer(&pointer_in(reference)?)
    }

    /// Returns a member of a path item or of the items that it refers to; the first one takes precedence.
    fn of_path(&self, operation: &Operation, name: &str) -> Option<&Value> {
        let (items, _) = self.path_items(operation.section, &operation.path, |_| Ok(())).ok()?;
        items.into_iter().find_map(|item| item.get(name).filter(|own| own.is_object() || own.is_array()))
    }

    /// Returns the item of a path with the items that it refers to, and whether further items may exist: behind a
    /// reference that cannot be resolved in this document, or beyond the maximum chain. `count` is called for each
    /// followed reference.
    pub(super) fn path_items(
        &self,
        section: &str,
        path: &str,
        mut count: impl FnMut(&str) -> Result<(), LimitExceeded>,
    ) -> Result<(Vec<&Value>, bool), LimitExceeded> {
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

/// Returns the JSON pointer of a reference within the document.
pub(crate) fn pointer_in(reference: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(reference.strip_prefix('#')?).decode_utf8().ok()
}

#[cfg(test)]
thread_local! {
    /// Total size of names that were encoded as references.
    static MADE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Encodes a name as a part of a reference.
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
            tests::{BUDGET, definition_of, parse, parse_error},
        },
    };

    #[test]
    fn path_references_are_followed() {
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
        assert_eq!(document.external_paths(), ["/nowhere", "/other"]);
    }

    #[test]
    fn security_schemes_of_an_operation_are_references() {
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

    #[test]
    fn path_chains_are_bounded() {
        // Each path refers to the next: without a bound, the number of steps is quadratic.
        let paths: Map<_, _> = (0..2000)
            .map(|number| {
                let next = format!("#/paths/~1p{:04}", number + 1);
                (format!("/p{number:04}"), json!({ "$ref": next }))
            })
            .chain([("/p2000".to_owned(), json!({ "get": { "operationId": "last" } }))])
            .collect();
        let root = json!({ "openapi": "3.1.0", "paths": paths });
        let document = parse(&root);
        let requester = Arc::new(());
        let meter = Meter::new(BUDGET, &Arc::downgrade(&requester));
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
        assert_eq!(document.external_paths().len(), 2000 - MAX_CHAIN);
        assert!(document.find_operations(&meter).is_ok());
    }

    #[test]
    fn total_size_of_path_references_is_bounded() {
        let name = |number: usize| format!("{number}{}", "x".repeat(1900));
        let refer = |number: usize| json!({ "$ref": format!("#/components/pathItems/{}", name(number)) });
        let items: Map<_, _> = (0..MAX_CHAIN).map(|number| (name(number), refer(number + 1))).collect();
        let paths: Map<_, _> = (0..1000).map(|number| (format!("/{number}"), refer(0))).collect();

        let root = json!({ "openapi": "3.1.0", "paths": paths, "components": { "pathItems": items } });

        assert!(parse_error(&root.to_string()).contains("too many references"), "{}", parse_error(&root.to_string()));
    }

    #[test]
    fn length_of_names_is_checked_before_lookup() {
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
        // Long names are not compared, so both parameters remain.
        assert_eq!(definition["parameters"], json!([parameter("shared"), parameter("own")]));
        assert_eq!(document.external_paths(), ["/b"]);
    }

    #[test]
    fn references_are_json_pointers_in_fragments() {
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
