//! Server-sent events: a response that streams, and notifications in a whole one.

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

use crate::events::carried_bytes;

/// A quiet stream gets a comment this often, so that no intermediary closes it as idle.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One message as an event. JSON on one line needs one `data` field.
pub(crate) fn event(message: &str) -> String {
    format!("data: {message}\n\n")
}

/// A handler at work.
pub(crate) type Work = Pin<Box<dyn Future<Output = CallOutcome> + Send>>;

/// The response message that an outcome becomes, after so many bytes of other messages.
pub(crate) type Finish = Box<dyn FnOnce(CallOutcome, usize) -> String + Send>;

/// A call whose notifications are sent as they come, and then its response. Reading the stream is what drives the
/// handler: when the reader stops, so does the work.
pub(crate) struct EventStream {
    first: Option<String>,
    notifications: mpsc::Receiver<String>,
    work: Option<(Work, Finish)>,
    /// What the handler has come to, until all that was sent before it is gone.
    done: Option<(CallOutcome, Finish)>,
    sent_bytes: usize,
    keep_alive: Pin<Box<Sleep>>,
}

impl EventStream {
    /// A stream that begins with `first`, which made it one.
    pub(crate) fn new(first: String, notifications: mpsc::Receiver<String>, work: Work, finish: Finish) -> Self {
        let keep_alive = Box::pin(sleep(KEEP_ALIVE));
        Self { first: Some(first), notifications, work: Some((work, finish)), done: None, sent_bytes: 0, keep_alive }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<String>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(event(&first)));
        }
        // The handler runs first: what it sends on the way is then there to be read.
        if let Some((work, _)) = &mut self.work
            && let Poll::Ready(outcome) = work.as_mut().poll(cx)
            && let Some((_, finish)) = self.work.take()
        {
            self.done = Some((outcome, finish));
        }
        if self.work.is_none() {
            // Notifications sent before the result go before it, and none after. `try_recv` is never asked to
            // yield, as `poll_recv` is when a task has done much.
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

/// Notifications on their way into a whole body, as events. The result is what counts: those that would crowd it out
/// are left out, and none beyond what can be carried is kept.
pub(crate) struct PendingEvents {
    events: Vec<String>,
    left: usize,
    max_bytes: usize,
}

impl PendingEvents {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { events: Vec::new(), left: max_bytes, max_bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn push(&mut self, notification: &str) {
        let event = event(notification);
        let Some(left) = self.left.checked_sub(carried_bytes(&HeaderMap::new(), &event)) else {
            self.left = 0;
            return;
        };
        self.left = left;
        self.events.push(event);
    }

    pub(crate) fn take_rest(&mut self, receiver: &mut mpsc::Receiver<String>) {
        while let Ok(notification) = receiver.try_recv() {
            self.push(&notification);
        }
    }

    /// As many as fit before what must be sent, which weighs `weight`.
    pub(crate) fn before(&self, last: &str, weight: usize) -> String {
        let mut left = self.max_bytes.saturating_sub(weight);
        let mut events = String::new();
        for event in &self.events {
            let Some(rest) = left.checked_sub(carried_bytes(&HeaderMap::new(), event)) else { break };
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
    async fn a_quiet_stream_gets_a_comment_every_fifteen_seconds() {
        let (_sender, receiver) = mpsc::channel(1);
        let mut stream = stream(sleep(Duration::from_secs(40)), receiver);

        let mut events = Vec::new();
        while let Some(event) = next(&mut stream).await {
            events.push(event);
        }

        assert_eq!(events, ["data: first\n\n", ":\n\n", ":\n\n", "data: last\n\n"]);
    }

    #[tokio::test]
    async fn none_is_lost_however_many_there_are() {
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
