//! The bounds of everything that a server sends: bytes, time, JSON, pages.
//!
//! The deadline of a response is that of the HTTP client ([`http_client`](crate::http_client)), its body included.

use std::{
    borrow::Cow,
    collections::HashSet,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::Response;
use serde::de::IgnoredAny;
use serde_json::Value;
use sse_stream::{Sse, SseByteStream};

/// A body, or an event of a stream. A function that buffers answers with 6 MB at most; a streamed message may be larger, and
/// one of more than this is no text for a model.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// Nested arrays and objects: more than schemas need, and less than the 128 at which `serde_json` stops.
pub(crate) const MAX_DEPTH: usize = 100;
/// Values in a tree. The most expensive, `{"":…}`, takes about 600 bytes of memory: 120 MB at most.
pub(crate) const MAX_NODES: usize = 200_000;
/// Pages of a list.
pub(crate) const MAX_PAGES: usize = 100;

/// The member by which `serde_json` tells raw JSON from an object. Read into a tree, its text would become one, unchecked.
const PRIVATE_NAME: &str = "$serde_json::private::RawValue";

/// Reads a body to its end.
///
/// # Errors
///
/// When it breaks off, takes too long or is larger than [`MAX_MESSAGE_BYTES`].
pub(crate) async fn body(mut response: Response) -> anyhow::Result<String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.context("the answer broke off")? {
        if chunk.len() > MAX_MESSAGE_BYTES - body.len() {
            bail!("the server answered with more than {MAX_MESSAGE_BYTES} bytes");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8(body).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The events of a stream, each of at most [`MAX_MESSAGE_BYTES`].
pub(crate) struct Events {
    events: SseByteStream<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>>,
    /// Bytes since the last event.
    unread: Arc<AtomicUsize>,
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
        Self { events: SseByteStream::new(Box::pin(bytes)), unread }
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
        self.unread.store(0, Ordering::Relaxed);
        Ok(event)
    }
}

/// Reads JSON of a server into a tree: the only place that does. `nodes` is what is left of a budget, at first
/// [`MAX_NODES`].
///
/// # Errors
///
/// When it is no JSON, breaks a rule of [`check`], has the private name of `serde_json`, or spends the budget.
pub(crate) fn tree(json: &str, nodes: &mut usize) -> anyhow::Result<Value> {
    let scanned = scan(json)?;
    if scanned.has_private_name {
        bail!("the member `{PRIVATE_NAME}` is not read");
    }
    *nodes = nodes.checked_sub(scanned.nodes).with_context(|| format!("there are more than {MAX_NODES} values"))?;
    Ok(serde_json::from_str(json)?)
}

/// [`tree`] of a text of its own.
pub(crate) fn tree_of(json: &str) -> anyhow::Result<Value> {
    tree(json, &mut { MAX_NODES })
}

/// Checks JSON of a server that is passed on as it is written.
///
/// # Errors
///
/// When it is no JSON, nests deeper than [`MAX_DEPTH`], or has an object with two members of one name, so that readers could
/// differ.
pub(crate) fn check(json: &str) -> anyhow::Result<()> {
    scan(json).map(drop)
}

struct Scanned {
    nodes: usize,
    has_private_name: bool,
}

fn scan(json: &str) -> anyhow::Result<Scanned> {
    serde_json::from_str::<IgnoredAny>(json)?;
    // From here on it is known to be JSON: brackets match, and a string in an object is a name or follows one.
    let mut scanned = Scanned { nodes: 1, has_private_name: false };
    // The names of each open object; an array has none.
    let mut open: Vec<Option<HashSet<Cow<'_, str>>>> = Vec::new();
    let mut is_name = false;
    let mut rest = json;
    while let Some(start) = rest.find(['"', '{', '[', '}', ']', ',']) {
        let found = rest.as_bytes()[start];
        if found == b'"' {
            let text = &rest[start..];
            let text = &text[..string_len(text)];
            if let (true, Some(Some(names))) = (is_name, open.last_mut()) {
                let name: Name<'_> = serde_json::from_str(text)?;
                scanned.has_private_name |= name.0 == PRIVATE_NAME;
                if let Some(name) = names.replace(name.0) {
                    bail!("the member `{name}` occurs twice in one object");
                }
            }
            is_name = false;
            rest = &rest[start + text.len()..];
            continue;
        }
        match found {
            b'{' | b'[' if open.len() == MAX_DEPTH => bail!("it nests deeper than {MAX_DEPTH} levels"),
            b'{' => open.push(Some(HashSet::new())),
            b'[' => open.push(None),
            b'}' | b']' => _ = open.pop(),
            _ => {}
        }
        // An empty object or array counts for two.
        scanned.nodes += usize::from(!matches!(found, b'}' | b']'));
        is_name = matches!(found, b'{' | b',') && matches!(open.last(), Some(Some(_)));
        rest = &rest[start + 1..];
    }
    Ok(scanned)
}

/// A name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The length of the string at the start of a text, with its quotes.
fn string_len(text: &str) -> usize {
    let mut is_escaped = true;
    let end = text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 1)
}

/// The cursors of a list's pages.
#[derive(Debug, Default)]
pub(crate) struct Pages(HashSet<String>);

impl Pages {
    /// Takes the cursor of the next page.
    ///
    /// # Errors
    ///
    /// When the page was read before, or is one too many.
    pub(crate) fn next(&mut self, cursor: &str) -> anyhow::Result<()> {
        if !self.0.insert(cursor.to_owned()) {
            bail!("the server's list leads back to a page that was read before");
        }
        if self.0.len() == MAX_PAGES {
            bail!("the server's list has more than {MAX_PAGES} pages");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(body(response(vec![Ok("a".into()), Ok("b".into())])).await.unwrap(), "ab");
        assert_eq!(body(response(vec![Ok(vec![b'a', 0xff].into())])).await.unwrap(), "a\u{fffd}");
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
        let wide = |nodes: usize| format!("[{}0]", "0,".repeat(nodes - 2));
        for good in [
            r#"{"a":{"a":1},"b":[{"a":1},{"a":1}],"c":"{\"a\":1,\"a\":2}","":{},"d":[],"e":1e400,"f":"\\"}"#.to_owned(),
            "[\"a\",\"a\",{\"a\":\"a\"},\"a\"]".to_owned(),
            " [ { } , [ ] , \"\\\"{\" ] ".to_owned(),
            deep(MAX_DEPTH),
            wide(MAX_NODES + 1),
        ] {
            check(&good).unwrap_or_else(|error| panic!("{}: {error}", &good[..good.len().min(100)]));
        }
        for (bad, expected) in [
            (r#"{"a":1,"a":2}"#.to_owned(), "`a` occurs twice"),
            (r#"{"a":1,"\u0061":2}"#.to_owned(), "`a` occurs twice"),
            (r#"[{"x":[{"a":{"b":1 , "c":"b","b" :{}}}]}]"#.to_owned(), "`b` occurs twice"),
            (deep(MAX_DEPTH + 1), "deeper than 100"),
            (deep(1_000_000), "deeper than 100"),
            ("{".to_owned(), "EOF"),
            (String::new(), "EOF"),
            ("{}{}".to_owned(), "trailing"),
        ] {
            for read in [check(&bad).err(), tree_of(&bad).err()] {
                let error = read.unwrap_or_else(|| panic!("{}", &bad[..bad.len().min(100)])).to_string();
                assert!(error.contains(expected), "{error}");
            }
        }
        let (mut nodes, text) = (MAX_NODES, wide(MAX_NODES / 2 + 1));
        tree(&text, &mut nodes).unwrap();
        let error = tree(&text, &mut nodes).unwrap_err();
        assert!(error.to_string().contains("more than 200000 values"), "one budget for both: {error}");
    }

    /// 8.7: text inside of text stays text.
    #[test]
    fn the_private_name_of_serde_json_is_harmless() {
        for name in [PRIVATE_NAME, "\\u0024serde_json::private::RawValue"] {
            let json = format!(r#"{{"a":{{"{name}":"{{\"b\":1}}"}}}}"#);

            let read = tree_of(&json).unwrap_or_default();

            assert!(read["a"]["b"].is_null(), "{read}");
            check(&json).unwrap();
        }
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
}
