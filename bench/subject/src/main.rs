//! Benchmark function for large requests, streamed responses and many tools.

use std::process::ExitCode;

use garde::Validate;
use mcp_lambda::{Env, FromEnv, HandlerError, HttpConfig, InitError, McpService, Server, Tool, ToolContext};
use schemars::JsonSchema;
use serde::Deserialize;

const TOOLS: &str = "BENCH_TOOLS";
#[cfg(feature = "limits")]
const LIMIT: &str = "BENCH_LIMIT";

fn main() -> ExitCode {
    mcp_lambda::main(service)
}

struct Config {
    http: HttpConfig,
    /// `BENCH_TOOLS`: number of greeting tools; if set, there are no other tools.
    tools: Option<usize>,
    /// `BENCH_LIMIT`: requests of a caller in an hour, leased from a store.
    #[cfg(feature = "limits")]
    limit: Option<u32>,
}

impl FromEnv for Config {
    fn from_env(env: &Env) -> Result<Self, InitError> {
        let number = |text: &str| text.parse().map_err(|_| InitError::setting(TOOLS, "a number", text));
        Ok(Self {
            http: HttpConfig::from_env(env)?,
            tools: env.get(TOOLS).map(number).transpose()?,
            #[cfg(feature = "limits")]
            limit: env
                .get(LIMIT)
                .map(|text| text.parse().map_err(|_| InitError::setting(LIMIT, "a number", text)))
                .transpose()?,
        })
    }
}

async fn service(config: Config) -> Result<McpService, InitError> {
    let tools = match config.tools {
        Some(count) => (1..=count).map(greeting).collect(),
        None => vec![
            Tool::new("measure", measure).description("Returns the length of a text.").read_only(),
            Tool::new("report", report).description("Reports progress.").read_only(),
        ],
    };
    let server = Server::new("bench-subject", env!("CARGO_PKG_VERSION"), ());
    #[cfg(feature = "limits")]
    let server = match config.limit {
        Some(limit) => server
            .limit(mcp_lambda::RateLimit::per_caller(limit, std::time::Duration::from_secs(3600)))
            .store(mcp_lambda::store::MemoryStore::new()),
        None => server,
    };
    McpService::new(tools.into_iter().fold(server, Server::tool), config.http)
}

/// Creates a copy of greeter's tool, so that only the number of tools differs.
fn greeting(number: usize) -> Tool<()> {
    Tool::new(format!("greeting_{number}"), greet)
        .title("Personalized greeting")
        .description("Generates a friendly greeting for a name. Use it when asked to greet someone.")
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct GreetingArgs {
    /// Name of the person to greet; 1 to 100 characters.
    #[garde(length(chars, min = 1, max = 100))]
    name: String,
}

async fn greet(_: ToolContext<()>, args: GreetingArgs) -> Result<String, HandlerError> {
    Ok(format!("Hello, {}! Welcome to the serverless MCP world.", args.name))
}

#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct MeasureArgs {
    /// Any text.
    #[garde(skip)]
    text: String,
}

async fn measure(_: ToolContext<()>, args: MeasureArgs) -> Result<String, HandlerError> {
    Ok(format!("{} bytes", args.text.len()))
}

#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct ReportArgs {
    /// Number of progress notifications.
    #[garde(skip)]
    times: u32,
}

async fn report(context: ToolContext<()>, args: ReportArgs) -> Result<&'static str, HandlerError> {
    for done in 1..=args.times {
        context.progress(done, args.times, None).await;
        // Yields like a tool that awaits other work, so that sent notifications are flushed.
        let _ = tokio::spawn(std::future::ready(())).await;
    }
    Ok("Hello, Ada!")
}
