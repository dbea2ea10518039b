//! `_meta` of items and results.

use mcp_lambda::{HttpConfig, McpService};
use mcp_protocol::{ContentBlock, ProtocolVersion, ResourceContents};
use mcp_server::{
    HandlerError, Json, NoArguments, Prompt, RequestContext, Resource, ResourceOutput, ResourceTemplate, Server, Tool,
    ToolContext, ToolOutput,
};
use mcp_testing::{McpRequest, exchange, resources_read, tools_call};
use serde_json::json;

const KEY: &str = "com.example/key";

async fn structured(_: ToolContext<()>, _: NoArguments) -> Result<Json<u32>, HandlerError> {
    Ok(Json(1).with_content([ContentBlock::image([1], "image/png").meta(KEY, "block")]).meta(KEY, "result"))
}

async fn plain(_: ToolContext<()>, _: NoArguments) -> Result<ToolOutput, HandlerError> {
    Ok(ToolOutput::new(["plain"]).meta(KEY, "result"))
}

async fn prompt(_: RequestContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("prompt")
}

async fn read(_: RequestContext<()>) -> Result<Vec<ResourceContents>, HandlerError> {
    Ok(vec![ResourceContents::text("test://a", "text/plain", "a").meta(KEY, "contents")])
}

async fn read_any(_: RequestContext<()>, _: NoArguments) -> Result<ResourceOutput, HandlerError> {
    Ok("any".into())
}

fn service() -> McpService {
    let server = Server::new("meta", "1.0.0", ())
        .tool(Tool::new("structured", structured).meta(KEY, "replaced").meta(KEY, json!({ "a": 1 })))
        .tool(Tool::new("plain", plain).meta(KEY, json!({ "a": 1 })))
        .prompt(Prompt::new("prompt", prompt).meta(KEY, json!({ "a": 1 })))
        .resource(Resource::new("test://a", "a", read).meta(KEY, json!({ "a": 1 })))
        .resource_template(ResourceTemplate::new("any://x", "any", read_any).meta(KEY, json!({ "a": 1 })));
    McpService::new(server, HttpConfig::default()).unwrap()
}

#[tokio::test]
async fn items_have_meta_in_their_lists() {
    let service = service();
    for (method, list) in [
        ("tools/list", "tools"),
        ("prompts/list", "prompts"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
    ] {
        for revision in ProtocolVersion::ALL {
            let reply = exchange(&service, McpRequest::new(method, json!({})).revision(revision)).await;

            let items = reply.result()[list].as_array().unwrap();
            assert!(!items.is_empty());
            for item in items {
                assert_eq!(item["_meta"][KEY], json!({ "a": 1 }), "{list} in {revision}");
            }
        }
    }
}

#[tokio::test]
async fn results_blocks_and_contents_have_meta() {
    let service = service();

    let structured = exchange(&service, tools_call("structured", json!({}))).await;
    let plain = exchange(&service, tools_call("plain", json!({}))).await;
    let resource = exchange(&service, resources_read("test://a")).await;

    for reply in [&structured, &plain] {
        assert_eq!(reply.result()["_meta"][KEY], "result");
        assert!(reply.result()["_meta"]["io.modelcontextprotocol/serverInfo"].is_object(), "{}", reply.body);
    }
    assert_eq!(structured.result()["content"][0]["text"], "1");
    assert_eq!(structured.result()["content"][1]["_meta"][KEY], "block");
    assert_eq!(structured.result()["structuredContent"], 1);
    assert_eq!(resource.result()["contents"][0]["_meta"][KEY], "contents");
}
