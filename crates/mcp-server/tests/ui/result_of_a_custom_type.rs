use mcp_server::{HandlerError, NoArguments, Tool, ToolContext};
use schemars::JsonSchema;
use serde::Serialize;

#[derive(Serialize, JsonSchema)]
struct Uptime {
    seconds: u64,
}

async fn uptime(_: ToolContext<()>, _: NoArguments) -> Result<Uptime, HandlerError> {
    Ok(Uptime { seconds: 42 })
}

fn main() {
    let _ = Tool::new("uptime", uptime);
}
