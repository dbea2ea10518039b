use mcp_server::{HandlerError, Json, NoArguments, Tool, ToolContext};
use serde::Serialize;

#[derive(Serialize)]
struct Uptime {
    seconds: u64,
}

async fn uptime(_: ToolContext<()>, _: NoArguments) -> Result<Json<Uptime>, HandlerError> {
    Ok(Json(Uptime { seconds: 42 }))
}

fn main() {
    let _ = Tool::new("uptime", uptime);
}
