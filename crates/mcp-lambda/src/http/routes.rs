//! Routes at paths other than the endpoint, and `tower` layers around the whole service.
//!
//! A function without routes and layers does not link this code: a route refers to it by a function pointer.

use std::{
    fmt,
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use mcp_server::{BoxError, CallError, Invocation, Principal, error_chain};
use tokio::time::sleep_until;
use tower::{Layer, Service};

#[cfg(feature = "limits")]
use super::limits;
use super::{
    ENDPOINT, MAX_REQUEST_BYTES, WELL_KNOWN,
    exchange::{ResponseLimits, log_unauthorized_of},
    log_foreign_origin,
    responses::{auth_error_response, challenged, empty, error_response, internal_error, translate, without_body},
};
use crate::{
    Body, McpService, PublicUrl, Transport,
    authentication::{Authenticator, Challenger},
    body::BodyError,
    events::encoded_bytes,
    logs::REJECTION,
    origin::{OriginVerdict, add_preflight_headers},
};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// A type-erased service.
type Handler = Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Result<Response<Body>, BoxError>> + Send + Sync>;

/// The function that serves a request to a route.
type RouteFn = for<'a> fn(&'a McpService, &'a Route, RouteRequest<'a>) -> BoxFuture<'a, Response<Body>>;

/// `Access-Control-Allow-Methods` of a route: its service decides which methods it supports.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
/// How much later than the service the layers reach their deadline, so that the service's own response is sent.
const LAYER_RESERVE: Duration = Duration::from_millis(100);

/// A service at a path other than the endpoint.
pub(super) struct Route {
    pub(super) path: String,
    body_limit: usize,
    handler: Handler,
    pub(super) serve: RouteFn,
}

/// A request to a route.
pub(super) struct RouteRequest<'a> {
    pub(super) request: Request<Bytes>,
    pub(super) invocation: Invocation,
    pub(super) transport: Option<&'a Transport>,
    pub(super) own_url: Option<&'a PublicUrl>,
}

/// The function that serves a request through the layers; its parameters are those of `McpService::serve`.
type LayeredFn =
    dyn Fn(Request<Bytes>, Invocation, Option<Transport>) -> BoxFuture<'static, Response<Body>> + Send + Sync;

/// The service with its layers.
pub(super) struct Layered(Box<LayeredFn>);

impl Layered {
    pub(super) fn call(
        &self,
        request: Request<Bytes>,
        invocation: Invocation,
        transport: Option<&Transport>,
    ) -> BoxFuture<'static, Response<Body>> {
        (self.0)(request, invocation, transport.cloned())
    }
}

