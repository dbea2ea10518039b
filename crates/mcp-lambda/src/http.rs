//! MCP over `http` types: the service that a function's `main` runs and its tests call.
//!
//! Only this module sets status codes; `responses` maps each error to one. A request is checked in the order path, origin, method,
//! media type, size, JSON-RPC, protocol version, mirrored headers. Then `mcp-server` dispatches it, and its result gets a status.
//!
//! Bottom-up: `responses` builds responses, `exchange` is the state of a request, `finisher` converts an outcome into a response,
//! `limits` rejects requests over a rate limit, `admission` authenticates the caller, `handler_scopes` handles scope errors of
//! handlers, `legacy_questions` asks clients of 2025-11-25, `calls` serves a request and `batch` a batch, `discovery` serves the HTML
//! page and the metadata, `routes` serves other paths and layers. `service` implements `tower_service::Service`.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use mcp_server::{BuiltServer, InitError, Invocation, Server, Settings};
use tracing::Instrument;

use crate::{
    Body, EventSource, HttpConfig, IamIdentity, InvokeMode, PublicUrl,
    authentication::{Authenticator, Challenger, security_schemes},
    call_log::CallLogs,
    config, headers,
    logs::REJECTION,
    origin::{OriginVerdict, add_preflight_headers},
};

mod admission;
mod batch;
mod calls;
mod discovery;
mod exchange;
mod finisher;
mod handler_scopes;
#[cfg(all(feature = "interactive", feature = "store"))]
mod legacy_questions;
#[cfg(feature = "limits")]
mod limits;
mod responses;
mod routes;
mod service;

use admission::Admitted;
use exchange::ResponseLimits;
pub(crate) use responses::{bad_request, internal_error};
use responses::{empty, error_response, method_not_allowed, not_found};
use routes::{Layered, Route, RouteRequest};

/// The path of the MCP endpoint. `/` is the endpoint too, so that a Function URL without a path works.
const ENDPOINT: &str = "/mcp";
const WELL_KNOWN: &str = "/.well-known/";
/// The longest logged origin.
const MAX_LOGGED_ORIGIN_BYTES: usize = 256;

/// The largest request body. Lambda's limit, 6 MB for the event, is lower.
const MAX_REQUEST_BYTES: usize = 6 * 1024 * 1024;
/// The largest streamed response of a Function URL.
const MAX_STREAMED_BYTES: usize = 200 * 1024 * 1024;

/// An MCP server over HTTP: a [`tower_service::Service`] from requests with complete bodies to responses.
///
/// [`main`](crate::main) runs it on Lambda. In a test, call it as any `tower` service, as below. The properties of the Lambda
/// invocation are extensions of the request: [`Invocation`] and [`Transport`]. Without them, the request has no deadline, and the
/// server no domain name, which suits most tests.
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
    server: BuiltServer,
    config: Arc<HttpConfig>,
    authenticator: Arc<Authenticator>,
    /// The domain name of the first request, and the URL that was parsed from it.
    cached_url: Arc<OnceLock<(String, Option<PublicUrl>)>>,
    logs: Arc<CallLogs>,
    /// Services at other paths.
    routes: Arc<[Arc<Route>]>,
    layered: Option<Arc<Layered>>,
    #[cfg(feature = "store")]
    pub(crate) commands: Arc<Vec<crate::command::Command>>,
}

/// The properties of an event that the service needs, as an extension of the request.
#[derive(Debug, Clone)]
pub struct Transport {
    /// The kind of event, which determines the size limit of the response.
    pub source: EventSource,
    /// The domain name that the request was sent to, if the platform has set it and not the caller.
    pub domain_name: Option<String>,
    /// The IAM identity of the caller, if the platform has verified a signature.
    pub iam: Option<IamIdentity>,
}

