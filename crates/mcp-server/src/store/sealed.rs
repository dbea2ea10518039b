//! [`SealedStore`]: the store that requests use.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    keys::{OVERHEAD, StoreKeys},
    rows::{
        Content, DueRow, Granted, Increment, Kind, MAX_VALUE_BYTES, RowKey, RowTag, Store, StoreError, StoredValue,
        SubjectDeletion, Version,
    },
};
use crate::{
    Principal, StateKey,
    state_key::rotation::{CurrentKeys, KeyLoader},
};

/// A store whose keys are digests and whose values are sealed. Cheap to clone.
///
/// A row belongs to its caller: the same id of another caller, or of another client of the same subject, is another row.
/// [`Store`] has the rules of each operation.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use mcp_server::{Principal, store::{Content, Kind, MemoryStore, SealedStore, StoreError, StoreId, StoreKeys}};
/// # async fn example() -> Result<(), StoreError> {
/// const CLAIM: Kind = Kind::new("claim");
///
/// let keys = StoreKeys::new("server", &[1; 32], &[[2; 32]]).expect("one sealing key");
/// let store = SealedStore::new(Arc::new(MemoryStore::new()), keys);
/// let ada = Principal::new("https://issuer.example", "ada");
/// let id = StoreId { kind: CLAIM, caller: Some(&ada), id: b"round 1" };
///
/// let content = Content { value: b"running", expires_in: Duration::from_secs(30), due_in: None };
/// let claimed = store.put_if_absent(&id, content).await?;
///
/// assert!(claimed.is_some());
/// assert!(store.put_if_absent(&id, content).await?.is_none());
/// assert_eq!(store.get(&id).await?.map(|stored| stored.value).as_deref(), Some(&b"running"[..]));
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Clone)]
pub struct SealedStore {
    store: Arc<dyn Store>,
    keys: Arc<CurrentKeys<StoreKeys>>,
    loader: Arc<KeyLoader>,
}

/// Identifies a row or a counter.
#[derive(Clone, Copy)]
pub struct StoreId<'a> {
    /// The kind of the row. Equal ids of different kinds are different rows.
    pub kind: Kind,
    /// The caller that owns the row; `None` for anonymous callers, who share their rows.
    pub caller: Option<&'a Principal>,
    /// Any bytes of any length.
    pub id: &'a [u8],
}

