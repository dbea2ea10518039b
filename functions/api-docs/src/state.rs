//! State that all calls share: the document and its refresh.

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
    document::{Document, DocumentError, truncate},
    fetch::{FetchOutcome, FetchedDocument, Progress},
};

/// State that all calls share: the document.
#[derive(Debug)]
pub struct State {
    source: Source,
    max_age: Duration,
    budget: Budget,
    cached: Mutex<CachedDocument>,
    /// Single-flight lock, held by the request that refreshes the document.
    refresh: tokio::sync::Mutex<RefreshState>,
    /// One permit. It is held from before a download until the parsed document is dropped, also by a parser that runs
    /// beyond its deadline. There are therefore never more than two documents in memory.
    readers: Arc<Semaphore>,
}

#[derive(Debug)]
struct RefreshState {
    /// Time of the last check of the source.
    at: SystemTime,
    /// Whether the log event about a running parser was written.
    has_warned: bool,
}

/// Timeout of download and parsing.
const LOAD_TIMEOUT: Duration = Duration::from_secs(9);

#[derive(Debug, Clone)]
struct CachedDocument {
    document: Arc<Document>,
    etag: Option<HeaderValue>,
    /// Digest of the text, for sources without ETags.
    digest: u64,
}

impl State {
    pub(crate) async fn load(source: Source, max_age: Duration, budget: Budget) -> Result<Self, InitError> {
        let failed =
            |error: BoxError| InitError::new(format!("loading the document from {source} failed")).with_source(error);
        let readers = Arc::new(Semaphore::new(1));
        let reader = Arc::clone(&readers).try_acquire_owned().map_err(|error| failed(error.into()))?;
        let loaded = with_timeout(async {
            match source.get(None, budget.max_text(), &None).await? {
                FetchOutcome::Document(fetched) => parse_document(fetched, budget, reader).await,
                FetchOutcome::Unchanged => Err("the source returned no document".into()),
            }
        });
        let cached = loaded.await.map_err(failed)?;
        tracing::info!(%source, operations = cached.document.operations().len(), "document loaded");
        let refresh = tokio::sync::Mutex::new(RefreshState { at: SystemTime::now(), has_warned: false });
        Ok(Self { source, max_age, budget, cached: Mutex::new(cached), refresh, readers })
    }

    /// Returns the current document. If it is older than the maximum age, one request refreshes it. If the refresh
    /// fails, the previous document is returned.
    pub(crate) async fn document(context: &RequestContext<Self>) -> Arc<Document> {
        context.state().document_at(context.received(), &Some(context)).await
    }

    async fn document_at(&self, now: SystemTime, progress: &Progress<'_>) -> Arc<Document> {
        let cached = self.cached();
        if !self.source.may_change() {
            return cached.document;
        }
        let Ok(mut refresh) = self.refresh.try_lock() else { return cached.document };
        // If the clock was set back, the document counts as expired.
        if now.duration_since(refresh.at).is_ok_and(|age| age < self.max_age) {
            return cached.document;
        }
        let Ok(reader) = Arc::clone(&self.readers).try_acquire_owned() else {
            if !refresh.has_warned {
                tracing::warn!(
                    source = %self.source,
                    "document refresh skipped: the parser of an earlier document is still running; serving the previous document"
                );
            }
            refresh.has_warned = true;
            return cached.document;
        };
        // Set before the refresh, also if this request is cancelled: a source that hangs delays one request per
        // interval.
        *refresh = RefreshState { at: now, has_warned: false };
        match with_timeout(self.fetch_newer(&cached, reader, progress)).await {
            Ok(refreshed) => {
                if !Arc::ptr_eq(&cached.document, &refreshed.document) {
                    tracing::info!(source = %self.source, "document refreshed");
                }
                let document = Arc::clone(&refreshed.document);
                *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = refreshed;
                document
            }
            Err(error) => {
                let error = error_chain(error.as_ref());
                tracing::warn!(source = %self.source, error, "document refresh failed: serving the previous document");
                cached.document
            }
        }
    }

    async fn fetch_newer(
        &self,
        cached: &CachedDocument,
        reader: OwnedSemaphorePermit,
        progress: &Progress<'_>,
    ) -> Result<CachedDocument, BoxError> {
        match self.source.get(cached.etag.as_ref(), self.budget.max_text(), progress).await? {
            FetchOutcome::Unchanged => Ok(cached.clone()),
            FetchOutcome::Document(FetchedDocument { bytes, etag }) if digest(&bytes) == cached.digest => {
                Ok(CachedDocument { etag, ..cached.clone() })
            }
            FetchOutcome::Document(fetched) => parse_document(fetched, self.budget, reader).await,
        }
    }

