//! Golden file of a server's contract with its clients. Reviews of contract changes use its diff.

use std::{env, fs, path::Path, sync::OnceLock};

use jsonschema::Validator;
use mcp_lambda::McpService;
use mcp_protocol::{CallToolResult, method};
use serde_json::{Value, json};

use crate::{McpRequest, Reply, discover, exchange, resources_read};

/// Asserts that all lists and the result of `server/discover` equal the golden file `<folder>/contract.json`. Set the
/// environment variable `UPDATE_GOLDEN` to write the file. All pages of a list are requested; resources are read for
/// their caching hints. `token` is the bearer token for a server that requires authentication.
///
/// Patterns in tool schemas must be ECMAScript regular expressions: for an invalid pattern, such as one with `(?i)`,
/// TypeScript clients drop the whole list.
///
/// ```no_run
/// # async fn example(service: mcp_lambda::McpService) {
/// mcp_testing::assert_contract(&service, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"), None).await;
/// # }
/// ```
///
/// # Panics
///
/// Panics if the contract differs, a pattern is not ECMAScript, or the server has no instructions.
pub async fn assert_contract(service: &McpService, folder: &str, token: Option<&str>) {
    let discovered = send(service, discover(), token).await.result().clone();
    let instructions = discovered["instructions"].as_str().unwrap_or_default().trim();
    assert!(
        !instructions.is_empty(),
        "the server has no instructions, which clients show as its description: set them with `Server::instructions`"
    );
    let mut contract = json!({ "capabilities": discovered["capabilities"], "instructions": instructions });
    let capabilities = &discovered["capabilities"];
    for (capability, list, member) in [
        ("tools", method::TOOLS_LIST, "tools"),
        ("prompts", method::PROMPTS_LIST, "prompts"),
        ("resources", method::RESOURCES_LIST, "resources"),
        ("resources", method::RESOURCES_TEMPLATES_LIST, "resourceTemplates"),
    ] {
        if capabilities.get(capability).is_some() {
            let (items, caching) = list_all(service, list, member, token).await;
            for resource in items.as_array().expect("a list").iter().filter(|_| member == "resources") {
                let uri = resource["uri"].as_str().expect("a URI");
                let read = send(service, resources_read(uri), token).await;
                contract["caching"][uri] = read.response().get("result").map_or(Value::Null, caching_of);
            }
            for item in items.as_array().expect("a list") {
                for schema in ["inputSchema", "outputSchema"] {
                    if let Some(pattern) = invalid_pattern(&item[schema]) {
                        panic!(
                            "tool {}: `{schema}` has the pattern `{pattern}`, which is not an ECMAScript regular expression: \
                             remove syntax that only Rust supports, such as `(?i)` and `\\A`",
                            item["name"]
                        );
                    }
                }
            }
            contract[member] = items;
            contract["caching"][list] = caching;
        }
    }
    assert_golden(&Path::new(folder).join("contract.json"), &contract);
}

/// Asserts that the text of a structured result contains the values of the named members, at every depth. Half of the
/// clients show the model only the text, the other half only the structured content. Returns the number of members
/// found.
///
/// # Panics
///
/// Panics if the text does not contain the value of such a member.
#[track_caller]
pub fn assert_text_has(result: &CallToolResult, names: &[&str]) -> usize {
    let structured = result.structured_content.as_ref().expect("a structured result");
    let structured: Value = serde_json::from_str(structured.get()).expect("JSON");
    let text = result.text();
    let mut values = Vec::new();
    collect(&structured, names, &mut values);
    for (name, value) in &values {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        assert!(text.contains(&value), "the text does not contain `{name}`, {value}: {text}");
    }
    values.len()
}

fn collect<'v>(value: &'v Value, names: &[&str], found: &mut Vec<(&'v str, &'v Value)>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        if names.contains(&name.as_str()) {
            found.push((name, member));
        }
        collect(member, names, found);
    }
    value.as_array().into_iter().flatten().for_each(|element| collect(element, names, found));
}

