use mcp_server::{NoArguments, Tool, ToolError};

struct State;

async fn greet(_: State, _: NoArguments) -> Result<String, ToolError> {
    Ok("Hello!".to_owned())
}

fn main() {
    let _: Tool<State> = Tool::new("greet", greet);
}
