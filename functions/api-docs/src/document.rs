//! An OpenAPI document: the operations and schemas in it, by name.
//!
//! It is kept as JSON. The typed libraries know one version each (`openapiv3` 3.0, `oas3` 3.1), refuse a document for a
//! mistake far from what is read, and lose what they do not know; what is shown here is what the author wrote.

use std::{borrow::Cow, collections::HashSet};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::yaml;

/// The methods of a path item, in the order of the specification.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// What a fragment has in another form (RFC 3986, section 3.5).
const FRAGMENT: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}');

/// What stands in an operation for the security schemes that it names: its readers know nothing else of the document.
pub(crate) const SECURITY_SCHEMES: &str = "x-security-schemes";

/// A document that can be read.
#[derive(Debug)]
pub(crate) struct Document {
    root: Value,
    pub(crate) title: String,
    pub(crate) version: String,
    operations: Vec<Operation>,
    elsewhere: Vec<String>,
}

/// What is known of an operation without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Its `operationId`; method and path, if it has none or another has the same.
    pub(crate) id: String,
    /// In capitals.
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) summary: String,
    pub(crate) tags: Vec<String>,
    pub(crate) is_deprecated: bool,
}

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("the document is not UTF-8")]
    Encoding(#[source] std::str::Utf8Error),
    #[error("the document is not JSON")]
    Json(#[source] serde_json::Error),
    #[error("the document is not YAML")]
    Yaml(#[source] yaml_serde::Error),
    #[error("the document is no OpenAPI document: it has no `openapi`")]
    NotOpenApi,
    #[error("the document is of {0}; OpenAPI 3.0 and 3.1 are supported")]
    Version(String),
    #[error("`{0}` of the document is not an object")]
    NotAnObject(&'static str),
}

impl Document {
    /// Reads JSON or YAML.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let text = std::str::from_utf8(bytes).map_err(DocumentError::Encoding)?;
        let text = text.trim_start_matches('\u{feff}');
        let root = match text.trim_start().starts_with('{') {
            // YAML has braces, too.
            true => {
                serde_json::from_str(text).or_else(|json| yaml::read(text).map_err(|_| DocumentError::Json(json)))?
            }
            false => yaml::read(text).map_err(DocumentError::Yaml)?,
        };
        check_version(&root)?;
        for name in ["info", "paths", "components"] {
            if root.get(name).is_some_and(|value| !value.is_object() && !value.is_null()) {
                return Err(DocumentError::NotAnObject(name));
            }
        }
        let info = |name: &str| text_of(&root["info"], name);
        let (title, version) = (info("title"), info("version"));
        let mut document = Self { root, title, version, operations: Vec::new(), elsewhere: Vec::new() };
        (document.operations, document.elsewhere) = document.find_operations();
        Ok(document)
    }

    /// All operations, by path, as the document's maps are sorted.
    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Paths that refer to what is not in the document, and may have further operations there.
    pub(crate) fn elsewhere(&self) -> &[String] {
        &self.elsewhere
    }

    /// The operation of that id, or of `METHOD /path`.
    pub(crate) fn operation(&self, name: &str) -> Option<&Operation> {
        let by_id = self.operations.iter().find(|operation| operation.id == name);
        by_id.or_else(|| {
            let (method, path) = name.split_once(' ')?;
            let is_it = |own: &&Operation| own.path == path.trim() && own.method.eq_ignore_ascii_case(method);
            self.operations.iter().find(is_it)
        })
    }

    /// What an operation is, with what it has from its path and from the document: parameters, servers, security.
    pub(crate) fn definition_of(&self, operation: &Operation) -> Value {
        let mut definition = self.written(operation).and_then(Value::as_object).cloned().unwrap_or_default();
        let shared = self.of_path(&operation.path, "parameters").and_then(Value::as_array);
        if let Some(shared) = shared {
            let own = definition.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
            let named: HashSet<_> = own.iter().filter_map(|own| self.parameter_name(own)).collect();
            let is_new = |shared: &&Value| self.parameter_name(shared).is_none_or(|name| !named.contains(&name));
            let all: Vec<_> = shared.iter().filter(is_new).chain(&own).cloned().collect();
            definition.insert("parameters".to_owned(), all.into());
        }
        for name in ["servers", "security"] {
            let inherited = self.of_path(&operation.path, name).or_else(|| self.root.get(name));
            if let (false, Some(inherited)) = (definition.contains_key(name), inherited) {
                definition.insert(name.to_owned(), inherited.clone());
            }
        }
        let schemes = self.security_schemes(definition.get("security"));
        if !schemes.is_empty() {
            definition.insert(SECURITY_SCHEMES.to_owned(), schemes.into());
        }
        definition.into()
    }

    /// References to the schemes that security requirements name.
    fn security_schemes(&self, security: Option<&Value>) -> Map<String, Value> {
        let requirements = security.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
        let references = requirements.flat_map(Map::keys).map(|name| {
            let reference = format!("#/components/securitySchemes/{}", fragment(name));
            (name.clone(), json!({ "$ref": reference }))
        });
        references.filter(|(_, scheme)| scheme["$ref"].as_str().and_then(|own| self.target(own)).is_some()).collect()
    }

    /// An operation as it is written.
    pub(crate) fn written(&self, operation: &Operation) -> Option<&Value> {
        self.of_path(&operation.path, &operation.method.to_ascii_lowercase())
    }

    pub(crate) fn schemas(&self) -> impl Iterator<Item = (&str, &Value)> {
        let schemas = self.root.pointer("/components/schemas").and_then(Value::as_object);
        schemas.into_iter().flatten().map(|(name, schema)| (name.as_str(), schema))
    }

    pub(crate) fn schema(&self, name: &str) -> Option<&Value> {
        self.root.pointer("/components/schemas")?.get(name)
    }

    /// What a reference within the document leads to. Nothing is fetched for one that leads out of it.
    pub(crate) fn target(&self, reference: &str) -> Option<&Value> {
        self.root.pointer(&pointer_in(reference)?)
    }

    pub(crate) fn root(&self) -> &Value {
        &self.root
    }

    /// The operations, and the paths of which some may be missing.
    fn find_operations(&self) -> (Vec<Operation>, Vec<String>) {
        let mut taken = HashSet::new();
        let (mut operations, mut elsewhere) = (Vec::new(), Vec::new());
        let paths = self.root.get("paths").and_then(Value::as_object);
        for path in paths.into_iter().flat_map(Map::keys).filter(|path| !path.starts_with("x-")) {
            let (items, nowhere) = self.path_items(path);
            elsewhere.extend(nowhere.map(|_| path.clone()));
            for method in METHODS {
                let own = items.iter().find_map(|item| item.get(method)).filter(|own| own.is_object());
                let Some(own) = own else { continue };
                let method = method.to_ascii_uppercase();
                let id = own.get("operationId").and_then(Value::as_str).map(str::to_owned);
                let id = id.filter(|id| !id.is_empty() && taken.insert(id.clone()));
                let tags = own.get("tags").and_then(Value::as_array);
                operations.push(Operation {
                    id: id.unwrap_or_else(|| format!("{method} {path}")),
                    method,
                    path: path.clone(),
                    summary: summary_of(own),
                    tags: tags.into_iter().flatten().filter_map(|tag| Some(tag.as_str()?.to_owned())).collect(),
                    is_deprecated: own.get("deprecated") == Some(&Value::Bool(true)),
                });
            }
        }
        (operations, elsewhere)
    }

    /// A member of a path item, which may go on at what it refers to: the nearest counts.
    fn of_path(&self, path: &str, name: &str) -> Option<&Value> {
        self.path_items(path).0.into_iter().find_map(|item| item.get(name))
    }

    /// The item of a path and those that it refers to; and a reference of the last one that leads nowhere in this document.
    fn path_items(&self, path: &str) -> (Vec<&Value>, Option<&str>) {
        let mut items = Vec::new();
        let mut seen = Vec::new();
        let mut next = self.root.get("paths").and_then(|paths| paths.get(path));
        while let Some(item) = next {
            items.push(item);
            let Some(reference) = item.get("$ref").and_then(Value::as_str).filter(|own| !seen.contains(own)) else {
                return (items, None);
            };
            seen.push(reference);
            next = self.target(reference);
        }
        (items, seen.pop())
    }

    /// Name and place of a parameter, by which it replaces another.
    fn parameter_name(&self, parameter: &Value) -> Option<(String, String)> {
        let parameter = match parameter.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.target(reference)?,
            None => parameter,
        };
        Some((parameter.get("name")?.as_str()?.to_owned(), parameter.get("in")?.as_str()?.to_owned()))
    }
}

/// The JSON pointer of a reference within the document: its fragment.
pub(crate) fn pointer_in(reference: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(reference.strip_prefix('#')?).decode_utf8().ok()
}

/// A name as a part of a reference.
fn fragment(name: &str) -> String {
    utf8_percent_encode(&name.replace('~', "~0").replace('/', "~1"), FRAGMENT).to_string()
}

fn check_version(root: &Value) -> Result<(), DocumentError> {
    // YAML without quotes makes `3.1` a number.
    let version = match root.get("openapi") {
        Some(Value::String(version)) => version.clone(),
        Some(Value::Number(version)) => version.to_string(),
        _ => {
            return Err(match root.get("swagger") {
                Some(version) => DocumentError::Version(format!("Swagger {}", version.to_string().trim_matches('"'))),
                None => DocumentError::NotOpenApi,
            });
        }
    };
    let is_known = ["3.0", "3.1"]
        .iter()
        .any(|known| version.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
    if is_known { Ok(()) } else { Err(DocumentError::Version(format!("OpenAPI {version}"))) }
}

/// The summary of an operation or schema, or the beginning of its description; on one line.
pub(crate) fn summary_of(value: &Value) -> String {
    const LONGEST: usize = 160;
    let texts = ["summary", "title", "description"].map(|name| text_of(value, name));
    let text = texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

fn text_of(value: &Value, name: &str) -> String {
    match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        // A version that YAML takes for a number or date.
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &Value) -> Document {
        Document::parse(value.to_string().as_bytes()).unwrap()
    }

    fn refusal(text: &str) -> String {
        mcp_server::error_chain(&Document::parse(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn versions_3_0_and_3_1_are_read_as_json_and_as_yaml() {
        for text in [
            r#"{"openapi":"3.0.3","info":{"title":"Pets","version":"1"}}"#,
            "\u{feff}openapi: 3.1.1\ninfo:\n  title: Pets\n  version: 1\n",
            "openapi: 3.1\ninfo: { title: Pets, version: '1' }",
            "{ openapi: 3.1.0, info: { title: Pets, version: 1 } }",
            "openapi: 3.1.0\ninfo: { title: Pets, version: 1 }\npaths:\ncomponents:\n",
        ] {
            let document = Document::parse(text.as_bytes()).unwrap();

            assert_eq!((document.title.as_str(), document.version.as_str()), ("Pets", "1"));
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_what_is_wrong() {
        for (text, expected) in [
            (r#"{"swagger":"2.0"}"#, "Swagger 2.0"),
            (r#"{"openapi":"3.2.0"}"#, "OpenAPI 3.2.0; OpenAPI 3.0 and 3.1"),
            (r#"{"openapi":"3.10.0"}"#, "OpenAPI 3.10.0"),
            (r#"{"asyncapi":"3.0.0"}"#, "no `openapi`"),
            ("", "no `openapi`"),
            ("<html></html>", "no `openapi`"),
            (r#"{"openapi":"3.1.0","#, "not JSON: EOF"),
            ("openapi: [3.1.0", "not YAML"),
            (r#"{"openapi":"3.1.0","paths":[]}"#, "`paths`"),
        ] {
            assert!(refusal(text).contains(expected), "{expected}: {}", refusal(text));
        }
    }

    #[test]
    fn status_codes_of_yaml_are_names() {
        let yaml = "openapi: 3.1.0\npaths:\n  /a:\n    get:\n      responses:\n        200: { description: on }\n";

        let document = Document::parse(yaml.as_bytes()).unwrap();

        let definition = document.definition_of(&document.operations()[0]);
        assert_eq!(definition["responses"]["200"]["description"], "on");
    }

    #[test]
    fn each_operation_has_a_name_of_its_own() {
        let document = parse(&json!({ "openapi": "3.0.0", "paths": {
            "/a": { "get": { "operationId": "read" }, "post": {} },
            "/b": { "get": { "operationId": "read" } },
        } }));

        let ids: Vec<_> = document.operations().iter().map(|operation| operation.id.as_str()).collect();
        assert_eq!(ids, ["read", "POST /a", "GET /b"]);
        assert_eq!(document.operation("get /b").unwrap().path, "/b");
        assert_eq!(document.operation("GET /a").unwrap().id, "read");
        assert!(document.operation("DELETE /a").is_none());
    }

    #[test]
    fn an_operation_has_what_its_path_and_the_document_say() {
        let document = parse(&json!({
            "openapi": "3.0.0",
            "servers": [{ "url": "https://api.example.com" }],
            "security": [{ "key": [] }],
            "paths": { "/pets/{id}": {
                "parameters": [
                    { "name": "id", "in": "path", "description": "shared" },
                    { "$ref": "#/components/parameters/Trace" },
                ],
                "get": { "security": [], "parameters": [{ "name": "id", "in": "path", "description": "own" }] },
            } },
            "components": { "parameters": { "Trace": { "name": "trace", "in": "header" } } },
        }));

        let definition = document.definition_of(&document.operations()[0]);

        assert_eq!(
            definition,
            json!({
                "servers": [{ "url": "https://api.example.com" }],
                "security": [],
                "parameters": [
                    { "$ref": "#/components/parameters/Trace" },
                    { "name": "id", "in": "path", "description": "own" },
                ],
            })
        );
    }

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
            document.definition_of(document.operation("chained").unwrap()),
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

        let definition = document.definition_of(&document.operations()[0]);

        assert_eq!(
            definition[SECURITY_SCHEMES],
            json!({
                "a/b~{c}": { "$ref": "#/components/securitySchemes/a~1b~0%7Bc%7D" },
                "d": { "$ref": "#/components/securitySchemes/d" },
            })
        );
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
