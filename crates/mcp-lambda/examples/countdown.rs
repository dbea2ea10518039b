//! A long-running tool that streams progress notifications:
//!
//! ```text
//! cargo build --package mcp-lambda --example countdown
//! cargo run --package function-url-emulator -- target/debug/examples/countdown \
//!   --invoke-mode response-stream --env MCP_INVOKE_MODE=stream
//! ```

use std::{process::ExitCode, time::Duration};

use garde::Validate;
use mcp_lambda::{HandlerError, HttpConfig, InitError, McpService, Server, Tool, ToolContext};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct CountdownArgs {
    /// Where to begin, 1 to 1,000.
    #[garde(range(min = 1, max = 1000))]
    from: u32,
}

async fn countdown(context: ToolContext<()>, args: CountdownArgs) -> Result<String, HandlerError> {
    for done in 1..=args.from {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let message = format!("{} to go", args.from - done);
        context.progress(done, args.from, Some(&message)).await;
    }
    Ok("Lift-off!".to_owned())
}

async fn service(config: HttpConfig) -> Result<McpService, InitError> {
    let tool = Tool::new("countdown", countdown).description("Counts down to 0.").read_only();
    McpService::new(Server::new("countdown", env!("CARGO_PKG_VERSION"), ()).tool(tool), config)
}

fn main() -> ExitCode {
    mcp_lambda::main(service)
}
