//! OpenAPI document with its operations and schemas by name.
//!
//! The document is stored as JSON, so that excerpts are the author's text. Typed libraries support one version each
//! (`openapiv3` 3.0, `oas3` 3.1), reject a document for an error in an unrelated part, and drop unknown members.

mod operations;
mod references;

use std::{
    borrow::Cow,
    sync::{Arc, Weak},
};

use serde_json::Value;

use crate::{
    budget::{Budget, LimitExceeded, Meter},
    json,
    ranking::Index,
    yaml,
};

pub(crate) use operations::{Operation, Schema};
pub(crate) use references::{Inherited, MAX_CHAIN, MAX_NAME_BYTES, SECURITY_SCHEMES, pointer_in};

/// Maximum length of the API's name and version.
const MAX_TITLE_CHARS: usize = 200;
/// Maximum length of quoted text of the document in errors and log events.
const MAX_QUOTED_CHARS: usize = 100;

/// Parsed OpenAPI document.
#[derive(Debug)]
pub struct Document {
    root: Value,
    pub(crate) title: String,
    pub(crate) version: String,
    operations: Vec<Operation>,
    schemas: Vec<Schema>,
    external_paths: Vec<String>,
    index: Index,
}

/// Error of a document that cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[expect(private_interfaces, reason = "callers print the chain of sources")]
pub enum DocumentError {
    /// Not UTF-8.
    #[error("the document is not UTF-8")]
    Encoding(#[source] std::str::Utf8Error),
    /// Starts like JSON, but is invalid.
    #[error("the document is not JSON")]
    Json(#[source] serde_json::Error),
    /// Does not start like JSON, and is invalid YAML.
    #[error("the document is not YAML")]
    Yaml(#[source] yaml::YamlError),
    /// Exceeds a limit of the budget.
    #[error("the document exceeds its budget")]
    LimitExceeded(#[from] LimitExceeded),
    /// Not an OpenAPI document.
    #[error("the document is not an OpenAPI document: `openapi` is missing")]
    NotOpenApi,
    /// Unsupported version.
    #[error("unsupported version {0}: OpenAPI 3.0 and 3.1 are supported")]
    Version(String),
    /// A member is not an object.
    #[error("`{0}` of the document is not an object")]
    NotAnObject(&'static str),
    /// A path, a tag, or the name of an operation or schema is too long.
    #[error("a {0} of the document is longer than {MAX_NAME_BYTES} bytes: shorten it")]
    Long(&'static str),
}

impl Document {
    /// Parses JSON or YAML within a budget.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is neither JSON nor YAML, is not an OpenAPI document of a supported version, or
    /// exceeds the budget.
    pub fn parse(bytes: &[u8], budget: Budget) -> Result<Self, DocumentError> {
        let requester = Arc::new(());
        Self::parse_until_cancelled(&Arc::downgrade(&requester), bytes, budget)
    }

    /// Parses JSON or YAML within a budget, until the last strong reference of `requester` is dropped.
    pub(crate) fn parse_until_cancelled(
        requester: &Weak<()>,
        bytes: &[u8],
        budget: Budget,
    ) -> Result<Self, DocumentError> {
        let text = std::str::from_utf8(bytes).map_err(DocumentError::Encoding)?;
        let text = text.trim_start_matches('\u{feff}');
        let meter = Meter::new(budget, requester);
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
            external_paths: Vec::new(),
            index: Index::default(),
        };
        (document.operations, document.external_paths) = document.find_operations(&meter)?;
        document.schemas = document.find_schemas(&meter)?;
        document.index = Index::of(&document, &meter)?;
        Ok(document)
    }

    /// Returns all operations by path, in the order of the document's maps, then the webhooks by name.
    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Returns paths and webhooks that refer to other documents, which may define further operations.
    pub(crate) fn external_paths(&self) -> &[String] {
        &self.external_paths
    }

    /// Returns all schemas by name.
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

/// Parses JSON if the text starts like JSON, otherwise YAML.
fn read(text: &str, meter: &Meter) -> Result<Value, DocumentError> {
    meter.take_text(text)?;
    let or_limit = |otherwise| meter.exceeded().map_or(otherwise, DocumentError::LimitExceeded);
    if !text.trim_start().starts_with('{') {
        return yaml::read(text, meter).map_err(|error| or_limit(DocumentError::Yaml(error)));
    }
    let failure = match json::read(text, meter) {
        Ok(root) => return Ok(root),
        Err(failure) => failure,
    };
    let json = or_limit(DocumentError::Json(failure.error));
    if failure.has_begun || meter.exceeded().is_some() {
        return Err(json);
    }
    // YAML flow mappings also start with a brace.
    yaml::read(text, meter).map_err(|_| or_limit(json))
}

/// Truncates a text of the document for an error or a log event.
pub(crate) fn truncate(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

fn check_version(root: &Value) -> Result<(), DocumentError> {
    let unknown = |format: &str, version: &str| DocumentError::Version(format!("{format} {}", truncate(version)));
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
        // A version that YAML parses as a number.
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

    /// Returns the excerpt of an operation.
    pub(super) fn definition_of(document: &Document, operation: &Operation) -> Value {
        let mut definition = document.written(operation).unwrap().as_object().unwrap().clone();
        let inherited = document.inherited(operation).into_iter();
        definition.extend(inherited.map(|(name, value)| (name.to_owned(), value.into_owned())));
        definition.into()
    }

    pub(super) fn parse(value: &Value) -> Document {
        Document::parse(value.to_string().as_bytes(), BUDGET).unwrap()
    }

    pub(super) fn parse_error(text: &str) -> String {
        mcp_lambda::error_chain(&Document::parse(text.as_bytes(), BUDGET).unwrap_err())
    }

    #[test]
    fn versions_3_0_and_3_1_are_parsed_as_json_and_yaml() {
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
    fn invalid_documents_are_rejected_with_the_reason() {
        for (text, expected) in [
            (r#"{"swagger":"2.0"}"#, "Swagger 2.0"),
            (r#"{"openapi":"3.2.0"}"#, "OpenAPI 3.2.0: OpenAPI 3.0 and 3.1"),
            (r#"{"openapi":"3.10.0"}"#, "OpenAPI 3.10.0"),
            (r#"{"asyncapi":"3.0.0"}"#, "`openapi` is missing"),
            ("", "`openapi` is missing"),
            ("<html></html>", "`openapi` is missing"),
            (r#"{"openapi":"3.1.0","#, "not JSON: EOF"),
            ("openapi: [3.1.0", "not YAML"),
            (r#"{"openapi":"3.1.0","paths":[]}"#, "`paths`"),
        ] {
            assert!(parse_error(text).contains(expected), "{expected}: {}", parse_error(text));
        }
    }

    #[test]
    fn yaml_status_codes_are_strings() {
        let yaml = "openapi: 3.1.0\npaths:\n  /a:\n    get:\n      responses:\n        200: { description: on }\n";

        let document = Document::parse(yaml.as_bytes(), BUDGET).unwrap();

        let definition = definition_of(&document, &document.operations()[0]);
        assert_eq!(definition["responses"]["200"]["description"], "on");
    }

    #[test]
    fn text_that_starts_like_json_is_not_parsed_as_yaml() {
        // Each text is valid YAML, or slow to be rejected as YAML.
        for text in [
            r#"{"openapi":"3.1.0","a":1,}"#.to_owned(),
            r#"{"openapi":"3.1.0",a: 1}"#.to_owned(),
            r#"{"openapi":"3.1.0"} # comment"#.to_owned(),
            format!(r#"{{"openapi":"3.1.0","x":{}"#, "[".repeat(90)),
        ] {
            assert!(parse_error(&text).contains("is not JSON"), "{}", parse_error(&text));
        }
    }

    #[test]
    fn excessive_nesting_is_rejected_early() {
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
                    false => assert!(
                        matches!(read, Err(DocumentError::LimitExceeded(LimitExceeded::Depth))),
                        "{:?}",
                        read.err()
                    ),
                }
            }
        }
    }

    #[test]
    fn json_and_yaml_share_the_budget() {
        let items = |count: usize| vec![r#"{"":0}"#; count].join(",");
        for count in [10_000, 300_000] {
            for text in [
                format!(r#"{{"openapi":"3.1.0","x":[{}]}}"#, items(count)),
                format!("openapi: 3.1.0\nx: [{}]", items(count)),
            ] {
                let read = Document::parse(text.as_bytes(), Budget::of_function(128));

                match count {
                    10_000 => assert!(read.is_ok(), "{:?}", read.err()),
                    _ => assert!(
                        matches!(read, Err(DocumentError::LimitExceeded(LimitExceeded::Memory(_)))),
                        "{:?}",
                        read.err()
                    ),
                }
            }
        }
    }

    /// The requester is dropped at the deadline of its request.
    #[test]
    fn parsing_stops_when_the_requester_is_dropped() {
        let gone = Arc::downgrade(&Arc::new(()));
        for text in [r#"{"openapi":"3.1.0"}"#, "openapi: 3.1.0"] {
            let meter = Meter::new(BUDGET, &gone);

            let read = match text.starts_with('{') {
                true => json::read(text, &meter).is_ok(),
                false => yaml::read(text, &meter).is_ok(),
            };

            assert_eq!((read, meter.exceeded(), meter.values()), (false, Some(LimitExceeded::Cancelled), MAX_VALUES));
        }
    }

    #[test]
    fn errors_quote_truncated_text() {
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
            let error = parse_error(&text);

            assert!(error.len() < 1000, "{} bytes: {}", error.len(), truncate(&error));
        }
    }
}
