//! [`MemoryStore`]: a store of one process, for tests and development.

use std::{
    collections::HashMap,
    fmt,
    future::ready,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use super::rows::{
    Content, DueRow, Granted, Increment, Kind, MAX_LIMIT, RowKey, RowTag, Store, StoreClock, StoreError, StoreFuture,
    StoredValue, SubjectDeletion, SubjectKey, Version, validate_limit, validate_within,
};

/// Default maximum number of rows and counters together.
const MAX_ROWS: usize = 10_000;
/// Default maximum total size of values, in bytes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// A store in memory, for tests and for development with one process. It has at most 10,000 rows and 64 MiB of values; a write
/// beyond that fails with [`StoreError::Full`].
///
/// Clones share the rows. Do not use it in deployments: each execution environment would have its own store.
#[derive(Clone)]
pub struct MemoryStore {
    clock: StoreClock,
    max_rows: usize,
    max_bytes: usize,
    rows: Arc<Mutex<Rows>>,
}

#[derive(Default)]
struct Rows {
    values: HashMap<RowKey, Row>,
    counters: HashMap<RowKey, Counter>,
    /// Total size of all values.
    bytes: usize,
}

struct Row {
    tag: RowTag,
    stored: StoredValue,
    expires_at: SystemTime,
    due_at: Option<SystemTime>,
}

struct Counter {
    subject: Option<SubjectKey>,
    count: u64,
    expires_at: SystemTime,
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemTime::now))
    }

    /// Creates an empty store with a clock, for tests.
    pub fn with_clock(clock: StoreClock) -> Self {
        Self { clock, max_rows: MAX_ROWS, max_bytes: MAX_BYTES, rows: Arc::default() }
    }

    /// Sets the maximum number of rows and counters together, and the maximum total size of values in bytes.
    #[must_use]
    pub fn with_capacity(self, rows: usize, bytes: usize) -> Self {
        Self { max_rows: rows, max_bytes: bytes, ..self }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the capacity for additional rows and bytes. Deletes expired rows if it is exceeded.
    fn reserve(&self, rows: &mut Rows, additional: (usize, usize), now: SystemTime) -> Result<(), StoreError> {
        let fits = |own: &Rows| {
            own.values.len() + own.counters.len() + additional.0 <= self.max_rows
                && own.bytes + additional.1 <= self.max_bytes
        };
        if !fits(rows) {
            rows.remove_where(usize::MAX, |row| row.expires_at <= now, |counter| counter.expires_at <= now);
        }
        if fits(rows) { Ok(()) } else { Err(StoreError::Full) }
    }

    fn put(&self, key: RowKey, tag: RowTag, content: &Content<'_>) -> Result<Option<Version>, StoreError> {
        content.validate()?;
        let (now, mut rows) = ((self.clock)(), self.lock());
        if rows.values.get(&key).is_some_and(|row| row.expires_at > now) {
            return Ok(None);
        }
        rows.remove(&key);
        self.reserve(&mut rows, (1, content.value.len()), now)?;
        let version = Version::random()?;
        rows.insert(key, Row::new(tag, version, content, now));
        Ok(Some(version))
    }

    fn set(&self, key: RowKey, version: Version, content: &Content<'_>) -> Result<Option<Version>, StoreError> {
        content.validate()?;
        let (now, mut rows) = ((self.clock)(), self.lock());
        let current = rows.values.get(&key).filter(|row| row.expires_at > now && row.stored.version == version);
        let Some((tag, bytes)) = current.map(|row| (row.tag, row.stored.value.len())) else {
            return Ok(None);
        };
        self.reserve(&mut rows, (0, content.value.len().saturating_sub(bytes)), now)?;
        let version = Version::random()?;
        rows.remove(&key);
        rows.insert(key, Row::new(tag, version, content, now));
        Ok(Some(version))
    }

    fn count(&self, key: RowKey, tag: RowTag, increment: Increment) -> Result<Granted, StoreError> {
        increment.validate()?;
        let (now, mut rows) = ((self.clock)(), self.lock());
        if rows.counters.get(&key).is_none_or(|counter| counter.expires_at <= now) {
            rows.counters.remove(&key);
            self.reserve(&mut rows, (1, 0), now)?;
        }
        let counter = rows.counters.entry(key).or_insert_with(|| Counter {
            subject: tag.subject,
            count: 0,
            expires_at: now + increment.window,
        });
        let granted = increment.amount.min(increment.ceiling.saturating_sub(counter.count));
        counter.count += granted;
        let ends_in = counter.expires_at.duration_since(now).unwrap_or_default();
        Ok(Granted { granted, total: counter.count, ends_in })
    }

    fn list_due(&self, kind: Kind, within: Duration, limit: usize) -> Result<Vec<DueRow>, StoreError> {
        validate_limit(limit)?;
        validate_within(within)?;
        let (now, rows) = ((self.clock)(), self.lock());
        let is_due = |row: &Row| {
            row.tag.kind == kind && row.expires_at > now && row.due_at.is_some_and(|due_at| due_at <= now + within)
        };
        let mut due: Vec<_> = rows.values.iter().filter(|(_, row)| is_due(row)).collect();
        due.sort_by_key(|(key, row)| (row.due_at, **key));
        due.truncate(limit);
        Ok(due.into_iter().map(|(key, row)| DueRow { key: *key, version: row.stored.version }).collect())
    }
}

