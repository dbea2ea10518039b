//! Metadata of the operations and schemas of a document.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Document, DocumentError, references::MAX_NAME_BYTES, text_of};
use crate::budget::{LimitExceeded, Meter};

/// Methods of a path item, in the order of the specification.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// Children of the document that contain path items; `webhooks` by name (OpenAPI 3.1; in 3.0 a common extension).
pub(super) const PATHS: &str = "paths";
const WEBHOOKS: [&str; 2] = ["webhooks", "x-webhooks"];
/// Prefix that distinguishes the webhook `/pets` from the path.
const WEBHOOK_PREFIX: &str = "webhook ";

/// Maximum number of tags, and of security schemes, of an operation.
pub(super) const MAX_TAGS: usize = 64;
const MAX_SUMMARY_CHARS: usize = 160;

/// Metadata of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    /// `operationId`. If it is missing, duplicate, or could be the place of another operation: the result of
    /// [`Operation::place`].
    pub(crate) id: String,
    /// HTTP method in upper case.
    pub(crate) method: String,
    /// Path, or name of a webhook.
    pub(crate) path: String,
    pub(crate) summary: String,
    pub(crate) tags: Vec<String>,
    pub(crate) is_deprecated: bool,
    /// Merged parameters of path and operation, if the path has parameters.
    pub(super) parameters: Option<Value>,
    /// Member of the document that contains the path item.
    pub(super) section: &'static str,
}

impl Operation {
    /// Returns whether the operation is a webhook: a request that the API sends to a URL registered by its user.
    pub(crate) fn is_webhook(&self) -> bool {
        self.section != PATHS
    }

    /// Returns method and path. Those of a webhook have a prefix, since its name may equal a path.
    pub(crate) fn place(&self) -> String {
        place(self.section, &self.method, &self.path)
    }
}

/// Metadata of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schema {
    pub(crate) name: String,
    pub(crate) summary: String,
}

impl Document {
    /// Finds an operation by its id or `METHOD /path`, or a webhook by `METHOD name` or `webhook METHOD name`.
    pub(crate) fn operation(&self, name: &str) -> Option<&Operation> {
        let by_id = self.operations.iter().find(|operation| operation.id == name);
        by_id.or_else(|| {
            let of_webhook = name.strip_prefix(WEBHOOK_PREFIX);
            let (method, path) = of_webhook.unwrap_or(name).split_once(' ')?;
            let is_it = |own: &&Operation| {
                let is_same_place = own.path == path.trim() && own.method.eq_ignore_ascii_case(method);
                is_same_place && (own.is_webhook() || of_webhook.is_none())
            };
            self.operations.iter().find(is_it)
        })
    }

    /// Returns all operations, and the paths with possibly missing operations.
    pub(super) fn find_operations(&self, meter: &Meter) -> Result<(Vec<Operation>, Vec<String>), DocumentError> {
        let mut taken = HashSet::new();
        let (mut operations, mut external_paths) = (Vec::new(), Vec::new());
        let keys = |section| self.root.get(section).and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let paths = keys(PATHS).filter(|path| !path.starts_with("x-")).map(|path| (PATHS, path));
        let webhooks = WEBHOOKS.into_iter().flat_map(|section| keys(section).map(move |name| (section, name)));
        // A document may have webhooks under both names, for old tools.
        let is_new =
            |(section, name): &(&str, &String)| *section == WEBHOOKS[0] || self.root[WEBHOOKS[0]].get(name).is_none();
        let webhooks = webhooks.filter(is_new);
        for (section, path) in paths.chain(webhooks) {
            let (items, nowhere) = self.path_items(section, path, |reference| meter.take_reference(reference))?;
            if nowhere {
                meter.push(&mut external_paths, listed("path", path, meter)?)?;
            }
            let shared = items.iter().find_map(|item| item.get("parameters")).and_then(Value::as_array);
            for method in METHODS {
                let own = items.iter().find_map(|item| item.get(method).filter(|own| own.is_object()));
                let Some(own) = own else { continue };
                let method = method.to_ascii_uppercase();
                let id = own.get("operationId").and_then(Value::as_str);
                let id = id.filter(|id| !id.is_empty() && !is_place(id));
                let id = match id.filter(|id| taken.insert(*id)) {
                    Some(id) => listed("name of an operation", id, meter)?,
                    None => {
                        check_length("path", path)?;
                        listed("path", &place(section, &method, path), meter)?
                    }
                };
                let mut tags = Vec::new();
                let written = own.get("tags").and_then(Value::as_array).into_iter().flatten();
                for tag in written.filter_map(Value::as_str).take(MAX_TAGS) {
                    meter.push(&mut tags, listed("tag", tag, meter)?)?;
                }
                let summary = summary_of(own);
                meter.take_listed(&summary)?;
                let operation = Operation {
                    id,
                    method,
                    path: listed("path", path, meter)?,
                    summary,
                    tags,
                    is_deprecated: own.get("deprecated") == Some(&Value::Bool(true)),
                    parameters: shared.map(|shared| self.parameters(shared, own, meter)).transpose()?,
                    section,
                };
                meter.push(&mut operations, operation)?;
            }
        }
        Ok((operations, external_paths))
    }

