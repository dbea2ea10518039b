//! HTTP client of the Runtime API: one connection, which is reopened after it was closed.
//!
//! A worker sends one request at a time, so that no connection pool is needed. `TCP_NODELAY` is on: otherwise the first bytes of a
//! stream would wait about 40 ms for a delayed acknowledgement.

use std::{env, error::Error, io};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header, request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::invocations::StreamedResponse;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// The variable with the host and port of the Runtime API.
pub(crate) const ENDPOINT: &str = "AWS_LAMBDA_RUNTIME_API";

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("mcp-lambda/", env!("CARGO_PKG_VERSION")));

/// Events have up to 6 MB: a large buffer needs fewer reads.
const READ_BUFFER_BYTES: usize = 1024 * 1024;

pub(crate) type RequestBody = http_body_util::Either<Full<Bytes>, StreamedResponse>;

/// A complete body.
pub(crate) fn whole(body: impl Into<Bytes>) -> RequestBody {
    RequestBody::Left(Full::new(body.into()))
}

/// The Runtime API, and the connection to it.
pub(crate) struct RuntimeApi {
    authority: String,
    /// The path prefix, by which `cargo lambda watch` distinguishes functions.
    base_path: String,
    host: HeaderValue,
    connection: Option<SendRequest<RequestBody>>,
}

impl RuntimeApi {
    /// The Runtime API of this execution environment. Connects on the first call.
    ///
    /// # Errors
    ///
    /// When the variable is not set, or is not a URI.
    pub(crate) fn from_env() -> Result<Self, BoxError> {
        Self::at(&env::var(ENDPOINT).map_err(|error| format!("{ENDPOINT}: {error}"))?)
    }

    /// The API at `host:port`, optionally with a path.
    pub(crate) fn at(endpoint: &str) -> Result<Self, BoxError> {
        let uri: Uri = match endpoint.contains("://") {
            true => endpoint.parse()?,
            false => format!("http://{endpoint}").parse()?,
        };
        let authority = uri.authority().ok_or_else(|| format!("{ENDPOINT} has no host: {endpoint}"))?;
        let authority = match authority.port() {
            Some(_) => authority.to_string(),
            None => format!("{authority}:80"),
        };
        Ok(Self {
            host: HeaderValue::from_str(&authority)?,
            authority,
            base_path: uri.path().trim_end_matches('/').to_owned(),
            connection: None,
        })
    }

    /// A client of the same API with a separate connection.
    pub(crate) fn with_new_connection(&self) -> Self {
        Self {
            authority: self.authority.clone(),
            base_path: self.base_path.clone(),
            host: self.host.clone(),
            connection: None,
        }
    }

    /// Drops the connection, because it does not survive a snapshot.
    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
    }

    /// A request to `path`.
    pub(crate) fn request(&self, method: &'static str, path: &str) -> request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base_path))
            .header(header::HOST, self.host.clone())
            .header(header::USER_AGENT, USER_AGENT)
    }

    /// Sends a request and reads the complete response. A request that could not be sent because the connection was closed is sent
    /// again on a new connection.
    ///
    /// # Errors
    ///
    /// When the API cannot be reached, or the connection is closed before the response is complete.
    pub(crate) async fn call(&mut self, mut request: Request<RequestBody>) -> Result<Response<Bytes>, BoxError> {
        loop {
            let (mut connection, is_new) = match self.connection.take() {
                Some(connection) => (connection, false),
                None => (self.connect().await?, true),
            };
            if connection.ready().await.is_err() && !is_new {
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let body = body.collect().await?.to_bytes();
                    self.connection = Some(connection);
                    return Ok(Response::from_parts(parts, body));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(failed.into_error().into()),
                },
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<RequestBody>, BoxError> {
        let socket = TokioIo::new(self.socket().await?);
        let (sender, connection) = http1::Builder::new().max_buf_size(READ_BUFFER_BYTES).handshake(socket).await?;
        // Ends when the sender is dropped or the peer closes. The next call reports an error.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn socket(&self) -> io::Result<TcpStream> {
        let socket = TcpStream::connect(&self.authority).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn listen() -> (TcpListener, RuntimeApi) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = RuntimeApi::at(&listener.local_addr().unwrap().to_string()).unwrap();
        (listener, api)
    }

    /// Responds to the next request of a connection. Returns the first line of the request.
    async fn answer(socket: &mut TcpStream, text: &str) -> String {
        let mut buffer = vec![0; 4096];
        let read = socket.read(&mut buffer).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        socket.write_all(head.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&buffer[..read]).lines().next().unwrap_or_default().to_owned()
    }

    async fn call(api: &mut RuntimeApi) -> Result<Bytes, BoxError> {
        let request = api.request("GET", "/next").body(whole("")).unwrap();
        api.call(request).await.map(Response::into_body)
    }

    #[tokio::test]
    async fn tcp_nodelay_is_on() {
        let (_listener, api) = listen().await;

        assert!(api.socket().await.unwrap().nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_connection_is_reused_and_reopened_after_it_was_closed() {
        let (listener, mut api) = listen().await;
        let server = tokio::spawn(async move {
            let (mut first, _) = listener.accept().await.unwrap();
            answer(&mut first, "1").await;
            answer(&mut first, "2").await;
            drop(first);
            let (mut second, _) = listener.accept().await.unwrap();
            answer(&mut second, "3").await;
        });

        for expected in ["1", "2", "3"] {
            assert_eq!(call(&mut api).await.unwrap(), expected);
        }
        server.await.unwrap();
    }

    #[tokio::test]
    async fn an_unreachable_api_is_an_error() {
        let (listener, mut api) = listen().await;
        drop(listener);

        assert!(call(&mut api).await.unwrap_err().to_string().contains("refused"));
    }

    #[tokio::test]
    async fn a_request_that_was_sent_is_not_retried() {
        let (listener, mut api) = listen().await;
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            answer(&mut socket, "1").await;
            let read = socket.read(&mut [0; 4096]).await.unwrap();
            drop(socket);
            (read, listener)
        });

        assert_eq!(call(&mut api).await.unwrap(), "1");
        assert!(call(&mut api).await.is_err());

        let (read, listener) = server.await.unwrap();
        assert_ne!(read, 0);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(100), listener.accept()).await.is_err());
    }

    #[tokio::test]
    async fn an_endpoint_may_have_a_path() {
        let (listener, _) = listen().await;
        for scheme in ["", "http://"] {
            let mut api = RuntimeApi::at(&format!("{scheme}{}/greeter/", listener.local_addr().unwrap())).unwrap();
            let calling = tokio::spawn(async move { call(&mut api).await.unwrap() });
            let (mut socket, _) = listener.accept().await.unwrap();

            assert_eq!(answer(&mut socket, "1").await, "GET /greeter/next HTTP/1.1");
            calling.await.unwrap();
        }
    }
}
