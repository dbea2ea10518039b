//! Requests as clients of each revision send them.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request};
use mcp_protocol::{ProtocolVersion, meta, method};
use serde_json::{Value, json};

use crate::Reply;

/// A request in the making. It starts out as what a well-behaved client sends; every part can be spoilt.
#[derive(Debug, Clone)]
pub struct McpRequest {
    /// The revision that replies are checked against.
    pub revision: ProtocolVersion,
    /// The JSON-RPC method.
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

/// `tools/call` of a tool with arguments, in the newest revision.
pub fn tools_call(name: &str, arguments: Value) -> McpRequest {
    let mut request = McpRequest::new(method::TOOLS_CALL, json!({ "name": name, "arguments": arguments }));
    request.mcp_name = Some(name.to_owned());
    request
}

/// `tools/list`, in the newest revision.
pub fn tools_list() -> McpRequest {
    McpRequest::new(method::TOOLS_LIST, json!({}))
}

/// `prompts/get` of a prompt with arguments, in the newest revision.
pub fn prompts_get(name: &str, arguments: Value) -> McpRequest {
    let mut request = McpRequest::new(method::PROMPTS_GET, json!({ "name": name, "arguments": arguments }));
    request.mcp_name = Some(name.to_owned());
    request
}

/// `resources/read` of a URI, in the newest revision.
pub fn resources_read(uri: &str) -> McpRequest {
    let mut request = McpRequest::new(method::RESOURCES_READ, json!({ "uri": uri }));
    request.mcp_name = Some(uri.to_owned());
    request
}

/// `completion/complete` of what was typed for an argument, in the newest revision.
pub fn complete(reference: Value, argument: &str, value: &str) -> McpRequest {
    let argument = json!({ "name": argument, "value": value });
    McpRequest::new(method::COMPLETION_COMPLETE, json!({ "ref": reference, "argument": argument }))
}

/// `server/discover`.
pub fn discover() -> McpRequest {
    McpRequest::new(method::SERVER_DISCOVER, json!({}))
}

/// `initialize` that asks for a version.
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
    /// A request of the newest revision, with id 1.
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

    /// In another revision, with what its clients send and without what they do not.
    #[must_use]
    pub fn revision(mut self, revision: ProtocolVersion) -> Self {
        self.revision = revision;
        self
    }

    /// With another id, of any JSON type.
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

    /// The next round of the request: the client has answered what `reply` asked.
    #[must_use]
    pub fn answered(self, reply: &Reply, responses: Value) -> Self {
        let state = reply.result()["requestState"].clone();
        self.param("inputResponses", responses).param("requestState", state)
    }

    /// Asks for progress notifications.
    #[must_use]
    pub fn progress_token(self, token: Value) -> Self {
        self.meta("progressToken", token)
    }

    /// Asks for log messages (2026-07-28).
    #[must_use]
    pub fn log_level(self, level: &str) -> Self {
        self.meta("io.modelcontextprotocol/logLevel", json!(level))
    }

    /// Declares capabilities (2026-07-28).
    #[must_use]
    pub fn capabilities(self, capabilities: Value) -> Self {
        self.meta(meta::CLIENT_CAPABILITIES, capabilities)
    }

    /// Sets a member of `_meta`; `null` takes it away.
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

    /// Sends a token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Takes a header away.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.push((HeaderName::from_bytes(name.as_bytes()).expect("a header name"), None));
        self
    }

    /// Sends this body instead.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Uses another HTTP method.
    #[must_use]
    pub fn http_method(mut self, method: Method) -> Self {
        self.http_method = method;
        self
    }

    /// Uses another path.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// The JSON-RPC message.
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

    /// As an HTTP request, for a service's `oneshot`.
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
