//! A store whose clock is set and whose rows are recorded.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use mcp_server::store::{
    DueRow, Granted as Counted, Increment, MemoryStore, RowKey, RowTag, Store, StoreFuture, SubjectDeletion, SubjectKey,
};

use super::{super::*, START};
use crate::test_support::{at, sealed_store, state_key};

/// A store in memory with a clock that is set, whose operations let others run first.
#[derive(Clone)]
pub(super) struct TestStore {
    store: MemoryStore,
    now: Arc<AtomicU64>,
    /// Contents of all rows that were ever written.
    pub(super) written: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl TestStore {
    pub(super) fn new() -> Self {
        let now = Arc::new(AtomicU64::new(START));
        let clock = Arc::clone(&now);
        let store = MemoryStore::with_clock(Arc::new(move || at(clock.load(Ordering::SeqCst))));
        Self { store, now, written: Arc::default() }
    }

    pub(super) fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(super) fn now(&self) -> SystemTime {
        at(self.now.load(Ordering::SeqCst))
    }

    /// The grants of one more environment.
    pub(super) fn grants(&self) -> Grants {
        let sealer = Sealer::new(&state_key(&[1]), Arc::default()).unwrap();
        Grants::new(sealed_store(Arc::new(self.clone())), sealer, RefreshLifetimes::default())
    }

    pub(super) fn rows(&self) -> String {
        format!("{:?}", self.store)
    }

    fn record(&self, content: &Content<'_>) {
        self.written.lock().unwrap().push(content.value.to_vec());
    }

    /// Whether a row contains a text.
    pub(super) fn has_written(&self, text: &str) -> bool {
        let rows = self.written.lock().unwrap();
        rows.iter().any(|row| row.windows(text.len()).any(|own| own == text.as_bytes()))
    }
}

macro_rules! delegate {
    ($(fn $name:ident$(<$life:lifetime>)?($($arg:ident: $type:ty),*) -> $result:ty;)*) => {$(
        fn $name<'a>(&'a self, $($arg: $type),*) -> StoreFuture<'a, $result> {
            Box::pin(async move {
                tokio::task::yield_now().await;
                self.store.$name($($arg),*).await
            })
        }
    )*};
}

impl Store for TestStore {
    fn put_if_absent<'a>(&'a self, key: RowKey, tag: RowTag, content: Content<'a>) -> StoreFuture<'a, Option<Version>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.record(&content);
            self.store.put_if_absent(key, tag, content).await
        })
    }

    fn compare_and_set<'a>(
        &'a self,
        key: RowKey,
        version: Version,
        content: Content<'a>,
    ) -> StoreFuture<'a, Option<Version>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.record(&content);
            self.store.compare_and_set(key, version, content).await
        })
    }

    delegate! {
        fn get(key: RowKey) -> Option<StoredValue>;
        fn increment(key: RowKey, tag: RowTag, increment: Increment) -> Counted;
        fn delete(key: RowKey) -> ();
        fn due(kind: Kind, within: Duration, limit: usize) -> Vec<DueRow>;
        fn delete_subject(subject: SubjectKey, limit: usize) -> SubjectDeletion;
        fn purge(limit: usize) -> u64;
    }
}
