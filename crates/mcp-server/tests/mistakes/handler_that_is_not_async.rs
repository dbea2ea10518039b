use mcp_server::{NoArguments, Tool, ToolContext, ToolError};

fn greet(_: ToolContext<()>, _: NoArguments) -> Result<String, ToolError> {
    Ok("Hello!".to_owned())
}

fn main() {
    let _ = Tool::new("greet", greet);
}
