//! [`TestStore`]: a store whose operations a test counts, fails and delays.

use std::{
    future::pending,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    ManagedResource,
    store::{
        Content, DueRow, Granted, Increment, Kind, MemoryStore, RowKey, RowTag, Store, StoreClock, StoreError,
        StoreFuture, StoredValue, SubjectDeletion, SubjectKey, Version,
    },
};

#[derive(Clone)]
pub(super) struct TestStore {
    pub(super) rows: MemoryStore,
    operations: Arc<AtomicUsize>,
    script: Arc<Mutex<Option<Script>>>,
}

type Script = Box<dyn FnMut(Operation, RowKey) -> Outcome + Send>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Put,
    Get,
    Set,
    Delete,
}

/// What an operation does.
pub(super) enum Outcome {
    Done,
    /// Fails, and writes nothing.
    Failed,
    /// Never returns, and writes nothing.
    Hangs,
    /// Is executed, but fails.
    Unconfirmed,
    /// Is executed after something else.
    After(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl TestStore {
    pub(super) fn new(clock: StoreClock) -> Self {
        Self { rows: MemoryStore::with_clock(clock), operations: Arc::default(), script: Arc::default() }
    }

    /// Decides the outcome of each further operation.
    pub(super) fn script(&self, script: impl FnMut(Operation, RowKey) -> Outcome + Send + 'static) {
        *self.script.lock().unwrap() = Some(Box::new(script));
    }

    pub(super) fn end_script(&self) {
        *self.script.lock().unwrap() = None;
    }

    /// Returns the number of operations so far.
    pub(super) fn operations(&self) -> usize {
        self.operations.load(Ordering::Relaxed)
    }

    fn run<'a, T>(&self, operation: Operation, key: RowKey, rest: StoreFuture<'a, T>) -> StoreFuture<'a, T>
    where
        T: 'a,
    {
        self.operations.fetch_add(1, Ordering::Relaxed);
        let outcome = self.script.lock().unwrap().as_mut().map_or(Outcome::Done, |script| script(operation, key));
        Box::pin(async move {
            match outcome {
                Outcome::Done => {}
                Outcome::Failed => return Err(StoreError::Unavailable("away".into())),
                Outcome::Hangs => pending().await,
                Outcome::Unconfirmed => {
                    rest.await?;
                    return Err(StoreError::OutcomeUnknown("the connection was lost".into()));
                }
                Outcome::After(first) => first.await,
            }
            rest.await
        })
    }
}

impl ManagedResource for TestStore {
    async fn close(&self) {}
}

impl Store for TestStore {
    fn put_if_absent<'a>(&'a self, key: RowKey, tag: RowTag, content: Content<'a>) -> StoreFuture<'a, Option<Version>> {
        self.run(Operation::Put, key, self.rows.put_if_absent(key, tag, content))
    }

    fn get(&self, key: RowKey) -> StoreFuture<'_, Option<StoredValue>> {
        self.run(Operation::Get, key, self.rows.get(key))
    }

    fn compare_and_set<'a>(
        &'a self,
        key: RowKey,
        version: Version,
        content: Content<'a>,
    ) -> StoreFuture<'a, Option<Version>> {
        self.run(Operation::Set, key, self.rows.compare_and_set(key, version, content))
    }

    fn increment(&self, key: RowKey, tag: RowTag, increment: Increment) -> StoreFuture<'_, Granted> {
        self.rows.increment(key, tag, increment)
    }

    fn delete(&self, key: RowKey) -> StoreFuture<'_, ()> {
        let rows = self.rows.clone();
        self.run(Operation::Delete, key, Box::pin(async move { rows.delete(key).await }))
    }

    fn due(&self, kind: Kind, within: Duration, limit: usize) -> StoreFuture<'_, Vec<DueRow>> {
        self.rows.due(kind, within, limit)
    }

    fn delete_subject(&self, subject: SubjectKey, limit: usize) -> StoreFuture<'_, SubjectDeletion> {
        self.rows.delete_subject(subject, limit)
    }

    fn purge(&self, limit: usize) -> StoreFuture<'_, u64> {
        self.rows.purge(limit)
    }
}
