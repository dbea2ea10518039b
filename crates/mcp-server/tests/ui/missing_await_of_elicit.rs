use garde::Validate;
use mcp_server::{Elicited, HandlerError, InteractiveContext, NoArguments, Tool};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Deserialize, JsonSchema, Validate)]
struct Confirmation {
    #[garde(skip)]
    delete: bool,
}

async fn clear(context: InteractiveContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
    match context.elicit::<Confirmation>("confirm", "This cannot be undone.") {
        Elicited::Accepted(Confirmation { delete: true }) => Ok("cleared"),
        _ => Ok("nothing was done"),
    }
}

fn main() {
    let _ = Tool::new("clear", clear);
}
