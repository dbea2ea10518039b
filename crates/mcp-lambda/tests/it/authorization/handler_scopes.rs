//! Scopes that a handler needs for some arguments, before and after its first notification.

use garde::Validate;
use http_body_util::BodyExt;
use mcp_lambda::McpService;
use mcp_protocol::{LoggingLevel, ProtocolVersion};
use mcp_server::{
    HandlerError, NoArguments, Prompt, RequestContext, Resource, ResourceTemplate, Server, Tool, ToolContext,
};
use mcp_testing::{McpRequest, Reply, TestIssuer, exchange, prompts_get, resources_read, tools_call};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::service;
use crate::common::capture_logs;

const STREAM: (&str, &str) = ("MCP_INVOKE_MODE", "stream");

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct PurgeArgs {
    /// Whether to send a log message first.
    #[serde(default)]
    after_message: bool,
}

async fn purge(context: ToolContext<()>, args: PurgeArgs) -> Result<String, HandlerError> {
    permit(&context, args.after_message).await
}

async fn prompt(context: RequestContext<()>, args: PurgeArgs) -> Result<String, HandlerError> {
    permit(&context, args.after_message).await
}

async fn read(context: RequestContext<()>) -> Result<String, HandlerError> {
    permit(&context, false).await
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct PurgeUri {
    after_message: bool,
}

async fn read_template(context: RequestContext<()>, uri: PurgeUri) -> Result<String, HandlerError> {
    permit(&context, uri.after_message).await
}

async fn permit(context: &RequestContext<()>, after_message: bool) -> Result<String, HandlerError> {
    if after_message {
        context.log(LoggingLevel::Info, None, "at work").await;
        // The response becomes a stream when the handler awaits.
        tokio::task::yield_now().await;
    }
    match context.has_scope("events:purge") {
        true => Ok("purged".to_owned()),
        false => Err(HandlerError::needs_scope("events:purge")),
    }
}

async fn demands_more(_: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    Err(HandlerError::needs_scopes(["events:read"]))
}

fn server() -> Server<()> {
    Server::new("guarded", "1.0.0", ())
        .scope_includes("admin", ["events:read", "events:purge"])
        .tool(Tool::new("purge", purge).require_scope("events:read"))
        .tool(Tool::new("open_purge", purge).public())
        .tool(Tool::new("demands_more", demands_more).require_scope("events:read"))
        .prompt(Prompt::new("purge", prompt).require_scope("events:read"))
        .resource(Resource::new("test://purge", "purge", read).require_scope("events:read"))
        .resource_template(
            ResourceTemplate::new("purge://{after_message}", "purge", read_template).require_scope("events:read"),
        )
}

fn is_challenge(challenge: &str) -> bool {
    challenge.starts_with("Bearer resource_metadata=")
        && challenge.contains("error=\"insufficient_scope\"")
        && challenge.contains("scope=\"events:read events:purge\"")
}

/// A request for each kind of item, with or without a log message before the scope error.
fn requests(after_message: bool) -> [McpRequest; 3] {
    let arguments = || json!({ "after_message": after_message });
    let as_text = json!({ "after_message": after_message.to_string() });
    [
        tools_call("purge", arguments()),
        prompts_get("purge", as_text),
        resources_read(&format!("purge://{after_message}")),
    ]
    .map(|request| request.log_level("info"))
}

async fn streamed(service: &McpService, request: McpRequest) -> Reply {
    let mut http = request.clone().into_http();
    http.extensions_mut().insert(mcp_lambda::transport::Transport {
        source: mcp_lambda::transport::EventSource::FunctionUrl,
        domain_name: Some("abcdefghij.lambda-url.eu-west-1.on.aws".to_owned()),
        iam: None,
    });
    let response = service.clone().oneshot(http).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Reply::read(&request, parts.status, parts.headers, &body)
}

#[tokio::test]
async fn a_scope_error_before_notifications_is_a_403_with_a_challenge() {
    let issuer = TestIssuer::start().await;
    let (token, admin) = (issuer.token(["events:read"]), issuer.token(["admin"]));
    for variables in [&[][..], &[STREAM]] {
        let service = service(server(), &issuer, variables);
        for revision in ProtocolVersion::ALL {
            for request in requests(false).map(|request| request.revision(revision)) {
                let rejected = streamed(&service, request.clone().bearer(&token)).await;
                let permitted = streamed(&service, request.bearer(&admin)).await;

                assert_eq!(rejected.status_and_code(), (403, 403), "{}", rejected.body);
                assert!(is_challenge(rejected.headers["www-authenticate"].to_str().unwrap()), "{:?}", rejected.headers);
                let in_data = &rejected.response()["error"]["data"]["mcp/www_authenticate"][0];
                assert!(is_challenge(in_data.as_str().unwrap()), "{}", rejected.body);
                assert_eq!(permitted.status, 200);
                assert!(permitted.body.contains("purged"), "{}", permitted.body);
            }
        }
    }
}

#[tokio::test]
async fn a_scope_error_after_notifications_is_a_tool_result_with_the_challenge() {
    let issuer = TestIssuer::start().await;
    let token = issuer.token(["events:read"]);
    for variables in [&[][..], &[STREAM]] {
        let service = service(server(), &issuer, variables);
        let [tool, ..] = requests(true);

        let reply = streamed(&service, tool.bearer(&token)).await;

        assert_eq!((reply.status.as_u16(), reply.messages.len()), (200, 2), "{}", reply.body);
        assert_eq!(reply.result()["isError"], true);
        assert!(is_challenge(reply.result()["_meta"]["mcp/www_authenticate"][0].as_str().unwrap()), "{}", reply.body);
    }
}

#[tokio::test]
async fn a_scope_error_of_other_methods_has_the_challenge_in_its_error() {
    let issuer = TestIssuer::start().await;
    let token = issuer.token(["events:read"]);
    let (whole, stream) = (service(server(), &issuer, &[]), service(server(), &issuer, &[STREAM]));
    let [_, prompt, resource] = requests(true);
    for request in [prompt, resource] {
        let rejected = streamed(&whole, request.clone().bearer(&token)).await;
        let too_late = streamed(&stream, request.bearer(&token)).await;

        assert_eq!(rejected.status_and_code(), (403, 403), "nothing has been sent yet");
        assert!(rejected.headers.contains_key("www-authenticate"));
        assert_eq!((too_late.status_and_code(), too_late.messages.len()), ((200, 403), 2), "{}", too_late.body);
        let in_data = &too_late.response()["error"]["data"]["mcp/www_authenticate"][0];
        assert!(is_challenge(in_data.as_str().unwrap()), "{}", too_late.body);
    }
    let resource = exchange(&whole, resources_read("test://purge").bearer(&token)).await;
    assert_eq!(resource.status_and_code(), (403, 403));
}

#[tokio::test]
async fn an_anonymous_caller_of_a_public_tool_is_challenged_for_a_token() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);

    let reply = exchange(&service, tools_call("open_purge", json!({}))).await;

    assert_eq!(reply.status_and_code(), (401, 401));
    let challenge = reply.headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("scope=\"events:purge\"") && !challenge.contains("error="), "{challenge}");
}

