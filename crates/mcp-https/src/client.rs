//! [`Client`] and [`RequestBuilder`].

use std::{
    error::Error as StdError,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use hyper_util::{client::legacy, rt::TokioExecutor};
use tokio::time::timeout_at;

use crate::{
    Error, HostsError, Response,
    connect::{self, Dependencies, ForbiddenAddress, TlsConnector},
    hosts::Hosts,
    response::Limits,
    url::{self, Reach},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;
/// The largest head of a response. hyper compares it before a read, which may double the buffer: 64 KiB in all.
const MAX_HEAD_BYTES: usize = 32 * 1024;
const MAX_HEADERS: usize = 100;
/// How long an idle connection is reused, by the wall clock, because the execution environment may have been frozen meanwhile.
const MAX_IDLE: Duration = Duration::from_secs(10);
const MAX_IDLE_PER_HOST: usize = 4;
const USER_AGENT: &str = concat!("mcp-https/", env!("CARGO_PKG_VERSION"));

type Pool = legacy::Client<TlsConnector, Full<Bytes>>;

/// An HTTP client with limits of time and size.
///
/// Create it with [`foreign`](Self::foreign) for URLs from untrusted sources, or with [`trusted`](Self::trusted) for configured URLs.
/// Keep it in the function's state: idle connections are reused for ten seconds, and a clone shares them. The root certificates are
/// read at the first request.
///
/// By default, connecting takes at most 3 s, the whole exchange 10 s, and a response body has at most 1 MiB.
#[derive(Clone)]
pub struct Client {
    settings: Settings,
    shared: Arc<Mutex<Option<Shared>>>,
}

#[derive(Clone)]
struct Settings {
    reach: Reach,
    hosts: Arc<Hosts>,
    dependencies: Dependencies,
    user_agent: HeaderValue,
    connect_timeout: Duration,
    timeout: Duration,
    max_response_bytes: usize,
}

struct Shared {
    pool: Pool,
    used: SystemTime,
}

impl Client {
    /// Creates a client for URLs from untrusted sources: tool arguments, documents, results of other servers. It sends `https`
    /// requests to public addresses only, and checks each address after DNS resolution.
    pub fn foreign() -> Self {
        Self::new(Reach::Foreign)
    }

    /// Creates a client for URLs that the operator or the author of the function chooses. It sends `https` requests to any address,
    /// private ones included, and `http` requests to loopback.
    pub fn trusted() -> Self {
        Self::new(Reach::Trusted)
    }

    fn new(reach: Reach) -> Self {
        Self {
            settings: Settings {
                reach,
                hosts: Arc::default(),
                dependencies: Dependencies::system(),
                user_agent: HeaderValue::from_static(USER_AGENT),
                connect_timeout: CONNECT_TIMEOUT,
                timeout: TIMEOUT,
                max_response_bytes: MAX_RESPONSE_BYTES,
            },
            shared: Arc::default(),
        }
    }

    /// Sets the timeout for opening a TCP connection, without TLS: 3 s by default.
    #[must_use]
    pub fn connect_timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.connect_timeout = limit)
    }

    /// Sets the timeout for the whole exchange, from DNS resolution to the last byte of the response body: 10 s by default.
    #[must_use]
    pub fn timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.timeout = limit)
    }

    /// Sets the size limit of response bodies in bytes: 1 MiB by default.
    #[must_use]
    pub fn max_response_bytes(self, limit: usize) -> Self {
        self.with(|settings| settings.max_response_bytes = limit)
    }

    /// Sets the header `User-Agent`. An invalid header value is ignored.
    #[must_use]
    pub fn user_agent(self, name: &'static str) -> Self {
        self.with(|settings| settings.user_agent = HeaderValue::try_from(name).unwrap_or(settings.user_agent.clone()))
    }

    #[cfg(test)]
    pub(crate) fn dependencies(self, change: impl FnOnce(&mut Dependencies)) -> Self {
        self.with(|settings| change(&mut settings.dependencies))
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self.shared = Arc::default();
        self
    }

    /// Builds a `GET` request. Call [`send`](RequestBuilder::send) to send it.
    pub fn get(&self, url: &str) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// Builds a `POST` request. Call [`send`](RequestBuilder::send) to send it.
    pub fn post(&self, url: &str) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// Builds a request. If the URL is rejected, [`send`](RequestBuilder::send) returns the error.
    pub fn request(&self, method: Method, url: &str) -> RequestBuilder {
        let uri = url::parse(url, self.settings.reach).map_err(|reason| Error::Url { reason });
        RequestBuilder {
            is_idempotent: method.is_idempotent(),
            client: self.clone(),
            target: uri,
            method,
            headers: HeaderMap::from_iter([(header::USER_AGENT, self.settings.user_agent.clone())]),
            body: Bytes::new(),
            answer_by: None,
            max_response_bytes: self.settings.max_response_bytes,
        }
    }

    /// The connection pool. A new one is created if the connections have been idle for too long, or if `is_renewal`.
    fn pool(&self, is_renewal: bool) -> Result<Pool, Error> {
        let now = SystemTime::now();
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alive = |own: &&mut Shared| now.duration_since(own.used).is_ok_and(|idle| idle < MAX_IDLE);
        if let Some(own) = shared.as_mut().filter(is_alive).filter(|_| !is_renewal) {
            own.used = now;
            return Ok(own.pool.clone());
        }
        let Settings { reach, hosts, dependencies, connect_timeout, .. } = &self.settings;
        let connector =
            connect::connector(*reach, hosts, dependencies, *connect_timeout).map_err(Error::Certificates)?;
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(MAX_IDLE)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .http1_max_headers(MAX_HEADERS)
            .build(connector);
        *shared = Some(Shared { pool: pool.clone(), used: now });
        Ok(pool)
    }
}

