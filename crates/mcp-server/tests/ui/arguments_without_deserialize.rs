use garde::Validate;
use mcp_server::{HandlerError, Tool, ToolContext};
use schemars::JsonSchema;

#[derive(JsonSchema, Validate)]
struct GreetArgs {
    #[garde(length(chars, min = 1))]
    name: String,
}

async fn greet(_: ToolContext<()>, args: GreetArgs) -> Result<String, HandlerError> {
    Ok(args.name)
}

fn main() {
    let _ = Tool::new("greet", greet);
}
