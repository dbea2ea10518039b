use mcp_server::{NoArguments, Tool, HandlerError};

struct State;

async fn greet(_: State, _: NoArguments) -> Result<String, HandlerError> {
    Ok("Hello!".to_owned())
}

fn main() {
    let _: Tool<State> = Tool::new("greet", greet);
}