/// Creates a client without address checks, for AWS endpoints, which may have any address and scheme. It must never get a URL from an
/// untrusted source.
///
/// It is not a constructor of [`Client`], because `mcp-lambda` re-exports that type: functions cannot call it.
pub fn dangerously_unrestricted() -> Client {
    Client::new(Reach::Unrestricted)
}

/// Creates a [`Client::foreign`] for which some names have a configured address, from the variables `MCP_FOREIGN_HOSTS` and
/// `MCP_FOREIGN_AUTHORITY_FILE`. Without these variables it is the same client. All rules hold for every other name.
///
/// A configured name is not resolved. The client connects to its address, which may be private or on loopback, and verifies the
/// certificate for the name. It rejects URLs with that name and a port. The authority of the file is trusted for these names alone.
///
/// It is not a constructor of [`Client`], because `mcp-lambda` re-exports that type: a function has to ask for it.
///
/// # Errors
///
/// When a variable is invalid, or the file has no certificate.
pub fn foreign_with_hosts<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Client, HostsError> {
    let hosts = Arc::new(Hosts::from_env(get)?);
    Ok(Client::foreign().with(|settings| settings.hosts = hosts))
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { reach, timeout, max_response_bytes, .. } = &self.settings;
        f.debug_struct("Client")
            .field("reach", reach)
            .field("timeout", timeout)
            .field("max_response_bytes", max_response_bytes)
            .finish_non_exhaustive()
    }
}

/// A request that is not sent yet. Made with [`Client::get`], [`Client::post`] or [`Client::request`].
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder {
    client: Client,
    target: Result<Uri, Error>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
    answer_by: Option<Instant>,
    max_response_bytes: usize,
    is_idempotent: bool,
}

