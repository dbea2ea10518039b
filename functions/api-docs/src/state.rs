//! What all calls share: the document, and whether its source has another one by now.

use std::{
    hash::{DefaultHasher, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use mcp_server::{BoxError, InitError, RequestContext, error_chain};

use crate::{
    Budget, Source,
    document::{Document, DocumentError},
    fetch::{Answer, Fetched, Progress},
};

/// What all calls share: the document.
#[derive(Debug)]
pub struct State {
    source: Source,
    max_age: Duration,
    budget: Budget,
    kept: Mutex<Kept>,
    /// When the source was last asked. Held by whoever asks it, so that nobody else does meanwhile.
    asked: tokio::sync::Mutex<SystemTime>,
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
        let loaded = in_time(async {
            match source.get(None, budget.max_text(), &None).await? {
                Answer::Document(fetched) => keep(fetched, budget).await,
                Answer::Unchanged => Err("the source did not send it".into()),
            }
        });
        let kept = loaded.await.map_err(failed)?;
        tracing::info!(%source, operations = kept.document.operations().len(), "the document was read");
        Ok(Self { source, max_age, budget, kept: Mutex::new(kept), asked: tokio::sync::Mutex::new(SystemTime::now()) })
    }

    /// The document as it is now. Once it is of age its source is asked for another, by one request; while the source is
    /// away, or has what cannot be read, the document is the one that is there.
    pub(crate) async fn document(context: &RequestContext<Self>) -> Arc<Document> {
        let state = context.state();
        let kept = state.kept();
        if !state.source.may_change() {
            return kept.document;
        }
        let Ok(mut asked) = state.asked.try_lock() else { return kept.document };
        // An age that cannot be told, as the clock was set back, is too much.
        if context.received().duration_since(*asked).is_ok_and(|age| age < state.max_age) {
            return kept.document;
        }
        // Also if this request does not come to its end: a source that hangs delays one request each time.
        *asked = context.received();
        match in_time(state.newer(&kept, &Some(context))).await {
            Ok(newer) => {
                if !Arc::ptr_eq(&kept.document, &newer.document) {
                    tracing::info!(source = %state.source, "the document has changed");
                }
                let document = Arc::clone(&newer.document);
                *state.kept.lock().unwrap_or_else(PoisonError::into_inner) = newer;
                document
            }
            Err(error) => {
                let error = error_chain(error.as_ref());
                tracing::warn!(source = %state.source, error, "the document was not renewed; the old one is kept");
                kept.document
            }
        }
    }

    async fn newer(&self, kept: &Kept, progress: &Progress<'_>) -> Result<Kept, BoxError> {
        match self.source.get(kept.etag.as_ref(), self.budget.max_text(), progress).await? {
            Answer::Unchanged => Ok(kept.clone()),
            Answer::Document(Fetched { bytes, etag }) if digest(&bytes) == kept.digest => {
                Ok(Kept { etag, ..kept.clone() })
            }
            Answer::Document(fetched) => keep(fetched, self.budget).await,
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
/// the deadline, reading stops.
async fn keep(Fetched { bytes, etag }: Fetched, budget: Budget) -> Result<Kept, BoxError> {
    let wanted = Arc::new(());
    let until = Arc::downgrade(&wanted);
    let read = move || Ok::<_, DocumentError>((Document::parse_wanted(&until, &bytes, budget)?, digest(&bytes)));
    let read = tokio::task::spawn_blocking(read).await;
    drop(wanted);
    let (document, digest) = read??;
    if let [path, ..] = document.elsewhere() {
        let count = document.elsewhere().len();
        tracing::warn!(count, path, "paths refer to what is not in the document: what is there is not listed");
    }
    Ok(Kept { document: Arc::new(document), etag, digest })
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
        let other = keep(other, state.budget).await.unwrap();

        let same = state.newer(&kept, &None).await.unwrap();
        let newer = state.newer(&other, &None).await.unwrap();

        assert!(Arc::ptr_eq(&same.document, &kept.document));
        assert!(!Arc::ptr_eq(&newer.document, &other.document));
    }
}
