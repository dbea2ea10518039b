use mcp_server::{Json, NoArguments, Prompt, RequestContext, HandlerError};

async fn review(_: RequestContext<()>, _: NoArguments) -> Result<Json<u32>, HandlerError> {
    Ok(Json(1))
}

fn main() {
    let _ = Prompt::new("review", review);
}
