//! An OpenAPI document: the operations and schemas in it, by name.
//!
//! It is kept as JSON. The typed libraries know one version each (`openapiv3` 3.0, `oas3` 3.1), refuse a document for a
//! mistake far from what is read, and lose what they do not know; what is shown here is what the author wrote.

mod operations;
mod references;

use std::{
    borrow::Cow,
    sync::{Arc, Weak},
};

use serde_json::Value;

use crate::{
    budget::{Budget, Meter, Spent},
    json,
    ranking::Index,
    yaml,
};

pub(crate) use operations::{Operation, Schema};
pub(crate) use references::{Beside, MAX_CHAIN, MAX_NAME_BYTES, SECURITY_SCHEMES, pointer_in};

/// Of the API's name and version.
const MAX_TITLE_CHARS: usize = 200;
/// Of a text of the document in an error or a log event.
const MAX_QUOTED_CHARS: usize = 100;

/// A document that can be read.
#[derive(Debug)]
pub struct Document {
    root: Value,
    pub(crate) title: String,
    pub(crate) version: String,
    operations: Vec<Operation>,
    schemas: Vec<Schema>,
    elsewhere: Vec<String>,
    index: Index,
}

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
#[expect(private_interfaces, reason = "callers read the chain of sources")]
pub enum DocumentError {
    /// Bytes that are no text.
    #[error("the document is not UTF-8")]
    Encoding(#[source] std::str::Utf8Error),
    /// It begins like JSON.
    #[error("the document is not JSON")]
    Json(#[source] serde_json::Error),
    /// It does not begin like JSON.
    #[error("the document is not YAML")]
    Yaml(#[source] yaml::YamlError),
    /// It takes more than there is for it.
    #[error("the document goes beyond its budget")]
    Spent(#[from] Spent),
    /// It is of another kind.
    #[error("the document is no OpenAPI document: it has no `openapi`")]
    NotOpenApi,
    /// It is of another version.
    #[error("the document is of {0}; OpenAPI 3.0 and 3.1 are supported")]
    Version(String),
    /// A part of it is of another kind.
    #[error("`{0}` of the document is not an object")]
    NotAnObject(&'static str),
    /// A path, a tag or the name of an operation or a schema is too long.
    #[error("a {0} of the document is longer than {MAX_NAME_BYTES} bytes: shorten it")]
    Long(&'static str),
}

impl Document {
    /// Reads JSON or YAML within a budget.
    ///
    /// # Errors
    ///
    /// When it is neither, no OpenAPI document of a version that is known, or takes more than the budget.
    pub fn parse(bytes: &[u8], budget: Budget) -> Result<Self, DocumentError> {
        let wanted = Arc::new(());
        Self::parse_wanted(&Arc::downgrade(&wanted), bytes, budget)
    }

    /// The same, for as long as it is wanted: until the last other owner of `wanted` is gone.
    pub(crate) fn parse_wanted(wanted: &Weak<()>, bytes: &[u8], budget: Budget) -> Result<Self, DocumentError> {
        let text = std::str::from_utf8(bytes).map_err(DocumentError::Encoding)?;
        let text = text.trim_start_matches('\u{feff}');
        let meter = Meter::new(budget, wanted);
        let root = read(text, &meter)?;
        check_version(&root)?;
        for name in ["info", "paths", "components"] {
            if root.get(name).is_some_and(|value| !value.is_object() && !value.is_null()) {
                return Err(DocumentError::NotAnObject(name));
            }
        }
        let info = |name: &str| text_of(&root["info"], name).chars().take(MAX_TITLE_CHARS).collect();
        let (title, version) = (info("title"), info("version"));
        let mut document = Self {
            root,
            title,
            version,
            operations: Vec::new(),
            schemas: Vec::new(),
            elsewhere: Vec::new(),
            index: Index::default(),
        };
        (document.operations, document.elsewhere) = document.find_operations(&meter)?;
        document.schemas = document.find_schemas(&meter)?;
        document.index = Index::of(&document, &meter)?;
        Ok(document)
    }

    /// All operations, by path, as the document's maps are sorted; then the webhooks, by name.
    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Paths and webhooks that refer to what is not in the document, and may have further operations there.
    pub(crate) fn elsewhere(&self) -> &[String] {
        &self.elsewhere
    }

    /// All schemas, by name.
    pub(crate) fn schemas(&self) -> &[Schema] {
        &self.schemas
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    pub(crate) fn schema(&self, name: &str) -> Option<&Value> {
        self.root.pointer("/components/schemas")?.get(name)
    }

    pub(crate) fn root(&self) -> &Value {
        &self.root
    }
}

/// JSON if it begins like that, YAML otherwise.
fn read(text: &str, meter: &Meter) -> Result<Value, DocumentError> {
    meter.take_text(text)?;
    let spent = |otherwise| meter.spent().map_or(otherwise, DocumentError::Spent);
    if !text.trim_start().starts_with('{') {
        return yaml::read(text, meter).map_err(|error| spent(DocumentError::Yaml(error)));
    }
    let failure = match json::read(text, meter) {
        Ok(root) => return Ok(root),
        Err(failure) => failure,
    };
    let json = spent(DocumentError::Json(failure.error));
    if failure.has_begun || meter.spent().is_some() {
        return Err(json);
    }
    // YAML has braces, too.
    yaml::read(text, meter).map_err(|_| spent(json))
}

/// The beginning of a text of the document, for an error or a log event.
pub(crate) fn beginning(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

fn check_version(root: &Value) -> Result<(), DocumentError> {
    let unknown = |format: &str, version: &str| DocumentError::Version(format!("{format} {}", beginning(version)));
    let version = text_of(root, "openapi");
    if version.is_empty() {
        let swagger = text_of(root, "swagger");
        return Err(if swagger.is_empty() { DocumentError::NotOpenApi } else { unknown("Swagger", &swagger) });
    }
    let is_known = ["3.0", "3.1"]
        .iter()
        .any(|known| version.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
    if is_known { Ok(()) } else { Err(unknown("OpenAPI", &version)) }
}

fn text_of<'a>(value: &'a Value, name: &str) -> Cow<'a, str> {
    match value.get(name) {
        Some(Value::String(text)) => text.into(),
        // A version that YAML takes for a number or date.
        Some(Value::Number(number)) => number.to_string().into(),
        _ => Cow::default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::budget::{MAX_DEPTH, MAX_VALUES};

    pub(super) const BUDGET: Budget = Budget::of_function(512);

    /// An operation as it is read.
    pub(super) fn definition_of(document: &Document, operation: &Operation) -> Value {
        let mut definition = document.written(operation).unwrap().as_object().unwrap().clone();
        let beside = document.beside(operation).into_iter();
        definition.extend(beside.map(|(name, value)| (name.to_owned(), value.into_owned())));
        definition.into()
    }

    pub(super) fn parse(value: &Value) -> Document {
        Document::parse(value.to_string().as_bytes(), BUDGET).unwrap()
    }

    pub(super) fn refusal(text: &str) -> String {
        mcp_lambda::error_chain(&Document::parse(text.as_bytes(), BUDGET).unwrap_err())
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
            let document = Document::parse(text.as_bytes(), BUDGET).unwrap();

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

        let document = Document::parse(yaml.as_bytes(), BUDGET).unwrap();

        let definition = definition_of(&document, &document.operations()[0]);
        assert_eq!(definition["responses"]["200"]["description"], "on");
    }

    /// 8.4
    #[test]
    fn what_begins_like_json_is_not_read_as_yaml() {
        // Each of them is YAML, or is slow to be refused as YAML.
        for text in [
            r#"{"openapi":"3.1.0","a":1,}"#.to_owned(),
            r#"{"openapi":"3.1.0",a: 1}"#.to_owned(),
            r#"{"openapi":"3.1.0"} # comment"#.to_owned(),
            format!(r#"{{"openapi":"3.1.0","x":{}"#, "[".repeat(90)),
        ] {
            assert!(refusal(&text).contains("is not JSON"), "{}", refusal(&text));
        }
    }

    /// 8.4
    #[test]
    fn what_is_nested_too_deep_is_refused_where_it_becomes_that() {
        let nested = |depth: usize| ("[".repeat(depth), "]".repeat(depth));
        for depth in [MAX_DEPTH - 1, MAX_DEPTH, 1_000_000] {
            let (open, close) = nested(depth);
            for text in [
                format!(r#"{{"openapi":"3.1.0","x":{open}1{close}}}"#),
                format!("openapi: 3.1.0\nx: {open}1{close}"),
                format!("openapi: 3.1.0\nx:\n  {}1", "- ".repeat(depth)),
            ] {
                let read = Document::parse(text.as_bytes(), BUDGET);

                match depth < MAX_DEPTH {
                    true => assert!(read.is_ok(), "{:?}", read.err()),
                    false => assert!(matches!(read, Err(DocumentError::Spent(Spent::Depth))), "{:?}", read.err()),
                }
            }
        }
    }

    /// 8.4
    #[test]
    fn one_budget_holds_for_json_and_yaml() {
        let items = |count: usize| vec![r#"{"":0}"#; count].join(",");
        for count in [10_000, 300_000] {
            for text in [
                format!(r#"{{"openapi":"3.1.0","x":[{}]}}"#, items(count)),
                format!("openapi: 3.1.0\nx: [{}]", items(count)),
            ] {
                let read = Document::parse(text.as_bytes(), Budget::of_function(128));

                match count {
                    10_000 => assert!(read.is_ok(), "{:?}", read.err()),
                    _ => assert!(matches!(read, Err(DocumentError::Spent(Spent::Memory(_)))), "{:?}", read.err()),
                }
            }
        }
    }

    /// 8.4: at the deadline of the request that reads it, nothing is left that wants it.
    #[test]
    fn reading_stops_when_the_document_is_not_wanted_any_more() {
        let gone = Arc::downgrade(&Arc::new(()));
        for text in [r#"{"openapi":"3.1.0"}"#, "openapi: 3.1.0"] {
            let meter = Meter::new(BUDGET, &gone);

            let read = match text.starts_with('{') {
                true => json::read(text, &meter).is_ok(),
                false => yaml::read(text, &meter).is_ok(),
            };

            assert_eq!((read, meter.spent(), meter.values()), (false, Some(Spent::Stopped), MAX_VALUES));
        }
    }

    /// F9
    #[test]
    fn an_error_has_the_beginning_of_what_is_in_the_document() {
        let long = "\"\u{1}x".repeat(100_000);
        for text in [
            json!({ "openapi": long }).to_string(),
            json!({ "swagger": long }).to_string(),
            json!({ "openapi": "3.1.0", "paths": [long] }).to_string(),
            json!({ "openapi": [long] }).to_string(),
            json!({ "openapi": "3.1.0", "paths": { long.clone(): { "get": {} } } }).to_string(),
            format!("openapi: {}", "4".repeat(100_000)),
            format!("swagger: {}", "4".repeat(100_000)),
            format!("openapi: 3.1.0\nx: *{}", "4".repeat(100_000)),
            format!("openapi: 3.1.0\nx: !{}!a 1", "4".repeat(100_000)),
            format!("{{\"{0}\":1,\"{0}\":2}}", "4".repeat(100_000)),
            format!("openapi: 3.1.0\n? {0}\n: 1\n? {0}\n: 1\n", "4".repeat(100_000)),
        ] {
            let refusal = refusal(&text);

            assert!(refusal.len() < 1000, "{} bytes: {}", refusal.len(), beginning(&refusal));
        }
    }
}
