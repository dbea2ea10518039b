//! Whether a tool enforces the bounds that its schema shows, from both sides of each bound.

use mcp_lambda::McpService;
use serde_json::{Value, json};

use crate::{exchange, tools_call, tools_list};

/// What a model reads about arguments that do not fit their schema.
const REFUSED: &str = "invalid arguments";

/// Tries each bound on a top-level parameter of `tool` (`minLength`, `maxLength`, `minimum`, `maximum`) at the bound
/// and one beyond it, strings in letters of several bytes, and panics where the tool and its schema disagree. The other
/// arguments are taken from `valid`, a call that the tool accepts. Returns the number of bounds it found.
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
/// What a handler says of a value that is within its bounds, such as a name that nobody has, counts as no disagreement.
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
        // An optional parameter has its bounds in an alternative to `null`.
        let alternatives = property["anyOf"].as_array().into_iter().flatten();
        let schemas = [property].into_iter().chain(alternatives);
        let keywords = ["minLength", "maxLength", "minimum", "maximum"];
        for (keyword, bound) in schemas.flat_map(|schema| keywords.map(|keyword| (keyword, &schema[keyword]))) {
            let Some(bound) = bound.as_i64() else { continue };
            bounds += 1;
            for number in [bound - 1, bound, bound + 1] {
                let is_base64 = schema_of(property)["contentEncoding"] == "base64";
                let value = match keyword {
                    // The longest text is padded, so that a shorter one may hold more bytes.
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
                let accepted = !(result.is_error == Some(true) && result.text().starts_with(REFUSED));
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

/// The alternative of an optional property that is a string, or the property.
fn schema_of(property: &Value) -> &Value {
    let mut alternatives = property["anyOf"].as_array().into_iter().flatten();
    alternatives.find(|own| own["type"] == "string").unwrap_or(property)
}

/// Base64 of so many characters, with as much padding as there can be.
fn base64_of(chars: i64) -> String {
    let chars = usize::try_from(chars).unwrap_or_default();
    format!("{}==", "A".repeat(chars.saturating_sub(2)))
}
