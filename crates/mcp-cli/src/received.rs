//! Limits on data of a server: bytes, time, JSON, pages.
//!
//! The deadline of a response is that of the HTTP client ([`network::client`](crate::network::client)), its body included.

use std::{
    collections::HashSet,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use mcp_protocol::json::{self, Budget, JsonError};
use reqwest::{
    Response,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::de::{DeserializeOwned, IgnoredAny};
use sse_stream::{Sse, SseByteStream};

use crate::{message::Shape, output::excerpt};

/// Maximum size of a body, or of an event of a stream. A function that buffers sends 6 MB at most; a streamed message may be larger, and
/// one of more than this is no text for a model.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// Maximum memory of a parsed message, and of all pages of a list together, for one command at a time. It is
/// enough for a message that is one string of any characters, and for several lists of 2,000 tools with schemas.
pub(crate) const MESSAGE_BUDGET: Budget = Budget::memory(256 * 1024 * 1024);
/// Forwarded messages stay text: they are limited by [`MAX_MESSAGE_BYTES`] alone.
const TEXT_BUDGET: Budget = Budget::memory(usize::MAX);
/// Maximum number of pages of a list.
pub(crate) const MAX_PAGES: usize = 100;
/// Maximum size of all pages of a list.
pub(crate) const MAX_LIST_BYTES: usize = 4 * MAX_MESSAGE_BYTES;
/// Maximum length of a body in an error.
const MAX_EXCERPT_CHARS: usize = 200;
/// Maximum size of a page's cursor.
const MAX_CURSOR_BYTES: usize = 16 * 1024;

/// Reads the body of a response of MCP to its end. That of an error may be of any kind.
///
/// # Errors
///
/// As [`text`]; and when a successful response has something else than a message.
pub(crate) async fn body(response: Response) -> anyhow::Result<String> {
    let is_success = response.status().is_success();
    let content_type = response.headers().get(CONTENT_TYPE).cloned();
    let body = text(response).await?;
    match is_success && !body.trim().is_empty() && !is_message(&body) {
        true => Err(no_message(content_type.as_ref(), &body)),
        false => Ok(body),
    }
}

/// Reads a body of any kind to its end.
///
/// # Errors
///
/// When it breaks off, takes too long or is larger than [`MAX_MESSAGE_BYTES`].
pub(crate) async fn text(response: Response) -> anyhow::Result<String> {
    body_within(response, MAX_MESSAGE_BYTES).await
}

/// Reads a body of at most `bound` bytes to its end.
///
/// # Errors
///
/// As [`text`].
pub(crate) async fn body_within(mut response: Response, bound: usize) -> anyhow::Result<String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.context("the answer broke off")? {
        if chunk.len() > bound - body.len() {
            bail!("the server answered with more than {bound} bytes");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8(body).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Whether a body may be a message, or a batch of them. What is JSON and breaks a bound is for [`check`], which names the bound.
fn is_message(body: &str) -> bool {
    let body = body.trim_start();
    let shape = match body.as_bytes().first() {
        Some(b'{') => json::borrow::<Shape<'_>>(body).map(|shape| shape.is_message()),
        Some(b'[') => json::borrow::<IgnoredAny>(body).map(|_| true),
        _ => return false,
    };
    !matches!(shape, Ok(false) | Err(JsonError::Malformed(_)))
}

/// The error for a body that is not a message.
fn no_message(content_type: Option<&HeaderValue>, body: &str) -> anyhow::Error {
    let content_type = content_type.map(|own| excerpt(&String::from_utf8_lossy(own.as_bytes()), MAX_EXCERPT_CHARS));
    let content_type = content_type.map_or("no content type".to_owned(), |own| format!("content type {own}"));
    let beginning = excerpt(body.trim(), MAX_EXCERPT_CHARS);
    anyhow!("the server answered with something that is no message ({content_type}): {beginning}")
}

/// The events of a stream, each of at most [`MAX_MESSAGE_BYTES`].
pub(crate) struct Events {
    events: SseByteStream<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>>,
    /// Bytes since the last event.
    unread: Arc<AtomicUsize>,
    has_event: bool,
}

impl Events {
    pub(crate) fn of(response: Response) -> Self {
        let unread = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&unread);
        let bytes = response.bytes_stream().map(move |chunk| {
            let chunk = chunk.map_err(io::Error::other)?;
            match counter.fetch_add(chunk.len(), Ordering::Relaxed) {
                before if before > MAX_MESSAGE_BYTES => Err(io::Error::other("the event is too large")),
                _ => Ok(chunk),
            }
        });
        Self { events: SseByteStream::new(Box::pin(bytes)), unread, has_event: false }
    }

    /// The next event; `None` at the end of the stream, which may have broken off.
    ///
    /// # Errors
    ///
    /// When an event is too large: there is no use in going on with the stream elsewhere.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Sse>> {
        let event = match self.events.next().await {
            Some(Ok(event)) => Some(event),
            Some(Err(_)) if self.unread.load(Ordering::Relaxed) > MAX_MESSAGE_BYTES => {
                bail!("the server sent an event of more than {MAX_MESSAGE_BYTES} bytes");
            }
            Some(Err(error)) => {
                tracing::info!(%error, "a stream broke off");
                None
            }
            None => None,
        };
        if event.is_some() {
            self.has_event = true;
            self.unread.store(0, Ordering::Relaxed);
        }
        Ok(event)
    }

    /// Whether anything has come, be it a comment.
    pub(crate) fn have_begun(&self) -> bool {
        self.has_event || self.unread.load(Ordering::Relaxed) > 0
    }
}

/// Reads JSON of a server into a value that grows with it.
///
/// # Errors
///
/// As [`json::read`].
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, JsonError> {
    json::read(text, MESSAGE_BUDGET)
}

/// Checks JSON of a server that is forwarded unchanged: its depth and its names. Its syntax is checked by the
/// receiver.
///
/// # Errors
///
/// As [`json::check`].
pub(crate) fn check(text: &str) -> Result<(), JsonError> {
    json::check(text, TEXT_BUDGET)
}

/// The limits that all pages of a list share.
#[derive(Debug)]
pub(crate) struct Pages {
    cursors: HashSet<String>,
    bytes: usize,
    budget: Budget,
}

impl Default for Pages {
    fn default() -> Self {
        Self { cursors: HashSet::new(), bytes: 0, budget: MESSAGE_BUDGET }
    }
}

impl Pages {
    /// Counts the text of a page.
    ///
    /// # Errors
    ///
    /// When the pages have more than [`MAX_LIST_BYTES`] together.
    pub(crate) fn count(&mut self, page: &str) -> anyhow::Result<()> {
        self.bytes += page.len();
        if self.bytes > MAX_LIST_BYTES {
            bail!("the server's list has more than {MAX_LIST_BYTES} bytes");
        }
        Ok(())
    }

    /// Reads a page that is kept together with the others.
    ///
    /// # Errors
    ///
    /// As [`Self::count`]; and as [`json::read_within`].
    pub(crate) fn read<T: DeserializeOwned>(&mut self, page: &str) -> anyhow::Result<T> {
        self.count(page)?;
        Ok(json::read_within(page, &mut self.budget)?)
    }

    /// Takes the cursor of the next page.
    ///
    /// # Errors
    ///
    /// When the page was read before, or is one too many; and when the cursor is too long.
    pub(crate) fn next(&mut self, cursor: &str) -> anyhow::Result<()> {
        if cursor.len() > MAX_CURSOR_BYTES {
            bail!("the server's list has a cursor of more than {MAX_CURSOR_BYTES} bytes");
        }
        if !self.cursors.insert(cursor.to_owned()) {
            bail!("the server's list leads back to a page that was read before");
        }
        if self.cursors.len() == MAX_PAGES {
            bail!("the server's list has more than {MAX_PAGES} pages");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn response(parts: Vec<io::Result<Bytes>>) -> Response {
        http::Response::new(reqwest::Body::wrap_stream(futures_util::stream::iter(parts))).into()
    }

    /// 8.7: counted, so that an endless body is read no further than the bound.
    #[tokio::test]
    async fn a_body_is_read_up_to_a_bound() {
        let part = Bytes::from(vec![b'x'; 1024 * 1024]);
        let endless = std::iter::repeat_with(move || io::Result::Ok(part.clone())).take(1_000_000);
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&taken);
        let counted = endless.inspect(move |_| _ = counter.fetch_add(1, Ordering::Relaxed));
        let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(counted));

        let error = body(http::Response::new(stream).into()).await.unwrap_err();

        assert!(error.to_string().contains("more than 16777216 bytes"), "{error}");
        assert!(taken.load(Ordering::Relaxed) <= 18);
        assert_eq!(text(response(vec![Ok("a".into()), Ok("b".into())])).await.unwrap(), "ab");
        assert_eq!(text(response(vec![Ok(vec![b'a', 0xff].into())])).await.unwrap(), "a\u{fffd}");
    }

    fn answer(status: u16, content_type: Option<&str>, body: &str) -> Response {
        let mut response = http::Response::builder().status(status);
        if let Some(content_type) = content_type {
            response = response.header(CONTENT_TYPE, content_type);
        }
        response.body(body.to_owned()).unwrap().into()
    }

    /// 8.9
    #[tokio::test]
    async fn what_is_no_message_is_shown_in_part() {
        let page = format!("\n<html>\u{1b}[2J\u{202e}\n{}", "é".repeat(5000));
        let error = body(answer(200, Some("text/html; charset=utf-8"), &page)).await.unwrap_err().to_string();
        let (reason, shown) = error.split_once("): ").unwrap();
        assert_eq!(
            reason,
            "the server answered with something that is no message (content type text/html; charset=utf-8"
        );
        assert!(shown.starts_with(r"<html>\u{1b}[2J\u{202e}\né") && shown.ends_with("é…"), "{shown}");
        assert_eq!(shown.chars().count(), MAX_EXCERPT_CHARS + 1);

        for other in ["sign in", r#"{"message":"Forbidden"}"#, r#"{"result":"#, "[1", "1", "\u{feff}{}"] {
            let error = body(answer(200, None, other)).await.unwrap_err().to_string();
            assert!(error.contains("(no content type)") && error.ends_with(other), "{other}: {error}");
        }
        let long = body(answer(200, Some(&"x".repeat(5000)), "<")).await.unwrap_err().to_string();
        assert!(long.chars().count() < 400, "{long}");
    }

    #[tokio::test]
    async fn messages_and_bodies_of_errors_are_read() {
        let deep = format!(r#"{{"id":1,"result":{}{}}}"#, "[".repeat(101), "]".repeat(101));
        for own in ["", " \n", r#"{"id":1,"result":{}}"#, r#"{"method":"n"}"#, r#"{"error":{}}"#, "[]", &deep] {
            assert_eq!(body(answer(200, None, own)).await.unwrap(), own);
        }
        assert_eq!(body(answer(403, None, "<html>")).await.unwrap(), "<html>");
    }

    /// 8.7: an event that does not end; events before it, of more bytes altogether, are read.
    #[tokio::test]
    async fn an_event_is_read_up_to_a_bound() {
        let half = "x".repeat(MAX_MESSAGE_BYTES / 2);
        let whole = Bytes::from(format!("data: {half}\n\n"));
        let part = Bytes::from(format!("data: {half}\n"));
        let parts = [&whole, &whole, &whole, &part, &part, &part].map(|part| Ok(part.clone()));
        let mut events = Events::of(response(parts.into()));

        for _ in 0..3 {
            assert_eq!(events.next().await.unwrap().unwrap().data.as_deref(), Some(half.as_str()));
        }
        let error = events.next().await.unwrap_err();

        assert!(error.to_string().contains("an event of more than 16777216 bytes"), "{error}");
        let mut broken = Events::of(response(vec![Ok("data: a\n\n".into()), Err(io::Error::other("reset"))]));
        assert!(broken.next().await.unwrap().is_some());
        assert!(broken.next().await.unwrap().is_none());
    }

    /// 8.7
    #[test]
    fn json_is_bounded_and_has_one_reading() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let wide = format!("[{}0]", "0,".repeat(2_000_000));
        for good in [r#"{"a":{"a":1},"b":[{"a":1},{"a":1}],"e":1e400,"f":"\\"}"#, &deep(100), &wide] {
            check(good).unwrap_or_else(|error| panic!("{}: {error}", &good[..good.len().min(100)]));
        }
        for (bad, expected) in [
            (r#"{"a":1,"\u0061":2}"#, "duplicate field `a`"),
            (r#"[{"x":[{"a":{"b":1 , "c":"b","b" :{}}}]}]"#, "`[0].x[0].a`: duplicate field `b`"),
            (&deep(101), "deeper than 100"),
            (r#"{"a":{"\u0024serde_json::private::RawValue":"{}"}}"#, "reserved"),
        ] {
            for error in [check(bad).unwrap_err(), read::<Value>(bad).unwrap_err()] {
                assert!(error.to_string().contains(expected), "{error}");
            }
        }
        let error = read::<Value>(&wide).unwrap_err();
        assert!(error.to_string().contains("more than 268435456 bytes of memory"), "{error}");
    }

    /// 8.7: what is large, and no attack.
    #[test]
    fn large_messages_are_read() {
        let schema =
            r#"{"type":"string","description":"A text that says what the parameter is for, and how it is written"}"#;
        let properties: Vec<String> = (0..25).map(|index| format!(r#""p{index}":{schema}"#)).collect();
        let tool = format!(r#"{{"name":"t","inputSchema":{{"properties":{{{}}}}}}}"#, properties.join(","));
        let list = format!(r#"{{"result":{{"tools":[{}]}}}}"#, vec![tool.as_str(); 2_000].join(","));
        assert!(list.len() > 5_000_000);
        // No character is more in an error message, and so in what it may cost.
        let string = format!(r#""{}""#, "\u{7f}".repeat(MAX_MESSAGE_BYTES - 2));

        assert_eq!(read::<Value>(&list).unwrap()["result"]["tools"].as_array().unwrap().len(), 2_000);
        assert!(read::<String>(&string).is_ok());
    }

    /// 8.7
    #[test]
    fn a_list_ends() {
        let mut pages = Pages::default();
        for cursor in 1..MAX_PAGES {
            pages.next(&cursor.to_string()).unwrap();
        }
        assert!(pages.next("last").unwrap_err().to_string().contains("more than 100 pages"));
        let mut pages = Pages::default();
        for cursor in ["a", "b"] {
            pages.next(cursor).unwrap();
        }
        assert!(pages.next("a").unwrap_err().to_string().contains("leads back"), "not only the last one");
    }

    /// 8.7
    #[test]
    fn all_pages_share_their_bounds() {
        let mut pages = Pages::default();
        pages.next(&"x".repeat(MAX_CURSOR_BYTES)).unwrap();
        let error = pages.next(&"y".repeat(MAX_CURSOR_BYTES + 1)).unwrap_err();
        assert!(error.to_string().contains("a cursor of more than 16384 bytes"), "{error}");

        let page = format!(r#"{{"x":"{}"}}"#, "x".repeat(MAX_MESSAGE_BYTES - 8));
        for _ in 0..4 {
            pages.read::<Value>(&page).unwrap();
        }
        let error = pages.read::<Value>("{}").unwrap_err();
        assert!(error.to_string().contains("more than 67108864 bytes"), "{error}");

        // A third of what one list may cost.
        let page = format!("[{}0]", "0,".repeat(450_000));
        let mut pages = Pages::default();
        for _ in 0..3 {
            pages.read::<Value>(&page).unwrap();
        }
        let error = pages.read::<Value>(&page).unwrap_err();
        assert!(error.to_string().contains("more than 268435456 bytes of memory"), "{error}");
    }
}
