use mcp_server::{HandlerError, NoArguments, Tool};

struct State;

async fn greet(_: State, _: NoArguments) -> Result<String, HandlerError> {
    Ok("Hello!".to_owned())
}

fn main() {
    let _: Tool<State> = Tool::new("greet", greet);
}