impl RequestBuilder {
    /// Sets a header. If its name or value is invalid, [`send`](Self::send) returns [`Error::Header`].
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        match (name.try_into(), value.try_into()) {
            (Ok(name), Ok(value)) => _ = self.headers.insert(name, value),
            _ => self.target = self.target.and(Err(Error::Header)),
        }
        self
    }

    /// Sets several headers. A header that is set already is replaced.
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// Sets `Authorization: Bearer` with a token. `Debug` does not print it.
    pub fn bearer(self, token: &str) -> Self {
        match HeaderValue::try_from(format!("Bearer {token}")) {
            Ok(mut value) => {
                value.set_sensitive(true);
                self.header(header::AUTHORIZATION, value)
            }
            Err(_) => Self { target: self.target.and(Err(Error::Header)), ..self },
        }
    }

    /// Sets the body. Also set the header `Content-Type`.
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sets the deadline of the exchange, in addition to the client's timeout. In a handler, pass `context.deadline()`.
    pub fn answer_by(self, deadline: Option<Instant>) -> Self {
        Self { answer_by: deadline, ..self }
    }

    /// Sets the size limit of the response body in bytes, instead of the client's.
    pub fn max_response_bytes(self, limit: usize) -> Self {
        Self { max_response_bytes: limit, ..self }
    }

    /// Declares the request idempotent: it is retried once if the connection is closed before the response begins. `GET`, `HEAD`,
    /// `PUT`, `DELETE` and `OPTIONS` are idempotent by default.
    pub fn idempotent(self) -> Self {
        Self { is_idempotent: true, ..self }
    }

    /// Sends the request, and waits for the status and the headers of the response. Redirects are not followed.
    ///
    /// # Errors
    ///
    /// When the URL, the address or a header is rejected, the server cannot be reached, or there is no response in time: see [`Error`].
    pub async fn send(self) -> Result<Response, Error> {
        let uri = self.target?;
        let started = tokio::time::Instant::now();
        let latest = started + self.client.settings.timeout;
        let ends = self.answer_by.map_or(latest, |deadline| latest.min(deadline.into()));
        let limits = Limits {
            place: url::place(&uri),
            ends,
            time: ends.saturating_duration_since(started),
            max_bytes: self.max_response_bytes,
            accepts_encodings: self.headers.contains_key(header::ACCEPT_ENCODING),
        };
        let is_head = self.method == Method::HEAD;
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers;
        let exchange = async {
            let first = self.client.pool(false)?.request(request.clone()).await;
            match first {
                // A connection that was closed while the environment was frozen seems open until it is used.
                Err(error) if self.is_idempotent && is_disconnection(&error) => {
                    Ok(self.client.pool(true)?.request(request).await)
                }
                first => Ok(first),
            }
        };
        let response = timeout_at(ends, exchange).await.map_err(|_| limits.timeout())??;
        let response = response.map_err(|error| failure(error, limits.place.clone()))?;
        Response::new(response, limits, is_head)
    }
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.target.as_ref().map(url::place);
        f.debug_struct("RequestBuilder").field("method", &self.method).field("place", &place).finish_non_exhaustive()
    }
}

fn failure(error: legacy::Error, place: String) -> Error {
    if sources(&error).any(|source| source.is::<ForbiddenAddress>()) {
        return Error::Address { place };
    }
    // Includes connect timeouts.
    if error.is_connect() {
        return Error::Unreachable { place, source: error.into() };
    }
    Error::Incomplete { place, source: error.into() }
}

/// Whether an open connection was closed before the response began.
fn is_disconnection(error: &legacy::Error) -> bool {
    let is_end = |source: &(dyn StdError + 'static)| {
        source.is::<io::Error>()
            || source
                .downcast_ref::<hyper::Error>()
                .is_some_and(|own| own.is_incomplete_message() || own.is_canceled() || own.is_closed())
    };
    !error.is_connect() && sources(error).any(is_end)
}

fn sources<'a>(error: &'a legacy::Error) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(error.source(), |source: &&'a (dyn StdError + 'static)| (*source).source())
}
