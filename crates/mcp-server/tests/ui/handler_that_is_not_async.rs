use mcp_server::{HandlerError, NoArguments, Tool, ToolContext};

fn greet(_: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    Ok("Hello!".to_owned())
}

fn main() {
    let _ = Tool::new("greet", greet);
}
