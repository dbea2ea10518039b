//! Services beside the endpoint, and layers around all of them.
//!
//! A function without either has nothing of this linked: a route brings the code that calls it, as a function pointer.

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

use super::{
    ENDPOINT, MAX_REQUEST_BYTES, WELL_KNOWN,
    answers::{challenged, empty, internal_error, refuse, reject, translate, without_body},
    exchange::{ResponseLimits, log_refusal_of},
    log_foreign,
};
use crate::{
    Body, McpService, PublicUrl, Transport,
    authentication::{Authenticator, Challenger},
    body::BodyError,
    events::carried_bytes,
    origin::{OriginVerdict, add_preflight_headers},
};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// A service without its type.
type Handler = Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Result<Response<Body>, BoxError>> + Send + Sync>;

/// What calls a route.
type AnswerRoute = for<'a> fn(&'a McpService, &'a Route, Visit<'a>) -> BoxFuture<'a, Response<Body>>;

/// The methods of a route's requests that pages may use: which of them it takes is for its service to decide.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
/// The service ends what it does itself before layers are cut off.
const LAYER_RESERVE: Duration = Duration::from_millis(100);

/// A service beside the endpoint.
pub(super) struct Route {
    pub(super) path: String,
    body_limit: usize,
    handler: Handler,
    pub(super) answer: AnswerRoute,
}

/// A request to a route.
pub(super) struct Visit<'a> {
    pub(super) request: Request<Bytes>,
    pub(super) invocation: Invocation,
    pub(super) transport: Option<&'a Transport>,
    pub(super) own_url: Option<&'a PublicUrl>,
}

/// A request's parts as `McpService::serve` has them, to a response.
type AnswerLayered =
    dyn Fn(Request<Bytes>, Invocation, Option<Transport>) -> BoxFuture<'static, Response<Body>> + Send + Sync;

/// The service with its layers.
pub(super) struct Layered(Box<AnswerLayered>);

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
    /// Adds a service at a path beside the endpoint, for the endpoint's callers: a request needs the same token, and pages of foreign
    /// origins are rejected.
    ///
    /// The service gets requests of every method, with the caller as an `Arc<Principal>` in their extensions (none where
    /// authentication is off) in place of the header `Authorization`, and the [`Invocation`]. `OPTIONS` is answered before it. It never sees a request of an anonymous caller, even where discovery is public.
    /// The path is compared byte by byte below the server's own URL: nothing is decoded or normalized, and `/export/` is another path than
    /// `/export`. Bodies of requests have at most 6 MiB, as the endpoint's. A panic, an error, a
    /// response that cannot be sent (headers over 64 KiB, say) or a missed deadline is a response with status 500 or 504.
    ///
    /// `tower::service_fn` turns a function into a service; an `axum::Router` is one.
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
    /// When the path is the endpoint's or under it, under `/.well-known` or the path of `MCP_PUBLIC_URL`, that of another
    /// route, or none that a request can have; when the service has a layer already, which would not be around this route.
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
        self.with_route(path.into(), MAX_REQUEST_BYTES, handler(service), answer_closed)
    }

    /// Adds a service at a path beside the endpoint that anyone may call: for webhooks, which prove their sender with a signature, and for
    /// callbacks of an authorization server. The service checks its callers itself.
    ///
    /// Nothing is checked but the size of the body: there is no token, no principal, and neither `Origin` nor CORS is looked at. Else it
    /// is as a [`route`](Self::route).
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
        self.with_route(path.into(), body_limit, handler(service), answer_public)
    }

    /// Wraps the whole service in a layer: the endpoint, the well-known paths, the page and the routes. The last one added is the outermost.
    ///
    /// It sees requests before authentication, and responses as they leave. An error of the layer is a response with status 500,
    /// a missed deadline one with 504. Requests that could not be read from an event do not reach it.
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
        let layered = Layered(Box::new(move |request, invocation, transport| {
            let limits = service.limits(transport.as_ref());
            Box::pin(call_layers(Arc::clone(&handler), request, invocation, transport, limits))
        }));
        Self { layered: Some(Arc::new(layered)), ..self }
    }

    #[track_caller]
    fn with_route(mut self, path: String, body_limit: usize, handler: Handler, answer: AnswerRoute) -> Self {
        assert!(
            self.layered.is_none(),
            "the route `{path}` comes after a layer, which would not be around it: add it before"
        );
        if let Some(fault) = fault_of(&path) {
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
        self.routes = routes.chain([Arc::new(Route { path, body_limit, handler, answer })]).collect();
        self
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// Why a path cannot be a route's.
fn fault_of(path: &str) -> Option<&'static str> {
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
        Some("the well-known paths are those of the specifications")
    } else if !path.bytes().all(is_plain) {
        Some("it is compared as it is sent, so that it has no other characters than a URL's path has without encoding")
    } else if segments.any(|segment| matches!(segment, "" | "." | "..")) {
        Some("clients and proxies change empty segments, `.` and `..`")
    } else {
        None
    }
}

