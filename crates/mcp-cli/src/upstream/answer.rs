//! Responses on their way to the client: a message, or a stream that may break off and be resumed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

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
use serde_json::{Value, json, value::RawValue};

use sse_stream::Sse;

use super::{
    EVENT_COST, FIRST_PAUSE, Line, Output, SESSION_ID, Upstream,
    retry::{is_busy, unknown_outcome, unread},
    send,
};
use crate::{
    message::{Envelope, Shape, error_response, is_same_id, one_line, with_part},
    received::{self, Events},
    server_error::OWN_PREFIX,
};

const TOOLS_CHANGED: &str = "notifications/tools/list_changed";
/// Maximum length of an error's body in an error.
const MAX_SHOWN_CHARS: usize = 500;
/// Maximum number of consecutive resumptions of a stream.
pub(super) const MAX_RESUMPTIONS: u32 = 5;

/// How a stream ended.
pub(super) enum Ended {
    /// With the response.
    Answered,
    /// Before it.
    Broken { brought_something: bool },
}

/// The position in a resumable stream (the fields `id` and `retry` of Server-Sent Events).
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) last_event_id: Option<String>,
    retry: Option<Duration>,
}

impl Place {
    fn pass(&mut self, event: &Sse) {
        if let Some(id) = event.id.as_ref().filter(|id| !id.is_empty()) {
            self.last_event_id = Some(id.clone());
        }
        self.retry = event.retry.map(Duration::from_millis).or(self.retry);
    }

    /// Delay before the next stream.
    pub(super) fn pause(&self) -> Duration {
        self.retry.unwrap_or(FIRST_PAUSE)
    }
}

impl Upstream {
    /// Forwards the response to a message.
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

    /// Forwards a single message.
    async fn deliver_body(&self, envelope: &Envelope, response: Response, output: &Output) -> anyhow::Result<()> {
        let body = received::body(response).await.map_err(|error| unread(error, envelope))?;
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

    /// Forwards a stream and its resumptions.
    async fn deliver_whole_stream(
        &self,
        envelope: &Envelope,
        response: Response,
        output: &Output,
    ) -> anyhow::Result<()> {
        let (mut place, mut tries) = (Place::default(), 0);
        let mut response = Some(response);
        loop {
            let before = place.last_event_id.clone();
            let ended = match response.take() {
                Some(response) => self.deliver_stream(response, Some(envelope), &mut place, output).await?,
                None => Ended::Broken { brought_something: false },
            };
            match (ended, &place.last_event_id) {
                (Ended::Answered, _) => return Ok(()),
                // A stream in answer to a notification or a response has no end of its own.
                (Ended::Broken { .. }, _) if envelope.id().is_none() => return Ok(()),
                (Ended::Broken { .. }, Some(_)) if envelope.modern_version().is_none() => {}
                _ => bail!("the stream ended before the answer came{}", unknown_outcome(envelope)),
            }
            // A stream with new events resets the number of attempts.
            tries = if place.last_event_id == before { tries + 1 } else { 1 };
            if tries > MAX_RESUMPTIONS {
                bail!("the stream broke off too often{}", unknown_outcome(envelope));
            }
            tokio::time::sleep(place.pause()).await;
            let token = self.authorizer.token().await?;
            response = match self.get(place.last_event_id.as_deref(), token.as_ref()).await {
                Ok(next) if next.status().is_success() => Some(next),
                Ok(next) if !is_busy(next.status()) && !next.status().is_server_error() => {
                    let (status, unknown) = (next.status(), unknown_outcome(envelope));
                    bail!("the stream ended before the answer came, and cannot be resumed ({status}){unknown}");
                }
                // The server may come back.
                Ok(_) => None,
                Err(error) => {
                    tracing::info!("could not go on with a stream: {error:#}");
                    None
                }
            };
        }
    }

    /// Forwards the events of a stream; for a request up to the response.
    pub(super) async fn deliver_stream(
        &self,
        response: Response,
        envelope: Option<&Envelope>,
        place: &mut Place,
        output: &Output,
    ) -> anyhow::Result<Ended> {
        let mut events = Events::of(response);
        while let Some(event) = events.next().await? {
            place.pass(&event);
            // Other events, such as pings, are for other readers.
            let is_message = event.event.as_deref().is_none_or(|name| name.is_empty() || name == "message");
            let Some(data) = event.data.filter(|data| is_message && !data.trim().is_empty()) else {
                continue;
            };
            let room = u32::try_from(data.len() + EVENT_COST)?;
            let room = Arc::clone(&self.room).acquire_many_owned(room).await?;
            let line = Line { text: data, room: Some(Arc::new(room)) };
            match envelope {
                Some(envelope) => {
                    if self.deliver_message(envelope, line, output)? {
                        return Ok(Ended::Answered);
                    }
                }
                None => match check_message(&line.text) {
                    Ok(()) => {
                        self.notice(&line.text);
                        let text = one_line(&line.text);
                        send(output, line.with_text(text));
                    }
                    Err(error) => tracing::warn!("an event is left out: {error:#}"),
                },
            }
        }
        Ok(Ended::Broken { brought_something: events.have_begun() })
    }

    /// Forwards a message to the client. Returns whether it is the response to the request.
    ///
    /// # Errors
    ///
    /// When it is no message: a page of an intermediary, for example.
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
        let is_modern = envelope.modern_version().is_some();
        if is_modern && shape.is_request() {
            // Since 2026-07-28 a server sends no requests.
            tracing::warn!(method = shape.method.as_deref(), "the server sends a request on the stream of a response");
            return Ok(false);
        }
        self.notice(message);
        let is_own = matches!((shape.id, envelope.id()), (Some(id), Some(own)) if is_same_id(id, own));
        if let (true, Some(result)) = (is_own, shape.result) {
            match envelope.method() {
                Some(method::INITIALIZE) => self.agree(result),
                Some(method::TOOLS_LIST) if is_modern => {
                    if let Some(without) = self.tools().learn(message, result, Instant::now()) {
                        passed_on = one_line(&without);
                    }
                }
                _ => {}
            }
        }
        let is_answer = shape.is_response() && is_own;
        if is_answer {
            passed_on = as_client_knows(envelope, passed_on);
        }
        send(output, line.with_text(passed_on));
        Ok(is_answer)
    }

