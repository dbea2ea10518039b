//! An OpenAPI document: the operations and schemas in it, by name.
//!
//! It is kept as JSON. The typed libraries know one version each (`openapiv3` 3.0, `oas3` 3.1), refuse a document for a
//! mistake far from what is read, and lose what they do not know; what is shown here is what the author wrote.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    sync::{Arc, Weak},
};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::{
    budget::{Budget, Meter, Spent},
    json,
    ranking::Index,
    yaml,
};

/// The methods of a path item, in the order of the specification.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// Members of the document whose members are path items: `webhooks` by name (OpenAPI 3.1; in 3.0 an extension that tools know).
const PATHS: &str = "paths";
const WEBHOOKS: [&str; 2] = ["webhooks", "x-webhooks"];
/// What distinguishes the webhook `/pets` from the path.
const WEBHOOK_PREFIX: &str = "webhook ";

/// What a fragment has in another form (RFC 3986, section 3.5).
const FRAGMENT: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}');

/// What stands in an operation for the security schemes that it names: its readers know nothing else of the document.
pub(crate) const SECURITY_SCHEMES: &str = "x-security-schemes";

/// References that are followed from one to the next.
pub(crate) const MAX_CHAIN: usize = 32;
/// Of a reference that is followed, and of each name that lists show or that is looked up.
pub(crate) const MAX_NAME_BYTES: usize = 2048;
/// Tags of an operation, and security schemes that it names, which are shown.
const MAX_TAGS: usize = 64;
/// Of the API's name and version.
const MAX_TITLE_CHARS: usize = 200;
const MAX_SUMMARY_CHARS: usize = 160;
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

/// What is known of an operation without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Its `operationId`; what [`Operation::place`] returns, if it has none or another has the same.
    pub(crate) id: String,
    /// In capitals.
    pub(crate) method: String,
    /// The name of a webhook.
    pub(crate) path: String,
    pub(crate) summary: String,
    pub(crate) tags: Vec<String>,
    pub(crate) is_deprecated: bool,
    /// Those of its path and its own, if its path has some.
    parameters: Option<Value>,
    /// The member of the document that has its path item.
    section: &'static str,
}

impl Operation {
    /// Whether it is a request that the API sends, to a URL that its user registers.
    pub(crate) fn is_webhook(&self) -> bool {
        self.section != PATHS
    }

    /// Method and path; those of a webhook begin with a word of their own, for its name may be that of a path.
    pub(crate) fn place(&self) -> String {
        place(self.section, &self.method, &self.path)
    }
}

/// What is known of a schema without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schema {
    pub(crate) name: String,
    pub(crate) summary: String,
}

