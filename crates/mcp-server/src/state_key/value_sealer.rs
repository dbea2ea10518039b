//! [`ValueSealer`]: sealed values of an application.

use std::{fmt, sync::Arc};

use super::{
    StateKey,
    rotation::{CurrentKeys, KeyLoader},
    sealing::SealingKeys,
};

/// The first byte of each sealed value: the version of its format.
const FORMAT: u8 = 4;

/// Seals values that an application gives to others and gets back, such as cookies and tokens, by AES-256-GCM-SIV with keys that are
/// derived from the state key.
///
/// After a rotation of the state key, values of the previous key open. A value of a newer key loads the state key again.
pub struct ValueSealer {
    keys: CurrentKeys<SealingKeys>,
    loader: Arc<KeyLoader>,
}

impl ValueSealer {
    /// Derives the keys of a server, by its name. `None` if that fails.
    pub fn new(key: &StateKey, server: &str, loader: Arc<KeyLoader>) -> Option<Self> {
        let derive =
            |key: &StateKey, server: &str| SealingKeys::new(FORMAT, key.all(), b"mcp application values", server);
        Some(Self { keys: CurrentKeys::new(key, server, derive)?, loader })
    }

    /// Returns the sealed value; `None` if encryption fails. `data`, such as the purpose of the value, is authenticated with it.
    pub fn seal(&self, data: &[u8], value: Vec<u8>) -> Option<Vec<u8>> {
        self.keys.get().seal(data, value)
    }

    /// Opens a value that was sealed with this data; `None` for any other. Bound the size of `sealed` before.
    pub async fn open(&self, data: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.keys.open(data, sealed, &self.loader).await
    }
}

impl fmt::Debug for ValueSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ValueSealer(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;
    use crate::{BoxError, LoadStateKey};

    const OLD: &str = "dGVzdHMgYW5kIG5vdGhpbmcgYnV0IHRlc3RzIDEyMzQ=";
    const NEW: &str = "YW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcy4=";

    struct Rotated;

    impl LoadStateKey for Rotated {
        fn load(&self) -> Pin<Box<dyn Future<Output = Result<StateKey, BoxError>> + Send + '_>> {
            Box::pin(async { StateKey::parse(&format!("{NEW},{OLD}")).ok_or_else(|| "no key".into()) })
        }
    }

    fn environment(key: &str, loader: &Arc<KeyLoader>) -> ValueSealer {
        ValueSealer::new(&StateKey::parse(key).unwrap(), "server", Arc::clone(loader)).unwrap()
    }

    #[tokio::test]
    async fn values_of_the_previous_and_of_the_next_key_open() {
        let loader = Arc::<KeyLoader>::default();
        let (warm, cold) = (environment(OLD, &loader), environment(&format!("{NEW},{OLD}"), &Arc::default()));
        let (old, new) =
            (warm.seal(b"cookie", b"old".to_vec()).unwrap(), cold.seal(b"cookie", b"new".to_vec()).unwrap());

        assert_eq!(cold.open(b"cookie", &old).await.as_deref(), Some(&b"old"[..]));
        assert_eq!(warm.open(b"cookie", &new).await, None, "nothing loads the key");
        loader.set_source(Arc::new(Rotated));
        assert_eq!(warm.open(b"cookie", &new).await.as_deref(), Some(&b"new"[..]));
        assert_eq!(warm.open(b"token", &new).await, None);
        let after = warm.seal(b"cookie", b"after".to_vec()).unwrap();
        assert_eq!(cold.open(b"cookie", &after).await.as_deref(), Some(&b"after"[..]));
    }
}
