//! Whether a tool enforces the bounds that its schema shows, from both sides of each bound.

use mcp_lambda::McpService;
use serde_json::{Value, json};

use crate::{exchange, tools_call, tools_list};

/// Tries each bound on a top-level parameter of `tool` (`minLength`, `maxLength`, `minimum`, `maximum`) at the bound
/// and one beyond it, strings in letters of several bytes, and panics where the tool and its schema disagree. The other
/// arguments are taken from `valid`, a call that the tool accepts. Returns the number of bounds it found.
///
/// # Panics
///
/// When schema and tool disagree.
pub async fn assert_enforced(service: &McpService, tool: &str, valid: &Value) -> usize {
    let list = exchange(service, tools_list()).await;
    let tools = list.result()["tools"].as_array().expect("tools").clone();
    let definition = tools.iter().find(|definition| definition["name"] == tool).expect("the tool is listed");
    let schema = &definition["inputSchema"];
    let validator = jsonschema::draft202012::new(schema).expect("the input schema compiles");
    let mut bounds = 0;
    for (name, property) in schema["properties"].as_object().expect("properties") {
        for keyword in ["minLength", "maxLength", "minimum", "maximum"] {
            let Some(bound) = property.get(keyword).and_then(Value::as_i64) else {
                continue;
            };
            bounds += 1;
            for number in [bound - 1, bound, bound + 1] {
                let value = match keyword {
                    "minLength" | "maxLength" => match usize::try_from(number) {
                        Ok(length) => json!("é".repeat(length)),
                        Err(_) => continue,
                    },
                    _ => json!(number),
                };
                let mut arguments = valid.clone();
                arguments[name] = value;
                let allowed = validator.is_valid(&arguments);
                let result = exchange(service, tools_call(tool, arguments)).await.tool_result();
                let accepted = result.is_error != Some(true);
                assert_eq!(
                    accepted,
                    allowed,
                    "`{tool}`: {keyword} {bound} of `{name}` at {number}: the schema says {allowed}; {}",
                    result.text()
                );
            }
        }
    }
    bounds
}
