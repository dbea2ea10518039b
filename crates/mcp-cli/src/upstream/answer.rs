//! The way of an answer to the client: a message, or a stream of them that may break off.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use mcp_protocol::{
    ErrorObject,
    json::{self, JsonError},
    method,
};
use reqwest::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::{json, value::RawValue};

use super::{EVENT_COST, FIRST_PAUSE, LONGEST_PAUSE, Line, Output, SESSION_ID, Upstream, send};
use crate::{
    message::{Envelope, Shape, error_response, is_same_id, one_line},
    received::{self, Events},
};

/// Tries to go on reading a stream that broke off.
pub(super) const MAX_RESUMPTIONS: u32 = 5;

/// How an answer ended.
pub(super) enum Ended {
    /// With the response.
    Answered,
    /// Before it; the id of the last event, if it had one, and how long to wait before going on.
    Broken { last_event_id: Option<String>, pause: Option<Duration> },
}

impl Upstream {
    /// Passes everything on that comes in answer to a message.
    pub(super) async fn deliver(&self, envelope: &Envelope, response: Response, output: &Output) -> anyhow::Result<()> {
        if envelope.method() == Some(method::INITIALIZE) && envelope.modern_version().is_none() {
            let mut legacy = self.legacy();
            legacy.initialize = Some(envelope.text.clone());
            legacy.session_id = response.headers().get(SESSION_ID).cloned();
        }
        if is_event_stream(response.headers()) {
            return self.deliver_whole_stream(envelope, response, output).await;
        }
        self.deliver_body(envelope, response, output).await
    }

    /// A single message.
    async fn deliver_body(&self, envelope: &Envelope, response: Response, output: &Output) -> anyhow::Result<()> {
        let body = received::body(response).await?;
        if body.trim().is_empty() {
            return match envelope.id() {
                Some(_) => bail!("the server answered with nothing"),
                None => Ok(()),
            };
        }
        match (self.deliver_message(envelope, body.into(), output)?, envelope.id()) {
            (false, Some(_)) => bail!("the server answered with something else than a response"),
            _ => Ok(()),
        }
    }

    /// A stream, and those that go on where it broke off.
    async fn deliver_whole_stream(
        &self,
        envelope: &Envelope,
        response: Response,
        output: &Output,
    ) -> anyhow::Result<()> {
        let mut ended = self.deliver_stream(response, Some(envelope), output).await;
        let (mut known, mut tries) = (None, 0);
        while tries < MAX_RESUMPTIONS {
            // A stream that brought nothing new goes on where the last one did; one that did is worth as many tries again.
            let ended_at = match ended? {
                Ended::Broken { last_event_id: None, pause } => Ended::Broken { last_event_id: known.clone(), pause },
                other => other,
            };
            if let Ended::Broken { last_event_id, .. } = &ended_at
                && *last_event_id != known
            {
                (known, tries) = (last_event_id.clone(), 0);
            }
            tries += 1;
            let (id, pause) = match ended_at {
                Ended::Answered => return Ok(()),
                // Whatever comes in answer to a notification or a response ends when it likes.
                Ended::Broken { .. } if envelope.id().is_none() => return Ok(()),
                Ended::Broken { last_event_id: Some(id), pause } if envelope.modern_version().is_none() => (id, pause),
                Ended::Broken { .. } => bail!("the stream ended before the answer came"),
            };
            tokio::time::sleep(pause.unwrap_or(FIRST_PAUSE)).await;
            let response = self.get(Some(&id)).await.context("could not go on with the stream")?;
            if !response.status().is_success() {
                bail!("the stream ended before the answer came, and cannot be resumed: {}", response.status());
            }
            ended = self.deliver_stream(response, Some(envelope), output).await;
        }
        bail!("the stream broke off too often")
    }

