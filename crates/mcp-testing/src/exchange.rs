//! A request in, a checked reply out.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use mcp_lambda::{HttpConfig, McpService};
use mcp_protocol::CallToolResult;
use mcp_server::{Invocation, Server, Tool};
use serde_json::{Value, json};

use crate::{McpRequest, schema, tools_call};

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

/// Calls a tool with arguments, without HTTP or Lambda in between.
///
/// # Panics
///
/// When the call ends in an error rather than a result; a result with `isError` is a result.
pub async fn call_tool<S: Send + Sync + 'static>(tool: Tool<S>, state: S, arguments: Value) -> CallToolResult {
    let name = tool.name().to_owned();
    let service = McpService::new(Server::new("test", "0.0.0", state).tool(tool), HttpConfig::default());
    exchange(&service, tools_call(&name, arguments)).await.tool_result()
}

/// Sends a request as the event of a Function URL and checks every message of the reply against the schema of the
/// request's revision.
///
/// # Panics
///
/// When a message breaks the schema.
pub async fn exchange<S: Send + Sync + 'static>(service: &McpService<S>, request: McpRequest) -> Reply {
    exchange_via(Via::FunctionUrl, service, request, Invocation::default()).await
}

/// As [`exchange`], by any way, in an invocation of choice.
///
/// # Panics
///
/// When a message breaks the schema.
pub async fn exchange_via<S: Send + Sync + 'static>(
    via: Via,
    service: &McpService<S>,
    request: McpRequest,
    invocation: Invocation,
) -> Reply {
    let (revision, method) = (request.revision, request.method.clone());
    let request = request.into_http();
    let methods = methods_of_batch(request.body());
    let reply = if via == Via::Http {
        let mut request = request;
        request.extensions_mut().insert(invocation);
        let (parts, body) = service.handle(request).await.into_parts();
        let Ok(body) = body.collect().await;
        Reply::read(parts.status, parts.headers, &body.to_bytes())
    } else {
        let event = event_of(via, &request).to_string();
        let response = mcp_lambda::respond_buffered(service, event.as_bytes(), invocation).await;
        let response = response.expect("an event of a kind that the function knows");
        Reply::from_event_response(via, &serde_json::to_value(response).expect("an event response is JSON"))
    };
    for message in &reply.messages {
        let id = message.get("id");
        let batched = methods.iter().find(|(own, _)| Some(own) == id).map(|(_, method)| method);
        schema::check_from_server(revision, batched.unwrap_or(&method), message)
            .unwrap_or_else(|error| panic!("{error}"));
    }
    assert_eq!(reply.headers.get("cache-control").map(HeaderValue::as_bytes), Some(&b"no-store"[..]));
    reply
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
    /// Reads a response, whatever its body holds.
    pub fn read(status: StatusCode, headers: HeaderMap, body: &[u8]) -> Self {
        let body = String::from_utf8(body.to_vec()).expect("a body of text");
        let content_type = headers.get("content-type").and_then(|value| value.to_str().ok());
        let messages = match content_type {
            None => Vec::new(),
            Some("application/json") => match serde_json::from_str(&body).expect("a body of JSON") {
                Value::Array(messages) => messages,
                message => vec![message],
            },
            Some("text/event-stream") => read_events(&body),
            Some(other) => panic!("unexpected content type `{other}`"),
        };
        Self { status, headers, messages, body }
    }

    fn from_event_response(via: Via, response: &Value) -> Self {
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
        Self::read(status, headers, body.as_bytes())
    }
}

fn read_events(body: &str) -> Vec<Value> {
    let events = body.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':'));
    let data = events.map(|event| event.strip_prefix("data: ").expect("an event is one `data` line"));
    data.map(|data| serde_json::from_str(data).expect("an event of JSON")).collect()
}

/// The event that a request arrives as.
///
/// # Panics
///
/// For [`Via::Http`], which has none.
pub fn event_of(via: Via, request: &Request<Bytes>) -> Value {
    let method = request.method().as_str();
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    let encoded = via == Via::FunctionUrlBase64 || std::str::from_utf8(request.body()).is_err();
    let body = match std::str::from_utf8(request.body()) {
        Ok(body) if !encoded => body.to_owned(),
        _ => BASE64_STANDARD.encode(request.body()),
    };
    let values = |name: &HeaderName| -> Vec<String> {
        let values = request.headers().get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    };
    let headers: Value =
        request.headers().keys().map(|name| (name.to_string(), json!(values(name).join(",")))).collect();
    let multi_value: Value = request.headers().keys().map(|name| (name.to_string(), json!(values(name)))).collect();
    match via {
        Via::Http => panic!("a request by `http` types is no event"),
        Via::FunctionUrl | Via::FunctionUrlBase64 => json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": query,
            "headers": headers,
            "requestContext": {
                "accountId": "anonymous",
                "apiId": "abcdefghij",
                "domainName": "abcdefghij.lambda-url.eu-west-1.on.aws",
                "domainPrefix": "abcdefghij",
                "http": {
                    "method": method, "path": path, "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.1", "userAgent": "test"
                },
                "requestId": "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
                "routeKey": "$default",
                "stage": "$default",
                "time": "22/Nov/2026:12:00:00 +0000",
                "timeEpoch": 1_795_348_800_000_u64,
            },
            "body": body,
            "isBase64Encoded": encoded,
        }),
        Via::RestApi => json!({
            "resource": "/{proxy+}",
            "path": path,
            "httpMethod": method,
            "headers": headers,
            "multiValueHeaders": multi_value,
            "queryStringParameters": null,
            "multiValueQueryStringParameters": null,
            "pathParameters": { "proxy": path.trim_start_matches('/') },
            "stageVariables": null,
            "requestContext": {
                "accountId": "123456789012", "apiId": "abcdefghij", "httpMethod": method, "path": format!("/prod{path}"),
                "domainName": "abcdefghij.execute-api.eu-west-1.amazonaws.com", "stage": "prod",
                "requestId": "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed", "identity": { "sourceIp": "192.0.2.1" },
            },
            "body": body,
            "isBase64Encoded": encoded,
        }),
        Via::LoadBalancer | Via::LoadBalancerMultiValue => {
            let arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/mcp/6d0ecf831eec9f09";
            let mut event = json!({
                "requestContext": { "elb": { "targetGroupArn": arn } },
                "httpMethod": method,
                "path": path,
                "queryStringParameters": {},
                "body": body,
                "isBase64Encoded": encoded,
            });
            match via {
                Via::LoadBalancer => event["headers"] = headers,
                _ => event["multiValueHeaders"] = multi_value,
            }
            event
        }
    }
}
