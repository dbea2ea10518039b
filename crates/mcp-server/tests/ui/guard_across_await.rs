use std::sync::Mutex;

use mcp_server::{HandlerError, NoArguments, Tool, ToolContext};

async fn count(context: ToolContext<Mutex<u64>>, _: NoArguments) -> Result<String, HandlerError> {
    let mut count = context.state().lock().unwrap();
    context.progress(1, None, None).await;
    *count += 1;
    Ok(count.to_string())
}

fn main() {
    let _ = Tool::new("count", count);
}
