//! Authorization: which callers may use which items, and how other callers are rejected.

mod challenges;
mod handler_scopes;
mod keys;
mod page;
mod policy;
mod regressions;
#[cfg(feature = "token-exchange")]
mod token_exchange;
mod tokens;

use garde::Validate;
use mcp_lambda::{Env, FromEnv, HttpConfig, McpService};
use mcp_server::{
    Caching, HandlerError, InteractiveContext, NoArguments, Prompt, RequestContext, Resource, ResourceTemplate, Server,
    Tool, ToolContext,
};
use mcp_testing::TestIssuer;
use schemars::JsonSchema;
use serde::Deserialize;

pub(super) const STATE_KEY: &str = "dGVzdHMgYW5kIG5vdGhpbmcgYnV0IHRlc3RzIDEyMzQ=";

/// A server with a public item, an item for authenticated callers, and one that needs a scope, of every kind.
pub(super) fn server() -> Server<()> {
    Server::new("guarded", "1.0.0", ())
        .scope_includes("admin", ["events:read", "events:write"])
        .tool(Tool::new("open", whoami).public())
        .tool(Tool::new("closed", whoami))
        .tool(Tool::new("write", whoami).require_scope("events:write"))
        .tool(Tool::new("both", whoami).require_scope("events:read").require_scope("events:write"))
        .tool(Tool::new("staff", whoami).require_claim("department", "staff"))
        .tool(Tool::new("asks", asks).require_scope("events:write"))
        .prompt(Prompt::new("open_prompt", prompt).public().complete("word", complete))
        .prompt(Prompt::new("write_prompt", prompt).require_scope("events:write").complete("word", complete))
        .resource(Resource::new("test://open", "open", read).public().caching(Caching::public(HOUR)))
        .resource(
            Resource::new("test://read", "read", read).require_scope("events:read").caching(Caching::public(HOUR)),
        )
        .resource_template(
            ResourceTemplate::new("item://{id}", "item", read_item)
                .require_scope("events:read")
                .complete("id", complete),
        )
}

/// The same without public items.
pub(super) fn closed_server() -> Server<()> {
    Server::new("closed", "1.0.0", ())
        .tool(Tool::new("closed", whoami))
        .tool(Tool::new("asks", asks).require_scope("events:write"))
}

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

/// A service that trusts an issuer, with further variables.
pub(super) fn service(server: Server<()>, issuer: &TestIssuer, more: &[(&str, &str)]) -> McpService {
    let mut pairs = issuer.variables();
    pairs.push(("MCP_STATE_KEY".to_owned(), STATE_KEY.to_owned()));
    pairs.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    McpService::new(server, HttpConfig::from_env(&Env::from_pairs(pairs)).unwrap()).unwrap()
}

/// All properties of the caller in the context, as JSON.
async fn whoami(context: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    let Some(caller) = context.principal() else {
        return Ok("nobody".to_owned());
    };
    Ok(serde_json::json!({
        "issuer": caller.issuer,
        "subject": caller.subject,
        "email": caller.email,
        "email_verified": caller.email_verified,
        "name": caller.name,
        "scopes": caller.scopes,
        "client_id": caller.client_id,
        "tenant": caller.tenant,
        "groups": caller.groups,
        "roles": caller.roles,
        "may_read": context.has_scope("events:read"),
    })
    .to_string())
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct Answer {
    #[garde(skip)]
    word: String,
}

async fn asks(context: InteractiveContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    Ok(context.elicit::<Answer>("word", "Say something.").await.accepted().map_or_else(String::new, |own| own.word))
}

async fn prompt(_: RequestContext<()>, args: Answer) -> Result<String, HandlerError> {
    Ok(args.word)
}

async fn complete(_: RequestContext<()>, _: mcp_server::PartialArgument) -> Result<Vec<String>, HandlerError> {
    Ok(vec!["secret".to_owned()])
}

async fn read(_: RequestContext<()>) -> Result<&'static str, HandlerError> {
    Ok("contents")
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct ItemUri {
    #[garde(skip)]
    id: u64,
}

async fn read_item(_: RequestContext<()>, uri: ItemUri) -> Result<String, HandlerError> {
    Ok(uri.id.to_string())
}
