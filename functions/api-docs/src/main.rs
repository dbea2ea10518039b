//! Lambda entry point. The server is built in `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_lambda::main(api_docs::service)
}
