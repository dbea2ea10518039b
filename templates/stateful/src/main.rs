//! Lambda entry point. The server is built in `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_lambda::main({{ project_name | replace: "-", "_" }}::service)
}
