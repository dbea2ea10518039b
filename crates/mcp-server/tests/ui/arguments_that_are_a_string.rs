use mcp_server::{HandlerError, Tool, ToolContext};

async fn greet(_: ToolContext<()>, name: String) -> Result<String, HandlerError> {
    Ok(name)
}

fn main() {
    let _ = Tool::new("greet", greet);
}
