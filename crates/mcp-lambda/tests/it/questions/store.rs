//! A store that counts its operations, and can be away.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use mcp_server::{
    ManagedResource,
    store::{
        Content, DueRow, Granted, Increment, Kind, MemoryStore, RowKey, RowTag, Store, StoreError, StoreFuture,
        StoredValue, SubjectDeletion, SubjectKey, Version,
    },
};

/// Whether operations succeed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Health {
    #[default]
    Well,
    /// They fail at once.
    Away,
    /// They never end.
    Hanging,
}

/// A store that counts its operations, and can be away.
#[derive(Clone, Default)]
pub(super) struct CountingStore {
    store: MemoryStore,
    pub(super) operations: Arc<AtomicU32>,
    pub(super) health: Arc<Mutex<Health>>,
}

impl CountingStore {
    async fn begin(&self) -> Result<(), StoreError> {
        self.operations.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let health = *self.health.lock().unwrap();
        match health {
            Health::Well => Ok(()),
            Health::Away => Err(StoreError::Unavailable("the store is away".into())),
            Health::Hanging => std::future::pending().await,
        }
    }
}

/// Counts an operation, and lets other requests run before it.
macro_rules! counted {
    ($own:ident.$operation:ident($($argument:expr),*)) => {
        Box::pin(async move {
            $own.begin().await?;
            $own.store.$operation($($argument),*).await
        })
    };
}

impl Store for CountingStore {
    fn put_if_absent<'a>(&'a self, key: RowKey, tag: RowTag, content: Content<'a>) -> StoreFuture<'a, Option<Version>> {
        counted!(self.put_if_absent(key, tag, content))
    }

    fn get(&self, key: RowKey) -> StoreFuture<'_, Option<StoredValue>> {
        counted!(self.get(key))
    }

    fn compare_and_set<'a>(
        &'a self,
        key: RowKey,
        version: Version,
        content: Content<'a>,
    ) -> StoreFuture<'a, Option<Version>> {
        counted!(self.compare_and_set(key, version, content))
    }

    fn increment(&self, key: RowKey, tag: RowTag, increment: Increment) -> StoreFuture<'_, Granted> {
        counted!(self.increment(key, tag, increment))
    }

    fn delete(&self, key: RowKey) -> StoreFuture<'_, ()> {
        counted!(self.delete(key))
    }

    fn due(&self, kind: Kind, within: Duration, limit: usize) -> StoreFuture<'_, Vec<DueRow>> {
        counted!(self.due(kind, within, limit))
    }

    fn delete_subject(&self, subject: SubjectKey, limit: usize) -> StoreFuture<'_, SubjectDeletion> {
        counted!(self.delete_subject(subject, limit))
    }

    fn purge(&self, limit: usize) -> StoreFuture<'_, u64> {
        counted!(self.purge(limit))
    }
}

impl ManagedResource for CountingStore {
    async fn close(&self) {}
}
