//! MCP over `http` types: the service that a function's `main` runs and its tests call.
//!
//! The only file that knows status codes. A request is checked from the outside in (path, origin, method, media type,
//! size, JSON-RPC, era, headers that repeat the body), then `mcp-server` decides, and the decision gets its status.

use std::{
    collections::HashSet,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use mcp_protocol::{
    ErrorObject, Incoming, MalformedMessage, Message, ProtocolVersion, RequestId, RequestMeta, jsonrpc, method,
};
use mcp_server::{Answer, Call, CallError, CallOutcome, InitError, Invocation, Router, Server, error_chain};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    Body, EventSource, HttpConfig, InvokeMode, PublicUrl,
    era::{self, Refusal},
    events::carried_bytes,
    headers::{self, Accept},
    origin::{Caller, add_preflight_headers},
    sse::{self, EventStream, Sent},
};

/// The path of the MCP endpoint. `/` is the endpoint too, for a Function URL that is pasted bare.
const ENDPOINT: &str = "/mcp";
const WELL_KNOWN: &str = "/.well-known/";

/// The largest body that is read. What Lambda passes on is smaller still.
const MAX_REQUEST_BYTES: usize = 6 * 1024 * 1024;
/// What a streaming Function URL can carry.
const MAX_STREAMED_BYTES: usize = 200 * 1024 * 1024;
/// The longest text of an error.
const MAX_MESSAGE_CHARS: usize = 500;
/// The longest URI that is repeated in an error.
const MAX_URI_CHARS: usize = 8 * 1024;
/// Notifications that may wait for the reader before the handler has to.
const NOTIFICATION_BUFFER: usize = 16;

/// An MCP server over HTTP: a [`tower_service::Service`] from requests with whole bodies to responses.
///
/// What the invocation adds to a request travels in its extensions: [`Invocation`] and [`Transport`]. Without them it
/// is served as one without deadline or name, which is what most tests want.
pub struct McpService<S> {
    router: Router<S>,
    config: Arc<HttpConfig>,
}

/// What an event says about the way back, for the request's extensions.
#[derive(Debug, Clone)]
pub struct Transport {
    /// The kind of event, which limits the size of the answer.
    pub source: EventSource,
    /// The name that the request was sent to, if the platform vouches for it.
    pub domain_name: Option<String>,
}

