//! Documents of an issuer, by the client of [`mcp_https`].

use std::{sync::LazyLock, time::Duration};

use http::{HeaderMap, StatusCode, header};
use mcp_https::{Bytes, Client, Error};
use mcp_server::uri::SecureUrl;

/// For one document, connecting included.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;
const USER_AGENT: &str = concat!("mcp-auth/", env!("CARGO_PKG_VERSION"));

/// Issuers are the operator's, and may be internal.
pub(crate) static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    Client::trusted().user_agent(USER_AGENT).timeout(FETCH_TIMEOUT).max_response_bytes(MAX_DOCUMENT_BYTES)
});

/// A document, and for how long the server says that it may be kept.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) body: Bytes,
    pub(crate) max_age: Option<Duration>,
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Request(#[from] Error),
    #[error("`{url}` responded with {status}; redirects are not followed")]
    Status { url: String, status: StatusCode },
}

impl FetchError {
    /// Whether the server was there and had no such document, so that another place is worth a look.
    pub(crate) fn is_answer(&self) -> bool {
        match self {
            Self::Request(error) => matches!(error, Error::TooLarge { .. } | Error::Compressed { .. }),
            Self::Status { .. } => true,
        }
    }
}

/// Fetches a document. No redirect is followed: it could lead to an address that only this function can reach.
pub(crate) async fn get(url: &str) -> Result<Document, FetchError> {
    let response = CLIENT.get(url).header(header::ACCEPT, "application/json").send().await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status { url: url.to_owned(), status: response.status() });
    }
    let max_age = max_age(response.headers());
    Ok(Document { body: response.bytes().await?, max_age })
}

/// Whether a document may be fetched from a URL: an `https` URL, or an `http` one that does not leave this machine
/// ([`SecureUrl`]). What is fetched has no fragment.
pub(crate) fn secure_url(url: &str) -> Option<SecureUrl<'_>> {
    SecureUrl::parse(url).filter(|url| url.fragment.is_none())
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
            assert!(secure_url(url).is_some(), "{url}");
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
            assert!(secure_url(url).is_none(), "{url}");
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
