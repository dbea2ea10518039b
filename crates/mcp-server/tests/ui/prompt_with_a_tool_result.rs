use mcp_server::{HandlerError, Json, NoArguments, Prompt, RequestContext};

async fn review(_: RequestContext<()>, _: NoArguments) -> Result<Json<u32>, HandlerError> {
    Ok(Json(1))
}

fn main() {
    let _ = Prompt::new("review", review);
}