    fn cached(&self) -> CachedDocument {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Limits the loading of a document to less than Lambda's 10 s for the init phase.
async fn with_timeout<T>(loading: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    let late = || format!("loading timed out after {} s: raise the function's MemorySize", LOAD_TIMEOUT.as_secs());
    tokio::time::timeout(LOAD_TIMEOUT, loading).await.unwrap_or_else(|_| Err(late().into()))
}

/// Parses a document in a blocking task, so that the deadline is still checked. When the future is dropped at the
/// deadline, parsing stops at the next value. The permit is held until then, and until the parsed values are dropped.
async fn parse_document(
    FetchedDocument { bytes, etag }: FetchedDocument,
    budget: Budget,
    reader: OwnedSemaphorePermit,
) -> Result<CachedDocument, BoxError> {
    let requester = Arc::new(());
    let until = Arc::downgrade(&requester);
    let read = move || {
        let read = Document::parse_until_cancelled(&until, &bytes, budget).map(|document| (document, digest(&bytes)));
        drop(bytes);
        ParseResult { read, _reader: reader }
    };
    let ParseResult { read, _reader } = tokio::task::spawn_blocking(read).await?;
    drop(requester);
    let (document, digest) = read?;
    if let [path, ..] = document.external_paths() {
        let count = document.external_paths().len();
        let path = &*truncate(path);
        tracing::warn!(count, path, "paths refer to other documents: their operations are not listed");
    }
    Ok(CachedDocument { document: Arc::new(document), etag, digest })
}

/// Result of a parser with its permit. Fields are dropped in this order.
struct ParseResult {
    read: Result<(Document, u64), DocumentError>,
    _reader: OwnedSemaphorePermit,
}

/// Returns a digest that detects changes. It is not collision-resistant against attackers.
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

    /// The running parser is simulated by one that waits for its thread.
    #[test]
    fn parser_beyond_its_deadline_keeps_the_permit() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let state = State::load(Source::Example, Duration::ZERO, Budget::of_function(512)).await.unwrap();
            let (release, released) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || released.recv());
            let fetched = FetchedDocument { bytes: Bytes::from_static(b"openapi: 3.1.0"), etag: None };
            {
                let mut reading = std::pin::pin!(parse_document(fetched, state.budget, reader(&state).unwrap()));
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

    #[tokio::test]
    async fn running_parser_prevents_refreshes_and_is_logged_once() {
        let state = State::load(Source::Example, Duration::ZERO, Budget::of_function(512)).await.unwrap();
        // The port has no listener.
        let state = State { source: Source::Https("http://127.0.0.1:1/".parse().unwrap()), ..state };
        let old = state.cached().document;
        let first = state.refresh.lock().await.at;
        let later = first + Duration::from_secs(1);
        let other = reader(&state).unwrap();

        for _ in 0..3 {
            assert!(Arc::ptr_eq(&state.document_at(later, &None).await, &old));
            let refresh = state.refresh.lock().await;
            assert_eq!((refresh.at, refresh.has_warned), (first, true));
        }
        drop(other);
        assert!(Arc::ptr_eq(&state.document_at(later, &None).await, &old));
        let refresh = state.refresh.lock().await;
        assert_eq!((refresh.at, refresh.has_warned), (later, false));
        assert!(reader(&state).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn loading_times_out() {
        let requester = Arc::new(());
        let until = Arc::downgrade(&requester);

        // The paused clock advances to the deadline when all tasks wait.
        let loaded = with_timeout(async move {
            let _requester = requester;
            std::future::pending::<Result<(), BoxError>>().await
        });

        assert!(loaded.await.unwrap_err().to_string().contains("after 9 s"));
        assert_eq!(until.strong_count(), 0);
    }

    #[tokio::test]
    async fn equal_bytes_keep_the_document() {
        let state = State::load(Source::Example, Duration::ZERO, Budget::of_function(512)).await.unwrap();
        let cached = state.cached();
        let other = FetchedDocument { bytes: Bytes::from_static(b"openapi: 3.1.0"), etag: None };
        let other = parse_document(other, state.budget, reader(&state).unwrap()).await.unwrap();

        let same = state.fetch_newer(&cached, reader(&state).unwrap(), &None).await.unwrap();
        let refreshed = state.fetch_newer(&other, reader(&state).unwrap(), &None).await.unwrap();

        assert!(Arc::ptr_eq(&same.document, &cached.document));
        assert!(!Arc::ptr_eq(&refreshed.document, &other.document));
    }
}