/// A service without its type.
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

/// Answers a request to a route for the endpoint's callers.
fn answer_closed<'a>(service: &'a McpService, route: &'a Route, visit: Visit<'a>) -> BoxFuture<'a, Response<Body>> {
    Box::pin(async move {
        let Visit { request, mut invocation, transport, own_url } = visit;
        let (mut parts, body) = request.into_parts();
        let verdict = OriginVerdict::of(&parts.headers, own_url, &service.config.allowed_origins);
        let mut response = if verdict == OriginVerdict::Foreign {
            log_foreign(&parts.headers, &invocation.request_id);
            refuse(StatusCode::FORBIDDEN, None, "pages of this origin may not call this server")
        } else if parts.method == Method::OPTIONS {
            let mut response = empty(StatusCode::NO_CONTENT);
            add_preflight_headers(&parts.headers, response.headers_mut());
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            response
        } else {
            match authenticate(service, &parts, &invocation, transport, own_url).await {
                Ok(principal) => {
                    if principal.is_some() {
                        // The token is for the endpoint: a service gets the caller alone.
                        parts.headers.remove(header::AUTHORIZATION);
                    }
                    invocation.principal = principal;
                    call(route, Request::from_parts(parts, body), invocation, service.limits(transport)).await
                }
                Err(refusal) => *refusal,
            }
        };
        verdict.add_headers(response.headers_mut());
        response
    })
}

/// Answers a request to a route that anyone may call.
fn answer_public<'a>(service: &'a McpService, route: &'a Route, visit: Visit<'a>) -> BoxFuture<'a, Response<Body>> {
    let invocation = Invocation { principal: None, ..visit.invocation };
    Box::pin(call(route, visit.request, invocation, service.limits(visit.transport)))
}

/// The caller, as the endpoint authenticates it; `None` only where authentication is off.
async fn authenticate(
    service: &McpService,
    parts: &Parts,
    invocation: &Invocation,
    transport: Option<&Transport>,
    own_url: Option<&PublicUrl>,
) -> Result<Option<Arc<Principal>>, Box<Response<Body>>> {
    let (authenticator, server) = (&*service.authenticator, &service.server);
    // Tokens are for the endpoint: there is no other resource.
    let challenger = Challenger { authenticator, server, own_url, endpoint: ENDPOINT };
    let iam = transport.and_then(|transport| transport.iam.as_ref());
    let principal = authenticator.admit(&parts.headers, own_url, iam, invocation).await.map_err(|rejected| {
        rejected.log(&invocation.request_id);
        reject(&rejected, None, challenger.rejected(&rejected, &[]))
    })?;
    let is_open = matches!(authenticator, Authenticator::Open);
    let refusal = match (&principal, server.permit(principal.as_deref())) {
        (_, Err(refusal)) => refusal,
        // What is public of the server says nothing of its routes.
        (None, Ok(())) if !is_open => CallError::Unauthenticated { scopes: Vec::new() },
        (_, Ok(())) => return Ok(principal),
    };
    log_refusal_of(&invocation.request_id, principal.as_deref(), &refusal);
    let (status, error) = translate(&refusal, true, "");
    Err(Box::new(challenged(status, None, error, challenger.of(&refusal))))
}

