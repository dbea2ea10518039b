//! Bodies of requests and responses: complete or streamed.

use std::{
    any::Any,
    convert::Infallible,
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use mcp_server::{BoxError, error_chain};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::sse::EventStream;

/// The body of a request or response: complete or streamed.
///
/// The body of a request to a route or layer is complete: read it with [`bytes`](Self::bytes). Make the body of a response with
/// [`whole`](Self::whole), or stream another [`http_body::Body`] with [`new`](Self::new).
pub struct Body(Inner);

enum Inner {
    Whole(Bytes),
    Stream(Pin<Box<dyn Stream>>),
}

/// A streamed body.
trait Stream: http_body::Body<Data = Bytes, Error = Infallible> + Send {
    /// Whether the stream ended before the body was complete.
    fn is_truncated(&self) -> bool {
        false
    }
}

impl Stream for EventStream {}

/// Why a body cannot be read completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLarge,
    /// The body failed, panicked or reached the deadline; the log has the reason.
    Truncated,
}

impl Body {
    /// A complete body.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Inner::Whole(bytes.into()))
    }

    /// Wraps a body of another type, such as the response body of a layer. An error of it is logged and ends the stream early:
    /// the status has been sent by then. Trailers are dropped, because no Lambda event carries them.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::with_end(body, None)
    }

    /// As [`new`](Self::new), but the stream is cut at `end`.
    pub(crate) fn with_end<B>(body: B, end: Option<Instant>) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut body = Some(body);
        // A complete body is not wrapped.
        let own = (&mut body as &mut dyn Any).downcast_mut::<Option<Self>>();
        if let Some(own) = own.filter(|own| end.is_none() || matches!(own, Some(Self(Inner::Whole(_)))))
            && let Some(own) = own.take()
        {
            return own;
        }
        match body {
            Some(body) => {
                let (body, end) = (Box::pin(body), end.map(|end| Box::pin(sleep_until(end))));
                Self(Inner::Stream(Box::pin(ForeignBody { body: Some(body), end, is_truncated: false })))
            }
            None => Self::whole(Bytes::new()),
        }
    }

    pub(crate) fn stream(stream: EventStream) -> Self {
        Self(Inner::Stream(Box::pin(stream)))
    }

    /// Collects the body. Returns at once for the body of a request to a route, which is complete. The size of a streamed body is
    /// not limited here.
    pub async fn bytes(self) -> Bytes {
        match self.0 {
            Inner::Whole(bytes) => bytes,
            Inner::Stream(stream) => {
                let Ok(body) = stream.collect().await;
                body.to_bytes()
            }
        }
    }

    /// Collects the body.
    ///
    /// # Errors
    ///
    /// When it has more than `max_bytes`, or ends before it is complete.
    pub(crate) async fn bytes_up_to(self, max_bytes: usize) -> Result<Bytes, BodyError> {
        let mut stream = match self.0 {
            Inner::Whole(bytes) if bytes.len() > max_bytes => return Err(BodyError::TooLarge),
            Inner::Whole(bytes) => return Ok(bytes),
            Inner::Stream(stream) => stream,
        };
        let mut whole = BytesMut::new();
        while let Some(Ok(frame)) = poll_fn(|cx| stream.as_mut().poll_frame(cx)).await {
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > max_bytes - whole.len() {
                return Err(BodyError::TooLarge);
            }
            whole.extend_from_slice(&data);
        }
        if stream.is_truncated() { Err(BodyError::Truncated) } else { Ok(whole.freeze()) }
    }
}

impl Default for Body {
    /// An empty body.
    fn default() -> Self {
        Self::whole(Bytes::new())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Inner::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Inner::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(bytes) => bytes.is_empty(),
            Inner::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Stream(stream) => stream.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Whole(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Inner::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}

/// A wrapped body of another type. The status is sent before it, so that its errors are only logged.
struct ForeignBody<B> {
    /// `None` once it has ended.
    body: Option<Pin<Box<B>>>,
    end: Option<Pin<Box<Sleep>>>,
    is_truncated: bool,
}

impl<B> Stream for ForeignBody<B>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    fn is_truncated(&self) -> bool {
        self.is_truncated
    }
}

impl<B> http_body::Body for ForeignBody<B>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        // Polled first, so that the body is not polled after the deadline.
        if this.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            tracing::warn!("the body of a response was cut: the deadline came first");
            (this.body, this.is_truncated) = (None, true);
            return Poll::Ready(None);
        }
        // No caller catches a panic here: it would end the execution environment.
        let polled = catch_unwind(AssertUnwindSafe(|| body.as_mut().poll_frame(cx)));
        match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Some(Ok(frame)))) if frame.is_data() => {
                return Poll::Ready(Some(Ok(frame.map_data(|data| data))));
            }
            // The response to an event has no trailers.
            Ok(Poll::Ready(Some(Ok(_)) | None)) => {}
            Err(_) => this.is_truncated = true,
            Ok(Poll::Ready(Some(Err(error)))) => {
                this.is_truncated = true;
                let error = error.into();
                tracing::error!(error = error_chain(error.as_ref()), "the body of a response was cut: it failed");
            }
        }
        this.body = None;
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), |body| body.size_hint())
    }
}
