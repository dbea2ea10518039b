//! The cipher of session ids, question ids and event ids.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    Principal,
    state_key::{
        StateKey,
        rotation::{CurrentKeys, KeyLoader},
        sealing::SealingKeys,
    },
};

/// The first byte of each sealed value: the version of its format.
const FORMAT: u8 = 2;

/// What a sealed value is for. A value opens only for its purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Session = 1,
    Question = 2,
    Event = 3,
}

/// Seals values with keys that are derived from the state key and the server's name.
pub(super) struct Seals {
    keys: CurrentKeys<SealingKeys>,
    loader: Arc<KeyLoader>,
}

impl Seals {
    pub(super) fn new(key: &StateKey, server: &str, loader: Arc<KeyLoader>) -> Option<Self> {
        let derive =
            |key: &StateKey, server: &str| SealingKeys::new(FORMAT, key.all(), b"mcp legacy questions", server);
        Some(Self { keys: CurrentKeys::new(key, server, derive)?, loader })
    }

    /// Returns the sealed value as URL-safe Base64; `None` if encryption fails.
    pub(super) fn seal(&self, purpose: Purpose, caller: Option<&Principal>, value: &[u8]) -> Option<String> {
        let sealed = self.keys.get().seal(&additional_data(purpose, caller), value.to_vec())?;
        Some(BASE64_URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens a value that was sealed for this purpose and caller; `None` for any other text. Loads the state key again for a value of
    /// an unknown key.
    pub(super) async fn open(
        &self,
        purpose: Purpose,
        caller: Option<&Principal>,
        sealed: &str,
        max_bytes: usize,
    ) -> Option<Vec<u8>> {
        if sealed.len() > max_bytes {
            return None;
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(sealed).ok()?;
        self.keys.open(&additional_data(purpose, caller), &bytes, &self.loader).await
    }
}

/// Returns the additional authenticated data. Each part has its length before it, so that no two callers have the same.
fn additional_data(purpose: Purpose, caller: Option<&Principal>) -> Vec<u8> {
    let mut data = vec![purpose as u8, u8::from(caller.is_some())];
    let client = caller.and_then(|caller| caller.client_id.as_deref());
    data.push(u8::from(client.is_some()));
    let parts = caller.map(|caller| [caller.issuer.as_str(), &caller.subject, client.unwrap_or_default()]);
    for part in parts.into_iter().flatten() {
        data.extend_from_slice(&(part.len() as u64).to_be_bytes());
        data.extend_from_slice(part.as_bytes());
    }
    data
}
