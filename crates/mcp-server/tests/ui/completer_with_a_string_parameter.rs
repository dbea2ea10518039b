use garde::Validate;
use mcp_server::{HandlerError, Prompt, RequestContext};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Deserialize, JsonSchema, Validate)]
struct ReviewArgs {
    #[garde(range(min = 1, max = 5))]
    strictness: u8,
}

async fn review(_: RequestContext<()>, args: ReviewArgs) -> Result<String, HandlerError> {
    Ok(format!("Review this code, strictness {} of 5.", args.strictness))
}

async fn strictness(_: RequestContext<()>, typed: String) -> Result<Vec<String>, HandlerError> {
    Ok(vec![typed])
}

fn main() {
    let _ = Prompt::new("review", review).complete("strictness", strictness);
}
