//! One server in versions that `VERSION` selects, for the tests of deployments during which two versions serve requests
//! (`tests/interop/test_two_versions.py`):
//!
//! | `VERSION` | Changes since `old` |
//! | --- | --- |
//! | `new` | compatible ones: an optional argument, a member of a result, a tool, wording |
//! | `narrowed` | breaking: a required argument |
//! | `removed` | breaking: a result without a member |

use std::{env, process::ExitCode};

use garde::Validate;
use mcp_lambda::{HandlerError, HttpConfig, InitError, Json, McpService, Server, Tool, ToolContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const FEET_IN_A_METER: f64 = 3.28084;

#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct OldArgs {
    /// Length in meters.
    #[garde(skip)]
    meters: f64,
}

#[derive(Serialize, JsonSchema)]
struct OldLength {
    /// The same length in feet.
    feet: f64,
}

async fn old(_: ToolContext<()>, args: OldArgs) -> Result<Json<OldLength>, HandlerError> {
    Ok(Json(OldLength { feet: args.meters * FEET_IN_A_METER }))
}

#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct NewArgs {
    /// Length in meters, such as 1.5.
    #[garde(skip)]
    meters: f64,
    /// Digits after the point, 0 to 9; 5 unless given.
    #[garde(range(max = 9))]
    digits: Option<u8>,
}

#[derive(Serialize, JsonSchema)]
struct NewLength {
    /// The same length in feet.
    feet: f64,
    /// The same length in inches.
    #[serde(skip_serializing_if = "Option::is_none")]
    inches: Option<f64>,
}

async fn new(_: ToolContext<()>, args: NewArgs) -> Result<Json<NewLength>, HandlerError> {
    let scale = 10_f64.powi(i32::from(args.digits.unwrap_or(5)));
    let feet = (args.meters * FEET_IN_A_METER * scale).round() / scale;
    Ok(Json(NewLength { feet, inches: Some(12.0 * feet) }))
}

#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct NoArgs {}

async fn list_units(_: ToolContext<()>, _: NoArgs) -> Result<String, HandlerError> {
    Ok("meters, feet, inches".to_owned())
}

#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct NarrowedArgs {
    /// Length in meters.
    #[garde(skip)]
    meters: f64,
    /// Digits after the point, 0 to 9.
    #[garde(range(max = 9))]
    digits: u8,
}

async fn narrowed(context: ToolContext<()>, args: NarrowedArgs) -> Result<Json<NewLength>, HandlerError> {
    new(context, NewArgs { meters: args.meters, digits: Some(args.digits) }).await
}

#[derive(Serialize, JsonSchema)]
struct Inches {
    /// The same length in inches.
    inches: f64,
}

async fn removed(_: ToolContext<()>, args: OldArgs) -> Result<Json<Inches>, HandlerError> {
    Ok(Json(Inches { inches: 12.0 * args.meters * FEET_IN_A_METER }))
}

async fn service(config: HttpConfig) -> Result<McpService, InitError> {
    let server = |tool: Tool<()>| {
        let description = "Converts a length from meters.";
        Server::new("lengths", env!("CARGO_PKG_VERSION"), ()).tool(tool.description(description).read_only())
    };
    let server = match env::var("VERSION").as_deref() {
        Ok("old") => server(Tool::new("convert", old)),
        Ok("new") => {
            let tool = Tool::new("list_units", list_units).description("Lists the units.").read_only();
            server(Tool::new("convert", new)).tool(tool).instructions("Converts lengths.")
        }
        Ok("narrowed") => server(Tool::new("convert", narrowed)),
        Ok("removed") => server(Tool::new("convert", removed)),
        other => return Err(InitError::new(format!("VERSION is no version: {other:?}"))),
    };
    McpService::new(server, config)
}

fn main() -> ExitCode {
    mcp_lambda::main(service)
}
