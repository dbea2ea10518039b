use mcp_server::{HandlerError, InteractiveContext, NoArguments, Prompt, Tool};

struct State;

async fn clear(context: InteractiveContext<State>, _: NoArguments) -> Result<&'static str, HandlerError> {
    let _ = context.list_roots("roots").await;
    Ok("cleared")
}

async fn greet(_: InteractiveContext<State>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("Hello!")
}

fn main() {
    let _: Tool<State> = Tool::new("clear", clear);
    let _: Prompt<State> = Prompt::new("greet", greet);
}