impl McpService {
    /// Builds the server, and serves it over HTTP as `config` says.
    ///
    /// # Errors
    ///
    /// When a handler sends requests to the client but `config` has no state key, when the server has access rules but `config` has no
    /// authentication, or when a resource template requires less than an item that it matches ([`Server::build`]).
    #[track_caller]
    pub fn new<S: Send + Sync + 'static>(server: Server<S>, config: HttpConfig) -> Result<Self, InitError> {
        let authorization = config.authentication.authorization(&config);
        #[cfg(feature = "limits")]
        let server = config.anonymous_limit.apply(server);
        let settings =
            Settings { state_key: config.state_key.clone(), authorization, describe_access: Some(security_schemes) };
        let server = server.build(settings).map_err(config::to_init_error)?;
        let authenticator = Arc::new(Authenticator::new(&config.authentication));
        let logs = Arc::new(CallLogs::new(&config, server.name()));
        let (config, cached_url) = (Arc::new(config), Arc::default());
        let service = Self {
            server,
            config,
            authenticator,
            cached_url,
            logs,
            routes: Arc::default(),
            layered: None,
            #[cfg(feature = "store")]
            commands: Arc::default(),
        };
        #[cfg(feature = "store")]
        let service = service.with_subject_deletion();
        Ok(service)
    }

    pub(crate) fn invoke_mode(&self) -> InvokeMode {
        self.config.invoke_mode
    }

    pub(crate) fn server(&self) -> &BuiltServer {
        &self.server
    }

    /// Returns what loads the state key again when a value was sealed with an unknown key, for values that a function seals itself
    /// (`ValueSealer`).
    #[cfg(any(feature = "interactive", feature = "store"))]
    pub fn key_loader(&self) -> &Arc<mcp_server::KeyLoader> {
        self.server.key_loader()
    }

    /// Fetches the keys of issuers, if `OIDC_WARM` is on. [`main`](crate::main) awaits it in the init phase, before the first
    /// invocation.
    pub async fn warm(&self) {
        self.authenticator.warm().await;
    }

    /// Runs the close hooks of the server. [`main`](crate::main) calls it on SIGTERM.
    pub async fn close(&self) {
        self.server.close().await;
    }

    /// Handles a request. `Service::call` does the same.
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
        // A trailing slash is ignored: both forms are the same endpoint and resource.
        let endpoint = path.strip_suffix('/').unwrap_or(path);
        if !matches!(endpoint, ENDPOINT | "") {
            let Some(route) = self.routes.iter().find(|route| route.path == path) else {
                return not_found();
            };
            let request = Request::from_parts(parts, body);
            return (route.serve)(self, route, RouteRequest { request, invocation, transport, own_url }).await;
        }
        // The URL without a path is a protected resource of its own.
        let challenger = Challenger { authenticator: &self.authenticator, server: &self.server, own_url, endpoint };
        let caller = OriginVerdict::of(&parts.headers, own_url, &self.config.allowed_origins);
        let mut response = if caller == OriginVerdict::Foreign {
            log_foreign_origin(&parts.headers, &invocation.request_id);
            error_response(StatusCode::FORBIDDEN, None, "pages of this origin may not call this server")
        } else {
            match parts.method {
                Method::POST => {
                    let begin = Instant::now();
                    let message = calls::parse_body(&parts.headers, &body);
                    let admission =
                        self.admitted(begin, &parts, message.as_ref().ok(), transport, challenger, invocation);
                    let Admitted { exchange, span, rejection } = admission.await;
                    let response = match rejection {
                        Some(rejection) => *rejection,
                        None => self.post(&exchange, message).instrument(span).await,
                    };
                    exchange.log_before_dispatch(&response);
                    response
                }
                Method::OPTIONS => {
                    let mut response = empty(StatusCode::NO_CONTENT);
                    add_preflight_headers(&parts.headers, response.headers_mut(), self.has_sessions());
                    response
                }
                #[cfg(all(feature = "interactive", feature = "store"))]
                Method::GET if self.has_sessions() && parts.headers.contains_key(&headers::LAST_EVENT_ID) => {
                    self.resume(&parts, transport, challenger, invocation).await
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
        caller.add_headers(response.headers_mut(), self.has_sessions());
        response
    }

    /// Whether the server asks clients of 2025-11-25, which get session ids and resume streams by GET.
    #[cfg(all(feature = "interactive", feature = "store"))]
    fn has_sessions(&self) -> bool {
        self.server.questions().is_some()
    }

    #[cfg(not(all(feature = "interactive", feature = "store")))]
    #[inline]
    const fn has_sessions(&self) -> bool {
        // Only a server with both features has sessions.
        let _ = self;
        false
    }

    /// The public URL of the server: the configured one, or that of the event's domain name. The first domain name is cached, because
    /// most execution environments see only one.
    fn own_url(&self, transport: Option<&Transport>) -> Option<Cow<'_, PublicUrl>> {
        if let Some(configured) = &self.config.public_url {
            return Some(Cow::Borrowed(configured));
        }
        let name = transport?.domain_name.as_deref()?;
        let (first, url) = self.cached_url.get_or_init(|| (name.to_owned(), PublicUrl::from_domain_name(name)));
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
}

/// Logs a rejected origin, so that the operator can allow it.
fn log_foreign_origin(headers: &HeaderMap, request_id: &str) {
    let origin = headers.get(header::ORIGIN).map_or(&b""[..], HeaderValue::as_bytes);
    let origin = String::from_utf8_lossy(&origin[..origin.len().min(MAX_LOGGED_ORIGIN_BYTES)]);
    tracing::info!(name: REJECTION, request_id, %origin, "a page of an origin that is not allowed was refused");
}

impl Clone for McpService {
    fn clone(&self) -> Self {
        Self {
            server: self.server.clone(),
            config: Arc::clone(&self.config),
            authenticator: Arc::clone(&self.authenticator),
            cached_url: Arc::clone(&self.cached_url),
            logs: Arc::clone(&self.logs),
            routes: Arc::clone(&self.routes),
            layered: self.layered.clone(),
            #[cfg(feature = "store")]
            commands: Arc::clone(&self.commands),
        }
    }
}

impl fmt::Debug for McpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpService").field("server", &self.server).field("config", &self.config).finish()
    }
}
