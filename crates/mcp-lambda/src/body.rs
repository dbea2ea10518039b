//! Bodies of requests and responses: whole, or sent as they come.

use std::{
    any::Any,
    convert::Infallible,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use mcp_server::{BoxError, error_chain};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::sse::EventStream;

/// The body of a request or response: whole, or sent as it comes.
pub struct Body(Inner);

enum Inner {
    Whole(Bytes),
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = Infallible> + Send>>),
}

impl Body {
    /// A whole body.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Inner::Whole(bytes.into()))
    }

    /// A body of another type, such as that of a layer's response. An error ends it, and is logged.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::ending(body, None)
    }

    /// The same, which ends at an instant.
    pub(crate) fn ending<B>(body: B, end: Option<Instant>) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut body = Some(body);
        // A whole body stays one.
        let own = (&mut body as &mut dyn Any).downcast_mut::<Option<Self>>();
        if let Some(own) = own.filter(|own| end.is_none() || matches!(own, Some(Self(Inner::Whole(_)))))
            && let Some(own) = own.take()
        {
            return own;
        }
        match body {
            Some(body) => {
                let (body, end) = (Box::pin(body), end.map(|end| Box::pin(sleep_until(end))));
                Self(Inner::Stream(Box::pin(ForeignBody { body: Some(body), end })))
            }
            None => Self::whole(Bytes::new()),
        }
    }

    pub(crate) fn stream(stream: EventStream) -> Self {
        Self(Inner::Stream(Box::pin(stream)))
    }

    /// The whole body. That of a request to a route is complete already.
    pub async fn bytes(self) -> Bytes {
        match self.0 {
            Inner::Whole(bytes) => bytes,
            Inner::Stream(stream) => {
                let Ok(body) = stream.collect().await;
                body.to_bytes()
            }
        }
    }

    /// The whole body, if it has no more than `max_bytes`.
    pub(crate) async fn bytes_up_to(self, max_bytes: usize) -> Option<Bytes> {
        match self.0 {
            Inner::Whole(bytes) => (bytes.len() <= max_bytes).then_some(bytes),
            Inner::Stream(stream) => {
                http_body_util::Limited::new(stream, max_bytes).collect().await.ok().map(|body| body.to_bytes())
            }
        }
    }
}

impl Default for Body {
    /// An empty one.
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

/// A body of another type. The status has left before it, so that its errors are for the log alone.
struct ForeignBody<B> {
    /// `None` once it has ended.
    body: Option<Pin<Box<B>>>,
    end: Option<Pin<Box<Sleep>>>,
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
        // Polled first, so that nothing of the body runs after its end.
        if this.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            tracing::warn!("the body of a response was cut: the deadline came first");
            this.body = None;
            return Poll::Ready(None);
        }
        // A panic here would end the environment, as nothing above catches it.
        let polled = catch_unwind(AssertUnwindSafe(|| body.as_mut().poll_frame(cx)));
        match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Some(Ok(frame)))) if frame.is_data() => {
                return Poll::Ready(Some(Ok(frame.map_data(|data| data))));
            }
            // Trailers have no place in the answer to an event.
            Ok(Poll::Ready(Some(Ok(_)) | None)) | Err(_) => {}
            Ok(Poll::Ready(Some(Err(error)))) => {
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
