//! Requests in the format of each revision.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request};
use mcp_protocol::{ProtocolVersion, meta, method};
use serde_json::{Value, json};

use crate::Reply;

/// Builder for a request. It starts as a valid request; each part can be replaced, also by invalid values.
#[derive(Debug, Clone)]
pub struct McpRequest {
    /// Revision that replies are validated against.
    pub revision: ProtocolVersion,
    /// JSON-RPC method.
    pub method: String,
    id: Value,
    params: Value,
    meta: Value,
    http_method: Method,
    path: String,
    body: Option<Bytes>,
    headers: Vec<(HeaderName, Option<HeaderValue>)>,
    mcp_name: Option<String>,
}

/// Creates a `tools/call` request in the newest revision.
pub fn tools_call(name: &str, arguments: Value) -> McpRequest {
    let mut request = McpRequest::new(method::TOOLS_CALL, json!({ "name": name, "arguments": arguments }));
    request.mcp_name = Some(name.to_owned());
    request
}

/// Creates a `tools/list` request in the newest revision.
pub fn tools_list() -> McpRequest {
    McpRequest::new(method::TOOLS_LIST, json!({}))
}

/// Creates a `prompts/get` request in the newest revision.
pub fn prompts_get(name: &str, arguments: Value) -> McpRequest {
    let mut request = McpRequest::new(method::PROMPTS_GET, json!({ "name": name, "arguments": arguments }));
    request.mcp_name = Some(name.to_owned());
    request
}

/// Creates a `resources/read` request in the newest revision.
pub fn resources_read(uri: &str) -> McpRequest {
    let mut request = McpRequest::new(method::RESOURCES_READ, json!({ "uri": uri }));
    request.mcp_name = Some(uri.to_owned());
    request
}

/// Creates a `completion/complete` request in the newest revision; `value` is the text typed so far.
pub fn complete(reference: Value, argument: &str, value: &str) -> McpRequest {
    let argument = json!({ "name": argument, "value": value });
    McpRequest::new(method::COMPLETION_COMPLETE, json!({ "ref": reference, "argument": argument }))
}

/// Creates a `server/discover` request.
pub fn discover() -> McpRequest {
    McpRequest::new(method::SERVER_DISCOVER, json!({}))
}

/// Creates an `initialize` request for a protocol version.
pub fn initialize(version: &str) -> McpRequest {
    let params = json!({
        "protocolVersion": version,
        "capabilities": {},
        "clientInfo": { "name": "test", "version": "1.0.0" },
    });
    let mut request = McpRequest::new(method::INITIALIZE, params).revision(ProtocolVersion::LATEST_LEGACY);
    request.headers.push((HeaderName::from_static("mcp-protocol-version"), None));
    if let Some(revision) = ProtocolVersion::parse(version).filter(|revision| !revision.is_modern()) {
        request.revision = revision;
    }
    request
}

impl McpRequest {
    /// Creates a request of the newest revision with id 1.
    pub fn new(method: &str, params: Value) -> Self {
        Self {
            revision: ProtocolVersion::LATEST,
            method: method.to_owned(),
            id: json!(1),
            params,
            meta: json!({}),
            http_method: Method::POST,
            path: "/mcp".to_owned(),
            body: None,
            headers: Vec::new(),
            mcp_name: None,
        }
    }

    /// Sets the revision, with the headers and metadata that its clients send.
    #[must_use]
    pub fn revision(mut self, revision: ProtocolVersion) -> Self {
        self.revision = revision;
        self
    }

    /// Sets the id, of any JSON type.
    #[must_use]
    pub fn id(mut self, id: Value) -> Self {
        self.id = id;
        self
    }

    /// Sets a parameter.
    #[must_use]
    pub fn param(mut self, name: &str, value: Value) -> Self {
        self.params[name] = value;
        self
    }

    /// Sets the responses to the input requests of `reply`, for the next round trip.
    #[must_use]
    pub fn input_responses(self, reply: &Reply, responses: Value) -> Self {
        let state = reply.result()["requestState"].clone();
        self.param("inputResponses", responses).param("requestState", state)
    }

    /// Requests progress notifications.
    #[must_use]
    pub fn progress_token(self, token: Value) -> Self {
        self.meta("progressToken", token)
    }

    /// Requests log messages (2026-07-28).
    #[must_use]
    pub fn log_level(self, level: &str) -> Self {
        self.meta("io.modelcontextprotocol/logLevel", json!(level))
    }

    /// Sets the client capabilities (2026-07-28).
    #[must_use]
    pub fn capabilities(self, capabilities: Value) -> Self {
        self.meta(meta::CLIENT_CAPABILITIES, capabilities)
    }

    /// Sets a member of `_meta`; `null` removes it.
    #[must_use]
    pub fn meta(mut self, key: &str, value: Value) -> Self {
        self.meta[key] = value;
        self
    }

    /// Sets a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header value");
        self.headers.push((HeaderName::from_bytes(name.as_bytes()).expect("a header name"), Some(value)));
        self
    }

    /// Sets a bearer token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Removes a header.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.push((HeaderName::from_bytes(name.as_bytes()).expect("a header name"), None));
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets the HTTP method.
    #[must_use]
    pub fn http_method(mut self, method: Method) -> Self {
        self.http_method = method;
        self
    }

    /// Sets the path.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Returns the JSON-RPC message.
    pub fn message(&self) -> Value {
        let mut meta = json!({});
        if self.revision.is_modern() {
            meta[meta::PROTOCOL_VERSION] = json!(self.revision.as_str());
            meta[meta::CLIENT_CAPABILITIES] = json!({});
            meta["io.modelcontextprotocol/clientInfo"] = json!({ "name": "test", "version": "1.0.0" });
        }
        let (meta_members, own) = (meta.as_object_mut().expect("an object"), self.meta.as_object().expect("an object"));
        for (key, value) in own {
            match value {
                Value::Null => drop(meta_members.remove(key)),
                value => drop(meta_members.insert(key.clone(), value.clone())),
            }
        }
        let mut params = self.params.clone();
        if !meta_members.is_empty() {
            params["_meta"] = meta;
        }
        json!({ "jsonrpc": "2.0", "id": self.id, "method": self.method, "params": params })
    }

    /// Converts the request to an HTTP request, for `oneshot` of a service.
    pub fn into_http(self) -> Request<Bytes> {
        let body = self.body.clone().unwrap_or_else(|| self.message().to_string().into());
        let mut request = Request::new(body);
        *request.method_mut() = self.http_method;
        *request.uri_mut() = self.path.parse().expect("a path");
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("accept", HeaderValue::from_static("application/json, text/event-stream"));
        if self.revision >= ProtocolVersion::V2025_06_18 {
            headers.insert("mcp-protocol-version", HeaderValue::from_static(self.revision.as_str()));
        }
        if self.revision.is_modern() {
            headers.insert("mcp-method", HeaderValue::from_str(&self.method).expect("a header value"));
            if let Some(name) = &self.mcp_name {
                headers.insert("mcp-name", HeaderValue::from_str(name).expect("a header value"));
            }
        }
        for (name, value) in self.headers {
            match value {
                Some(value) => drop(headers.insert(name, value)),
                None => drop(headers.remove(name)),
            }
        }
        request
    }
}
