//! One document, fetched with limits. The URL is the operator's, so that no caller chooses where the function goes.

use std::{sync::LazyLock, time::Duration};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use mcp_lambda::{
    Amount, RequestContext,
    https::{Bytes, Client, Error},
    uri::SecureUrl,
};

use crate::State;

/// For a whole document, connecting included: less than the 10 s that Lambda gives the init phase.
const FETCH_TIMEOUT: Duration = Duration::from_secs(8);
/// Whoever waits is told once for each of these.
const PROGRESS_BYTES: usize = 256 * 1024;
const USER_AGENT: &str = concat!("api-docs/", env!("CARGO_PKG_VERSION"));

static CLIENT: LazyLock<Client> = LazyLock::new(|| Client::trusted().user_agent(USER_AGENT).timeout(FETCH_TIMEOUT));

/// Who is told how far it is: nobody in the init phase.
pub(crate) type Progress<'a> = Option<&'a RequestContext<State>>;

/// What a source answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The document is the one that is known.
    Unchanged,
    /// A document.
    Document(Fetched),
}

/// A document, and what its version is called.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) bytes: Bytes,
    pub(crate) etag: Option<HeaderValue>,
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Request(#[from] Error),
    #[error("`{url}` responded with {status}; redirects are not followed")]
    Status { url: Uri, status: StatusCode },
    #[error("`{url}` has {}", too_large(*.most))]
    TooLarge { url: Uri, most: usize },
}

/// Fetches a document, unless it still has this `etag`. No redirect is followed: what is behind one may be elsewhere
/// tomorrow.
pub(crate) async fn get(
    url: &Uri,
    headers: HeaderMap,
    etag: Option<&HeaderValue>,
    most: usize,
    progress: &Progress<'_>,
) -> Result<Answer, FetchError> {
    let request = CLIENT.get(&url.to_string()).headers(headers).max_response_bytes(most);
    let request = match etag {
        Some(etag) => request.header(header::IF_NONE_MATCH, etag.clone()),
        None => request,
    };
    let too_large = |error| match error {
        Error::TooLarge { .. } => FetchError::TooLarge { url: without_query(url), most },
        error => error.into(),
    };
    let mut response = request.send().await.map_err(too_large)?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if etag.is_some() => return Ok(Answer::Unchanged),
        status => return Err(FetchError::Status { url: without_query(url), status }),
    }
    let mut bytes = BytesMut::new();
    let mut told = 0;
    while let Some(data) = response.chunk().await.map_err(too_large)? {
        bytes.extend_from_slice(&data);
        if bytes.len() - told >= PROGRESS_BYTES {
            told = bytes.len();
            if let Some(context) = progress {
                let length = response.content_length().map(Amount::from);
                context.progress(told, length, Some("reading the document")).await;
            }
        }
    }
    Ok(Answer::Document(Fetched { bytes: bytes.freeze(), etag: response.headers().get(header::ETAG).cloned() }))
}

pub(crate) fn too_large(most: usize) -> String {
    format!("more than {} MiB, for which there is no memory: raise the function's MemorySize", most / 1024 / 1024)
}

/// A URL as it is told: a query may hold a token.
pub(crate) fn without_query(url: &Uri) -> Uri {
    let mut parts = url.clone().into_parts();
    parts.path_and_query = url.path().parse().ok();
    // Its parts are those of a URL.
    Uri::from_parts(parts).unwrap_or_default()
}

/// An `https` URL, or an `http` one that does not leave this machine.
pub(crate) fn secure_uri(url: &str) -> Option<Uri> {
    SecureUrl::parse(url).filter(|url| url.fragment.is_none())?;
    url.parse().ok()
}
