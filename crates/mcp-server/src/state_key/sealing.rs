//! [`SealingKeys`]: the cipher of everything that this server seals.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use super::derive;

pub(crate) const KEY_ID_BYTES: usize = 8;

/// Seals values by AES-256-GCM-SIV (RFC 8452), which tolerates reuse of a nonce by environments that were restored from one
/// snapshot: reuse only reveals whether two values are equal.
pub(crate) struct SealingKeys {
    /// The first byte of a sealed value.
    format: u8,
    /// The first seals, all open.
    keys: Vec<SealingKey>,
}

struct SealingKey {
    id: [u8; KEY_ID_BYTES],
    key: RandomizedNonceKey,
}

/// Why a value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// It has the format, and the id of another key.
    UnknownKey,
    Invalid,
}

impl SealingKeys {
    /// Size of a sealed value without its content, in bytes.
    #[cfg(feature = "store")]
    pub(crate) const OVERHEAD: usize = 1 + KEY_ID_BYTES + NONCE_LEN + 16;

    /// Derives a key for a purpose from each secret, and its id. `None` if the derivation fails.
    pub(crate) fn new(format: u8, secrets: &[[u8; 32]], purpose: &[u8], server: &str) -> Option<Self> {
        let server = &[server.as_bytes()];
        let keys = secrets.iter().map(|secret| {
            let key = derive(secret, purpose, server)?;
            let id = *derive(secret, b"mcp store key id", server)?.first_chunk()?;
            Some(SealingKey { id, key: RandomizedNonceKey::new(&AES_256_GCM_SIV, &key).ok()? })
        });
        Some(Self { format, keys: keys.collect::<Option<_>>()? })
    }

    /// Returns the sealed value; `None` if encryption fails. `data` is authenticated with it.
    pub(crate) fn seal(&self, data: &[u8], mut value: Vec<u8>) -> Option<Vec<u8>> {
        let SealingKey { id, key } = self.keys.first()?;
        let nonce = key.seal_in_place_append_tag(self.additional_data(id, data), &mut value).ok()?;
        Some([&[self.format], id.as_slice(), nonce.as_ref(), &value].concat())
    }

    /// Opens a value that was sealed with this data.
    ///
    /// # Errors
    ///
    /// For any other value.
    pub(crate) fn open(&self, data: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let split = || {
            let (id, rest) = sealed.strip_prefix(&[self.format])?.split_first_chunk::<KEY_ID_BYTES>()?;
            let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
            Some((id, Nonce::assume_unique_for_key(*nonce), text))
        };
        let (id, nonce, text) = split().ok_or(OpenError::Invalid)?;
        let key = self.keys.iter().find(|own| own.id == *id).ok_or(OpenError::UnknownKey)?;
        let mut text = text.to_vec();
        let opened = key.key.open_in_place(nonce, self.additional_data(id, data), &mut text);
        let length = opened.map_err(|_| OpenError::Invalid)?.len();
        text.truncate(length);
        Ok(text)
    }

    fn additional_data(&self, id: &[u8; KEY_ID_BYTES], data: &[u8]) -> Aad<Vec<u8>> {
        Aad::from([&[self.format], id.as_slice(), data].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_key_is_told_apart_from_one_that_was_changed() {
        let keys = |secrets: &[[u8; 32]]| SealingKeys::new(1, secrets, b"test", "server").unwrap();
        let (own, both) = (keys(&[[1; 32]]), keys(&[[2; 32], [1; 32]]));
        let sealed = both.seal(b"data", b"value".to_vec()).unwrap();

        assert_eq!(both.open(b"data", &sealed).unwrap(), b"value");
        assert_eq!(sealed.len(), b"value".len() + 37);
        assert_eq!(own.open(b"data", &sealed), Err(OpenError::UnknownKey));
        assert_eq!(both.open(b"other", &sealed), Err(OpenError::Invalid));
        assert_eq!(both.open(b"data", &sealed[..sealed.len() - 1]), Err(OpenError::Invalid));
        assert_eq!(both.open(b"data", b"\x02"), Err(OpenError::Invalid));
    }
}
