use mcp_server::{NoArguments, Tool, ToolContext, HandlerError};

async fn read(_: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    let text = std::fs::read_to_string("/etc/hostname")?;
    Ok(text)
}

fn main() {
    let _ = Tool::new("read", read);
}