impl<S: Send + Sync + 'static> McpService<S> {
    /// Puts a server behind HTTP.
    ///
    /// # Errors
    ///
    /// When something in the server asks the client and `config` has no state key.
    ///
    /// # Panics
    ///
    /// When the server has a mistake that [`Server::build`] finds.
    #[track_caller]
    pub fn new(server: Server<S>, config: HttpConfig) -> Result<Self, InitError> {
        Ok(Self { router: server.build(config.state_key.as_ref())?, config: Arc::new(config) })
    }

    pub(crate) fn invoke_mode(&self) -> InvokeMode {
        self.config.invoke_mode
    }

    pub(crate) fn router(&self) -> &Router<S> {
        &self.router
    }

    /// Answers a request.
    pub async fn handle(&self, request: Request<Bytes>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let transport = parts.extensions.get::<Transport>();
        let derived = transport.and_then(|transport| PublicUrl::from_domain_name(transport.domain_name.as_deref()?));
        let own_url = self.config.public_url.as_ref().or(derived.as_ref());

        let path = own_url.map_or(parts.uri.path(), |url| url.strip_prefix(parts.uri.path()));
        if !matches!(path, ENDPOINT | "/" | "") {
            return not_found(path);
        }
        let caller = Caller::of(&parts.headers, own_url, &self.config.allowed_origins);
        let mut response = if caller == Caller::Foreign {
            refuse(StatusCode::FORBIDDEN, None, "pages of this origin may not call this server")
        } else {
            match parts.method {
                Method::POST => {
                    let exchange = Exchange {
                        headers: &parts.headers,
                        accept: Accept::of(&parts.headers),
                        invocation: parts.extensions.get().cloned().unwrap_or_default(),
                        carrier: self.carrier(transport),
                    };
                    self.post(&exchange, &body).await
                }
                Method::OPTIONS => {
                    let mut response = empty(StatusCode::NO_CONTENT);
                    add_preflight_headers(&parts.headers, response.headers_mut());
                    response
                }
                _ => method_not_allowed(),
            }
        };
        caller.add_headers(response.headers_mut());
        response
    }

    fn carrier(&self, transport: Option<&Transport>) -> Carrier {
        match self.config.invoke_mode {
            InvokeMode::Stream => Carrier { streams: true, max_bytes: MAX_STREAMED_BYTES },
            InvokeMode::Buffered => {
                let source = transport.map_or(EventSource::FunctionUrl, |transport| transport.source);
                Carrier { streams: false, max_bytes: source.max_response_bytes() }
            }
        }
    }

    async fn post(&self, exchange: &Exchange<'_>, body: &[u8]) -> Response<Body> {
        if !headers::is_json(exchange.headers.get(header::CONTENT_TYPE)) {
            return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, "the body must be sent as application/json");
        }
        if body.len() > MAX_REQUEST_BYTES {
            let message = format!("the body has {} bytes; at most {MAX_REQUEST_BYTES} are read", body.len());
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, None, message);
        }
        match Incoming::parse(body) {
            Ok(Incoming::Single(Message::Request(request))) => self.request(exchange, &request).await,
            Ok(Incoming::Single(Message::Notification(_))) => exchange.accept_without_answer(true),
            Ok(Incoming::Single(Message::Response)) => exchange.accept_without_answer(false),
            Ok(Incoming::Batch(messages)) => self.batch(exchange, messages).await,
            Err(malformed) => refuse_malformed(&malformed),
        }
    }

    async fn request(&self, exchange: &Exchange<'_>, request: &mcp_protocol::Request<'_>) -> Response<Body> {
        let mirrored = |tool: &str| self.router.mirrored_parameters(tool);
        let (revision, meta) = match era::of(exchange.headers, request, mirrored) {
            Ok(era) => era,
            Err(refusal) => return refuse_era(&refusal, &request.id),
        };
        if !exchange.accept.fits(revision) {
            return not_acceptable(Some(&request.id));
        }
        let (sender, mut receiver) = mpsc::channel(NOTIFICATION_BUFFER);
        let call = exchange.call(request, revision, meta, sender);
        let finisher = self.finisher(exchange, request, revision);
        let mut work = match self.router.answer(call) {
            Answer::Ready(outcome) => {
                return finisher.respond(*outcome, Sent::new(exchange.carrier.max_bytes), exchange.accept);
            }
            Answer::Pending(work) => work,
        };

        let mut sent = Sent::new(exchange.carrier.max_bytes);
        loop {
            tokio::select! {
                biased;
                outcome = &mut work => {
                    sent.take_rest(&mut receiver);
                    return finisher.respond(outcome, sent, exchange.accept);
                }
                Some(notification) = receiver.recv() => {
                    if exchange.carrier.streams {
                        let finish = Box::new(move |outcome| finisher.message(outcome).1);
                        return event_stream(Body::stream(EventStream::new(notification, receiver, work, finish)));
                    }
                    sent.push(&notification);
                }
            }
        }
    }

    /// Only 2025-03-26 has batches. Its messages are answered one after the other.
    async fn batch(
        &self,
        exchange: &Exchange<'_>,
        messages: Vec<Result<Message<'_>, MalformedMessage>>,
    ) -> Response<Body> {
        let revision = match headers::single(exchange.headers, headers::PROTOCOL_VERSION) {
            Ok(None) => Some(ProtocolVersion::V2025_03_26),
            Ok(Some(name)) => ProtocolVersion::parse(name),
            Err(_) => None,
        };
        let Some(revision) = revision.filter(|revision| revision.has_batches()) else {
            let reason = "only protocol version 2025-03-26 has batches: send each message in a request of its own";
            return refuse_invalid(StatusCode::BAD_REQUEST, reason);
        };
        if !exchange.accept.fits(revision) {
            return not_acceptable(None);
        }
        let mut sent = Sent::new(exchange.carrier.max_bytes);
        let mut responses = Vec::new();
        let mut ids = HashSet::new();
        let mut carrier = exchange.carrier;
        for message in messages {
            let request = match message {
                Ok(Message::Request(request)) => request,
                Ok(Message::Notification(_) | Message::Response) => continue,
                Err(malformed) => {
                    responses.push(malformed_message(&malformed));
                    continue;
                }
            };
            if !ids.insert(request.id.clone()) {
                let error = ErrorObject::new(jsonrpc::INVALID_REQUEST, "this id is there twice in one batch");
                responses.push(jsonrpc::error_response(Some(&request.id), &error));
                continue;
            }
            let outcome = self.batched(exchange, &request, revision, &mut sent).await;
            let finisher = Finisher { carrier, ..self.finisher(exchange, &request, revision) };
            let (_, response) = finisher.message(outcome);
            carrier.max_bytes = carrier.max_bytes.saturating_sub(carried_bytes(&HeaderMap::new(), &response));
            responses.push(response);
        }
        if responses.is_empty() {
            return empty(StatusCode::ACCEPTED);
        }
        if sent.is_empty() && !exchange.accept.is_stream_only() {
            return json_body(StatusCode::OK, format!("[{}]", responses.join(",")));
        }
        let weight = responses.iter().map(|response| carried_bytes(&HeaderMap::new(), &sse::event(response))).sum();
        let responses: String = responses.iter().map(|response| sse::event(response)).collect();
        event_stream(Body::whole(sent.before(&responses, weight)))
    }

    async fn batched(
        &self,
        exchange: &Exchange<'_>,
        request: &mcp_protocol::Request<'_>,
        revision: ProtocolVersion,
        sent: &mut Sent,
    ) -> CallOutcome {
        if request.method == method::INITIALIZE {
            let refusal = CallError::InvalidParams("`initialize` cannot be part of a batch".to_owned());
            return CallOutcome::from(Err(refusal));
        }
        let meta = match era::legacy_meta(request.params) {
            Ok(meta) => meta,
            Err(error) => return CallOutcome::from(Err(error)),
        };
        let (sender, mut receiver) = mpsc::channel(NOTIFICATION_BUFFER);
        let call = exchange.call(request, revision, meta, sender);
        let mut work = self.router.answer(call).outcome().boxed();
        loop {
            tokio::select! {
                biased;
                outcome = &mut work => {
                    sent.take_rest(&mut receiver);
                    return outcome;
                }
                Some(notification) = receiver.recv() => sent.push(&notification),
            }
        }
    }

    fn finisher(
        &self,
        exchange: &Exchange<'_>,
        request: &mcp_protocol::Request<'_>,
        revision: ProtocolVersion,
    ) -> Finisher<S> {
        Finisher {
            router: self.router.clone(),
            id: request.id.clone(),
            method: request.method.clone().into_owned(),
            revision,
            carrier: exchange.carrier,
            request_id: exchange.invocation.request_id.clone(),
        }
    }
}

