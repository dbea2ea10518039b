use mcp_server::{HandlerError, RequestContext, Resource};

struct Terms;

async fn terms(_: RequestContext<()>) -> Result<Terms, HandlerError> {
    Ok(Terms)
}

fn main() {
    let _ = Resource::new("docs://terms", "terms", terms);
}
