use mcp_server::{HandlerError, NoArguments, Tool, ToolContext};

async fn greet(context: ToolContext<Option<&'static str>>, _: NoArguments) -> Result<String, HandlerError> {
    let name = context.state().ok_or("there is no name")?;
    Ok(format!("Hello, {name}!"))
}

fn main() {
    let _ = Tool::new("greet", greet);
}
