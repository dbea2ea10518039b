//! Lambda entry point; everything worth reading is in `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_lambda::main(api_docs::service)
}
