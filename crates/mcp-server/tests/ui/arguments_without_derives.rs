use mcp_server::{HandlerError, Tool, ToolContext};

struct GreetArgs {
    name: String,
}

async fn greet(_: ToolContext<()>, args: GreetArgs) -> Result<String, HandlerError> {
    Ok(args.name)
}

fn main() {
    let _ = Tool::new("greet", greet);
}
