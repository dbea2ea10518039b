//! [`Response`], whose body is limited in time and size.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header, response::Parts};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::Error;

/// The limits of one request.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// The URL without its query.
    pub(crate) place: String,
    pub(crate) ends: Instant,
    /// The time limit of the request, for the error.
    pub(crate) time: Duration,
    pub(crate) max_bytes: usize,
    /// Whether the request has `Accept-Encoding`.
    pub(crate) accepts_encodings: bool,
}

impl Limits {
    pub(crate) fn timeout(&self) -> Error {
        Error::Timeout { place: self.place.clone(), limit: self.time }
    }

    fn too_large(&self) -> Error {
        Error::TooLarge { place: self.place.clone(), limit: self.max_bytes }
    }
}

/// A response: status, headers, and a body that is read on demand with [`bytes`](Self::bytes) or [`chunk`](Self::chunk). Any status is
/// a response, including redirects (3xx) and errors (4xx, 5xx): check [`status`](Self::status).
#[derive(Debug)]
pub struct Response {
    parts: Parts,
    body: Incoming,
    limits: Limits,
    received: usize,
}

impl Response {
    pub(crate) fn new(response: http::Response<Incoming>, limits: Limits, is_head: bool) -> Result<Self, Error> {
        let (parts, body) = response.into_parts();
        // No body: these headers describe that of the response to GET (RFC 9110, sections 8.4 and 8.6).
        if is_head || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(Self { parts, body, limits, received: 0 });
        }
        let encodings = parts.headers.get_all(header::CONTENT_ENCODING);
        let is_encoded = encodings.iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
        if is_encoded && !limits.accepts_encodings {
            return Err(Error::Compressed { place: limits.place });
        }
        let response = Self { parts, body, limits, received: 0 };
        match response.content_length() {
            Some(length) if length > response.limits.max_bytes as u64 => Err(response.limits.too_large()),
            _ => Ok(response),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.parts.status
    }

    /// The headers: at most 100, with 64 KiB.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// `Content-Length` in bytes, if present and valid. A response to `HEAD` and one with status 304 have no body, but may have the
    /// length of the body for `GET`, to which the size limit does not apply.
    pub fn content_length(&self) -> Option<u64> {
        self.parts.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// Reads the next chunk of the body; `None` at its end. Trailers are dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] after the request's time limit, [`Error::TooLarge`] above the size limit, [`Error::Incomplete`] when the
    /// connection is closed early.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = timeout_at(self.limits.ends, self.body.frame()).await.map_err(|_| self.limits.timeout())?;
            let Some(frame) = frame else { return Ok(None) };
            let incomplete =
                |error: hyper::Error| Error::Incomplete { place: self.limits.place.clone(), source: error.into() };
            let Ok(data) = frame.map_err(incomplete)?.into_data() else { continue };
            self.received = self.received.saturating_add(data.len());
            if self.received > self.limits.max_bytes {
                return Err(self.limits.too_large());
            }
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }

    /// Reads the complete body.
    ///
    /// # Errors
    ///
    /// As [`chunk`](Self::chunk).
    pub async fn bytes(mut self) -> Result<Bytes, Error> {
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let mut body = BytesMut::from(first);
        body.extend_from_slice(&second);
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}