impl Row {
    fn new(tag: RowTag, version: Version, content: &Content<'_>, now: SystemTime) -> Self {
        let stored = StoredValue { value: content.value.to_vec(), version };
        Self { tag, stored, expires_at: now + content.expires_in, due_at: content.due_in.map(|due_in| now + due_in) }
    }
}

impl Rows {
    fn insert(&mut self, key: RowKey, row: Row) {
        self.bytes += row.stored.value.len();
        self.values.insert(key, row);
    }

    fn remove(&mut self, key: &RowKey) {
        if let Some(row) = self.values.remove(key) {
            self.bytes -= row.stored.value.len();
        }
    }

    /// Removes up to `limit` rows, and as many counters. Returns their number.
    fn remove_where(&mut self, limit: usize, row: impl Fn(&Row) -> bool, counter: impl Fn(&Counter) -> bool) -> usize {
        let (values, counters) = (keys(&self.values, limit, row), keys(&self.counters, limit, counter));
        values.iter().for_each(|key| self.remove(key));
        for key in &counters {
            self.counters.remove(key);
        }
        values.len() + counters.len()
    }
}

fn keys<K: Copy + Eq + Hash, V>(map: &HashMap<K, V>, limit: usize, is_selected: impl Fn(&V) -> bool) -> Vec<K> {
    map.iter().filter(|(_, value)| is_selected(value)).map(|(key, _)| *key).take(limit).collect()
}

impl Store for MemoryStore {
    fn put_if_absent<'a>(&'a self, key: RowKey, tag: RowTag, content: Content<'a>) -> StoreFuture<'a, Option<Version>> {
        Box::pin(async move { self.put(key, tag, &content) })
    }

