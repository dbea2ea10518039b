use mcp_server::{HandlerError, Tool, ToolContext};

async fn greet(_: ToolContext<()>) -> Result<String, HandlerError> {
    Ok("Hello!".to_owned())
}

fn main() {
    let _ = Tool::new("greet", greet);
}