    /// Handles notifications that concern all requests.
    fn notice(&self, message: &str) {
        let shape = json::borrow::<Shape<'_>>(message).ok();
        if shape.and_then(|shape| shape.method).is_some_and(|method| method == TOOLS_CHANGED) {
            self.tools().expire();
        }
    }

    /// For fuzzing: an answer as one body or one stream, which is not resumed.
    pub(crate) async fn read(&self, envelope: &Envelope, response: Response, is_stream: bool, output: &Output) {
        let _ = match is_stream {
            true => self.deliver_stream(response, Some(envelope), &mut Place::default(), output).await.map(drop),
            false => self.deliver_body(envelope, response, output).await,
        };
    }

    fn agree(&self, result: &RawValue) {
        let version = mcp_protocol::lookup(result, &["protocolVersion".to_owned()]).ok().flatten();
        self.legacy().version = version.and_then(|version| json::borrow(version.get()).ok());
    }
}

/// A response with the id that the client has given the request.
fn as_client_knows(envelope: &Envelope, response: String) -> String {
    let (Some(sent), Some(known)) = (envelope.id(), envelope.client_id()) else { return response };
    if sent.get() == known.get() {
        return response;
    }
    let renamed = json::borrow::<Shape<'_>>(&response)
        .ok()
        .and_then(|shape| shape.id)
        .map(|id| with_part(&response, id.get(), known.get()));
    renamed.unwrap_or(response)
}

