//! A request in, a checked reply out.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use function_url_emulator::{Envelope, Front};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use mcp_lambda::McpService;
use mcp_protocol::{
    CallToolResult, InputRequest, InputRequiredResult, ProtocolVersion, RequestId, RequestMeta, method,
};
use mcp_server::{Authorization, Call, Invocation, Router, Server, Settings, Tool};
use serde_json::{Value, json};

use crate::{McpRequest, schema, state_key};

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

/// Calls a tool with arguments, as a client of the newest revision that can do everything; without HTTP or Lambda in
/// between.
///
/// # Panics
///
/// When the call ends in an error rather than a result, or the tool asks; a result with `isError` is a result.
pub async fn call_tool<S: Send + Sync + 'static>(tool: Tool<S>, state: S, arguments: Value) -> CallToolResult {
    call_tool_answering(tool, state, arguments, |key, question| {
        panic!("the tool asks `{key}`, which `call_tool_answering` can answer: {question:?}")
    })
    .await
}

/// The same for a tool that asks: `answer` gets each question by its key, and returns the client's answer. The handler
/// runs once for each round, as it does on Lambda.
///
/// ```
/// # use garde::Validate;
/// # use mcp_server::{InteractiveContext, NoArguments, Tool, HandlerError};
/// # #[derive(serde::Deserialize, schemars::JsonSchema, Validate)]
/// # struct Name { #[garde(skip)] name: String }
/// # async fn greet(context: InteractiveContext<()>, _: NoArguments) -> Result<String, HandlerError> {
/// #     let name = context.elicit::<Name>("name", "Who are you?").await.accepted();
/// #     Ok(format!("Hello, {}!", name.map_or_else(String::new, |name| name.name)))
/// # }
/// # let tool = Tool::new("greet", greet);
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let answers = |key: &str, _: &_| match key {
///     "name" => serde_json::json!({ "action": "accept", "content": { "name": "Ada" } }),
///     other => panic!("`{other}` was not expected"),
/// };
///
/// let result = mcp_testing::call_tool_answering(tool, (), serde_json::json!({}), answers).await;
///
/// assert_eq!(result.text(), "Hello, Ada!");
/// # });
/// ```
///
/// # Panics
///
/// When the call ends in an error rather than a result, or asks for more than twenty rounds.
pub async fn call_tool_answering<S: Send + Sync + 'static>(
    tool: Tool<S>,
    state: S,
    arguments: Value,
    mut answer: impl FnMut(&str, &InputRequest) -> Value,
) -> CallToolResult {
    let mut params = json!({ "name": tool.name(), "arguments": arguments });
    let router = Server::new("test", "0.0.0", state).tool(tool).build(Settings {
        state_key: Some(state_key()),
        authorization: Authorization::DangerouslyOff,
        ..Settings::default()
    });
    let router = router.unwrap_or_else(|error| panic!("{error}"));
    for _ in 0..MAX_ROUNDS {
        let value = call_once(&router, &params).await;
        if value["resultType"] != "input_required" {
            schema::check(ProtocolVersion::LATEST, "CallToolResult", &value)
                .unwrap_or_else(|mistake| panic!("{mistake}"));
            return serde_json::from_value(value).expect("a CallToolResult");
        }
        schema::check(ProtocolVersion::LATEST, "InputRequiredResult", &value)
            .unwrap_or_else(|mistake| panic!("{mistake}"));
        let asked: InputRequiredResult = serde_json::from_value(value).expect("an InputRequiredResult");
        let questions = asked.input_requests.unwrap_or_default();
        let answers = questions.iter().map(|(key, question)| (key.clone(), answer(key, question)));
        params["inputResponses"] = Value::Object(answers.collect());
        params["requestState"] = json!(asked.request_state);
    }
    panic!("after {MAX_ROUNDS} rounds there is still something to ask");
}

const MAX_ROUNDS: usize = 20;

async fn call_once(router: &Router, params: &Value) -> Value {
    let params = params.to_string();
    let everything =
        json!({ "sampling": { "tools": {}, "context": {} }, "elicitation": { "form": {}, "url": {} }, "roots": {} });
    let meta = RequestMeta {
        client_capabilities: Some(serde_json::from_value(everything).expect("capabilities")),
        ..RequestMeta::default()
    };
    let params = serde_json::from_str(&params).expect("parameters are an object");
    let resolved = router.resolve(ProtocolVersion::LATEST, method::TOOLS_CALL, params, &Arc::default());
    let outcome = resolved.run(Call { id: RequestId::from(1), meta, notifications: None }).outcome().await;
    let result = outcome.result.unwrap_or_else(|error| panic!("{error}: {:?}", outcome.fault));
    serde_json::from_str(result.as_str()).expect("a result is JSON")
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
        let response = mcp_lambda::respond_buffered(service, event.as_bytes(), invocation).await;
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
