//! A request in, a checked reply out.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use function_url_emulator::{Envelope, Front};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use mcp_lambda::McpService;
use mcp_protocol::{CallToolResult, ProtocolVersion, method};
use mcp_server::Invocation;
use serde_json::{Value, json};

use crate::{McpRequest, schema};

/// The way that a request takes to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// As `http` types, without an event.
    Http,
    /// As the event of a Function URL, or of an HTTP API in its default stage (payload version 2.0).
    FunctionUrl,
    /// The same with the body in Base64.
    FunctionUrlBase64,
    /// As the event of a REST API (payload version 1.0).
    RestApi,
    /// As the event of a load balancer.
    LoadBalancer,
    /// As the event of a load balancer with multi-value headers.
    LoadBalancerMultiValue,
}

impl Via {
    /// Every way.
    pub const ALL: [Self; 6] = [
        Self::Http,
        Self::FunctionUrl,
        Self::FunctionUrlBase64,
        Self::RestApi,
        Self::LoadBalancer,
        Self::LoadBalancerMultiValue,
    ];
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The HTTP headers.
    pub headers: HeaderMap,
    /// The JSON-RPC messages, in order: of a JSON body the one it is or the ones it lists, of an event stream each.
    pub messages: Vec<Value>,
    /// The body as it came.
    pub body: String,
}

impl Reply {
    /// The last message, which is the response.
    #[track_caller]
    pub fn response(&self) -> &Value {
        self.messages.last().unwrap_or_else(|| panic!("an empty reply: {self:?}"))
    }

    /// The response's result.
    #[track_caller]
    pub fn result(&self) -> &Value {
        self.response().get("result").unwrap_or_else(|| panic!("no result: {self:?}"))
    }

    /// The result of `tools/call`.
    #[track_caller]
    pub fn tool_result(&self) -> CallToolResult {
        serde_json::from_value(self.result().clone()).expect("a CallToolResult")
    }

    /// Status and code of a response that is an error.
    #[track_caller]
    pub fn refusal(&self) -> (u16, i64) {
        let code = self.response()["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {self:?}"));
        (self.status.as_u16(), code)
    }
}

/// Sends a request as the event of a Function URL and checks every message of the reply against the schema of the
/// request's revision.
///
/// ```
/// use mcp_lambda::{HttpConfig, McpService};
/// use mcp_server::{NoArguments, Server, Tool, ToolContext, HandlerError};
/// use mcp_testing::{exchange, tools_call};
/// use serde_json::json;
///
/// async fn greet(_: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
///     Ok("Hello!")
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let server = Server::new("greeter", "0.1.0", ()).tool(Tool::new("greet", greet));
/// let service = McpService::new(server, HttpConfig::default()).unwrap();
///
/// let result = exchange(&service, tools_call("greet", json!({}))).await.tool_result();
///
/// assert_eq!(result.text(), "Hello!");
/// # }
/// ```
///
/// # Panics
///
/// When a message breaks the schema.
pub async fn exchange(service: &McpService, request: McpRequest) -> Reply {
    exchange_via(Via::FunctionUrl, service, request, Invocation::default()).await
}

/// As [`exchange`], by any way, in an invocation of choice.
///
/// # Panics
///
/// When a message breaks the schema.
pub async fn exchange_via(via: Via, service: &McpService, request: McpRequest, invocation: Invocation) -> Reply {
    let sent = request.clone();
    let request = request.into_http();
    if via == Via::Http {
        let mut request = request;
        request.extensions_mut().insert(invocation);
        let (parts, body) = service.handle(request).await.into_parts();
        let Ok(body) = body.collect().await;
        Reply::read(&sent, parts.status, parts.headers, &body.to_bytes())
    } else {
        let event = event_of(via, &request).to_string();
        let response = mcp_lambda::transport::respond_buffered(service, event.as_bytes(), invocation).await;
        let response = response.expect("an event of a kind that the function knows");
        Reply::from_event_response(&sent, via, &serde_json::to_value(response).expect("an event response is JSON"))
    }
}

/// Id and method of each request in a batch.
fn methods_of_batch(body: &[u8]) -> Vec<(Value, String)> {
    let Ok(Value::Array(messages)) = serde_json::from_slice(body) else {
        return Vec::new();
    };
    let requests = messages
        .into_iter()
        .filter_map(|message| Some((message.get("id")?.clone(), message.get("method")?.as_str()?.to_owned())));
    requests.collect()
}

