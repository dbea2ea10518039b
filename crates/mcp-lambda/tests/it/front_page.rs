//! The request that the front page of the crate shows as a command.

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use mcp_lambda::{HttpConfig, McpService};
use mcp_server::{HandlerError, Server, Tool, ToolContext};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tower::ServiceExt;

const PAGE: &str = include_str!("../../src/guide/local.md");

#[derive(Deserialize, JsonSchema, garde::Validate)]
struct GreetArgs {
    #[garde(length(chars, max = 100))]
    name: String,
}

async fn greet(_: ToolContext<()>, args: GreetArgs) -> Result<String, HandlerError> {
    Ok(format!("Hello, {}!", args.name))
}

/// Headers and body of the command.
fn command() -> (Vec<(&'static str, &'static str)>, &'static str) {
    let (_, command) = PAGE.split_once("curl http").unwrap();
    let (headers, rest) = command.split_once("-d '").unwrap();
    let headers = headers.split("-H '").skip(1);
    let headers = headers.map(|header| header.split_once('\'').unwrap().0.split_once(": ").unwrap());
    (headers.collect(), rest.split_once('\'').unwrap().0)
}

#[tokio::test]
async fn the_curl_command_is_a_complete_request() {
    let server = Server::new("greeter", "1.0.0", ()).tool(Tool::new("greet", greet));
    let service = McpService::new(server, HttpConfig::default()).unwrap();
    let (headers, body) = command();
    let request = |headers: &[(&str, &str)]| {
        let mut request = Request::post("http://127.0.0.1:9000/mcp");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Bytes::from_static(body.as_bytes())).unwrap()
    };

    let response = service.clone().oneshot(request(&headers)).await.unwrap();

    assert_eq!(response.status(), 200);
    let Ok(body) = response.into_body().collect().await;
    let reply: Value = serde_json::from_slice(&body.to_bytes()).unwrap();
    assert_eq!(reply["result"]["content"][0]["text"], "Hello, Ada!");
    let needed = headers.iter().filter(|(name, _)| name.to_ascii_lowercase().starts_with("mcp-"));
    for (name, _) in needed {
        let others: Vec<_> = headers.iter().copied().filter(|(other, _)| other != name).collect();

        let response = service.clone().oneshot(request(&others)).await.unwrap();

        assert_eq!(response.status(), 400, "without {name}");
    }
}
