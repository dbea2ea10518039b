//! MCP over `http` types: the service that a function's `main` runs and its tests call.
//!
//! This module alone knows status codes: `answers` gives each decision its own. A request is checked from the outside in
//! (path, origin, method, media type, size, JSON-RPC, era, headers that repeat the body), then `mcp-server` decides, and the
//! decision gets its status. `exchange` is a request while it is answered, `finisher` the end of a call, `batch` several calls
//! in one request.

use std::{
    borrow::Cow,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use mcp_protocol::{Incoming, Message, ProtocolVersion, method};
use mcp_server::{
    Answer, BuiltServer, Call, CallError, CallOutcome, InitError, Invocation, Resolved, Server, Settings,
};
use tracing::Instrument;

use crate::{
    Body, EventSource, HttpConfig, IamIdentity, InvokeMode, PublicUrl,
    authentication::{Authenticator, Challenger, security_schemes},
    body::BodyError,
    call_log::{CallLog, CallLogs},
    config, era,
    headers::{self, Accept},
    origin::{OriginVerdict, add_preflight_headers},
    sse::{EventStream, PendingEvents},
    traces::server_span,
};

mod answers;
mod batch;
mod exchange;
mod finisher;
mod handler_refusal;
mod routes;

pub(crate) use answers::{bad_request, internal_error};
use answers::{
    empty, event_stream, html, json_body, method_not_allowed, not_acceptable, not_found, refuse, refuse_era,
    refuse_malformed, reject, without_body,
};
use exchange::{Exchange, ResponseLimits, log_refusal};
use finisher::Finisher;
use routes::{Layered, Route, Visit};

/// The path of the MCP endpoint. `/` is the endpoint too, for a Function URL that is pasted bare.
const ENDPOINT: &str = "/mcp";
const WELL_KNOWN: &str = "/.well-known/";
/// The longest origin that is repeated in the log.
const MAX_LOGGED_ORIGIN_BYTES: usize = 256;

/// The largest body that is read. What Lambda passes on is smaller still.
const MAX_REQUEST_BYTES: usize = 6 * 1024 * 1024;
/// What a streaming Function URL can carry.
const MAX_STREAMED_BYTES: usize = 200 * 1024 * 1024;

/// An MCP server over HTTP: a [`tower_service::Service`] from requests with whole bodies to responses.
///
/// What the invocation adds to a request travels in its extensions: [`Invocation`] and [`Transport`]. Without them it
/// is served as one without deadline or name, which is what most tests want.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, StatusCode};
/// use mcp_lambda::{HttpConfig, McpService, Server};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = McpService::new(Server::new("greeter", "0.1.0", ()), HttpConfig::default())?;
/// let ping = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
/// let request = Request::post("/mcp").header("content-type", "application/json").body(ping)?;
///
/// let response = service.oneshot(request).await?;
///
/// assert_eq!(response.status(), StatusCode::OK);
/// # Ok(())
/// # }
/// ```
pub struct McpService {
    router: BuiltServer,
    config: Arc<HttpConfig>,
    authenticator: Arc<Authenticator>,
    /// The first name that a request was sent to, and what it means.
    first_name: Arc<OnceLock<(String, Option<PublicUrl>)>>,
    logs: Arc<CallLogs>,
    /// Services beside the endpoint; few or none.
    routes: Arc<[Arc<Route>]>,
    layered: Option<Arc<Layered>>,
}

/// What an event says about the way back, for the request's extensions.
#[derive(Debug, Clone)]
pub struct Transport {
    /// The kind of event, which limits the size of the answer.
    pub source: EventSource,
    /// The name that the request was sent to, if the platform vouches for it.
    pub domain_name: Option<String>,
    /// Who signed the request, if the platform has verified a signature.
    pub iam: Option<IamIdentity>,
}

impl McpService {
    /// Puts a server behind HTTP.
    ///
    /// # Errors
    ///
    /// When something in the server asks the client and `config` has no state key; when the server says who may use what
    /// and `config` has no way to know callers.
    ///
    /// # Panics
    ///
    /// When the server has a mistake that [`Server::build`] finds.
    #[track_caller]
    pub fn new<S: Send + Sync + 'static>(server: Server<S>, config: HttpConfig) -> Result<Self, InitError> {
        let authorization = config.authentication.authorization(&config);
        let settings =
            Settings { state_key: config.state_key.clone(), authorization, describe_access: Some(security_schemes) };
        let router = server.build(settings).map_err(config::explained)?;
        let authenticator = Arc::new(Authenticator::new(&config.authentication));
        let logs = Arc::new(CallLogs::new(&config, router.name()));
        let (config, first_name) = (Arc::new(config), Arc::default());
        Ok(Self { router, config, authenticator, first_name, logs, routes: Arc::default(), layered: None })
    }

    pub(crate) fn invoke_mode(&self) -> InvokeMode {
        self.config.invoke_mode
    }

    pub(crate) fn router(&self) -> &BuiltServer {
        &self.router
    }

    /// Does in the init phase what is configured to be done then (`OIDC_WARM`). [`main`](crate::main) awaits it before the first
    /// invocation.
    pub async fn warm(&self) {
        self.authenticator.warm().await;
    }

    /// Runs the server's close hooks. [`main`](crate::main) does on SIGTERM.
    pub async fn close(&self) {
        self.router.close().await;
    }

    /// Answers a request.
    pub async fn handle(&self, mut request: Request<Bytes>) -> Response<Body> {
        let invocation = request.extensions_mut().remove::<Invocation>().unwrap_or_default();
        let transport = request.extensions_mut().remove::<Transport>();
        self.serve(request, invocation, transport.as_ref()).await
    }

    pub(crate) async fn serve(
        &self,
        request: Request<Bytes>,
        invocation: Invocation,
        transport: Option<&Transport>,
    ) -> Response<Body> {
        if let Some(layered) = &self.layered {
            return layered.call(request, invocation, transport).await;
        }
        let (parts, body) = request.into_parts();
        let own_url = self.own_url(transport);
        let own_url = own_url.as_deref();

        let path = own_url.map_or(parts.uri.path(), |url| url.strip_prefix(parts.uri.path()));
        if path.starts_with(WELL_KNOWN) {
            return self.well_known(&parts, path, own_url, &invocation);
        }
        // People and clients write a URL with a slash at its end or without: both are the same endpoint and resource.
        let endpoint = path.strip_suffix('/').unwrap_or(path);
        if !matches!(endpoint, ENDPOINT | "") {
            let Some(route) = self.routes.iter().find(|route| route.path == path) else {
                return not_found();
            };
            let request = Request::from_parts(parts, body);
            return (route.answer)(self, route, Visit { request, invocation, transport, own_url }).await;
        }
        // A bare Function URL is a resource of that name.
        let challenger = Challenger { authenticator: &self.authenticator, router: &self.router, own_url, endpoint };
        let caller = OriginVerdict::of(&parts.headers, own_url, &self.config.allowed_origins);
        let mut response = if caller == OriginVerdict::Foreign {
            log_foreign(&parts.headers, &invocation.request_id);
            refuse(StatusCode::FORBIDDEN, None, "pages of this origin may not call this server")
        } else {
            match parts.method {
                Method::POST => {
                    let begin = Instant::now();
                    let iam = transport.and_then(|transport| transport.iam.as_ref());
                    let message = read(&parts.headers, &body);
                    let span = server_span(message.as_ref().ok(), &invocation);
                    let admission = self.authenticator.admit(&parts.headers, own_url, iam, &invocation);
                    let admitted = admission.instrument(span.clone()).await;
                    let (principal, rejected) = match admitted {
                        Ok(principal) => (principal, None),
                        Err(rejected) => (None, Some(rejected)),
                    };
                    let invocation = Invocation { principal, ..invocation };
                    #[cfg(feature = "token-exchange")]
                    let invocation = self.authenticator.with_caller_token(&parts.headers, invocation);
                    let invocation = Arc::new(invocation);
                    let exchange = Exchange {
                        headers: &parts.headers,
                        accept: Accept::of(&parts.headers),
                        log: Mutex::new(Some(self.logs.begin(&invocation, begin, span.clone()))),
                        invocation,
                        limits: self.limits(transport),
                        challenger,
                    };
                    let response = match &rejected {
                        None => self.post(&exchange, message).instrument(span).await,
                        Some(rejected) => exchange.reject(rejected, message.as_ref().ok()),
                    };
                    exchange.log_early_end(&response);
                    response
                }
                Method::OPTIONS => {
                    let mut response = empty(StatusCode::NO_CONTENT);
                    add_preflight_headers(&parts.headers, response.headers_mut());
                    response
                }
                Method::GET | Method::HEAD if !self.config.hides_page && headers::wants_page(&parts.headers) => {
                    self.page(&parts.method, own_url)
                }
                _ => {
                    let message = "the MCP endpoint takes POST; it has no stream to GET and no session to DELETE";
                    method_not_allowed(message, "POST, OPTIONS")
                }
            }
        };
        caller.add_headers(response.headers_mut());
        response
    }

    /// The server's name: as it is configured, or as the platform says. An environment has one name mostly, which is read
    /// once.
    fn own_url(&self, transport: Option<&Transport>) -> Option<Cow<'_, PublicUrl>> {
        if let Some(configured) = &self.config.public_url {
            return Some(Cow::Borrowed(configured));
        }
        let name = transport?.domain_name.as_deref()?;
        let (first, url) = self.first_name.get_or_init(|| (name.to_owned(), PublicUrl::from_domain_name(name)));
        match first == name {
            true => url.as_ref().map(Cow::Borrowed),
            false => PublicUrl::from_domain_name(name).map(Cow::Owned),
        }
    }

    fn limits(&self, transport: Option<&Transport>) -> ResponseLimits {
        match self.config.invoke_mode {
            InvokeMode::Stream => ResponseLimits { streams: true, max_bytes: MAX_STREAMED_BYTES },
            InvokeMode::Buffered => {
                let source = transport.map_or(EventSource::FunctionUrl, |transport| transport.source);
                ResponseLimits { streams: false, max_bytes: source.max_response_bytes() }
            }
        }
    }

    /// The page for a browser, which says the same to everyone.
    fn page(&self, method: &Method, own_url: Option<&PublicUrl>) -> Response<Body> {
        match *method {
            Method::HEAD => html(String::new()),
            _ => {
                let endpoint = own_url.map(|url| format!("{}/mcp", url.as_str()));
                let summary = self.router.describe(None);
                let (name, issuers) = (self.router.name(), self.authenticator.issuers());
                html(mcp_page::render(name, summary.as_ref(), &issuers, endpoint.as_deref()))
            }
        }
    }

    /// Metadata for clients that look for the issuer: for anyone, from any origin, without a token.
    fn well_known(
        &self,
        parts: &Parts,
        path: &str,
        own_url: Option<&PublicUrl>,
        invocation: &Invocation,
    ) -> Response<Body> {
        let metadata = self.authenticator.metadata(path, own_url, &self.router);
        let mut response = match (&parts.method, metadata) {
            (&Method::OPTIONS, _) => {
                let mut response = empty(StatusCode::NO_CONTENT);
                add_preflight_headers(&parts.headers, response.headers_mut());
                response
                    .headers_mut()
                    .insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
                response
            }
            (_, None) => not_found(),
            (&(Method::GET | Method::HEAD), Some(Ok(metadata))) => json_body(StatusCode::OK, metadata),
            (&(Method::GET | Method::HEAD), Some(Err(rejected))) => {
                rejected.log(&invocation.request_id);
                reject(&rejected, None, None)
            }
            (_, Some(_)) => method_not_allowed("metadata is there to GET", "GET, HEAD, OPTIONS"),
        };
        // Clients in a browser must be able to see also that there is none.
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        if parts.method == Method::HEAD { without_body(response) } else { response }
    }

    async fn post(
        &self,
        exchange: &Exchange<'_>,
        message: Result<Incoming<'_>, Box<Response<Body>>>,
    ) -> Response<Body> {
        let message = match message {
            // The router knows what this one needs.
            Ok(Incoming::Single(Message::Request(request))) => return self.request(exchange, &request).await,
            message => message,
        };
        if let Err(refusal) = self.admit(exchange) {
            return exchange.refuse_caller(None, &refusal);
        }
        match message {
            Ok(Incoming::Single(Message::Notification(_))) => exchange.accept_without_answer(true),
            Ok(Incoming::Single(_)) => exchange.accept_without_answer(false),
            Ok(Incoming::Batch(messages)) => self.batch(exchange, messages).await,
            Err(refusal) => *refusal,
        }
    }

    /// Whether the caller gets anything at all.
    fn admit(&self, exchange: &Exchange<'_>) -> Result<(), CallError> {
        self.router.admit(exchange.invocation.principal.as_deref())
    }

    async fn request(&self, exchange: &Exchange<'_>, request: &mcp_protocol::Request<'_>) -> Response<Body> {
        let params = era::params(request);
        // Of parameters that cannot be read nothing is needed: their fault is reported before the request runs.
        let known = params.as_ref().copied().unwrap_or_default();
        let head = era::of(exchange.headers, &request.method, params).and_then(|head| {
            let resolved = self.router.resolve(head.revision, &request.method, known, &exchange.invocation);
            if head.revision.is_modern() {
                headers::check_mirrored(exchange.headers, &request.method, &resolved).map_err(era::Refusal::modern)?;
            }
            Ok((head, resolved))
        });
        let (head, resolved) = match head {
            Ok(head) => head,
            Err(refusal) => {
                exchange.note(|log| log.set_method(&request.method));
                return match self.admit(exchange) {
                    Ok(()) => refuse_era(&refusal, &request.id),
                    Err(refusal) => exchange.refuse_caller(Some(&request.id), &refusal),
                };
            }
        };
        exchange.note(|log| note_request(log, &request.method, &resolved, &head));
        let era::Head { revision, meta } = head;
        if !exchange.accept.fits(revision) && self.admit(exchange).is_ok() {
            return not_acceptable(Some(&request.id));
        }
        let (notifications, mut receiver) = exchange.notifications(&meta, revision);
        let mut work = match resolved.run(Call { id: request.id.clone(), meta, notifications }) {
            Answer::Ready(outcome) => {
                let outcome = match outcome.authorization_refusal() {
                    None => *outcome,
                    Some(refusal) => match self.challenge_in_result(exchange, request, refusal, revision) {
                        Some(result) => result,
                        None => return exchange.refuse_caller(Some(&request.id), refusal),
                    },
                };
                let finisher = self.finisher(exchange, request, revision, exchange.take_log());
                return finisher.respond(outcome, PendingEvents::new(exchange.limits.max_bytes), exchange.accept);
            }
            Answer::Pending(work) => work,
        };
        let mut finisher = self.finisher(exchange, request, revision, exchange.take_log());

        let mut sent = PendingEvents::new(exchange.limits.max_bytes);
        loop {
            tokio::select! {
                biased;
                outcome = &mut work => {
                    sent.take_rest(&mut receiver);
                    if let Some(refusal) = outcome.authorization_refusal() {
                        if self.refuses_by_status(exchange, &request.method, refusal, !sent.is_empty()) {
                            return finisher.refuse(exchange, &outcome, refusal);
                        }
                        finisher.challenger = Some(self.owned_challenger(exchange));
                    }
                    return finisher.respond(outcome, sent, exchange.accept);
                }
                Some(notification) = receiver.recv() => {
                    if exchange.limits.streams {
                        finisher.challenger = Some(self.owned_challenger(exchange));
                        let finish = Box::new(move |outcome, sent_bytes| finisher.finish_stream(outcome, sent_bytes));
                        // The rest of the work is done while the body is read.
                        let work = Box::pin(work.in_current_span());
                        return event_stream(Body::stream(EventStream::new(notification, receiver, work, finish)));
                    }
                    sent.push(&notification);
                }
            }
        }
    }

    /// A refused call as a tool's result, where that is configured and a token would help.
    fn challenge_in_result(
        &self,
        exchange: &Exchange<'_>,
        request: &mcp_protocol::Request<'_>,
        refusal: &CallError,
        revision: ProtocolVersion,
    ) -> Option<CallOutcome> {
        if !self.config.challenges_in_result || request.method != method::TOOLS_CALL {
            return None;
        }
        let challenge = exchange.challenger.of(refusal)?;
        log_refusal(&exchange.invocation, refusal);
        Some(self.router.challenged_result(refusal, Some(&challenge), revision))
    }

    fn finisher(
        &self,
        exchange: &Exchange<'_>,
        request: &mcp_protocol::Request<'_>,
        revision: ProtocolVersion,
        log: Option<CallLog>,
    ) -> Finisher {
        Finisher {
            router: self.router.clone(),
            id: request.id.clone(),
            method: method::known(&request.method).unwrap_or_default(),
            revision,
            limits: exchange.limits,
            invocation: Arc::clone(&exchange.invocation),
            log,
            challenger: None,
        }
    }
}