#[tokio::test]
async fn a_client_that_reads_results_gets_the_challenge_there() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[("MCP_CHALLENGE", "result")]);
    let token = issuer.token(["events:read"]);

    let reply = exchange(&service, tools_call("purge", json!({})).bearer(&token)).await;

    assert_eq!((reply.status.as_u16(), &reply.result()["isError"]), (200, &json!(true)));
    assert!(is_challenge(reply.result()["_meta"]["mcp/www_authenticate"][0].as_str().unwrap()), "{}", reply.body);
}

#[tokio::test]
async fn in_a_batch_each_authorization_error_is_in_its_own_response() {
    let issuer = TestIssuer::start().await;
    let service = service(server(), &issuer, &[]);
    let legacy = ProtocolVersion::V2025_03_26;
    let call = |id: i64, request: McpRequest| request.revision(legacy).id(json!(id)).message();
    let prompt = prompts_get("purge", json!({ "after_message": "false" }));
    let batch = json!([call(1, tools_call("purge", json!({}))), call(2, prompt)]);
    let request = tools_call("purge", json!({})).revision(legacy).body(batch.to_string());

    let reply = exchange(&service, request.bearer(&issuer.token(["events:read"]))).await;

    assert_eq!((reply.status.as_u16(), reply.messages.len()), (200, 2), "{}", reply.body);
    let in_result = &reply.messages[0]["result"]["_meta"]["mcp/www_authenticate"][0];
    let in_error = &reply.messages[1]["error"]["data"]["mcp/www_authenticate"][0];
    assert!([in_result, in_error].iter().all(|own| is_challenge(own.as_str().unwrap())), "{}", reply.body);
}

#[tokio::test]
async fn what_no_token_would_change_is_a_fault() {
    let issuer = TestIssuer::start().await;
    let logs = capture_logs();
    let closed = service(server(), &issuer, &[]);
    let open =
        McpService::new(Server::new("open", "1.0.0", ()).tool(Tool::new("purge", purge)), crate::common::config());

    let has_it = exchange(&closed, tools_call("demands_more", json!({})).bearer(&issuer.token(["events:read"]))).await;
    let unauthenticated = exchange(&open.unwrap(), tools_call("purge", json!({}))).await;

    for reply in [has_it, unauthenticated] {
        assert_eq!((reply.status.as_u16(), &reply.result()["isError"]), (200, &json!(true)));
        assert!(reply.tool_result().text().starts_with("The tool failed."), "{}", reply.body);
    }
    let faults: Vec<Value> = logs.calls().iter().map(|call| call["error"].clone()).collect();
    let says = |text: &str| faults.iter().any(|fault| fault.to_string().contains(text));
    assert!(says("which the caller has") && says("callers are not authenticated"), "{faults:?}");
}
