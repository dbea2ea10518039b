//! Documents of an issuer, fetched with every limit that an unfriendly server makes necessary.

use std::{sync::OnceLock, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use mcp_server::uri::SecureUrl;

/// For one document, connecting included.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;
const USER_AGENT: &str = concat!("mcp-auth/", env!("CARGO_PKG_VERSION"));

/// A document, and for how long the server says that it may be kept.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) body: Bytes,
    pub(crate) max_age: Option<Duration>,
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("`{0}` is not an https URL, nor an http URL on loopback")]
    Insecure(String),
    #[error("the certificates of this machine cannot be read")]
    Certificates(#[source] std::io::Error),
    #[error("`{url}` did not answer within {} s", FETCH_TIMEOUT.as_secs())]
    Timeout { url: String },
    #[error("could not reach `{url}`")]
    Unreachable {
        url: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("`{url}` answered {status}; redirects are not followed")]
    Status { url: String, status: StatusCode },
    #[error("`{url}` sent more than {MAX_DOCUMENT_BYTES} bytes, or broke off")]
    Body { url: String },
}

impl FetchError {
    /// Whether the server was there and had no such document, so that another place is worth a look.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self, Self::Status { .. } | Self::Body { .. })
    }
}

/// Fetches a document. No redirect is followed: it could lead to an address that only this function can reach.
pub(crate) async fn get(url: &str) -> Result<Document, FetchError> {
    let uri = secure_uri(url).ok_or_else(|| FetchError::Insecure(url.to_owned()))?;
    let unreachable = |source| FetchError::Unreachable { url: url.to_owned(), source };
    let request = Request::get(uri)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, USER_AGENT)
        .body(Empty::<Bytes>::new())
        .map_err(|error| unreachable(error.into()))?;
    let client = client()?;
    let fetched = tokio::time::timeout(FETCH_TIMEOUT, async {
        let response = client.request(request).await.map_err(|error| unreachable(error.into()))?;
        let (parts, body) = response.into_parts();
        if parts.status != StatusCode::OK {
            return Err(FetchError::Status { url: url.to_owned(), status: parts.status });
        }
        let body = Limited::new(body, MAX_DOCUMENT_BYTES).collect().await;
        let body = body.map_err(|_| FetchError::Body { url: url.to_owned() })?.to_bytes();
        Ok(Document { body, max_age: max_age(&parts.headers) })
    });
    fetched.await.unwrap_or_else(|_| Err(FetchError::Timeout { url: url.to_owned() }))
}

/// An `https` URL, or an `http` one that does not leave this machine ([`SecureUrl`]). What is fetched has no fragment.
pub(crate) fn secure_uri(url: &str) -> Option<Uri> {
    SecureUrl::parse(url).filter(|url| url.fragment.is_none())?;
    url.parse().ok()
}

type HttpsClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Made on first use, since reading the certificates takes a while. It keeps no connection: none would survive a freeze.
fn client() -> Result<&'static HttpsClient, FetchError> {
    static CLIENT: OnceLock<HttpsClient> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls_provider())
        .map_err(FetchError::Certificates)?
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    Ok(CLIENT.get_or_init(|| client))
}

fn rustls_provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut max_age = None;
    for directive in directives.flat_map(|value| value.split(',')).map(|part| part.trim().to_ascii_lowercase()) {
        if matches!(directive.as_str(), "no-store" | "no-cache") {
            return Some(Duration::ZERO);
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            max_age = seconds.trim_matches('"').parse().ok().map(Duration::from_secs);
        }
    }
    max_age
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_secure_urls_are_fetched_8_13() {
        for url in ["https://issuer.example/keys", "http://127.0.0.1:8080/x", "http://localhost/x", "http://[::1]:1/x"]
        {
            assert!(secure_uri(url).is_some(), "{url}");
        }
        for url in [
            "http://issuer.example/keys",
            "http://169.254.169.254/latest",
            "http://10.0.0.1/",
            "http://localhost.evil.example/",
            "http://127.evil.example/",
            "http://127.0.0.1@evil.example/",
            "https://issuer.example\\.evil.example/",
            "https://issuer.example:/",
            "https://issuer%2eexample/",
            "https://issuer..example/",
            "https://user:pass@issuer.example/",
            "https://issuer.example/#x",
            "file:///etc/passwd",
            "/keys",
            "",
        ] {
            assert!(secure_uri(url).is_none(), "{url}");
        }
    }

    #[test]
    fn how_long_a_document_may_be_kept_is_read() {
        for (value, seconds) in [
            ("max-age=600", Some(600)),
            ("public, Max-Age=600, must-revalidate", Some(600)),
            ("no-cache, max-age=600", Some(0)),
            ("max-age=soon", None),
            ("max-age=-1", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, value.parse().unwrap())]);

            assert_eq!(max_age(&headers), seconds.map(Duration::from_secs), "{value}");
        }
        assert_eq!(max_age(&HeaderMap::new()), None);
    }
}
