use mcp_server::{Tool, ToolContext, ToolError};

async fn greet(_: ToolContext<()>) -> Result<String, ToolError> {
    Ok("Hello!".to_owned())
}

fn main() {
    let _ = Tool::new("greet", greet);
}