impl fmt::Debug for StoreId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreId").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl SealedStore {
    /// Maximum size of a value: 37 bytes less than [`MAX_VALUE_BYTES`].
    pub const MAX_VALUE_BYTES: usize = MAX_VALUE_BYTES - OVERHEAD;

    /// Creates a store that seals the values of `store`.
    pub fn new(store: Arc<dyn Store>, keys: StoreKeys) -> Self {
        Self { store, keys: Arc::new(CurrentKeys::fixed(keys)), loader: Arc::default() }
    }

    /// Creates the store of a server. Its keys are those of [`StoreKeys::from_state_key`], and are replaced by those of a state key
    /// that `loader` loads. `None` if the derivation fails.
    pub fn of_server(store: Arc<dyn Store>, server: &str, key: &StateKey, loader: Arc<KeyLoader>) -> Option<Self> {
        let keys = CurrentKeys::new(key, server, |key, server| StoreKeys::from_state_key(server, key))?;
        Some(Self { store, keys: Arc::new(keys), loader })
    }

    /// Stores a row if it is absent. Returns its version, or `None` if it is present.
    ///
    /// # Errors
    ///
    /// When the value is larger than [`MAX_VALUE_BYTES`](Self::MAX_VALUE_BYTES), and as [`Store`].
    pub async fn put_if_absent(&self, id: &StoreId<'_>, content: Content<'_>) -> Result<Option<Version>, StoreError> {
        let (key, tag) = (self.row_key(id), self.tag(id));
        let sealed = self.keys().seal(id.kind, key, content.value)?;
        self.store.put_if_absent(key, tag, Content { value: &sealed, ..content }).await
    }

    /// Returns the value of a row; `None` if it is absent.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownKey`] and [`StoreError::Unreadable`] if the value does not open, and as [`Store`].
    pub async fn get(&self, id: &StoreId<'_>) -> Result<Option<StoredValue>, StoreError> {
        self.get_row(id.kind, self.row_key(id)).await
    }

    /// Returns the value of a row from [`due`](Self::due), by its key: caller and id are unknown. `None` if it is absent.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_row(&self, kind: Kind, key: RowKey) -> Result<Option<StoredValue>, StoreError> {
        let Some(StoredValue { value, version }) = self.store.get(key).await? else {
            return Ok(None);
        };
        let keys = self.keys();
        let opened = match keys.open(kind, key, &value) {
            Err(StoreError::UnknownKey) => match self.keys.newer_than(&keys, &self.loader).await {
                Some(newer) => newer.open(kind, key, &value),
                None => Err(StoreError::UnknownKey),
            },
            opened => opened,
        };
        Ok(Some(StoredValue { value: opened?, version }))
    }

    /// Replaces a row that has this version. Returns the new version, or `None` if the row has another one or is absent.
    ///
    /// # Errors
    ///
    /// As [`put_if_absent`](Self::put_if_absent).
    pub async fn compare_and_set(
        &self,
        id: &StoreId<'_>,
        version: Version,
        content: Content<'_>,
    ) -> Result<Option<Version>, StoreError> {
        self.compare_and_set_row(id.kind, self.row_key(id), version, content).await
    }

    /// As [`compare_and_set`](Self::compare_and_set), for a row from [`due`](Self::due), by its key.
    ///
    /// # Errors
    ///
    /// As [`put_if_absent`](Self::put_if_absent).
    pub async fn compare_and_set_row(
        &self,
        kind: Kind,
        key: RowKey,
        version: Version,
        content: Content<'_>,
    ) -> Result<Option<Version>, StoreError> {
        let sealed = self.keys().seal(kind, key, content.value)?;
        self.store.compare_and_set(key, version, Content { value: &sealed, ..content }).await
    }

    /// Adds the amount to a counter, up to its ceiling. Counts are not sealed.
    ///
    /// # Errors
    ///
    /// As [`Store`].
    pub async fn increment(&self, id: &StoreId<'_>, increment: Increment) -> Result<Granted, StoreError> {
        self.store.increment(self.row_key(id), self.tag(id), increment).await
    }

    /// Deletes a row and a counter, if they are present.
    ///
    /// # Errors
    ///
    /// As [`Store`].
    pub async fn delete(&self, id: &StoreId<'_>) -> Result<(), StoreError> {
        self.store.delete(self.row_key(id)).await
    }

    /// Deletes a row that has this version: it expires at once. Returns `false` if it has another version or is absent.
    #[cfg(feature = "tasks")]
    pub(crate) async fn delete_version(&self, id: &StoreId<'_>, version: Version) -> Result<bool, StoreError> {
        let content = Content { value: &[], expires_in: Duration::from_micros(1), due_in: None };
        Ok(self.compare_and_set(id, version, content).await?.is_some())
    }

    /// Returns rows of all callers whose due time is at most `within` from now, earliest first: up to `limit`, from 1 to 500.
    ///
    /// # Errors
    ///
    /// As [`Store`].
    pub async fn due(&self, kind: Kind, within: Duration, limit: usize) -> Result<Vec<DueRow>, StoreError> {
        self.store.due(kind, within, limit).await
    }

    /// Deletes up to `limit` rows of a subject, of all kinds and clients, and as many counters: from 1 to 500. Returns how many are
    /// left. Repeat it while rows are left, a limited number of times: a subject that still calls writes new ones.
    ///
    /// # Errors
    ///
    /// As [`Store`]. Some rows may have been deleted.
    pub async fn delete_subject(
        &self,
        issuer: &str,
        subject: &str,
        limit: usize,
    ) -> Result<SubjectDeletion, StoreError> {
        self.store.delete_subject(self.keys().subject_key(issuer, subject), limit).await
    }

    /// Deletes up to `limit` expired rows and as many counters, from 1 to 500. Returns their number.
    ///
    /// # Errors
    ///
    /// As [`Store`].
    pub async fn purge(&self, limit: usize) -> Result<u64, StoreError> {
        self.store.purge(limit).await
    }

    /// Returns the key of a row, a digest that reveals neither caller nor id.
    pub fn row_key(&self, id: &StoreId<'_>) -> RowKey {
        self.keys().row_key(id.kind, id.caller, id.id)
    }

    pub(crate) fn keys(&self) -> Arc<StoreKeys> {
        self.keys.get()
    }

    fn tag(&self, id: &StoreId<'_>) -> RowTag {
        let subject = id.caller.map(|caller| self.keys().subject_key(&caller.issuer, &caller.subject));
        RowTag { kind: id.kind, subject }
    }
}