    fn get(&self, key: RowKey) -> StoreFuture<'_, Option<StoredValue>> {
        Box::pin(async move {
            let (now, rows) = ((self.clock)(), self.lock());
            Ok(rows.values.get(&key).filter(|row| row.expires_at > now).map(|row| row.stored.clone()))
        })
    }

    fn compare_and_set<'a>(
        &'a self,
        key: RowKey,
        version: Version,
        content: Content<'a>,
    ) -> StoreFuture<'a, Option<Version>> {
        Box::pin(async move { self.set(key, version, &content) })
    }

    fn increment(&self, key: RowKey, tag: RowTag, increment: Increment) -> StoreFuture<'_, Granted> {
        Box::pin(async move { self.count(key, tag, increment) })
    }

    fn delete(&self, key: RowKey) -> StoreFuture<'_, ()> {
        let mut rows = self.lock();
        rows.remove(&key);
        rows.counters.remove(&key);
        Box::pin(ready(Ok(())))
    }

    fn due(&self, kind: Kind, within: Duration, limit: usize) -> StoreFuture<'_, Vec<DueRow>> {
        Box::pin(async move { self.list_due(kind, within, limit) })
    }

    fn delete_subject(&self, subject: SubjectKey, limit: usize) -> StoreFuture<'_, SubjectDeletion> {
        Box::pin(async move {
            validate_limit(limit)?;
            let mut rows = self.lock();
            let is_row = |row: &Row| row.tag.subject == Some(subject);
            let is_counter = |counter: &Counter| counter.subject == Some(subject);
            let deleted = rows.remove_where(limit, is_row, is_counter);
            let left = keys(&rows.values, MAX_LIMIT, is_row).len() + keys(&rows.counters, MAX_LIMIT, is_counter).len();
            Ok(SubjectDeletion { deleted: deleted as u64, left: left as u64 })
        })
    }

    fn purge(&self, limit: usize) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            validate_limit(limit)?;
            let (now, mut rows) = ((self.clock)(), self.lock());
            Ok(rows.remove_where(limit, |row| row.expires_at <= now, |counter| counter.expires_at <= now) as u64)
        })
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.lock();
        let mut debug = f.debug_struct("MemoryStore");
        debug.field("rows", &rows.values.len()).field("counters", &rows.counters.len()).field("bytes", &rows.bytes);
        debug.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

    use super::*;

    const TAG: RowTag = RowTag { kind: Kind::new("test"), subject: None };

    fn key(byte: u8) -> RowKey {
        RowKey::from_bytes([byte; 32])
    }

    fn content(value: &[u8]) -> Content<'_> {
        Content { value, expires_in: Duration::from_secs(60), due_in: None }
    }

    #[tokio::test]
    async fn a_full_store_keeps_live_rows_and_replaces_expired_ones() {
        let now = Arc::new(Mutex::new(SystemTime::UNIX_EPOCH));
        let clock = Arc::clone(&now);
        let store = MemoryStore::with_clock(Arc::new(move || *clock.lock().unwrap())).with_capacity(3, 10);
        let increment = Increment { amount: 1, ceiling: 1, window: Duration::from_secs(60) };
        let first = store.put_if_absent(key(1), TAG, content(b"four")).await.unwrap().unwrap();
        store.put_if_absent(key(2), TAG, content(b"five5")).await.unwrap().unwrap();

        let by_bytes = store.put_if_absent(key(3), TAG, content(b"ab")).await;
        let grown = store.compare_and_set(key(1), first, content(b"sixsix")).await;
        store.increment(key(1), TAG, increment).await.unwrap();
        let by_rows = store.put_if_absent(key(3), TAG, content(b"")).await;
        let counter = store.increment(key(2), TAG, increment).await;

        for full in [by_bytes.map(drop), grown.map(drop), by_rows.map(drop), counter.map(drop)] {
            assert!(matches!(full, Err(StoreError::Full)), "{full:?}");
        }
        assert_eq!(store.get(key(1)).await.unwrap().unwrap().value, b"four");
        store.compare_and_set(key(1), first, content(b"five5")).await.unwrap().unwrap();

        *now.lock().unwrap() += Duration::from_secs(60);
        store.put_if_absent(key(3), TAG, content(b"ten bytes!")).await.unwrap().unwrap();
        assert_eq!(format!("{store:?}"), "MemoryStore { rows: 1, counters: 0, bytes: 10, .. }");
        store.delete(key(3)).await.unwrap();
        assert_eq!(format!("{store:?}"), "MemoryStore { rows: 0, counters: 0, bytes: 0, .. }");
    }
}
