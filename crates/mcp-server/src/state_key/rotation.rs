//! Rotation of the state key: an environment loads the key again for a value that a newer environment has sealed.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use tokio::{sync::Mutex, time::timeout};

use super::StateKey;
#[cfg(feature = "store")]
use super::sealing::{OpenError, SealingKeys};
use crate::{BoxError, error_chain};

/// Minimum time between two loads of the state key.
const LOAD_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum time of a load, for which a request waits.
const LOAD_TIME: Duration = Duration::from_secs(3);

/// Loads the state key again, for a value that was sealed with a key that the environment does not have.
pub trait LoadStateKey: Send + Sync + 'static {
    /// Loads the state key.
    fn load(&self) -> Pin<Box<dyn Future<Output = Result<StateKey, BoxError>> + Send + '_>>;
}

/// Loads the state key of a server at most once a minute: unknown keys may be made up, and tables may have rows of another server.
///
/// Without a source it loads nothing. All that a server seals shares one loader, so that all keys are replaced together.
#[derive(Default)]
pub struct KeyLoader {
    source: OnceLock<Arc<dyn LoadStateKey>>,
    last: Mutex<LastLoad>,
}

#[derive(Default)]
struct LastLoad {
    /// By the wall clock, which advances while the environment is frozen.
    at: Option<SystemTime>,
    /// The number of keys that were loaded.
    count: u64,
    key: Option<StateKey>,
}

impl KeyLoader {
    /// Sets the source of the key. A second call has no effect.
    pub fn set_source(&self, source: Arc<dyn LoadStateKey>) {
        // The first one stays.
        let _ = self.source.set(source);
    }

    /// Returns a key that was loaded after the first `count` ones, with its number: now, or for another request. `None` if there
    /// is none.
    async fn newer_than(&self, count: u64) -> Option<(u64, StateKey)> {
        let source = self.source.get()?;
        let mut last = self.last.lock().await;
        if last.count > count {
            return Some((last.count, last.key.clone()?));
        }
        let now = SystemTime::now();
        if last.at.is_some_and(|at| now.duration_since(at).is_ok_and(|age| age < LOAD_INTERVAL)) {
            return None;
        }
        last.at = Some(now);
        match timeout(LOAD_TIME, source.load()).await.unwrap_or_else(|_| Err("timeout".into())) {
            Ok(key) => {
                last.count += 1;
                last.key = Some(key.clone());
                tracing::info!("a value was sealed with an unknown key: the state key was loaded again");
                Some((last.count, key))
            }
            Err(error) => {
                let error = error_chain(error.as_ref());
                tracing::warn!(error, "could not load the state key, with which a value was sealed");
                None
            }
        }
    }
}

impl fmt::Debug for KeyLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyLoader").field("has_source", &self.source.get().is_some()).finish_non_exhaustive()
    }
}

/// Keys of an environment for a purpose, derived from the state key.
pub(crate) struct CurrentKeys<K> {
    /// The keys, with the number of the loaded state key that they are derived from: 0 for the first one.
    keys: RwLock<(u64, Arc<K>)>,
    server: String,
    derive: fn(&StateKey, &str) -> Option<K>,
}

impl<K> CurrentKeys<K> {
    /// Derives the keys of a server, by its name. `None` if that fails.
    pub(crate) fn new(key: &StateKey, server: &str, derive: fn(&StateKey, &str) -> Option<K>) -> Option<Self> {
        let keys = RwLock::new((0, Arc::new(derive(key, server)?)));
        Some(Self { keys, server: server.to_owned(), derive })
    }

    /// Keys that nothing replaces.
    #[cfg(feature = "store")]
    pub(crate) fn fixed(keys: K) -> Self {
        Self { keys: RwLock::new((0, Arc::new(keys))), server: String::new(), derive: |_, _| None }
    }

    pub(crate) fn get(&self) -> Arc<K> {
        self.numbered().1
    }

    fn numbered(&self) -> (u64, Arc<K>) {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns keys that are newer than `seen`, which do not open a value; `None` if there are none.
    pub(crate) async fn newer_than(&self, seen: &Arc<K>, loader: &KeyLoader) -> Option<Arc<K>> {
        let (count, current) = self.numbered();
        if !Arc::ptr_eq(seen, &current) {
            return Some(current);
        }
        let (count, key) = loader.newer_than(count).await?;
        let keys = Arc::new((self.derive)(&key, &self.server)?);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = (count, Arc::clone(&keys));
        Some(keys)
    }
}

#[cfg(feature = "store")]
impl CurrentKeys<SealingKeys> {
    /// Opens a value that was sealed with this data. Loads the state key again for a value of an unknown key. `None` for any other
    /// value.
    pub(crate) async fn open(&self, data: &[u8], sealed: &[u8], loader: &KeyLoader) -> Option<Vec<u8>> {
        let keys = self.get();
        match keys.open(data, sealed) {
            Err(OpenError::UnknownKey) => self.newer_than(&keys, loader).await?.open(data, sealed).ok(),
            opened => opened.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    struct Secret(AtomicU32);

    impl LoadStateKey for Secret {
        fn load(&self) -> Pin<Box<dyn Future<Output = Result<StateKey, BoxError>> + Send + '_>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(key()) })
        }
    }

    fn key() -> StateKey {
        StateKey::parse("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap()
    }

    #[tokio::test]
    async fn one_load_replaces_the_keys_of_all_purposes() {
        let (loader, secret) = (KeyLoader::default(), Arc::new(Secret(AtomicU32::new(0))));
        let purposes =
            ["one", "other"].map(|name| CurrentKeys::new(&key(), name, |_, name| Some(name.to_owned())).unwrap());
        let seen = purposes.each_ref().map(CurrentKeys::get);
        assert!(purposes[0].newer_than(&seen[0], &loader).await.is_none(), "nothing loads the key");
        loader.set_source(Arc::clone(&secret) as Arc<dyn LoadStateKey>);

        for (own, seen) in purposes.iter().zip(&seen) {
            let (first, second) = tokio::join!(own.newer_than(seen, &loader), own.newer_than(seen, &loader));
            let (first, second) = (first.unwrap(), second.unwrap());
            assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, seen));
        }

        assert!(purposes[0].newer_than(&purposes[0].get(), &loader).await.is_none(), "once a minute");
        assert_eq!(secret.0.load(Ordering::Relaxed), 1);
    }
}
