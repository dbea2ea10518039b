//! The `greeter://guide` resource: instructions for people and models.

use std::time::Duration;

use mcp_lambda::{Caching, HandlerError, RequestContext, Resource};

use crate::State;

pub(crate) fn resource() -> Resource<State> {
    Resource::new("greeter://guide", "guide", guide)
        .title("Guide")
        .description("What the greeter can do, and how to ask for it.")
        .mime_type("text/markdown")
        // The text changes only with a deployment, and is the same for every caller.
        .caching(Caching::public(Duration::from_secs(300)))
}

async fn guide(_: RequestContext<State>) -> Result<&'static str, HandlerError> {
    Ok(include_str!("guide.md"))
}