impl fmt::Debug for SealedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedStore").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{BoxError, state_key::rotation::LoadStateKey, store::MemoryStore};

    const OLD: &str = "dGVzdHMgYW5kIG5vdGhpbmcgYnV0IHRlc3RzIDEyMzQ=";
    const NEW: &str = "YW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcy4=";
    const KIND: Kind = Kind::new("test");
    const ID: StoreId<'static> = StoreId { kind: KIND, caller: None, id: b"row" };

    /// A secret with this text.
    #[derive(Default)]
    struct Secret {
        text: String,
        loads: AtomicUsize,
    }

    impl LoadStateKey for Secret {
        fn load(&self) -> Pin<Box<dyn Future<Output = Result<StateKey, BoxError>> + Send + '_>> {
            self.loads.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { StateKey::parse(&self.text).ok_or_else(|| "no key".into()) })
        }
    }

    fn environment(store: &Arc<MemoryStore>, key: &str) -> SealedStore {
        let (store, key) = (Arc::clone(store) as Arc<dyn Store>, StateKey::parse(key).unwrap());
        SealedStore::of_server(store, "server", &key, Arc::default()).unwrap()
    }

    async fn put(store: &SealedStore, id: &StoreId<'_>) {
        let content = Content { value: b"value", expires_in: Duration::from_secs(60), due_in: None };
        assert!(store.put_if_absent(id, content).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_warm_environment_loads_the_key_with_which_a_newer_one_seals() {
        let tables = Arc::new(MemoryStore::new());
        let rotated = format!("{NEW},{OLD}");
        let (warm, cold) = (environment(&tables, OLD), environment(&tables, &rotated));
        let secret = Arc::new(Secret { text: rotated, ..Secret::default() });
        warm.loader.set_source(Arc::clone(&secret) as Arc<dyn LoadStateKey>);
        put(&cold, &ID).await;

        let (first, second) = tokio::join!(warm.get(&ID), warm.get(&ID));
        let values = [first, second].map(|read| read.unwrap().unwrap().value);

        assert_eq!(values, [b"value", b"value"]);
        assert_eq!(secret.loads.load(Ordering::Relaxed), 1);
        let other = StoreId { id: b"other", ..ID };
        put(&warm, &other).await;
        assert_eq!(cold.get(&other).await.unwrap().unwrap().value, b"value");
    }

    #[tokio::test]
    async fn an_unknown_key_is_loaded_at_most_once_a_minute_and_stays_an_error_without_it() {
        let tables = Arc::new(MemoryStore::new());
        let (warm, cold) = (environment(&tables, OLD), environment(&tables, &format!("{NEW},{OLD}")));
        put(&cold, &ID).await;
        assert!(matches!(warm.get(&ID).await, Err(StoreError::UnknownKey)), "nothing loads the key");
        let failing = Arc::new(Secret::default());
        warm.loader.set_source(Arc::clone(&failing) as Arc<dyn LoadStateKey>);

        for _ in 0..3 {
            assert!(matches!(warm.get(&ID).await, Err(StoreError::UnknownKey)));
        }

        assert_eq!(failing.loads.load(Ordering::Relaxed), 1);
    }
}