/// What an operation has besides what is written in it; it goes before.
pub(crate) type Beside<'a> = BTreeMap<&'a str, Cow<'a, Value>>;

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

    /// The operation of that id, or of `METHOD /path`, or the webhook of `METHOD name` or `webhook METHOD name`.
    pub(crate) fn operation(&self, name: &str) -> Option<&Operation> {
        let by_id = self.operations.iter().find(|operation| operation.id == name);
        by_id.or_else(|| {
            let of_webhook = name.strip_prefix(WEBHOOK_PREFIX);
            let (method, path) = of_webhook.unwrap_or(name).split_once(' ')?;
            let is_it = |own: &&Operation| {
                let is_there = own.path == path.trim() && own.method.eq_ignore_ascii_case(method);
                is_there && (own.is_webhook() || of_webhook.is_none())
            };
            self.operations.iter().find(is_it)
        })
    }

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

    /// What a reference within the document leads to. Nothing is fetched for one that leads out of it.
    pub(crate) fn target(&self, reference: &str) -> Option<&Value> {
        if reference.len() > MAX_NAME_BYTES {
            return None;
        }
        self.root.pointer(&pointer_in(reference)?)
    }

    pub(crate) fn root(&self) -> &Value {
        &self.root
    }

    /// The operations, and the paths of which some may be missing.
    fn find_operations(&self, meter: &Meter) -> Result<(Vec<Operation>, Vec<String>), DocumentError> {
        let mut taken = HashSet::new();
        let (mut operations, mut elsewhere) = (Vec::new(), Vec::new());
        let keys = |section| self.root.get(section).and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let paths = keys(PATHS).filter(|path| !path.starts_with("x-")).map(|path| (PATHS, path));
        let webhooks = WEBHOOKS.into_iter().flat_map(|section| keys(section).map(move |name| (section, name)));
        // A document may have them under both names, for old tools.
        let is_new =
            |(section, name): &(&str, &String)| *section == WEBHOOKS[0] || self.root[WEBHOOKS[0]].get(name).is_none();
        let webhooks = webhooks.filter(is_new);
        for (section, path) in paths.chain(webhooks) {
            let (items, nowhere) = self.path_items(section, path, |reference| meter.take_reference(reference))?;
            if nowhere {
                meter.push(&mut elsewhere, listed("path", path, meter)?)?;
            }
            let shared = items.iter().find_map(|item| item.get("parameters")).and_then(Value::as_array);
            for method in METHODS {
                let own = items.iter().find_map(|item| item.get(method)).filter(|own| own.is_object());
                let Some(own) = own else { continue };
                let method = method.to_ascii_uppercase();
                let id = own.get("operationId").and_then(Value::as_str).filter(|id| !id.is_empty());
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
        Ok((operations, elsewhere))
    }

    /// The parameters of an operation, after those of its path that it does not replace.
    fn parameters(&self, shared: &[Value], operation: &Value, meter: &Meter) -> Result<Value, Spent> {
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

    fn find_schemas(&self, meter: &Meter) -> Result<Vec<Schema>, DocumentError> {
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

    /// A member of a path item, which may go on at what it refers to: the nearest counts.
    fn of_path(&self, operation: &Operation, name: &str) -> Option<&Value> {
        let (items, _) = self.path_items(operation.section, &operation.path, |_| Ok(())).ok()?;
        items.into_iter().find_map(|item| item.get(name))
    }

    /// The item of a path and those that it refers to; and whether more may be elsewhere: behind a reference that leads
    /// nowhere in this document, or that is one too many. Each reference that is followed is counted.
    fn path_items(
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

    /// Name and place of a parameter, by which it replaces another; long ones are not compared.
    fn parameter_name<'a>(&'a self, parameter: &'a Value, meter: &Meter) -> Result<Option<(&'a str, &'a str)>, Spent> {
        let reference = parameter.get("$ref").and_then(Value::as_str);
        meter.take_reference(reference.unwrap_or_default())?;
        let parameter = reference.map_or(Some(parameter), |reference| self.target(reference));
        let text = |name: &str| parameter?.get(name)?.as_str().filter(|own| own.len() <= MAX_NAME_BYTES);
        Ok(text("name").zip(text("in")))
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

fn place(section: &str, method: &str, path: &str) -> String {
    format!("{}{method} {path}", if section == PATHS { "" } else { WEBHOOK_PREFIX })
}

/// A name that lists show.
fn listed(kind: &'static str, name: &str, meter: &Meter) -> Result<String, DocumentError> {
    check_length(kind, name)?;
    meter.take_listed(name)?;
    Ok(name.to_owned())
}

fn check_length(kind: &'static str, name: &str) -> Result<(), DocumentError> {
    if name.len() > MAX_NAME_BYTES { Err(DocumentError::Long(kind)) } else { Ok(()) }
}

/// The beginning of a text of the document, for an error or a log event.
pub(crate) fn beginning(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// A value once more, charged as the first.
fn copy(value: &Value, meter: &Meter) -> Result<Value, Spent> {
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

/// The summary of an operation or schema, or the beginning of its description; on one line.
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
    use super::*;
    use crate::budget::{MAX_DEPTH, MAX_VALUES};

    const BUDGET: Budget = Budget::of_function(512);

    /// An operation as it is read.
    fn definition_of(document: &Document, operation: &Operation) -> Value {
        let mut definition = document.written(operation).unwrap().as_object().unwrap().clone();
        let beside = document.beside(operation).into_iter();
        definition.extend(beside.map(|(name, value)| (name.to_owned(), value.into_owned())));
        definition.into()
    }

    fn parse(value: &Value) -> Document {
        Document::parse(value.to_string().as_bytes(), BUDGET).unwrap()
    }

    fn refusal(text: &str) -> String {
        mcp_server::error_chain(&Document::parse(text.as_bytes(), BUDGET).unwrap_err())
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

    /// 6.7
    #[test]
    fn a_webhook_is_found_by_its_place_and_is_there_once() {
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

    /// 8.4
    #[test]
    fn names_that_lists_show_have_a_length() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for (text, expected) in [
            (json!({ "openapi": "3.1.0", "paths": { long.clone(): { "get": {} } } }), "path"),
            (json!({ "openapi": "3.1.0", "paths": { "/": { "get": { "operationId": long } } } }), "operation"),
            (json!({ "openapi": "3.1.0", "paths": { "/": { "get": { "tags": [long] } } } }), "tag"),
            (json!({ "openapi": "3.1.0", "components": { "schemas": { long.clone(): {} } } }), "schema"),
        ] {
            let refusal = refusal(&text.to_string());

            assert!(refusal.contains(expected) && refusal.contains("2048 bytes"), "{refusal}");
        }
        let words = "word ".repeat(100_000);
        let document = parse(&json!({ "openapi": "3.1.0", "info": { "title": words },
            "paths": { "/": { "get": { "description": words } } } }));
        assert_eq!(document.title.chars().count(), MAX_TITLE_CHARS);
        assert_eq!(document.operations()[0].summary.chars().count(), MAX_SUMMARY_CHARS + 1);
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