/// What a request brings apart from its body, and what its answer may be.
struct Exchange<'a> {
    headers: &'a HeaderMap,
    accept: Accept,
    invocation: Invocation,
    carrier: Carrier,
}

/// What carries the answer.
#[derive(Debug, Clone, Copy)]
struct Carrier {
    streams: bool,
    max_bytes: usize,
}

impl Exchange<'_> {
    fn call<'r>(
        &self,
        request: &'r mcp_protocol::Request<'_>,
        revision: ProtocolVersion,
        meta: RequestMeta,
        notifications: mpsc::Sender<String>,
    ) -> Call<'r> {
        Call {
            revision,
            id: request.id.clone(),
            method: &request.method,
            params: request.params,
            meta,
            invocation: self.invocation.clone(),
            notifications: self.accept.event_stream.then_some(notifications),
        }
    }

    /// Notifications are accepted, and so are responses of legacy clients, though nothing waits for one over a stateless
    /// transport; a modern server makes no requests that could be answered. A version that is not known is refused.
    fn accept_without_answer(&self, is_notification: bool) -> Response<Body> {
        let header = match headers::single(self.headers, headers::PROTOCOL_VERSION) {
            Ok(header) => header,
            Err(error) => return refuse_without_id(&error),
        };
        match header.map(|name| (name, ProtocolVersion::parse(name))) {
            Some((requested, None)) => {
                refuse_without_id(&CallError::UnsupportedVersion { requested: requested.to_owned() })
            }
            Some((_, Some(revision))) if revision.is_modern() && !is_notification => {
                refuse_invalid(StatusCode::BAD_REQUEST, "clients send requests and notifications, not responses")
            }
            Some(_) | None => empty(StatusCode::ACCEPTED),
        }
    }
}

