use mcp_server::{HandlerError, NoArguments, Server, Tool, ToolContext};

struct State;

async fn greet(_: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    Ok("Hello!".to_owned())
}

fn main() {
    let _ = Server::new("greeter", "0.1.0", State).tool(Tool::new("greet", greet));
}
