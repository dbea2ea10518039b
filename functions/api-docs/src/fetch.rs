//! One document, fetched with limits. The URL is the operator's, so that no caller chooses where the function goes.

use std::{net::IpAddr, sync::OnceLock, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use mcp_lambda::{Amount, RequestContext};

use crate::State;

/// For a whole document, connecting included: less than the 10 s that Lambda gives the init phase.
const FETCH_TIMEOUT: Duration = Duration::from_secs(8);
/// Whoever waits is told once for each of these.
const PROGRESS_BYTES: usize = 256 * 1024;
const USER_AGENT: &str = concat!("api-docs/", env!("CARGO_PKG_VERSION"));

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
    #[error("the certificates of this machine cannot be read")]
    Certificates(#[source] std::io::Error),
    #[error("`{url}` did not send the document within {} s", FETCH_TIMEOUT.as_secs())]
    Timeout { url: Uri },
    #[error("could not reach `{url}`")]
    Unreachable {
        url: Uri,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("`{url}` answered {status}; redirects are not followed")]
    Status { url: Uri, status: StatusCode },
    #[error("`{url}` broke off")]
    Broken {
        url: Uri,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
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
    let place = without_query(url);
    let fetched = tokio::time::timeout(FETCH_TIMEOUT, exchange(url, &place, headers, etag, most, progress)).await;
    fetched.unwrap_or(Err(FetchError::Timeout { url: place }))
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

async fn exchange(
    url: &Uri,
    place: &Uri,
    headers: HeaderMap,
    etag: Option<&HeaderValue>,
    most: usize,
    progress: &Progress<'_>,
) -> Result<Answer, FetchError> {
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = url.clone();
    *request.headers_mut() = headers;
    request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    if let Some(etag) = etag {
        request.headers_mut().insert(header::IF_NONE_MATCH, etag.clone());
    }
    let response = client()?.request(request).await;
    let response = response.map_err(|error| FetchError::Unreachable { url: place.clone(), source: error.into() })?;
    let (parts, mut body) = response.into_parts();
    match parts.status {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if etag.is_some() => return Ok(Answer::Unchanged),
        status => return Err(FetchError::Status { url: place.clone(), status }),
    }
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let length: Option<u64> = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let mut bytes = BytesMut::new();
    let mut told = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| FetchError::Broken { url: place.clone(), source: error.into() })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Err(FetchError::TooLarge { url: place.clone(), most });
        }
        bytes.extend_from_slice(&data);
        if bytes.len() - told >= PROGRESS_BYTES {
            told = bytes.len();
            if let Some(context) = progress {
                context.progress(told, length.map(Amount::from), Some("reading the document")).await;
            }
        }
    }
    Ok(Answer::Document(Fetched { bytes: bytes.freeze(), etag: parts.headers.get(header::ETAG).cloned() }))
}

/// An `https` URL, or an `http` one that does not leave this machine.
pub(crate) fn secure_uri(url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?;
    let is_secure = match uri.scheme_str()? {
        "https" => true,
        "http" => is_loopback(host),
        _ => false,
    };
    let is_plain = !uri.authority()?.as_str().contains('@') && !url.contains('#');
    (is_secure && is_plain).then_some(uri)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

type HttpsClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Made on first use, since reading the certificates takes a while. It keeps no connection: none would survive a freeze.
fn client() -> Result<&'static HttpsClient, FetchError> {
    static CLIENT: OnceLock<HttpsClient> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())
        .map_err(FetchError::Certificates)?
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    Ok(CLIENT.get_or_init(|| client))
}
