//! Sealed texts: codes, refresh tokens, forms and cookies that only this server can make and read.

use std::{fmt, sync::Arc};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mcp_server::{
    KeyLoader, StateKey, ValueSealer,
    json::{self, Budget},
};
use serde::{Serialize, de::DeserializeOwned};

/// Maximum length of a sealed text.
const MAX_LENGTH: usize = 16 * 1024;
/// Name of the server for key derivation, the same for all deployments: texts are bound to the issuer instead.
pub(crate) const SERVER: &str = "authorization-server";

/// What a sealed text is for. A text of one purpose does not open for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Code = 1,
    RefreshToken = 2,
    ConsentForm = 3,
    Approvals = 4,
    GrantsForm = 5,
}

/// Seals texts. After a rotation of the state key, texts of the previous key open, and a text of a newer key loads the state key again.
pub struct Sealer(ValueSealer);

/// A text could not be sealed.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("could not seal a text")]
pub struct SealError;

impl Sealer {
    /// Derives the keys from the state key. `None` if that fails.
    pub fn new(key: &StateKey, loader: Arc<KeyLoader>) -> Option<Self> {
        Some(Self(ValueSealer::new(key, SERVER, loader)?))
    }

    /// Seals a value for the issuer and a purpose.
    pub(crate) fn seal(&self, issuer: &str, purpose: Purpose, value: &impl Serialize) -> Result<String, SealError> {
        let text = serde_json::to_vec(value).map_err(|_| SealError)?;
        let sealed = self.0.seal(&additional_data(issuer, purpose), text).ok_or(SealError)?;
        let sealed = BASE64_URL_SAFE_NO_PAD.encode(sealed);
        if sealed.len() > MAX_LENGTH { Err(SealError) } else { Ok(sealed) }
    }

    /// Opens a text. `None` if it was not sealed by this server for this issuer and purpose.
    pub(crate) async fn open<T: DeserializeOwned>(&self, issuer: &str, purpose: Purpose, text: &str) -> Option<T> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let opened = self.0.open(&additional_data(issuer, purpose), &sealed).await?;
        json::read_bytes(&opened, Budget::memory(1024 * 1024)).ok()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

/// Only the last part has a variable length.
fn additional_data(issuer: &str, purpose: Purpose) -> Vec<u8> {
    [&[purpose as u8], issuer.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::state_key;

    const ISSUER: &str = "https://auth.example";

    fn sealer(keys: &[u8]) -> Sealer {
        Sealer::new(&state_key(keys), Arc::default()).unwrap()
    }

    async fn open(sealer: &Sealer, text: &str) -> Option<String> {
        sealer.open(ISSUER, Purpose::Code, text).await
    }

    #[tokio::test]
    async fn a_text_opens_only_for_its_issuer_and_purpose() {
        let sealer = sealer(&[1]);
        let text = sealer.seal(ISSUER, Purpose::Code, &"ada").unwrap();

        assert_eq!(open(&sealer, &text).await.as_deref(), Some("ada"));
        assert_eq!(sealer.open::<String>(ISSUER, Purpose::RefreshToken, &text).await, None);
        assert_eq!(sealer.open::<String>("https://auth.example.evil", Purpose::Code, &text).await, None);
        assert_eq!(sealer.open::<u64>(ISSUER, Purpose::Code, &text).await, None);
        assert_eq!(format!("{sealer:?}"), "Sealer(..)");
    }

    #[tokio::test]
    async fn changed_texts_do_not_open() {
        let sealer = sealer(&[1]);
        let text = sealer.seal(ISSUER, Purpose::Code, &"ada").unwrap();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(open(&sealer, &String::from_utf8(changed).unwrap()).await, None, "{at}");
            assert_eq!(open(&sealer, &text[..at]).await, None, "{at}");
        }
        for text in [format!("{text}="), format!("{text}A"), "\u{e9}".repeat(20), "A".repeat(MAX_LENGTH + 1)] {
            assert_eq!(open(&sealer, &text).await, None);
        }
    }

    #[tokio::test]
    async fn the_previous_key_opens() {
        let [old, both, new] = [&[1][..], &[2, 1], &[2]].map(sealer);
        let text = old.seal(ISSUER, Purpose::Code, &"ada").unwrap();

        assert_eq!(open(&both, &text).await.as_deref(), Some("ada"));
        assert_eq!(open(&new, &text).await, None);
        assert_eq!(open(&new, &both.seal(ISSUER, Purpose::Code, &"ada").unwrap()).await.as_deref(), Some("ada"));
    }
}
