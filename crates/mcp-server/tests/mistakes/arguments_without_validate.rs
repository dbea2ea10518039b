use mcp_server::{Tool, ToolContext, ToolError};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Deserialize, JsonSchema)]
struct GreetArgs {
    name: String,
}

async fn greet(_: ToolContext<()>, args: GreetArgs) -> Result<String, ToolError> {
    Ok(args.name)
}

fn main() {
    let _ = Tool::new("greet", greet);
}
