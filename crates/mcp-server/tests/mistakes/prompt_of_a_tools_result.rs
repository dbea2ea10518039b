use mcp_server::{Json, NoArguments, Prompt, RequestContext, RequestError};

async fn review(_: RequestContext<()>, _: NoArguments) -> Result<Json<u32>, RequestError> {
    Ok(Json(1))
}

fn main() {
    let _ = Prompt::new("review", review);
}