    /// Everything on a stream; for a request it ends with the response.
    pub(super) async fn deliver_stream(
        &self,
        response: Response,
        envelope: Option<&Envelope>,
        output: &Output,
    ) -> anyhow::Result<Ended> {
        let mut events = Events::of(response);
        let (mut last_event_id, mut pause) = (None, None);
        while let Some(event) = events.next().await? {
            last_event_id = event.id.filter(|id| !id.is_empty()).or(last_event_id);
            pause = event.retry.map(|retry| Duration::from_millis(retry).min(LONGEST_PAUSE)).or(pause);
            let Some(data) = event.data.filter(|data| !data.trim().is_empty()) else {
                continue;
            };
            let room = u32::try_from(data.len() + EVENT_COST)?;
            let room = Arc::clone(&self.room).acquire_many_owned(room).await?;
            let line = Line { text: data, room: Some(Arc::new(room)) };
            let is_answer = match envelope {
                Some(envelope) => self.deliver_message(envelope, line, output)?,
                None => {
                    check_message(&line.text)?;
                    let text = one_line(&line.text);
                    send(output, line.with_text(text));
                    false
                }
            };
            if is_answer {
                return Ok(Ended::Answered);
            }
        }
        Ok(Ended::Broken { last_event_id, pause })
    }

    /// Passes a message to the client; whether it is the response to the request.
    ///
    /// # Errors
    ///
    /// When it is no message: a page of somebody in between, for example.
    fn deliver_message(&self, envelope: &Envelope, line: Line, output: &Output) -> anyhow::Result<bool> {
        let message = line.text.as_str();
        check_message(message)?;
        let mut passed_on = one_line(message);
        if message.trim_start().starts_with('[') {
            // A batch, in answer to one.
            send(output, line.with_text(passed_on));
            return Ok(envelope.id().is_none());
        }
        let shape: Shape<'_> = json::borrow(message)?;
        let is_own = matches!((shape.id, envelope.id()), (Some(id), Some(own)) if is_same_id(id, own));
        if let (true, Some(result)) = (is_own, shape.result) {
            match envelope.method() {
                Some(method::INITIALIZE) => self.agree(result),
                Some(method::TOOLS_LIST) if envelope.modern_version().is_some() => {
                    if let (_, Some(without)) = self.tools().learn(message, result) {
                        passed_on = one_line(&without);
                    }
                }
                _ => {}
            }
        }
        let is_answer = shape.is_response() && is_own;
        send(output, line.with_text(passed_on));
        Ok(is_answer)
    }

    /// For fuzzing: an answer as one body or one stream, which is not resumed.
    pub(crate) async fn read(&self, envelope: &Envelope, response: Response, is_stream: bool, output: &Output) {
        let _ = match is_stream {
            true => self.deliver_stream(response, Some(envelope), output).await.map(drop),
            false => self.deliver_body(envelope, response, output).await,
        };
    }

    fn agree(&self, result: &RawValue) {
        let version = mcp_protocol::lookup(result, &["protocolVersion".to_owned()]).ok().flatten();
        self.legacy().version = version.and_then(|version| json::borrow(version.get()).ok());
    }
}

