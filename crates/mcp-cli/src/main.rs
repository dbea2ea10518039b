//! `mcpl`: connects clients that speak stdio to MCP servers behind Function URLs.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_cli::main()
}