/// The error for the client after an HTTP error: the server's JSON-RPC error, or the HTTP status.
pub(super) fn deliver_error(
    envelope: &Envelope,
    status: StatusCode,
    body: &str,
    output: &Output,
) -> anyhow::Result<()> {
    let Some(id) = envelope.client_id() else {
        bail!("the server answered {status}");
    };
    let shape = received::check(body).ok().and_then(|()| json::borrow::<Shape<'_>>(body).ok());
    if let Some(error) = shape.as_ref().and_then(|shape| shape.error).filter(|error| is_error_object(error)) {
        let is_own = shape.and_then(|shape| shape.id).is_some_and(|own| is_same_id(own, id));
        // A server that rejects a request unread does not know its id.
        let renamed = || format!(r#"{{"jsonrpc":"2.0","id":{},"error":{}}}"#, id.get(), error.get());
        send(output, one_line(&if is_own { body.to_owned() } else { renamed() }));
        return Ok(());
    }
    if let Some(reason) = oauth_reason(body) {
        let message = format!("{OWN_PREFIX}the server answered {status}: {reason}");
        send(output, error_response(Some(id), &ErrorObject::new(i64::from(status.as_u16()), message)));
        return Ok(());
    }
    let shown: String = body.chars().take(MAX_SHOWN_CHARS).collect();
    let error = ErrorObject::new(i64::from(status.as_u16()), format!("the server answered {status}"));
    send(output, error_response(Some(id), &error.with_data(json!({ "body": shown }))));
    Ok(())
}

/// Whether an `error` is that of JSON-RPC (section 5.1): clients reject a response with any other.
fn is_error_object(error: &RawValue) -> bool {
    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "only whether they are there, and of their types")]
    struct Error<'a> {
        code: i64,
        #[serde(borrow)]
        message: std::borrow::Cow<'a, str>,
    }
    error.get().starts_with('{') && json::borrow::<Error<'_>>(error.get()).is_ok()
}

/// The reason in an error response of OAuth (RFC 6749, section 5.2): `error` is a text there.
fn oauth_reason(body: &str) -> Option<String> {
    let body: Value = received::read(body).ok()?;
    let error = body["error"].as_str()?;
    let description = body["error_description"].as_str().map(|text| format!(": {text}")).unwrap_or_default();
    Some(format!("{error}{description}").chars().take(MAX_SHOWN_CHARS).collect())
}

