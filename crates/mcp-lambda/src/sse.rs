//! Server-sent events: streamed responses, and notifications in a buffered response.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use mcp_server::CallOutcome;
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep},
};

use crate::events::encoded_bytes;

/// How often an idle stream sends a comment, so that no proxy closes the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// For the headers of a buffered response, and the event with which a stream begins.
const RESERVED_BYTES: usize = 4096;

/// Formats one message as an event. JSON without line breaks needs only one `data` field.
pub(crate) fn event(message: &str) -> String {
    format!("data: {message}\n\n")
}

/// The future of a call.
pub(crate) type CallFuture = Pin<Box<dyn Future<Output = CallOutcome> + Send>>;

/// Converts an outcome into the response message. The number is the bytes that were sent before it.
pub(crate) type Finish = Box<dyn FnOnce(CallOutcome, usize) -> String + Send>;

/// A stream of the notifications of a call, then its response. Polling the stream polls the handler: when the stream is no longer
/// polled, the handler does not run.
pub(crate) struct EventStream {
    first: Option<String>,
    notifications: mpsc::Receiver<String>,
    work: Option<(CallFuture, Finish)>,
    /// The outcome, until all notifications before it are sent.
    done: Option<(CallOutcome, Finish)>,
    sent_bytes: usize,
    keep_alive: Pin<Box<Sleep>>,
}

impl EventStream {
    /// A stream that begins with the notification `first`.
    pub(crate) fn new(first: String, notifications: mpsc::Receiver<String>, work: CallFuture, finish: Finish) -> Self {
        let keep_alive = Box::pin(sleep(KEEP_ALIVE));
        Self { first: Some(first), notifications, work: Some((work, finish)), done: None, sent_bytes: 0, keep_alive }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<String>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(event(&first)));
        }
        // The handler is polled first, so that the notifications that it sends can be received below.
        if let Some((work, _)) = &mut self.work
            && let Poll::Ready(outcome) = work.as_mut().poll(cx)
            && let Some((_, finish)) = self.work.take()
        {
            self.done = Some((outcome, finish));
        }
        if self.work.is_none() {
            // All notifications are sent before the result. `try_recv` is used because `poll_recv` may return pending for tokio's
            // cooperative budget.
            self.notifications.close();
            let next = self.notifications.try_recv().ok().or_else(|| {
                let (outcome, finish) = self.done.take()?;
                Some(finish(outcome, self.sent_bytes))
            });
            return Poll::Ready(next.map(|message| event(&message)));
        }
        if let Poll::Ready(Some(notification)) = self.notifications.poll_recv(cx) {
            return Poll::Ready(Some(event(&notification)));
        }
        match self.keep_alive.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(":\n\n".to_owned())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl http_body::Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let event = std::task::ready!(this.poll_event(cx));
        this.keep_alive.as_mut().reset(Instant::now() + KEEP_ALIVE);
        this.sent_bytes += event.as_ref().map_or(0, String::len);
        Poll::Ready(event.map(|event| Ok(Frame::data(Bytes::from(event)))))
    }
}

/// Notifications for a buffered response, as events. They are dropped when the size limit is reached, and when the result would not
/// fit otherwise.
pub(crate) struct PendingEvents {
    events: Vec<String>,
    left: usize,
    max_bytes: usize,
}

impl PendingEvents {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { events: Vec::new(), left: max_bytes, max_bytes }
    }

    /// At most `pending_bytes` of notifications, in a response of at most `max_bytes`.
    #[cfg(all(feature = "interactive", feature = "store"))]
    pub(crate) fn bounded(max_bytes: usize, pending_bytes: usize) -> Self {
        Self { left: pending_bytes.min(max_bytes), ..Self::new(max_bytes) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn push(&mut self, notification: &str) {
        let event = event(notification);
        let Some(left) = self.left.checked_sub(encoded_bytes(&HeaderMap::new(), &event)) else {
            self.left = 0;
            return;
        };
        self.left = left;
        self.events.push(event);
    }

    pub(crate) fn drain(&mut self, receiver: &mut mpsc::Receiver<String>) {
        while let Ok(notification) = receiver.try_recv() {
            self.push(&notification);
        }
    }

    /// The events that fit, followed by `last`.
    pub(crate) fn join_before(&self, last: &str) -> String {
        // After escaping, also far from the limit: the events fill what is left.
        let mut left = self.max_bytes.saturating_sub(encoded_bytes(&HeaderMap::new(), last) + RESERVED_BYTES);
        let mut events = String::new();
        for event in &self.events {
            let Some(rest) = left.checked_sub(encoded_bytes(&HeaderMap::new(), event)) else { break };
            left = rest;
            events.push_str(event);
        }
        events.push_str(last);
        events
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use mcp_server::Rendered;

    use super::*;

    fn stream(work: impl Future<Output = ()> + Send + 'static, notifications: mpsc::Receiver<String>) -> EventStream {
        let work = async move {
            work.await;
            CallOutcome::from(Ok(Rendered::Own("{}".to_owned())))
        };
        EventStream::new("first".to_owned(), notifications, Box::pin(work), Box::new(|_, _| "last".to_owned()))
    }

    async fn next(stream: &mut EventStream) -> Option<Bytes> {
        Some(stream.frame().await?.unwrap().into_data().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_stream_sends_a_comment_every_fifteen_seconds() {
        let (_sender, receiver) = mpsc::channel(1);
        let mut stream = stream(sleep(Duration::from_secs(40)), receiver);

        let mut events = Vec::new();
        while let Some(event) = next(&mut stream).await {
            events.push(event);
        }

        assert_eq!(events, ["data: first\n\n", ":\n\n", ":\n\n", "data: last\n\n"]);
    }

    #[tokio::test]
    async fn no_notification_is_lost() {
        for count in 0..300 {
            let (sender, receiver) = mpsc::channel(16);
            let work = async move {
                for number in 0..count {
                    sender.send(number.to_string()).await.unwrap();
                }
            };
            let mut stream = stream(work, receiver);

            let mut events = 0;
            while next(&mut stream).await.is_some() {
                events += 1;
            }

            assert_eq!(events, count + 2);
        }
    }

    #[tokio::test]
    async fn each_notification_is_its_own_frame_and_none_is_lost_at_the_end() {
        let (sender, receiver) = mpsc::channel(8);
        let work = async move {
            for number in ["one", "two"] {
                sender.send(number.to_owned()).await.unwrap();
            }
        };
        let mut stream = stream(work, receiver);

        let mut events = Vec::new();
        while let Some(event) = next(&mut stream).await {
            events.push(event);
        }

        assert_eq!(events, ["data: first\n\n", "data: one\n\n", "data: two\n\n", "data: last\n\n"]);
    }
}
