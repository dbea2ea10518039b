use mcp_server::{HandlerError, NoArguments, Tool, ToolContext};

struct State;

async fn greet(_: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    Ok("Hello!".to_owned())
}

fn tool() -> Tool<State> {
    Tool::new("greet", greet)
}

fn main() {
    let _ = tool();
}
