//! Boundary tests: checks that a tool enforces the bounds of its input schema.

use mcp_lambda::McpService;
use serde_json::{Value, json};

use crate::{exchange, tools_call, tools_list};

/// Start of the error for arguments that violate the schema.
const INVALID_ARGUMENTS: &str = "invalid arguments";

/// Asserts that `tool` enforces each bound of its top-level parameters (`minLength`, `maxLength`, `minimum`,
/// `maximum`). Values at the bound and one step beyond it are sent; strings consist of multi-byte characters. The other
/// arguments are those of `valid`, which the tool must accept. Returns the number of bounds.
///
/// ```
/// use garde::Validate;
/// use mcp_lambda::{HttpConfig, McpService};
/// use mcp_server::{Server, Tool, ToolContext, HandlerError};
/// use mcp_testing::bounds;
/// use schemars::JsonSchema;
/// use serde_json::json;
///
/// #[derive(serde::Deserialize, JsonSchema, Validate)]
/// struct GreetArgs {
///     #[garde(length(chars, min = 1, max = 20))]
///     name: String,
/// }
///
/// async fn greet(_: ToolContext<()>, args: GreetArgs) -> Result<String, HandlerError> {
///     Ok(format!("Hello, {}!", args.name))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let server = Server::new("greeter", "0.1.0", ()).tool(Tool::new("greet", greet));
/// let service = McpService::new(server, HttpConfig::default()).unwrap();
///
/// assert_eq!(bounds::assert_enforced(&service, "greet", &json!({ "name": "Ada" })).await, 2);
/// # }
/// ```
///
/// Errors of the handler for a value within its bounds, such as an unknown name, are accepted.
///
/// # Panics
///
/// Panics if the tool accepts a value that the schema rejects, or rejects a value that the schema accepts.
pub async fn assert_enforced(service: &McpService, tool: &str, valid: &Value) -> usize {
    let list = exchange(service, tools_list()).await;
    let tools = list.result()["tools"].as_array().expect("tools").clone();
    let definition = tools.iter().find(|definition| definition["name"] == tool).expect("the tool is listed");
    let schema = &definition["inputSchema"];
    let validator = jsonschema::draft202012::new(schema).expect("the input schema compiles");
    let mut bounds = 0;
    for (name, property) in schema["properties"].as_object().expect("properties") {
        // The bounds of an optional parameter are in the alternative to `null`.
        let alternatives = property["anyOf"].as_array().into_iter().flatten();
        let schemas = [property].into_iter().chain(alternatives);
        let keywords = ["minLength", "maxLength", "minimum", "maximum"];
        for (keyword, bound) in schemas.flat_map(|schema| keywords.map(|keyword| (keyword, &schema[keyword]))) {
            let Some(bound) = bound.as_i64() else { continue };
            bounds += 1;
            for number in [bound - 1, bound, bound + 1] {
                let is_base64 = schema_of(property)["contentEncoding"] == "base64";
                let value = match keyword {
                    // The longest text has padding, so a shorter text could encode more bytes.
                    "maxLength" if is_base64 && number < bound => continue,
                    "maxLength" if is_base64 => json!(base64_of(number)),
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
                let accepted = !(result.is_error == Some(true) && result.text().starts_with(INVALID_ARGUMENTS));
                assert_eq!(
                    accepted,
                    allowed,
                    "`{tool}`: {keyword} {bound} of `{name}` at {number}: accepted by the schema: {allowed}; {}",
                    result.text()
                );
            }
        }
    }
    bounds
}

/// Returns the string alternative of an optional property, or the property itself.
fn schema_of(property: &Value) -> &Value {
    let mut alternatives = property["anyOf"].as_array().into_iter().flatten();
    alternatives.find(|own| own["type"] == "string").unwrap_or(property)
}

/// Returns Base64 text of `chars` characters with maximum padding.
fn base64_of(chars: i64) -> String {
    let chars = usize::try_from(chars).unwrap_or_default();
    format!("{}==", "A".repeat(chars.saturating_sub(2)))
}