    /// Returns the parameters of the path that the operation does not override, followed by those of the operation.
    fn parameters(&self, shared: &[Value], operation: &Value, meter: &Meter) -> Result<Value, LimitExceeded> {
        let own = operation.get("parameters").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut named = HashSet::new();
        for parameter in own {
            named.extend(self.parameter_name(parameter, meter)?);
        }
        let mut all = Vec::new();
        for parameter in shared {
            if self.parameter_name(parameter, meter)?.is_none_or(|name| !named.contains(&name)) {
                meter.push(&mut all, copy(parameter, meter)?)?;
            }
        }
        for parameter in own {
            meter.push(&mut all, copy(parameter, meter)?)?;
        }
        Ok(all.into())
    }

    pub(super) fn find_schemas(&self, meter: &Meter) -> Result<Vec<Schema>, DocumentError> {
        let mut schemas = Vec::new();
        let written = self.root.pointer("/components/schemas").and_then(Value::as_object);
        for (name, schema) in written.into_iter().flatten() {
            let name = listed("name of a schema", name, meter)?;
            let summary = summary_of(schema);
            meter.take_listed(&summary)?;
            meter.push(&mut schemas, Schema { name, summary })?;
        }
        Ok(schemas)
    }

    /// Returns name and location of a parameter, which identify it. Long names are not compared.
    fn parameter_name<'a>(
        &'a self,
        parameter: &'a Value,
        meter: &Meter,
    ) -> Result<Option<(&'a str, &'a str)>, LimitExceeded> {
        let reference = parameter.get("$ref").and_then(Value::as_str);
        meter.take_reference(reference.unwrap_or_default())?;
        let parameter = reference.map_or(Some(parameter), |reference| self.target(reference));
        let text = |name: &str| parameter?.get(name)?.as_str().filter(|own| own.len() <= MAX_NAME_BYTES);
        Ok(text("name").zip(text("in")))
    }
}

fn place(section: &str, method: &str, path: &str) -> String {
    format!("{}{method} {path}", if section == PATHS { "" } else { WEBHOOK_PREFIX })
}

/// Returns whether an `operationId` has the format of a place, which could be that of another operation.
fn is_place(id: &str) -> bool {
    let (method, _) = id.strip_prefix(WEBHOOK_PREFIX).unwrap_or(id).split_once(' ').unwrap_or_default();
    METHODS.iter().any(|own| own.eq_ignore_ascii_case(method))
}

/// Checks and charges a name for lists.
fn listed(kind: &'static str, name: &str, meter: &Meter) -> Result<String, DocumentError> {
    check_length(kind, name)?;
    meter.take_listed(name)?;
    Ok(name.to_owned())
}

fn check_length(kind: &'static str, name: &str) -> Result<(), DocumentError> {
    if name.len() > MAX_NAME_BYTES { Err(DocumentError::Long(kind)) } else { Ok(()) }
}

