//! A response, whose body is read within limits.

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
    /// The time that the request had, for the error.
    pub(crate) time: Duration,
    pub(crate) max_bytes: usize,
    /// Whether the request asked for an encoding of the body.
    pub(crate) takes_encodings: bool,
}

impl Limits {
    pub(crate) fn timeout(&self) -> Error {
        Error::Timeout { place: self.place.clone(), limit: self.time }
    }

    fn too_large(&self) -> Error {
        Error::TooLarge { place: self.place.clone(), limit: self.max_bytes }
    }
}

/// Status, headers, and a body that is read on demand. Redirects (3xx) and errors (4xx, 5xx) are responses too.
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
        // Its headers may describe the body of another response (RFC 9110, sections 8.4 and 8.6).
        if is_head || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(Self { parts, body, limits, received: 0 });
        }
        let encodings = parts.headers.get_all(header::CONTENT_ENCODING);
        let is_encoded = encodings.iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
        if is_encoded && !limits.takes_encodings {
            return Err(Error::Compressed { place: limits.place });
        }
        let response = Self { parts, body, limits, received: 0 };
        match response.content_length() {
            Some(length) if length > response.limits.max_bytes as u64 => Err(response.limits.too_large()),
            _ => Ok(response),
        }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.parts.status
    }

    /// The headers. At most 100 of them, in 64 KiB.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The length of the body, if the server states one. A response to `HEAD` and a 304 have no body, and may state the
    /// length that the body of a response to `GET` would have. The size limit does not apply to it.
    pub fn content_length(&self) -> Option<u64> {
        self.parts.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// The next part of the body; `None` at its end.
    ///
    /// # Errors
    ///
    /// When the request's time is over, the body is larger than the client accepts, or the connection ends before the body
    /// does.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = timeout_at(self.limits.ends, self.body.frame()).await.map_err(|_| self.limits.timeout())?;
            let Some(frame) = frame else { return Ok(None) };
            let incomplete =
                |error: hyper::Error| Error::Incomplete { place: self.limits.place.clone(), source: error.into() };
            // Trailers are left out.
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

    /// The whole body.
    ///
    /// # Errors
    ///
    /// Those of [`chunk`](Self::chunk).
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