impl McpService {
    /// Adds a service at another path, with the authentication of the endpoint: a request needs the same token, and web origins that
    /// are not allowed are rejected.
    ///
    /// The service gets requests of every method except `OPTIONS`, which is handled here. Their extensions contain the caller as an
    /// `Arc<Principal>` (none if authentication is off) and the [`Invocation`]; the header `Authorization` is removed. Requests of
    /// anonymous callers are rejected, even if the server has public items.
    ///
    /// The path is compared byte by byte, below the path of the public URL. It is neither decoded nor normalized: `/export/` differs
    /// from `/export`. Request bodies have at most 6 MiB, as at the endpoint. The response has status 504 after a missed deadline, and
    /// 500 after a panic, an error, or a response that cannot be sent (such as one with headers over 64 KiB).
    ///
    /// `tower::service_fn` makes a service of a function. An `axum::Router` is a service.
    ///
    /// ```
    /// use std::{convert::Infallible, sync::Arc};
    ///
    /// use http::{Request, Response};
    /// use mcp_lambda::{HttpConfig, McpService, Principal, Server, transport::Body};
    ///
    /// async fn export(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    ///     let caller = request.extensions().get::<Arc<Principal>>();
    ///     let name = caller.map_or("everyone", |caller| caller.subject.as_str());
    ///     Ok(Response::new(Body::whole(format!("events of {name}"))))
    /// }
    ///
    /// let service = McpService::new(Server::new("events", "0.1.0", ()), HttpConfig::default())?
    ///     .route("/export", tower::service_fn(export));
    /// # let _ = service;
    /// # Ok::<(), mcp_lambda::InitError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When the path is the endpoint or below it, below `/.well-known` or the path of `MCP_PUBLIC_URL`, already a route, or not a
    /// valid request path. When [`layer`](Self::layer) was called before, because that layer would not wrap this route.
    #[must_use]
    #[track_caller]
    pub fn route<R, B>(self, path: impl Into<String>, service: R) -> Self
    where
        R: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        R::Future: Send + 'static,
        R::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.with_route(path.into(), MAX_REQUEST_BYTES, handler(service), serve_authenticated)
    }

    /// Adds a service at another path without authentication: for webhooks, which are authenticated by a signature, and for callbacks
    /// of an authorization server. The service must authenticate its callers itself.
    ///
    /// Only the size of the body is checked (`body_limit`, in bytes): there is no token and no principal, and `Origin` and CORS are
    /// ignored. Otherwise it behaves as a [`route`](Self::route).
    ///
    /// ```
    /// use std::convert::Infallible;
    ///
    /// use http::{Request, Response, StatusCode};
    /// use mcp_lambda::{HttpConfig, McpService, Server, transport::Body};
    ///
    /// async fn webhook(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    ///     let (parts, body) = request.into_parts();
    ///     let body = body.bytes().await;
    ///     let is_genuine = parts.headers.get("x-signature").is_some_and(|signature| verify(signature.as_bytes(), &body));
    ///     let mut response = Response::new(Body::default());
    ///     *response.status_mut() = if is_genuine { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED };
    ///     Ok(response)
    /// }
    /// # fn verify(_: &[u8], _: &[u8]) -> bool { false }
    ///
    /// let service = McpService::new(Server::new("events", "0.1.0", ()), HttpConfig::default())?
    ///     .public_route("/webhook", 64 * 1024, tower::service_fn(webhook));
    /// # let _ = service;
    /// # Ok::<(), mcp_lambda::InitError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`route`](Self::route).
    #[must_use]
    #[track_caller]
    pub fn public_route<R, B>(self, path: impl Into<String>, body_limit: usize, service: R) -> Self
    where
        R: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        R::Future: Send + 'static,
        R::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.with_route(path.into(), body_limit, handler(service), serve_public)
    }

    /// Wraps the whole service in a `tower` layer: the endpoint, the well-known paths, the HTML page and the routes. The layer that is
    /// added last is the outermost. Add routes first.
    ///
    /// The layer gets requests before authentication, and responses before they are sent. The extensions of a request contain the
    /// [`Invocation`], the [`Transport`], and the server's [`PublicUrl`] if it is known. An error of the layer becomes a response
    /// with status 500, a missed deadline one with 504. A malformed event is rejected before it reaches the layer.
    ///
    /// ```
    /// use http::{HeaderValue, Response};
    /// use mcp_lambda::{HttpConfig, McpService, Server, transport::Body};
    /// use tower::util::MapResponseLayer;
    ///
    /// let layer = MapResponseLayer::new(|mut response: Response<Body>| {
    ///     let value = HeaderValue::from_static("max-age=63072000");
    ///     response.headers_mut().insert("strict-transport-security", value);
    ///     response
    /// });
    /// let service = McpService::new(Server::new("events", "0.1.0", ()), HttpConfig::default())?.layer(layer);
    /// # let _ = service;
    /// # Ok::<(), mcp_lambda::InitError>(())
    /// ```
    #[must_use]
    pub fn layer<L, B>(self, layer: L) -> Self
    where
        L: Layer<Self>,
        L::Service: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<Body>>>::Future: Send + 'static,
        <L::Service as Service<Request<Body>>>::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (handler, service) = (handler(layer.layer(self.clone())), self.clone());
        let layered = Layered(Box::new(move |mut request: Request<Bytes>, invocation, transport| {
            let limits = service.limits(transport.as_ref());
            if let Some(url) = service.own_url(transport.as_ref()) {
                request.extensions_mut().insert(url.into_owned());
            }
            Box::pin(call_layers(Arc::clone(&handler), request, invocation, transport, limits))
        }));
        Self { layered: Some(Arc::new(layered)), ..self }
    }

    #[track_caller]
    fn with_route(mut self, path: String, body_limit: usize, handler: Handler, serve: RouteFn) -> Self {
        assert!(
            self.layered.is_none(),
            "the route `{path}` is added after a layer, which would not wrap it: add the route first"
        );
        if let Some(fault) = path_fault(&path) {
            panic!("`{path}` cannot be a route: {fault}");
        }
        if let Some(url) = self.config.public_url.as_ref().filter(|url| url.strip_prefix(&path) != path) {
            panic!(
                "`{path}` cannot be a route: it is under the path of MCP_PUBLIC_URL ({}), which is removed first",
                url.as_str()
            );
        }
        let is_taken = self.routes.iter().any(|route| route.path.eq_ignore_ascii_case(&path));
        assert!(!is_taken, "two routes have the path `{path}`");
        let routes = self.routes.iter().cloned();
        self.routes = routes.chain([Arc::new(Route { path, body_limit, handler, serve })]).collect();
        self
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// Why a path cannot be a route; `None` if it can.
fn path_fault(path: &str) -> Option<&'static str> {
    let is_under = |prefix: &str| {
        let own = path.get(..prefix.len()).filter(|own| own.eq_ignore_ascii_case(prefix));
        own.is_some() && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte);
    let mut segments = path.split('/').skip(1);
    if !path.starts_with('/') {
        Some("it must begin with a slash")
    } else if path == "/" || is_under(ENDPOINT) {
        Some("it belongs to the MCP endpoint")
    } else if is_under(WELL_KNOWN.trim_end_matches('/')) {
        Some("well-known paths are reserved")
    } else if !path.bytes().all(is_plain) {
        Some(
            "it must consist of characters that need no percent-encoding in a URL path, because it is compared without decoding",
        )
    } else if segments.any(|segment| matches!(segment, "" | "." | "..")) {
        Some("clients and proxies normalize empty segments, `.` and `..`")
    } else {
        None
    }
}

