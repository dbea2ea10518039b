use mcp_server::{NoArguments, Tool, ToolContext};

async fn greet(_: ToolContext<()>, _: NoArguments) -> String {
    "Hello!".to_owned()
}

fn main() {
    let _ = Tool::new("greet", greet);
}
