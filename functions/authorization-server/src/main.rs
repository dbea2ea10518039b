//! Lambda entry point; the server is in `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_lambda::main_with_schema(authorization_server::service, &authorization_server::SCHEMA)
}