/// Erases the type of a service.
fn handler<R, B>(service: R) -> Handler
where
    R: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    R::Future: Send + 'static,
    R::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Arc::new(move |request| {
        let mut service = service.clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
            let response = service.call(request).await.map_err(Into::into)?;
            Ok(response.map(Body::new))
        })
    })
}

/// Serves a request to a [`route`](McpService::route).
fn serve_authenticated<'a>(
    service: &'a McpService,
    route: &'a Route,
    visit: RouteRequest<'a>,
) -> BoxFuture<'a, Response<Body>> {
    Box::pin(async move {
        let RouteRequest { request, mut invocation, transport, own_url } = visit;
        let (mut parts, body) = request.into_parts();
        let verdict = OriginVerdict::of(&parts.headers, own_url, &service.config.allowed_origins);
        let mut response = if verdict == OriginVerdict::Foreign {
            log_foreign_origin(&parts.headers, &invocation.request_id);
            error_response(StatusCode::FORBIDDEN, None, "pages of this origin may not call this server")
        } else if parts.method == Method::OPTIONS {
            let mut response = empty(StatusCode::NO_CONTENT);
            add_preflight_headers(&parts.headers, response.headers_mut(), false);
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            response
        } else {
            match authenticate(service, &parts, &invocation, transport, own_url).await {
                Ok(principal) => {
                    if principal.is_some() {
                        // The token's audience is the endpoint: the service gets the principal instead.
                        parts.headers.remove(header::AUTHORIZATION);
                    }
                    invocation.principal = principal;
                    call(route, Request::from_parts(parts, body), invocation, service.limits(transport)).await
                }
                Err(response) => *response,
            }
        };
        verdict.add_headers(response.headers_mut(), false);
        response
    })
}

/// Serves a request to a [`public_route`](McpService::public_route).
fn serve_public<'a>(
    service: &'a McpService,
    route: &'a Route,
    visit: RouteRequest<'a>,
) -> BoxFuture<'a, Response<Body>> {
    let invocation = Invocation { principal: None, ..visit.invocation };
    Box::pin(call(route, visit.request, invocation, service.limits(visit.transport)))
}

/// Authenticates a caller as the endpoint does; `None` only if authentication is off.
async fn authenticate(
    service: &McpService,
    parts: &Parts,
    invocation: &Invocation,
    transport: Option<&Transport>,
    own_url: Option<&PublicUrl>,
) -> Result<Option<Arc<Principal>>, Box<Response<Body>>> {
    let (authenticator, server) = (&*service.authenticator, &service.server);
    // The audience of tokens is the endpoint: routes are not protected resources of their own.
    let challenger = Challenger { authenticator, server, own_url, endpoint: ENDPOINT };
    let iam = transport.and_then(|transport| transport.iam.as_ref());
    let admitted = authenticator.admit(&parts.headers, own_url, iam, invocation).await;
    #[cfg(feature = "limits")]
    {
        let is_authenticated = matches!(admitted, Ok(Some(_)));
        let (address, rejected) = (limits::source_address(&parts.extensions), admitted.as_ref().err());
        let one = mcp_server::Counted::Requests(1);
        if let Some(limited) = service.count_anonymous(address, is_authenticated, rejected, one, invocation.received) {
            return Err(Box::new(limits::reject_at_route(&invocation.request_id, &limited)));
        }
    }
    let principal = admitted.map_err(|rejected| {
        rejected.log(&invocation.request_id);
        auth_error_response(&rejected, None, challenger.rejected(&rejected, &[]))
    })?;
    let is_open = matches!(authenticator, Authenticator::Open);
    let denial = match (&principal, server.permit(principal.as_deref())) {
        (_, Err(denial)) => denial,
        // Public items of the server do not make its routes public.
        (None, Ok(())) if !is_open => CallError::Unauthenticated { scopes: Vec::new() },
        (_, Ok(())) => return Ok(principal),
    };
    log_unauthorized_of(&invocation.request_id, principal.as_deref(), &denial);
    let (status, error) = translate(&denial, true, "");
    Err(Box::new(challenged(status, None, error, challenger.of(&denial))))
}

