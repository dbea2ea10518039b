//! Requests for documents of an issuer, sent by [`mcp_https`] with limits.

use std::{sync::LazyLock, time::Duration};

use http::{HeaderMap, StatusCode, header};
use mcp_https::{Bytes, Client, Error};
use mcp_server::uri::SecureUrl;

/// Timeout of one document, including the time to connect.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;
const USER_AGENT: &str = concat!("mcp-auth/", env!("CARGO_PKG_VERSION"));

/// Client that may connect to private addresses, because the operator configures the issuers.
pub(crate) static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    Client::trusted().user_agent(USER_AGENT).timeout(FETCH_TIMEOUT).max_response_bytes(MAX_DOCUMENT_BYTES)
});

/// A document, with its lifetime by `Cache-Control`.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) body: Bytes,
    pub(crate) max_age: Option<Duration>,
}

/// Why a document cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Request(#[from] Error),
    #[error("`{url}` responded with {status}; redirects are not followed")]
    Status { url: String, status: StatusCode },
}

impl FetchError {
    /// Whether the server responded, so that another of its URLs may have the document.
    pub(crate) fn has_response(&self) -> bool {
        match self {
            Self::Request(error) => matches!(error, Error::TooLarge { .. } | Error::Compressed { .. }),
            Self::Status { .. } => true,
        }
    }
}

/// Fetches a document. Redirects are not followed, because a redirect could lead to an address that only this function can
/// reach.
pub(crate) async fn get(url: &str) -> Result<Document, FetchError> {
    let response = CLIENT.get(url).header(header::ACCEPT, "application/json").send().await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status { url: url.to_owned(), status: response.status() });
    }
    let max_age = max_age(response.headers());
    Ok(Document { body: response.bytes().await?, max_age })
}

/// Parses the URL of a document: `https`, or `http` on loopback ([`SecureUrl`]), without a fragment. `None` for every other
/// URL.
pub(crate) fn secure_url(url: &str) -> Option<SecureUrl<'_>> {
    SecureUrl::parse(url).filter(|url| url.fragment.is_none())
}

/// Returns the lifetime by `Cache-Control`: zero for `no-store` and `no-cache`, `None` without a valid `max-age`.
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
    fn only_https_urls_and_loopback_urls_are_fetched() {
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
    fn cache_control_limits_the_lifetime_of_a_document() {
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