/// What is asked for, for the log.
fn note_request(log: &mut CallLog, method: &str, resolved: &Resolved<'_>, head: &era::Head) {
    log.set_method(method);
    log.set_item(resolved.registered_name(), head.revision, &head.meta);
}

/// Says which pages might have been meant to call this server.
fn log_foreign(headers: &HeaderMap, request_id: &str) {
    let origin = headers.get(header::ORIGIN).map_or(&b""[..], HeaderValue::as_bytes);
    let origin = String::from_utf8_lossy(&origin[..origin.len().min(MAX_LOGGED_ORIGIN_BYTES)]);
    tracing::info!(request_id, %origin, "a page of an origin that is not allowed was refused");
}

/// Parses a body, or builds the response that rejects it, with the request's id wherever the body can be parsed.
fn read<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Incoming<'a>, Box<Response<Body>>> {
    let message = Incoming::parse(body);
    let id = || match &message {
        Ok(Incoming::Single(Message::Request(request))) => Some(&request.id),
        Ok(_) => None,
        Err(malformed) => malformed.id.as_ref(),
    };
    let unsupported = |message: &str| Box::new(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, id(), message));
    if body.len() > MAX_REQUEST_BYTES {
        let message = format!("the body has {} bytes; at most {MAX_REQUEST_BYTES} are read", body.len());
        return Err(Box::new(refuse(StatusCode::PAYLOAD_TOO_LARGE, id(), message)));
    }
    if headers::is_encoded(headers) {
        let mut response =
            unsupported("the body must be sent as it is, without Content-Encoding: compression is not supported");
        // RFC 9110, section 12.5.3: what a request may use instead.
        response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        return Err(response);
    }
    if !headers::is_json(headers.get(header::CONTENT_TYPE)) {
        return Err(unsupported("the body must be sent as application/json"));
    }
    message.map_err(|malformed| Box::new(refuse_malformed(&malformed)))
}

impl tower_service::Service<Request<Bytes>> for McpService {
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

/// For layers, which read and write bodies of this type.
impl tower_service::Service<Request<Body>> for McpService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            Ok(match body.bytes_up_to(MAX_REQUEST_BYTES).await {
                Ok(body) => service.handle(Request::from_parts(parts, body)).await,
                Err(BodyError::Truncated) => bad_request("the body of the request ended early"),
                Err(BodyError::TooLarge) => {
                    let message = format!("the body has more than the {MAX_REQUEST_BYTES} bytes that are read");
                    refuse(StatusCode::PAYLOAD_TOO_LARGE, None, message)
                }
            })
        })
    }
}

impl Clone for McpService {
    fn clone(&self) -> Self {
        Self {
            router: self.router.clone(),
            config: Arc::clone(&self.config),
            authenticator: Arc::clone(&self.authenticator),
            first_name: Arc::clone(&self.first_name),
            logs: Arc::clone(&self.logs),
            routes: Arc::clone(&self.routes),
            layered: self.layered.clone(),
        }
    }
}

impl fmt::Debug for McpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpService").field("router", &self.router).field("config", &self.config).finish()
    }
}