/// Calls the service of a route, until the deadline, and logs the request.
async fn call(
    route: &Route,
    request: Request<Bytes>,
    invocation: Invocation,
    limits: ResponseLimits,
) -> Response<Body> {
    let begin = Instant::now();
    let (mut parts, body) = request.into_parts();
    let (request_id, is_head) = (invocation.request_id.clone(), parts.method == Method::HEAD);
    let answer_by = invocation.answer_by();
    let response = if body.len() > route.body_limit {
        let message = format!("the body has {} bytes; the limit is {}", body.len(), route.body_limit);
        error_response(StatusCode::PAYLOAD_TOO_LARGE, None, message)
    } else {
        // A layer may have inserted another principal.
        parts.extensions.remove::<Arc<Principal>>();
        if let Some(principal) = &invocation.principal {
            parts.extensions.insert(Arc::clone(principal));
        }
        parts.extensions.insert(invocation);
        let request = Request::from_parts(parts, Body::whole(body));
        let work = async { respond((route.handler)(request).await?, limits, answer_by).await };
        with_deadline(answer_by, &request_id, &route.path, work).await
    };
    let (status, duration_ms) = (response.status().as_u16(), begin.elapsed().as_secs_f64() * 1000.0);
    if response.status().is_client_error() {
        tracing::info!(name: REJECTION, request_id, route = route.path, status, duration_ms, "a route was called");
    } else {
        tracing::info!(request_id, route = route.path, status, duration_ms, "a route was called");
    }
    if is_head { without_body(response) } else { response }
}

/// Prepares the response of a service: a stream, or a complete body with_deadline the size limit.
async fn respond(
    response: Response<Body>,
    limits: ResponseLimits,
    answer_by: Option<Instant>,
) -> Result<Response<Body>, BoxError> {
    let (mut parts, body) = response.into_parts();
    // The platform sets `Content-Length`.
    parts.headers.remove(header::CONTENT_LENGTH);
    if limits.streams {
        return Ok(Response::from_parts(parts, Body::with_end(body, answer_by.map(Into::into))));
    }
    let body = match body.bytes_up_to(limits.max_bytes).await {
        Ok(body) => Some(body),
        Err(BodyError::TooLarge) => None,
        Err(BodyError::Truncated) => return Err("the body of its response failed".into()),
    };
    let fits = |body: &Bytes| {
        let carried = match std::str::from_utf8(body) {
            Ok(text) => encoded_bytes(&parts.headers, text),
            Err(_) => encoded_bytes(&parts.headers, "") + body.len().div_ceil(3) * 4,
        };
        carried <= limits.max_bytes
    };
    match body.filter(fits) {
        Some(body) => Ok(Response::from_parts(parts, Body::whole(body))),
        None => Err(format!("its response is larger than the limit of {} bytes", limits.max_bytes).into()),
    }
}

/// Runs a service until the deadline, and catches panics. `path` is the route in the log.
async fn with_deadline(
    answer_by: Option<Instant>,
    request_id: &str,
    path: &str,
    work: impl Future<Output = Result<Response<Body>, BoxError>> + Send,
) -> Response<Body> {
    let deadline = async {
        match answer_by {
            Some(at) => sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // The deadline is polled first, so that the service is not polled after it.
        biased;
        () = deadline => {
            tracing::warn!(request_id, route = path, "a route or layer was cut: the deadline came first");
            error_response(StatusCode::GATEWAY_TIMEOUT, None, "the request did not finish before the function's deadline")
        }
        result = AssertUnwindSafe(work).catch_unwind() => match result {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let error = error_chain(error.as_ref());
                tracing::error!(request_id, route = path, error, "a route or layer failed");
                internal_error(request_id)
            }
            Err(_) => {
                tracing::error!(request_id, route = path, "a route or layer panicked");
                internal_error(request_id)
            }
        }
    }
}

/// Passes a request through the layers, with its invocation and transport as extensions.
async fn call_layers(
    handler: Handler,
    mut request: Request<Bytes>,
    invocation: Invocation,
    transport: Option<Transport>,
    limits: ResponseLimits,
) -> Response<Body> {
    let request_id = invocation.request_id.clone();
    let answer_by = invocation.answer_by().map(|at| at + LAYER_RESERVE);
    request.extensions_mut().insert(invocation);
    if let Some(transport) = transport {
        request.extensions_mut().insert(transport);
    }
    let work = async { respond(handler(request.map(Body::whole)).await?, limits, answer_by).await };
    with_deadline(answer_by, &request_id, "", work).await
}

#[cfg(test)]
mod tests;