/// Whether a text may be forwarded to the client: an object, or a list of objects.
fn check_message(text: &str) -> anyhow::Result<()> {
    let is_object =
        |own: &str| own.starts_with('{') && json::borrow::<Shape<'_>>(own).is_ok_and(|shape| shape.is_message());
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
        let upstream = Upstream::new(reqwest::Client::new(), Duration::MAX, String::new(), Authorizer::Headers);
        let (output, mut lines) = mpsc::unbounded_channel();
        let mut place = Place::default();
        let delivering = tokio::task::unconstrained(upstream.deliver_stream(response, None, &mut place, &output));
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
        let part = bytes::Bytes::from("data:{\"method\":\"n\"}\n\n".repeat(EVENTS));
        let parts =
            futures_util::stream::repeat(part).take(MAX_QUEUED_BYTES / 64 / EVENTS).map(Ok::<_, std::io::Error>);
        let response = http::Response::new(reqwest::Body::wrap_stream(parts)).into();
        let upstream = Upstream::new(reqwest::Client::new(), Duration::MAX, String::new(), Authorizer::Headers);
        let (output, lines) = mpsc::unbounded_channel();
        let mut place = Place::default();
        let delivering = tokio::task::unconstrained(upstream.deliver_stream(response, None, &mut place, &output));

        assert!(std::pin::pin!(delivering).now_or_never().is_none(), "it waits");
        assert!(lines.len() <= MAX_QUEUED_BYTES / EVENT_COST, "{}", lines.len());
    }

    /// The call has reached the server, which began to answer.
    #[tokio::test]
    async fn an_answer_that_breaks_off_says_that_the_call_may_have_been_carried_out() {
        for (line, expected) in [
            (
                r#"{"id":1,"method":"tools/call"}"#,
                "it is not known whether `tools/call` was carried out: the answer broke off",
            ),
            (r#"{"id":1,"method":"tools/list"}"#, "the answer broke off"),
        ] {
            let parts = [Ok("{\"id\":1,"), Err(std::io::Error::other("reset"))];
            let body = reqwest::Body::wrap_stream(futures_util::stream::iter(parts));
            let upstream = Upstream::new(reqwest::Client::new(), Duration::MAX, String::new(), Authorizer::Headers);
            let (output, _) = mpsc::unbounded_channel();

            let envelope = Envelope::parse(line).unwrap();
            let delivered = upstream.deliver(&envelope, http::Response::new(body).into(), &output);

            let error = format!("{:#}", delivered.await.unwrap_err());
            assert!(
                error.contains(expected) && error.contains("not known") == expected.contains("not known"),
                "{error}"
            );
        }
    }

    /// As gateways and issuers answer: no JSON-RPC client can read it.
    #[test]
    fn an_error_of_oauth_becomes_one_of_json_rpc() {
        let delivered = |body: &str| -> Value {
            let (output, mut lines) = mpsc::unbounded_channel();
            let envelope = Envelope::parse(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call"}"#).unwrap();
            deliver_error(&envelope, StatusCode::FORBIDDEN, body, &output).unwrap();
            received::read(&lines.try_recv().unwrap().text).unwrap()
        };
        for (body, message) in [
            (r#"{"error":"insufficient_scope"}"#, "mcpl: the server answered 403 Forbidden: insufficient_scope"),
            (
                r#"{"jsonrpc":"2.0","id":1,"error":"no","error_description":"it needs x"}"#,
                "mcpl: the server answered 403 Forbidden: no: it needs x",
            ),
            (r#"{"error":{"message":"no code"}}"#, "the server answered 403 Forbidden"),
            (r#"{"error":{"code":"E1","message":"x"}}"#, "the server answered 403 Forbidden"),
            (r#"{"error":[]}"#, "the server answered 403 Forbidden"),
        ] {
            let answer = delivered(body);
            assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(7), &json!(403)), "{body}");
            assert_eq!(answer["error"]["message"], message, "{body}");
        }
        let long = delivered(&format!(r#"{{"error":"{}"}}"#, "é".repeat(100_000)));
        assert!(long["error"]["message"].as_str().unwrap().chars().count() < 600);
        let own = delivered(r#"{"error":{"code":-32000,"message":"e"}}"#);
        assert_eq!(own, json!({ "jsonrpc": "2.0", "id": 7, "error": { "code": -32000, "message": "e" } }));
    }

    /// C17: what a server wants is kept for all streams that follow, however long it is.
    #[test]
    fn a_server_says_how_long_to_wait_before_the_next_stream() {
        let mut place = Place::default();
        assert_eq!(place.pause(), FIRST_PAUSE);
        place.pass(&Sse { retry: Some(3_600_000), ..Sse::default() });
        place.pass(&Sse { id: Some("1".to_owned()), ..Sse::default() });
        place.pass(&Sse { id: Some(String::new()), ..Sse::default() });
        assert_eq!((place.pause(), place.last_event_id.as_deref()), (Duration::from_secs(3600), Some("1")));
    }

    /// 8.7
    #[test]
    fn what_is_passed_on_is_a_message_of_one_reading() {
        let many_numbers = format!(r#"{{"id":1,"result":[{}0]}}"#, "0,".repeat(2_000_000));
        let batch = r#" [{"id":1,"result":{}},{"method":"n"}]"#;
        for good in [r#"{"method":"n","b":1e400}"#, batch, r#"{"id":null,"error":{}}"#, &many_numbers] {
            check_message(good).unwrap();
        }
        let private = r#"{"result":{"$serde_json::private::RawValue":"{}"}}"#;
        // h03: what is neither a request nor a notification nor a response.
        for bad in ["{}", r#"{"id":1}"#, r#"{"result":{}}"#, r#"[{"id":1}]"#] {
            assert!(check_message(bad).is_err(), "{bad}");
        }
        for bad in
            [private, r#"{"id":1,"id":2}"#, r#"{"a":{"b":1,"b":1}}"#, "[[1,null,null,{},null]]", "[1]", "1", "", "{"]
        {
            assert!(check_message(bad).is_err(), "{bad}");
        }
    }
}