/// What the client is told that got an error over HTTP: the server's JSON-RPC error, or what HTTP says.
pub(super) fn deliver_error(
    envelope: &Envelope,
    status: StatusCode,
    body: &str,
    output: &Output,
) -> anyhow::Result<()> {
    let Some(id) = envelope.id() else {
        bail!("the server answered {status}");
    };
    let shape = received::check(body).ok().and_then(|()| json::borrow::<Shape<'_>>(body).ok());
    if let Some(error) = shape.as_ref().and_then(|shape| shape.error) {
        let is_own = shape.and_then(|shape| shape.id).is_some_and(|own| is_same_id(own, id));
        // Whoever refuses a request unread does not know its id.
        let renamed = || format!(r#"{{"jsonrpc":"2.0","id":{},"error":{}}}"#, id.get(), error.get());
        send(output, one_line(&if is_own { body.to_owned() } else { renamed() }));
        return Ok(());
    }
    let shown: String = body.chars().take(500).collect();
    let error = ErrorObject::new(i64::from(status.as_u16()), format!("the server answered {status}"));
    send(output, error_response(Some(id), &error.with_data(json!({ "body": shown }))));
    Ok(())
}

/// Whether a text may be written to the client: an object, or a list of them.
fn check_message(text: &str) -> anyhow::Result<()> {
    let is_object = |own: &str| own.starts_with('{') && json::borrow::<Shape<'_>>(own).is_ok();
    let text = text.trim_start();
    let is_message = match text.as_bytes().first() {
        Some(b'{') => received::check(text).map(|()| is_object(text)),
        Some(b'[') => received::read::<Vec<Box<RawValue>>>(text)
            .map(|messages| messages.iter().all(|message| is_object(message.get()))),
        _ => Ok(false),
    };
    match is_message {
        Ok(true) => Ok(()),
        Ok(false) | Err(JsonError::Malformed(_)) => bail!("the server answered with something that is no message"),
        Err(error) => Err(error).context("the server's message cannot be passed on"),
    }
}

pub(super) fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::{FutureExt as _, StreamExt as _};
    use tokio::sync::mpsc;

    use super::{super::MAX_QUEUED_BYTES, *};
    use crate::authorizer::Authorizer;

    /// 8.7: events that the client does not read are not read from the server either.
    #[tokio::test]
    async fn a_client_that_does_not_read_slows_the_server_down() {
        const EVENT_BYTES: usize = 1024 * 1024;
        let text = format!(r#"{{"method":"n","params":"{}"}}"#, "x".repeat(EVENT_BYTES));
        let event = bytes::Bytes::from(format!("data: {text}\n\n"));
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&taken);
        let events = futures_util::stream::repeat(event).take(60);
        let events = events.inspect(move |_| _ = counter.fetch_add(1, Ordering::Relaxed)).map(Ok::<_, std::io::Error>);
        let response = http::Response::new(reqwest::Body::wrap_stream(events)).into();
        let upstream = Upstream::new(reqwest::Client::new(), Duration::MAX, String::new(), Authorizer::Nobody);
        let (output, mut lines) = mpsc::unbounded_channel();
        let delivering = tokio::task::unconstrained(upstream.deliver_stream(response, None, &output));
        let mut delivering = std::pin::pin!(delivering);

        assert!(delivering.as_mut().now_or_never().is_none(), "it waits");
        let waiting = taken.load(Ordering::Relaxed);
        let mut read = 0;
        while delivering.as_mut().now_or_never().is_none() {
            lines.try_recv().expect("there is something to read while it waits");
            read += 1;
        }

        assert!(waiting <= MAX_QUEUED_BYTES / EVENT_BYTES + 1, "{waiting}");
        while lines.try_recv().is_ok() {
            read += 1;
        }
        assert_eq!(read, 60, "nothing is lost");
    }

    /// 8.7: the smallest events take as much memory as those of a hundred bytes.
    #[tokio::test]
    async fn small_events_that_are_not_read_are_bounded_too() {
        const EVENTS: usize = 1024;
        let part = bytes::Bytes::from("data:{}\n\n".repeat(EVENTS));
        let parts =
            futures_util::stream::repeat(part).take(MAX_QUEUED_BYTES / 64 / EVENTS).map(Ok::<_, std::io::Error>);
        let response = http::Response::new(reqwest::Body::wrap_stream(parts)).into();
        let upstream = Upstream::new(reqwest::Client::new(), Duration::MAX, String::new(), Authorizer::Nobody);
        let (output, lines) = mpsc::unbounded_channel();
        let delivering = tokio::task::unconstrained(upstream.deliver_stream(response, None, &output));

        assert!(std::pin::pin!(delivering).now_or_never().is_none(), "it waits");
        assert!(lines.len() <= MAX_QUEUED_BYTES / EVENT_COST, "{}", lines.len());
    }

    /// 8.7
    #[test]
    fn what_is_passed_on_is_a_message_of_one_reading() {
        let many_numbers = format!(r#"{{"result":[{}0]}}"#, "0,".repeat(2_000_000));
        for good in [r#"{"a":1e400,"b":{}}"#, r#" [{"id":1},{"id":2}]"#, "{}", &many_numbers] {
            check_message(good).unwrap();
        }
        let private = r#"{"result":{"$serde_json::private::RawValue":"{}"}}"#;
        for bad in
            [private, r#"{"id":1,"id":2}"#, r#"{"a":{"b":1,"b":1}}"#, "[[1,null,null,{},null]]", "[1]", "1", "", "{"]
        {
            assert!(check_message(bad).is_err(), "{bad}");
        }
    }
}
