//! `mcpl`: use remote MCP servers from any client and from the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_cli::main()
}