/// Clones a value and charges the clone.
fn copy(value: &Value, meter: &Meter) -> Result<Value, LimitExceeded> {
    meter.take_values(1, 0)?;
    match value {
        Value::String(text) => meter.take_string(text)?,
        Value::Array(items) => {
            let mut array = Vec::new();
            for item in items {
                meter.push(&mut array, copy(item, meter)?)?;
            }
            return Ok(array.into());
        }
        Value::Object(members) => {
            let mut object = Map::new();
            for (name, member) in members {
                meter.take_string(name)?;
                meter.take_member(object.len())?;
                object.insert(name.clone(), copy(member, meter)?);
            }
            return Ok(object.into());
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => meter.take(0)?,
    }
    Ok(value.clone())
}

/// Returns the summary of an operation or schema, or its truncated description, on one line.
fn summary_of(value: &Value) -> String {
    let texts = ["summary", "title", "description"].map(|name| text_of(value, name));
    let text = texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    let mut line = String::new();
    let mut chars = 0;
    for word in text.split_whitespace() {
        for character in (chars > 0).then_some(' ').into_iter().chain(word.chars()) {
            if chars == MAX_SUMMARY_CHARS {
                line.push('…');
                return line;
            }
            line.push(character);
            chars += 1;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::document::MAX_TITLE_CHARS;
    use crate::document::tests::{definition_of, parse, parse_error};

    #[test]
    fn operation_ids_are_unique() {
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

    /// An `operationId` must not shadow the operation at that place.
    #[test]
    fn ids_in_the_format_of_a_place_are_ignored() {
        let document = parse(&json!({ "openapi": "3.0.0", "paths": {
            "/a": { "post": { "summary": "a" } },
            "/b": { "get": { "operationId": "POST /a", "summary": "b" } },
            "/c": { "get": { "operationId": "get everything" } },
        } }));

        let ids: Vec<_> = document.operations().iter().map(|operation| operation.id.as_str()).collect();
        assert_eq!(ids, ["POST /a", "GET /b", "GET /c"]);
        assert_eq!(document.operation("POST /a").unwrap().summary, "a");
        assert_eq!(document.operation("GET /b").unwrap().summary, "b");
    }

    #[test]
    fn null_does_not_override_an_operation_of_a_shared_item() {
        let document = parse(&json!({ "openapi": "3.1.0",
            "paths": { "/d": { "$ref": "#/components/pathItems/P", "put": null } },
            "components": { "pathItems": { "P": { "put": { "operationId": "shared" } } } },
        }));

        let operation = document.operation("shared").unwrap();
        assert_eq!(document.written(operation).unwrap()["operationId"], "shared");
    }

    #[test]
    fn webhooks_are_found_by_place_and_not_duplicated() {
        let document = parse(&json!({
            "openapi": "3.1.0",
            "paths": { "/a": { "post": {} }, "/b": { "post": {} } },
            "webhooks": { "/a": { "post": { "operationId": "hook" } }, "c": { "put": {} }, "x-d": { "get": {} } },
            "x-webhooks": { "c": { "put": { "summary": "old" } }, "e": { "put": {} } },
        }));

        let ids: Vec<_> = document.operations().iter().map(|own| own.id.as_str()).collect();
        assert_eq!(ids, ["POST /a", "POST /b", "hook", "webhook PUT c", "webhook GET x-d", "webhook PUT e"]);
        let id_of = |name: &str| document.operation(name).map(|own| own.id.as_str());
        assert_eq!(id_of("POST /a"), Some("POST /a"));
        assert_eq!(id_of("webhook POST /a"), Some("hook"));
        assert_eq!(id_of("webhook POST /b"), None);
        assert_eq!(id_of("put c"), Some("webhook PUT c"));
        assert_eq!(document.operation("PUT c").unwrap().summary, "");
        for webhooks in [json!([]), json!(null), json!("none")] {
            assert!(parse(&json!({ "openapi": "3.1.0", "webhooks": webhooks })).operations().is_empty());
        }
    }

    #[test]
    fn operations_inherit_from_path_and_document() {
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

        let definition = definition_of(&document, &document.operations()[0]);

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
    fn names_in_lists_have_a_maximum_length() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for (text, expected) in [
            (json!({ "openapi": "3.1.0", "paths": { long.clone(): { "get": {} } } }), "path"),
            (json!({ "openapi": "3.1.0", "paths": { "/": { "get": { "operationId": long } } } }), "operation"),
            (json!({ "openapi": "3.1.0", "paths": { "/": { "get": { "tags": [long] } } } }), "tag"),
            (json!({ "openapi": "3.1.0", "components": { "schemas": { long.clone(): {} } } }), "schema"),
        ] {
            let error = parse_error(&text.to_string());

            assert!(error.contains(expected) && error.contains("2048 bytes"), "{error}");
        }
        let words = "word ".repeat(100_000);
        let document = parse(&json!({ "openapi": "3.1.0", "info": { "title": words },
            "paths": { "/": { "get": { "description": words } } } }));
        assert_eq!(document.title.chars().count(), MAX_TITLE_CHARS);
        assert_eq!(document.operations()[0].summary.chars().count(), MAX_SUMMARY_CHARS + 1);
    }
}
