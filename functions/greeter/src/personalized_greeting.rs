//! The `personalized_greeting` tool: greets one person by name.

use garde::Validate;
use mcp_lambda::{HandlerError, Tool, ToolContext};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::State;

pub(crate) fn tool() -> Tool<State> {
    Tool::new("personalized_greeting", personalized_greeting)
        .title("Personalized greeting")
        .description("Generates a friendly greeting for a name. Use it when asked to greet someone.")
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct GreetingArgs {
    /// Name of the person to greet; 1 to 100 characters.
    #[garde(length(chars, min = 1, max = 100))]
    name: String,
}

async fn personalized_greeting(_: ToolContext<State>, args: GreetingArgs) -> Result<String, HandlerError> {
    Ok(format!("Hello, {}! Welcome to the serverless MCP world.", args.name))
}

#[cfg(test)]
mod tests {
    use mcp_testing::TestCall;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn greets_by_name() {
        let reply = TestCall::new(tool()).state(State).arguments(json!({ "name": "Ada" })).await;

        assert_eq!(reply.text(), "Hello, Ada! Welcome to the serverless MCP world.");
    }
}
