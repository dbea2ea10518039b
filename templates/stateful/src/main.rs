//! Lambda entry point. The server is built in `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_lambda::main_with_schema({{ project_name | replace: "-", "_" }}::service, &{{ project_name | replace: "-", "_" }}::SCHEMA)
}