/// A refusal before the router was asked.
fn refuse_era(refusal: &Refusal, id: &RequestId) -> Response<Body> {
    let (status, error) = translate(&refusal.error, refusal.is_modern, "");
    json_body(status, jsonrpc::error_response(Some(id), &error))
}

/// Turns an outcome into a response message, and knows what it may weigh.
struct Finisher<S> {
    router: Router<S>,
    id: RequestId,
    method: String,
    revision: ProtocolVersion,
    carrier: Carrier,
    request_id: String,
}

impl<S: Send + Sync + 'static> Finisher<S> {
    fn message(&self, outcome: CallOutcome) -> (StatusCode, String) {
        if let Some(fault) = &outcome.fault {
            tracing::error!(
                lambda.request_id = self.request_id,
                mcp.method = self.method,
                error = error_chain(fault.as_ref()),
                "a request failed through a fault of the server"
            );
        }
        let result = outcome.result.and_then(|result| {
            let message = jsonrpc::result_response(&self.id, result.as_str());
            let bytes = self.weigh(&message);
            if bytes <= self.carrier.max_bytes {
                return Ok(message);
            }
            tracing::warn!(
                lambda.request_id = self.request_id,
                mcp.method = self.method,
                bytes,
                limit = self.carrier.max_bytes,
                "a result is too large to be carried"
            );
            let instead = self.router.too_large(&self.method, self.revision, bytes, self.carrier.max_bytes)?;
            Ok(jsonrpc::result_response(&self.id, instead.as_str()))
        });
        match result {
            Ok(message) => (StatusCode::OK, message),
            Err(error) => {
                if matches!(error, CallError::DeadlineExceeded) {
                    tracing::warn!(lambda.request_id = self.request_id, mcp.method = self.method, "{error}");
                }
                let (status, error) = translate(&error, self.revision.is_modern(), &self.request_id);
                (status, jsonrpc::error_response(Some(&self.id), &error))
            }
        }
    }

    fn weigh(&self, message: &str) -> usize {
        match self.carrier.streams {
            true => message.len(),
            // At most every byte is escaped: only what comes near the limit is looked at closely.
            false if message.len() < self.carrier.max_bytes / 4 => message.len(),
            false => carried_bytes(&HeaderMap::new(), message) + 2048,
        }
    }

    /// JSON, unless something was sent before the result, or the client takes only a stream.
    fn respond(&self, outcome: CallOutcome, sent: Sent, accept: Accept) -> Response<Body> {
        let (status, message) = self.message(outcome);
        let is_stream = !sent.is_empty() || accept.is_stream_only();
        if !is_stream || status != StatusCode::OK {
            return json_body(status, message);
        }
        let last = sse::event(&message);
        event_stream(Body::whole(sent.before(&last, self.weigh(&last))))
    }
}

