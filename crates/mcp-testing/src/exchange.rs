//! Sends requests to a service and validates the replies.

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

/// Transport of a request to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// As `http` types, without an event.
    Http,
    /// As the event of a Function URL, or of an HTTP API in its default stage (payload version 2.0).
    FunctionUrl,
    /// As the event of a Function URL, with the body encoded as Base64.
    FunctionUrlBase64,
    /// As the event of a REST API (payload version 1.0).
    RestApi,
    /// As the event of a load balancer.
    LoadBalancer,
    /// As the event of a load balancer with multi-value headers.
    LoadBalancerMultiValue,
}

impl Via {
    /// All transports.
    pub const ALL: [Self; 6] = [
        Self::Http,
        Self::FunctionUrl,
        Self::FunctionUrlBase64,
        Self::RestApi,
        Self::LoadBalancer,
        Self::LoadBalancerMultiValue,
    ];
}

/// Validated reply of a service.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// HTTP headers.
    pub headers: HeaderMap,
    /// JSON-RPC messages in order: one of a JSON object, all of a batch or event stream.
    pub messages: Vec<Value>,
    /// Unparsed body.
    pub body: String,
}

impl Reply {
    /// Returns the last message, which is the response.
    #[track_caller]
    pub fn response(&self) -> &Value {
        self.messages.last().unwrap_or_else(|| panic!("an empty reply: {self:?}"))
    }

    /// Returns the result of the response.
    #[track_caller]
    pub fn result(&self) -> &Value {
        self.response().get("result").unwrap_or_else(|| panic!("no result: {self:?}"))
    }

    /// Returns the result of `tools/call`.
    #[track_caller]
    pub fn tool_result(&self) -> CallToolResult {
        serde_json::from_value(self.result().clone()).expect("a CallToolResult")
    }

    /// Returns the HTTP status and the JSON-RPC error code of an error response.
    #[track_caller]
    pub fn status_and_code(&self) -> (u16, i64) {
        let code = self.response()["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {self:?}"));
        (self.status.as_u16(), code)
    }
}

/// Sends a request as the event of a Function URL, and validates each message of the reply against the schema of the
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
/// Panics if a message violates the schema.
pub async fn exchange(service: &McpService, request: McpRequest) -> Reply {
    exchange_via(Via::FunctionUrl, service, request, Invocation::default()).await
}

/// Sends a request over a given transport with a given invocation, and validates the reply as [`exchange`] does.
///
/// # Panics
///
/// Panics if a message violates the schema.
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
        let response = response.expect("a supported event");
        Reply::from_event_response(&sent, via, &serde_json::to_value(response).expect("an event response is JSON"))
    }
}

/// Returns the id and method of each request in a batch.
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
    /// Parses the response to a request, and validates each message in it.
    ///
    /// # Panics
    ///
    /// Panics if a message violates the schema of the request's revision.
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
        let has_no_revision =
            !http.headers().contains_key("mcp-protocol-version") && request.method != method::INITIALIZE;
        // A request without a revision counts as 2025-03-26.
        let revision = match request.revision {
            ProtocolVersion::V2024_11_05 if has_no_revision => ProtocolVersion::V2025_03_26,
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
        assert_eq!(response["isBase64Encoded"], json!(false), "a text body is not encoded as Base64");
        Self::read(request, status, headers, body.as_bytes())
    }
}

fn read_events(body: &str) -> Vec<Value> {
    let events = body.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':'));
    let data = events.map(|event| event.strip_prefix("data: ").expect("an event is one `data` line"));
    data.map(|data| serde_json::from_str(data).expect("an event of JSON")).collect()
}

/// Converts a request to a Lambda event, with the emulator's front door.
///
/// # Panics
///
/// Panics for [`Via::Http`], which has no event.
pub fn event_of(via: Via, request: &Request<Bytes>) -> Value {
    let front = match via {
        Via::Http => panic!("`Via::Http` has no event"),
        Via::FunctionUrl | Via::FunctionUrlBase64 => Front::FunctionUrl,
        Via::RestApi => Front::RestApi,
        Via::LoadBalancer => Front::LoadBalancer { multi_value: false },
        Via::LoadBalancerMultiValue => Front::LoadBalancer { multi_value: true },
    };
    let host_of_client = request.headers().get("host").and_then(|host| host.to_str().ok());
    let domain_name = match front {
        Front::FunctionUrl => "abcdefghij.lambda-url.eu-west-1.on.aws",
        Front::RestApi => "abcdefghij.execute-api.eu-west-1.amazonaws.com",
        Front::LoadBalancer { .. } => host_of_client.unwrap_or("mcp.example.com"),
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
