use mcp_server::{RequestContext, RequestError, Resource};

struct Terms;

async fn terms(_: RequestContext<()>) -> Result<Terms, RequestError> {
    Ok(Terms)
}

fn main() {
    let _ = Resource::new("docs://terms", "terms", terms);
}
