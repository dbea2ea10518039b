//! The cipher of session ids, question ids and event ids.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    Principal,
    state_key::{StateKey, derive},
};

/// The first byte of each sealed value: the version of its format.
const FORMAT: u8 = 1;

/// What a sealed value is for. A value opens only for its purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Session = 1,
    Question = 2,
    Event = 3,
}

/// Seals values by AES-256-GCM-SIV, with keys that are derived from the state key and the server's name.
pub(super) struct Seals(Vec<RandomizedNonceKey>);

impl Seals {
    pub(super) fn new(key: &StateKey, server: &str) -> Option<Self> {
        let keys: Option<Vec<_>> = key
            .all()
            .map(|secret| {
                let key = derive(secret, b"mcp legacy questions", &[&[FORMAT], server.as_bytes()])?;
                RandomizedNonceKey::new(&AES_256_GCM_SIV, &key).ok()
            })
            .collect();
        keys.map(Self)
    }

    /// Returns the sealed value as URL-safe Base64; `None` if encryption fails.
    pub(super) fn seal(&self, purpose: Purpose, caller: Option<&Principal>, value: &[u8]) -> Option<String> {
        let mut text = value.to_vec();
        let aad = Aad::from(additional_data(purpose, caller));
        let nonce = self.0.first()?.seal_in_place_append_tag(aad, &mut text).ok()?;
        Some(BASE64_URL_SAFE_NO_PAD.encode([&[FORMAT], nonce.as_ref().as_slice(), &text].concat()))
    }

    /// Opens a value that was sealed for this purpose and caller; `None` for any other text.
    pub(super) fn open(
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
        let (nonce, text) = bytes.strip_prefix(&[FORMAT])?.split_first_chunk::<NONCE_LEN>()?;
        let aad = additional_data(purpose, caller);
        self.0.iter().find_map(|key| {
            let mut text = text.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let length = key.open_in_place(nonce, Aad::from(&aad), &mut text).ok()?.len();
            text.truncate(length);
            Some(text)
        })
    }
}

/// Returns the additional authenticated data. Each part has its length before it, so that no two callers have the same.
fn additional_data(purpose: Purpose, caller: Option<&Principal>) -> Vec<u8> {
    let mut data = vec![FORMAT, purpose as u8, u8::from(caller.is_some())];
    let client = caller.and_then(|caller| caller.client_id.as_deref());
    data.push(u8::from(client.is_some()));
    let parts = caller.map(|caller| [caller.issuer.as_str(), &caller.subject, client.unwrap_or_default()]);
    for part in parts.into_iter().flatten() {
        data.extend_from_slice(&(part.len() as u64).to_be_bytes());
        data.extend_from_slice(part.as_bytes());
    }
    data
}
