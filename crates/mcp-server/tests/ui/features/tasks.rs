use std::time::Duration;

use mcp_server::{HandlerError, NoArguments, Task, Tool, ToolContext};

async fn export(_: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("")
}

fn main() {
    let _ = Tool::new("export", export).task(Task::ttl(Duration::from_secs(60)));
}
