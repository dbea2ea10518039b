//! [`TimedStore`]: the store, until a deadline.

use tokio::time::{Instant, timeout_at};

use crate::{
    BoxError,
    store::{Content, SealedStore, StoreError, StoreId, StoredValue, Version},
};

/// The store, whose operations end at a deadline.
#[derive(Clone)]
pub(super) struct TimedStore {
    store: SealedStore,
    /// `None`: operations end by the time limit of the store.
    end: Option<Instant>,
}

impl TimedStore {
    pub(super) fn new(store: SealedStore) -> Self {
        Self { store, end: None }
    }

    pub(super) fn until(&self, end: Instant) -> Self {
        Self { store: self.store.clone(), end: Some(end) }
    }

    pub(super) fn sealed(&self) -> &SealedStore {
        &self.store
    }

    pub(super) async fn get(&self, id: &StoreId<'_>) -> Result<Option<StoredValue>, StoreError> {
        self.timed(self.store.get(id), StoreError::Unavailable).await
    }

    pub(super) async fn put_if_absent(
        &self,
        id: &StoreId<'_>,
        content: Content<'_>,
    ) -> Result<Option<Version>, StoreError> {
        self.timed(self.store.put_if_absent(id, content), StoreError::OutcomeUnknown).await
    }

    pub(super) async fn compare_and_set(
        &self,
        id: &StoreId<'_>,
        version: Version,
        content: Content<'_>,
    ) -> Result<Option<Version>, StoreError> {
        let writing = self.store.compare_and_set(id, version, content);
        self.timed(writing, StoreError::OutcomeUnknown).await
    }

    pub(super) async fn delete(&self, id: &StoreId<'_>) -> Result<(), StoreError> {
        self.timed(self.store.delete(id), StoreError::OutcomeUnknown).await
    }

    async fn timed<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>>,
        elapsed: fn(BoxError) -> StoreError,
    ) -> Result<T, StoreError> {
        match self.end {
            Some(end) => timeout_at(end, operation).await.unwrap_or_else(|_| Err(elapsed("timeout".into()))),
            None => operation.await,
        }
    }
}
