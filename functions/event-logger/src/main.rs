//! Lambda entry point; the server is in `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_lambda::main_with_schema(event_logger::service, &event_logger::SCHEMA)
}