impl Reply {
    /// Reads a response to a request, whatever its body holds, and checks each message in it.
    ///
    /// # Panics
    ///
    /// When a message breaks the schema of the request's revision.
    pub fn read(request: &McpRequest, status: StatusCode, headers: HeaderMap, body: &[u8]) -> Self {
        let body = String::from_utf8(body.to_vec()).expect("a body of text");
        let content_type = headers.get("content-type").and_then(|value| value.to_str().ok());
        let messages = match content_type {
            None | Some("text/html; charset=utf-8") => Vec::new(),
            Some("application/json") => match serde_json::from_str(&body).expect("a body of JSON") {
                Value::Array(messages) => messages,
                message => vec![message],
            },
            Some("text/event-stream") => read_events(&body),
            Some(other) => panic!("unexpected content type `{other}`"),
        };
        let http = request.clone().into_http();
        let is_unnamed = !http.headers().contains_key("mcp-protocol-version") && request.method != method::INITIALIZE;
        // A request that does not name its revision counts as 2025-03-26.
        let revision = match request.revision {
            ProtocolVersion::V2024_11_05 if is_unnamed => ProtocolVersion::V2025_03_26,
            revision => revision,
        };
        let methods = methods_of_batch(http.body());
        for message in &messages {
            let id = message.get("id");
            let batched = methods.iter().find(|(own, _)| Some(own) == id).map(|(_, method)| method);
            schema::check_from_server(revision, batched.unwrap_or(&request.method), message)
                .unwrap_or_else(|error| panic!("{error}"));
        }
        assert_eq!(headers.get("cache-control").map(HeaderValue::as_bytes), Some(&b"no-store"[..]));
        Self { status, headers, messages, body }
    }

    fn from_event_response(request: &McpRequest, via: Via, response: &Value) -> Self {
        let status = response["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok());
        let status = StatusCode::from_u16(status.expect("a status")).expect("a status");
        let multi_value = matches!(via, Via::RestApi | Via::LoadBalancerMultiValue);
        let name = if multi_value { "multiValueHeaders" } else { "headers" };
        let mut headers = HeaderMap::new();
        for (name, values) in response[name].as_object().expect("headers") {
            let values = values.as_array().cloned().unwrap_or_else(|| vec![values.clone()]);
            for value in values {
                let value = HeaderValue::from_str(value.as_str().expect("a string")).expect("a header value");
                headers.append(HeaderName::from_bytes(name.as_bytes()).expect("a header name"), value);
            }
        }
        let body = response["body"].as_str().unwrap_or_default();
        assert_eq!(response["isBase64Encoded"], json!(false), "text needs no Base64");
        Self::read(request, status, headers, body.as_bytes())
    }
}

fn read_events(body: &str) -> Vec<Value> {
    let events = body.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':'));
    let data = events.map(|event| event.strip_prefix("data: ").expect("an event is one `data` line"));
    data.map(|data| serde_json::from_str(data).expect("an event of JSON")).collect()
}

/// The event that a request arrives as, made by the emulator's own front.
///
/// # Panics
///
/// For [`Via::Http`], which has none.
pub fn event_of(via: Via, request: &Request<Bytes>) -> Value {
    let front = match via {
        Via::Http => panic!("a request by `http` types is no event"),
        Via::FunctionUrl | Via::FunctionUrlBase64 => Front::FunctionUrl,
        Via::RestApi => Front::RestApi,
        Via::LoadBalancer => Front::LoadBalancer { multi_value: false },
        Via::LoadBalancerMultiValue => Front::LoadBalancer { multi_value: true },
    };
    let chosen_by_caller = request.headers().get("host").and_then(|host| host.to_str().ok());
    let domain_name = match front {
        Front::FunctionUrl => "abcdefghij.lambda-url.eu-west-1.on.aws",
        Front::RestApi => "abcdefghij.execute-api.eu-west-1.amazonaws.com",
        Front::LoadBalancer { .. } => chosen_by_caller.unwrap_or("mcp.example.com"),
    };
    let envelope = Envelope {
        request_id: "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed".to_owned(),
        domain_name: domain_name.to_owned(),
        trace_id: "Root=1-69219ad0-0123456789abcdef01234567".to_owned(),
        source_ip: "192.0.2.1".to_owned(),
    };
    let mut event = front.event(request, &envelope);
    if via == Via::FunctionUrlBase64 {
        event["body"] = json!(BASE64_STANDARD.encode(request.body()));
        event["isBase64Encoded"] = json!(true);
    }
    event
}
