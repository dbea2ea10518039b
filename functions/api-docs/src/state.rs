//! What all calls share: the document, and whether its source has another one by now.

use std::{
    hash::{DefaultHasher, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use mcp_lambda::{BoxError, InitError, RequestContext, error_chain};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    Budget, Source,
    document::{Document, DocumentError, beginning},
    fetch::{Answer, Fetched, Progress},
};

/// What all calls share: the document.
#[derive(Debug)]
pub struct State {
    source: Source,
    max_age: Duration,
    budget: Budget,
    kept: Mutex<Kept>,
    /// Held by the request that asks the source, so that no other does meanwhile.
    asked: tokio::sync::Mutex<Asked>,
    /// One: it is held from before a document is fetched until what was read of it is gone, also by a reader that does not
    /// stop at its deadline. So there are never more than two documents in memory.
    readers: Arc<Semaphore>,
}

#[derive(Debug)]
struct Asked {
    /// The last time that the source was asked.
    at: SystemTime,
    /// Whether the log has the reader that does not end.
    has_warned: bool,
}

/// For fetching and reading a document.
const LOAD_TIMEOUT: Duration = Duration::from_secs(9);

#[derive(Debug, Clone)]
struct Kept {
    document: Arc<Document>,
    etag: Option<HeaderValue>,
    /// Of its bytes: a source without ETags sends them each time.
    digest: u64,
}

impl State {
    pub(crate) async fn load(source: Source, max_age: Duration, budget: Budget) -> Result<Self, InitError> {
        let failed = |error: BoxError| InitError::new(format!("there is no document from {source}")).with_source(error);
        let readers = Arc::new(Semaphore::new(1));
        let reader = Arc::clone(&readers).try_acquire_owned().map_err(|error| failed(error.into()))?;
        let loaded = in_time(async {
            match source.get(None, budget.max_text(), &None).await? {
                Answer::Document(fetched) => keep(fetched, budget, reader).await,
                Answer::Unchanged => Err("the source did not send it".into()),
            }
        });
        let kept = loaded.await.map_err(failed)?;
        tracing::info!(%source, operations = kept.document.operations().len(), "the document was read");
        let asked = tokio::sync::Mutex::new(Asked { at: SystemTime::now(), has_warned: false });
        Ok(Self { source, max_age, budget, kept: Mutex::new(kept), asked, readers })
    }

    /// The document as it is now. Once it is of age its source is asked for another, by one request; while the source is
    /// away, or has what cannot be read, the document is the one that is there.
    pub(crate) async fn document(context: &RequestContext<Self>) -> Arc<Document> {
        context.state().document_at(context.received(), &Some(context)).await
    }

    async fn document_at(&self, now: SystemTime, progress: &Progress<'_>) -> Arc<Document> {
        let kept = self.kept();
        if !self.source.may_change() {
            return kept.document;
        }
        let Ok(mut asked) = self.asked.try_lock() else { return kept.document };
        // An age that cannot be told, as the clock was set back, is too much.
        if now.duration_since(asked.at).is_ok_and(|age| age < self.max_age) {
            return kept.document;
        }
        let Ok(reader) = Arc::clone(&self.readers).try_acquire_owned() else {
            if !asked.has_warned {
                tracing::warn!(
                    source = %self.source,
                    "the document was not renewed: a reader of an earlier one has not ended; the old one is kept"
                );
            }
            asked.has_warned = true;
            return kept.document;
        };
        // Also if this request does not come to its end: a source that hangs delays one request each time.
        *asked = Asked { at: now, has_warned: false };
        match in_time(self.newer(&kept, reader, progress)).await {
            Ok(newer) => {
                if !Arc::ptr_eq(&kept.document, &newer.document) {
                    tracing::info!(source = %self.source, "the document has changed");
                }
                let document = Arc::clone(&newer.document);
                *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = newer;
                document
            }
            Err(error) => {
                let error = error_chain(error.as_ref());
                tracing::warn!(source = %self.source, error, "the document was not renewed; the old one is kept");
                kept.document
            }
        }
    }

    async fn newer(
        &self,
        kept: &Kept,
        reader: OwnedSemaphorePermit,
        progress: &Progress<'_>,
    ) -> Result<Kept, BoxError> {
        match self.source.get(kept.etag.as_ref(), self.budget.max_text(), progress).await? {
            Answer::Unchanged => Ok(kept.clone()),
            Answer::Document(Fetched { bytes, etag }) if digest(&bytes) == kept.digest => {
                Ok(Kept { etag, ..kept.clone() })
            }
            Answer::Document(fetched) => keep(fetched, self.budget, reader).await,
        }
    }

    fn kept(&self) -> Kept {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Loads a document, for less than the 10 s that Lambda gives the init phase.
async fn in_time<T>(loading: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    let late = || format!("it was not read within {} s: raise the function's MemorySize", LOAD_TIMEOUT.as_secs());
    tokio::time::timeout(LOAD_TIMEOUT, loading).await.unwrap_or_else(|_| Err(late().into()))
}

/// Reading a large document takes a while, in which the deadline must still be seen. When the future is dropped, as it is at
/// the deadline, reading stops at the next value; until then, and until nothing is left of what was read, it is the reader.
async fn keep(
    Fetched { bytes, etag }: Fetched,
    budget: Budget,
    reader: OwnedSemaphorePermit,
) -> Result<Kept, BoxError> {
    let wanted = Arc::new(());
    let until = Arc::downgrade(&wanted);
    let read = move || {
        let read = Document::parse_wanted(&until, &bytes, budget).map(|document| (document, digest(&bytes)));
        drop(bytes);
        Read { read, _reader: reader }
    };
    let Read { read, _reader } = tokio::task::spawn_blocking(read).await?;
    drop(wanted);
    let (document, digest) = read?;
    if let [path, ..] = document.elsewhere() {
        let count = document.elsewhere().len();
        let path = &*beginning(path);
        tracing::warn!(count, path, "paths refer to what is not in the document: what is there is not listed");
    }
    Ok(Kept { document: Arc::new(document), etag, digest })
}

/// What a reader hands over. Fields are dropped in this order.
struct Read {
    read: Result<(Document, u64), DocumentError>,
    _reader: OwnedSemaphorePermit,
}

/// Tells one version from the next; not for what anyone could gain by a collision.
fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn reader(state: &State) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&state.readers).try_acquire_owned().ok()
    }

    /// F2: the reader that goes on is one that waits for its thread, as it would if it were in the parser.
    #[test]
    fn a_reader_that_goes_on_after_its_deadline_is_still_the_only_one() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let state = State::load(Source::Example, Duration::ZERO, Budget::of_function(512)).await.unwrap();
            let (release, released) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || released.recv());
            let fetched = Fetched { bytes: Bytes::from_static(b"openapi: 3.1.0"), etag: None };
            {
                let mut reading = std::pin::pin!(keep(fetched, state.budget, reader(&state).unwrap()));
                let polled = std::future::poll_fn(|context| std::task::Poll::Ready(reading.as_mut().poll(context)));
                assert!(polled.await.is_pending());
            }

            assert!(reader(&state).is_none());

            drop(release);
            let _ = busy.await.unwrap();
            let reader = Arc::clone(&state.readers).acquire_owned().await;
            assert!(reader.is_ok());
        });
    }

    /// F2
    #[tokio::test]
    async fn while_a_reader_has_not_ended_the_source_is_not_asked_and_the_log_says_so_once() {
        let state = State::load(Source::Example, Duration::ZERO, Budget::of_function(512)).await.unwrap();
        // Nothing listens there.
        let state = State { source: Source::Https("http://127.0.0.1:1/".parse().unwrap()), ..state };
        let old = state.kept().document;
        let first = state.asked.lock().await.at;
        let later = first + Duration::from_secs(1);
        let other = reader(&state).unwrap();

        for _ in 0..3 {
            assert!(Arc::ptr_eq(&state.document_at(later, &None).await, &old));
            let asked = state.asked.lock().await;
            assert_eq!((asked.at, asked.has_warned), (first, true));
        }
        drop(other);
        assert!(Arc::ptr_eq(&state.document_at(later, &None).await, &old));
        let asked = state.asked.lock().await;
        assert_eq!((asked.at, asked.has_warned), (later, false));
        assert!(reader(&state).is_some());
    }

    /// 8.4
    #[tokio::test(start_paused = true)]
    async fn loading_ends_at_its_deadline() {
        let wanted = Arc::new(());
        let until = Arc::downgrade(&wanted);

        // The clock is at the deadline as soon as all wait.
        let loaded = in_time(async move {
            let _wanted = wanted;
            std::future::pending::<Result<(), BoxError>>().await
        });

        assert!(loaded.await.unwrap_err().to_string().contains("within 9 s"));
        assert_eq!(until.strong_count(), 0);
    }

    #[tokio::test]
    async fn the_same_bytes_are_the_same_document() {
        let state = State::load(Source::Example, Duration::ZERO, Budget::of_function(512)).await.unwrap();
        let kept = state.kept();
        let other = Fetched { bytes: Bytes::from_static(b"openapi: 3.1.0"), etag: None };
        let other = keep(other, state.budget, reader(&state).unwrap()).await.unwrap();

        let same = state.newer(&kept, reader(&state).unwrap(), &None).await.unwrap();
        let newer = state.newer(&other, reader(&state).unwrap(), &None).await.unwrap();

        assert!(Arc::ptr_eq(&same.document, &kept.document));
        assert!(!Arc::ptr_eq(&newer.document, &other.document));
    }
}