/// Calls a route's service, until the deadline.
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
        let message = format!("the body has {} bytes; at most {} are read", body.len(), route.body_limit);
        refuse(StatusCode::PAYLOAD_TOO_LARGE, None, message)
    } else {
        // A layer may have put another's there.
        parts.extensions.remove::<Arc<Principal>>();
        if let Some(principal) = &invocation.principal {
            parts.extensions.insert(Arc::clone(principal));
        }
        parts.extensions.insert(invocation);
        let request = Request::from_parts(parts, Body::whole(body));
        let work = async { respond((route.handler)(request).await?, limits, answer_by).await };
        within(answer_by, &request_id, &route.path, work).await
    };
    let (status, duration_ms) = (response.status().as_u16(), begin.elapsed().as_secs_f64() * 1000.0);
    tracing::info!(request_id, route = route.path, status, duration_ms, "a route was called");
    if is_head { without_body(response) } else { response }
}

/// A service's response as it is sent: as a stream, or whole and no larger than what can be carried.
async fn respond(
    response: Response<Body>,
    limits: ResponseLimits,
    answer_by: Option<Instant>,
) -> Result<Response<Body>, BoxError> {
    let (mut parts, body) = response.into_parts();
    // The length is that of what is sent, which the platform says.
    parts.headers.remove(header::CONTENT_LENGTH);
    if limits.streams {
        return Ok(Response::from_parts(parts, Body::ending(body, answer_by.map(Into::into))));
    }
    let body = match body.bytes_up_to(limits.max_bytes).await {
        Ok(body) => Some(body),
        Err(BodyError::TooLarge) => None,
        Err(BodyError::Truncated) => return Err("the body of its response failed".into()),
    };
    let fits = |body: &Bytes| {
        let carried = match std::str::from_utf8(body) {
            Ok(text) => carried_bytes(&parts.headers, text),
            Err(_) => carried_bytes(&parts.headers, "") + body.len().div_ceil(3) * 4,
        };
        carried <= limits.max_bytes
    };
    match body.filter(fits) {
        Some(body) => Ok(Response::from_parts(parts, Body::whole(body))),
        None => Err(format!("its response has more than the {} bytes that can be carried", limits.max_bytes).into()),
    }
}

/// What some work comes to until an instant. `path` names a route in the log.
async fn within(
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
        // Nothing is polled after the deadline.
        biased;
        () = deadline => {
            tracing::warn!(request_id, route = path, "a route or layer was cut: the deadline came first");
            refuse(StatusCode::GATEWAY_TIMEOUT, None, "the request was not answered before the function's deadline")
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

/// Passes a request through the layers, what belongs to it in its extensions.
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
    within(answer_by, &request_id, "", work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_none_of_the_endpoints_paths_and_none_that_is_sent_otherwise() {
        for path in [
            "",
            "export",
            "/",
            "//",
            "/mcp",
            "/MCP",
            "/mcp/",
            "/mcp/export",
            "/Mcp/export",
            "/.well-known",
            "/.WELL-KNOWN/x",
            "/.well-known/oauth-protected-resource",
            "/export/",
            "/a//b",
            "/../mcp",
            "/a/./b",
            "/%6dcp",
            "/a b",
            "/a?b",
            "/a#b",
            "/ä",
            "/{id}",
            "https://example.com/x",
            "/x/../mcp",
            "/\n",
        ] {
            assert!(fault_of(path).is_some(), "{path}");
        }
        for path in ["/export", "/mcp-export", "/mcpx", "/a/b.json", "/v1:batch", "/.well", "/oauth/callback", "/a/mcp"]
        {
            assert_eq!(fault_of(path), None, "{path}");
        }
    }
}
