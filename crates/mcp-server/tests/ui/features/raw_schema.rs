use mcp_protocol::JsonObject;
use mcp_server::{HandlerError, Tool, ToolContext};
use serde_json::json;

async fn find_route(_: ToolContext<()>, _: JsonObject) -> Result<String, HandlerError> {
    Ok("no stops".to_owned())
}

fn main() {
    let _: Tool<()> = Tool::raw("find_route", json!({ "type": "object" }), find_route);
}