/// The one translation from decisions to status and code. The specification closes -32000 to -32019 to new codes and
/// reserves -32020 to -32099, so that a code of our own is the HTTP status.
#[deny(clippy::wildcard_enum_match_arm, reason = "a new decision must get a status of its own")]
fn translate(error: &CallError, is_modern: bool, request_id: &str) -> (StatusCode, ErrorObject) {
    let bad_request = if is_modern { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let not_found = if is_modern { StatusCode::NOT_FOUND } else { StatusCode::OK };
    let object = |code| ErrorObject::new(code, shortened(&error.to_string()));
    match error {
        CallError::MethodNotFound(_) => (not_found, object(jsonrpc::METHOD_NOT_FOUND)),
        CallError::InvalidParams(_) | CallError::InvalidMeta(_) => (bad_request, object(jsonrpc::INVALID_PARAMS)),
        CallError::UnknownTool(_)
        | CallError::UnknownPrompt(_)
        | CallError::InvalidInput(_)
        | CallError::RequestState
        | CallError::InvalidCursor => (StatusCode::OK, object(jsonrpc::INVALID_PARAMS)),
        CallError::ResourceNotFound { uri } => {
            let code = if is_modern { jsonrpc::INVALID_PARAMS } else { jsonrpc::RESOURCE_NOT_FOUND };
            let data = json!({ "uri": clipped(uri, MAX_URI_CHARS) });
            (StatusCode::OK, object(code).with_data(data))
        }
        CallError::HeaderMismatch(_) => (StatusCode::BAD_REQUEST, object(jsonrpc::HEADER_MISMATCH)),
        CallError::MissingClientCapability(required) => {
            let data = json!({ "requiredCapabilities": required });
            (StatusCode::BAD_REQUEST, object(jsonrpc::MISSING_REQUIRED_CLIENT_CAPABILITY).with_data(data))
        }
        CallError::UnsupportedVersion { requested } => {
            let supported = ProtocolVersion::ALL.map(ProtocolVersion::as_str);
            let data = json!({ "supported": supported, "requested": shortened(requested) });
            (StatusCode::BAD_REQUEST, object(jsonrpc::UNSUPPORTED_PROTOCOL_VERSION).with_data(data))
        }
        CallError::DeadlineExceeded => own_code(StatusCode::GATEWAY_TIMEOUT, error.to_string()),
        CallError::TooLarge { .. } | CallError::Unavailable(_) | CallError::Internal => {
            let message = match request_id {
                "" => error.to_string(),
                id => format!("{error}; request id: {id}"),
            };
            (StatusCode::OK, ErrorObject::new(jsonrpc::INTERNAL_ERROR, message))
        }
    }
}

/// What a caller sent is repeated only so far: names and versions may be megabytes long.
fn shortened(text: &str) -> String {
    clipped(text, MAX_MESSAGE_CHARS)
}

fn clipped(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn own_code(status: StatusCode, message: impl Into<String>) -> (StatusCode, ErrorObject) {
    (status, ErrorObject::new(i64::from(status.as_u16()), message))
}

fn refuse(status: StatusCode, id: Option<&RequestId>, message: impl Into<String>) -> Response<Body> {
    let (status, error) = own_code(status, message);
    json_body(status, jsonrpc::error_response(id, &error))
}

fn refuse_without_id(error: &CallError) -> Response<Body> {
    let (status, error) = translate(error, true, "");
    json_body(status, jsonrpc::error_response(None, &error))
}

fn refuse_invalid(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    json_body(status, jsonrpc::error_response(None, &ErrorObject::new(jsonrpc::INVALID_REQUEST, message)))
}

fn refuse_malformed(malformed: &MalformedMessage) -> Response<Body> {
    json_body(StatusCode::BAD_REQUEST, malformed_message(malformed))
}

fn malformed_message(malformed: &MalformedMessage) -> String {
    jsonrpc::error_response(malformed.id.as_ref(), &ErrorObject::new(malformed.code, malformed.reason.clone()))
}

/// A body that an event could not be turned into a request for.
pub(crate) fn bad_request(reason: &str) -> Response<Body> {
    refuse_invalid(StatusCode::BAD_REQUEST, reason)
}

fn not_found(path: &str) -> Response<Body> {
    let mut response = refuse(StatusCode::NOT_FOUND, None, "nothing is here; the MCP endpoint is /mcp");
    if path.starts_with(WELL_KNOWN) {
        // Clients in a browser look here for authorization metadata and must be able to see that there is none.
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    response
}

fn not_acceptable(id: Option<&RequestId>) -> Response<Body> {
    refuse(StatusCode::NOT_ACCEPTABLE, id, "`Accept` must list application/json and text/event-stream")
}

fn method_not_allowed() -> Response<Body> {
    let message = "the MCP endpoint takes POST; it has no stream to GET and no session to DELETE";
    let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, None, message);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    response
}

fn json_body(status: StatusCode, message: String) -> Response<Body> {
    response(status, Some("application/json"), Body::whole(message))
}

fn event_stream(body: Body) -> Response<Body> {
    let mut response = response(StatusCode::OK, Some("text/event-stream"), body);
    // Proxies must not hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    response(status, None, Body::whole(Bytes::new()))
}

fn response(status: StatusCode, content_type: Option<&'static str>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

impl<S: Send + Sync + 'static> tower_service::Service<Request<Bytes>> for McpService<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.handle(request).await) })
    }
}

impl<S> Clone for McpService<S> {
    fn clone(&self) -> Self {
        Self { router: self.router.clone(), config: Arc::clone(&self.config) }
    }
}

impl<S> fmt::Debug for McpService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpService").field("router", &self.router).field("config", &self.config).finish()
    }
}
