use mcp_server::{NoArguments, Tool, ToolContext, HandlerError};

fn greet(_: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    Ok("Hello!".to_owned())
}

fn main() {
    let _ = Tool::new("greet", greet);
}
