//! The HTML page of a server with authentication: it shows public information only.

use mcp_server::{HandlerError, NoArguments, Resource, Server, Tool, ToolContext};
use mcp_testing::{TestIssuer, exchange};

use super::{closed_server, read, server, service, whoami};
use crate::page::opened;

#[tokio::test]
async fn a_page_of_a_closed_server_has_only_its_name_and_issuers() {
    let issuer = TestIssuer::start().await;
    let closed = service(closed_server().instructions("s3cret"), &issuer, &[]);
    let denied = service(server().instructions("s3cret"), &issuer, &[("MCP_ANONYMOUS", "deny")]);
    for (service, name) in [(closed, "closed"), (denied, "guarded")] {
        let anonymous = exchange(&service, opened()).await;
        let known = exchange(&service, opened().bearer(&issuer.token(["admin"]))).await;

        assert_eq!(anonymous.status, 200);
        assert!(anonymous.body.contains(&format!("<h1>{name}</h1>")) && anonymous.body.contains("Sign-in required"));
        assert!(anonymous.body.contains("are listed after sign-in"));
        assert!(anonymous.body.contains(&format!("Clients sign in with <code>{}</code>", issuer.issuer())));
        for hidden in ["s3cret", "1.0.0", "<article", "<form", "events:write", "whoami"] {
            assert!(!anonymous.body.contains(hidden), "{hidden}");
        }
        assert_eq!(known.body, anonymous.body, "tokens are ignored");
    }
}

#[tokio::test]
async fn a_page_with_public_items_lists_items_and_marks_those_that_need_a_token() {
    async fn look(_: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
        Ok("")
    }
    let issuer = TestIssuer::start().await;
    let open = server().tool(Tool::new("look", look).public().read_only()).tool(Tool::new("peek", look).read_only());
    let service = service(open, &issuer, &[]);

    let page = exchange(&service, opened()).await.body;

    assert!(page.contains("Sign-in for some tools") && page.contains("version 1.0.0"));
    assert!(page.contains("both</code> <span class=\"tag\">sign-in: events:read events:write</span>"), "{page}");
    assert!(page.contains("closed</code> <span class=\"tag\">sign-in</span>"));
    assert_eq!(page.matches("<form").count(), 1, "only for public read-only tools");
    assert!(page.contains("data-tool=\"look\""));
}

#[tokio::test]
async fn a_server_with_closed_resources_is_not_shown_as_open() {
    let issuer = TestIssuer::start().await;
    for (resource, expected) in [
        (Resource::new("test://a", "a", read), "Sign-in for some prompts or resources"),
        (Resource::new("test://a", "a", read).public(), "No sign-in needed"),
    ] {
        let open = Server::new("open", "1.0.0", ()).tool(Tool::new("whoami", whoami).public()).resource(resource);

        let page = exchange(&service(open, &issuer, &[]), opened()).await.body;

        assert!(page.contains(expected), "{page}");
    }
}

#[tokio::test]
async fn disabled_access_rules_are_not_shown() {
    let config = mcp_lambda::HttpConfig {
        authentication: mcp_lambda::transport::Authentication::DangerouslyOff,
        state_key: Some(mcp_testing::state_key()),
        ..Default::default()
    };
    let service = mcp_lambda::McpService::new(server(), config).unwrap();

    let page = exchange(&service, opened()).await.body;

    assert!(page.contains("No sign-in needed") && !page.contains("sign-in: "));
}
