//! Download of a document with limits. The URL is configured by the operator: callers cannot select it.

use std::{sync::LazyLock, time::Duration};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use mcp_lambda::{
    Amount, RequestContext,
    https::{Bytes, Client, Error},
    uri::SecureUrl,
};

use crate::State;

/// Timeout of a download including the connection; less than Lambda's 10 s for the init phase.
const FETCH_TIMEOUT: Duration = Duration::from_secs(8);
/// Interval of progress notifications, in bytes.
const PROGRESS_BYTES: usize = 256 * 1024;
const USER_AGENT: &str = concat!("api-docs/", env!("CARGO_PKG_VERSION"));

static CLIENT: LazyLock<Client> = LazyLock::new(|| Client::trusted().user_agent(USER_AGENT).timeout(FETCH_TIMEOUT));

/// Receiver of progress notifications; `None` in the init phase.
pub(crate) type Progress<'a> = Option<&'a RequestContext<State>>;

/// Result of a download.
#[derive(Debug)]
pub(crate) enum FetchOutcome {
    /// The document has not changed.
    Unchanged,
    /// A new document.
    Document(FetchedDocument),
}

/// Downloaded document with its ETag.
#[derive(Debug)]
pub(crate) struct FetchedDocument {
    pub(crate) bytes: Bytes,
    pub(crate) etag: Option<HeaderValue>,
}

/// Error of a download.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Request(#[from] Error),
    #[error("`{url}` returned status {status}; redirects are not followed")]
    Status { url: Uri, status: StatusCode },
    #[error("the document at `{url}` has {}", too_large(*.max_bytes))]
    TooLarge { url: Uri, max_bytes: usize },
}

/// Downloads a document, unless it still has this `etag`. Redirects are not followed, since their target may change.
pub(crate) async fn get(
    url: &Uri,
    headers: HeaderMap,
    etag: Option<&HeaderValue>,
    max_bytes: usize,
    progress: &Progress<'_>,
) -> Result<FetchOutcome, FetchError> {
    let request = CLIENT.get(&url.to_string()).headers(headers).max_response_bytes(max_bytes);
    let request = match etag {
        Some(etag) => request.header(header::IF_NONE_MATCH, etag.clone()),
        None => request,
    };
    let too_large = |error| match error {
        Error::TooLarge { .. } => FetchError::TooLarge { url: without_query(url), max_bytes },
        error => error.into(),
    };
    let mut response = request.send().await.map_err(too_large)?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if etag.is_some() => return Ok(FetchOutcome::Unchanged),
        status => return Err(FetchError::Status { url: without_query(url), status }),
    }
    let mut bytes = BytesMut::new();
    let mut reported = 0;
    while let Some(data) = response.chunk().await.map_err(too_large)? {
        bytes.extend_from_slice(&data);
        if bytes.len() - reported >= PROGRESS_BYTES {
            reported = bytes.len();
            if let Some(context) = progress {
                let length = response.content_length().map(Amount::from);
                context.progress(reported, length, Some("downloading the document")).await;
            }
        }
    }
    Ok(FetchOutcome::Document(FetchedDocument {
        bytes: bytes.freeze(),
        etag: response.headers().get(header::ETAG).cloned(),
    }))
}

pub(crate) fn too_large(max_bytes: usize) -> String {
    format!("more than {} MiB: raise the function's MemorySize", max_bytes / 1024 / 1024)
}

/// Removes the query of a URL for messages, since it may contain a token.
pub(crate) fn without_query(url: &Uri) -> Uri {
    let mut parts = url.clone().into_parts();
    parts.path_and_query = url.path().parse().ok();
    // The parts are those of a valid URL.
    Uri::from_parts(parts).unwrap_or_default()
}

/// An `https` URL, or an `http` one that does not leave this machine.
pub(crate) fn secure_uri(url: &str) -> Option<Uri> {
    SecureUrl::parse(url).filter(|url| url.fragment.is_none())?;
    url.parse().ok()
}