async fn send(service: &McpService, request: McpRequest, token: Option<&str>) -> Reply {
    let request = token.into_iter().fold(request, |request, token| request.bearer(token));
    exchange(service, request).await
}

/// Returns the items of all pages of a list, and their caching hints.
async fn list_all(service: &McpService, method: &str, member: &str, token: Option<&str>) -> (Value, Value) {
    let mut items = Vec::new();
    let mut params = json!({});
    loop {
        let reply = send(service, McpRequest::new(method, params), token).await;
        let page = reply.result();
        items.extend(page[member].as_array().expect("a list").iter().cloned());
        match page.get("nextCursor") {
            Some(cursor) => params = json!({ "cursor": cursor }),
            None => return (Value::Array(items), caching_of(page)),
        }
    }
}

/// Returns a pattern of a schema that is not ECMAScript.
fn invalid_pattern(schema: &Value) -> Option<String> {
    let Value::Object(members) = schema else {
        return schema.as_array().into_iter().flatten().find_map(invalid_pattern);
    };
    members.iter().find_map(|(keyword, value)| match (keyword.as_str(), value) {
        ("pattern", Value::String(pattern)) => (!is_ecmascript(pattern)).then(|| pattern.clone()),
        ("patternProperties", Value::Object(map)) => {
            let pattern = map.keys().find(|pattern| !is_ecmascript(pattern));
            pattern.cloned().or_else(|| map.values().find_map(invalid_pattern))
        }
        // Maps from names to schemas, with any names.
        ("properties" | "$defs" | "definitions" | "dependentSchemas", Value::Object(map)) => {
            map.values().find_map(invalid_pattern)
        }
        // Data, not schemas.
        ("default" | "const" | "enum" | "examples", _) => None,
        (_, value) => invalid_pattern(value),
    })
}

fn is_ecmascript(pattern: &str) -> bool {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    let validator = VALIDATOR.get_or_init(|| {
        let options = jsonschema::options().should_validate_formats(true);
        options.build(&json!({ "format": "regex" })).expect("the schema compiles")
    });
    validator.is_valid(&json!(pattern))
}

/// Returns the caching hints of a result.
fn caching_of(result: &Value) -> Value {
    json!({ "ttlMs": result["ttlMs"], "cacheScope": result["cacheScope"] })
}

fn assert_golden(path: &Path, value: &Value) {
    let text = format!("{value:#}\n");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, &text).expect("the golden file can be written");
    }
    let golden = fs::read_to_string(path).unwrap_or_default();
    let differs = text.lines().zip(golden.lines()).enumerate().find(|(_, (now, before))| now != before);
    let path = path.display();
    assert!(
        text == golden,
        "{path} differs, first in {differs:?}; if the change is intended, run the test with UPDATE_GOLDEN=1"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_ecmascript_patterns_are_found_at_every_depth() {
        for pattern in ["(?i)abc", r"\Aabc\z", "(?P<name>a)", "[[:alpha:]]", "(?x) a", "a{2", "a++"] {
            for schema in [
                json!({ "pattern": pattern }),
                json!({ "properties": { "pattern": { "items": { "anyOf": [{ "pattern": pattern }] } } } }),
                json!({ "additionalProperties": { "patternProperties": { pattern: {} } } }),
                json!({ "patternProperties": { "^a": { "pattern": pattern } } }),
            ] {
                assert_eq!(invalid_pattern(&schema).as_deref(), Some(pattern), "{schema}");
            }
            for schema in [
                json!({ "default": { "pattern": pattern }, "enum": [{ "pattern": pattern }] }),
                json!({ "properties": { "patternProperties": { "description": pattern } } }),
            ] {
                assert_eq!(invalid_pattern(&schema), None, "{schema}");
            }
        }
        for pattern in [r"^\d{4}-\d\d$", "^(?:a|b)+$", r"^\p{L}+$", "^(?<name>a)(?=b)", "", r"^[\w.-]+$"] {
            assert_eq!(invalid_pattern(&json!({ "pattern": pattern })), None, "{pattern}");
        }
    }
}
