//! The server's secret, and key derivation.

use std::fmt;

#[cfg(any(feature = "interactive", feature = "pseudonyms", feature = "store"))]
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base64::{Engine as _, prelude::BASE64_STANDARD};

#[cfg(any(feature = "interactive", feature = "store"))]
pub(crate) mod rotation;
#[cfg(any(feature = "interactive", feature = "store"))]
pub(crate) mod sealing;
#[cfg(feature = "store")]
pub(crate) mod value_sealer;

const KEY_BYTES: usize = 32;
const MAX_KEYS: usize = 3;

/// The secret key that encrypts `requestState` and keys pseudonyms. It must be the same in every execution environment of a server.
///
/// For rotation, give up to three keys: the first encrypts, all of them decrypt. The index key, by which rows of a store are found, is
/// not rotated with them.
#[derive(Clone)]
#[cfg_attr(not(feature = "store"), allow(dead_code, reason = "a key is used only with a feature"))]
pub struct StateKey {
    /// One to three keys.
    keys: Vec<[u8; KEY_BYTES]>,
    index: Option<[u8; KEY_BYTES]>,
}

impl StateKey {
    /// Parses a key of 32 bytes in Base64, or up to three of them, separated by commas: the first encrypts, and the last is the
    /// oldest. A key may be repeated. A semicolon and the index key may follow, such as `current,previous;index`; without it, the last
    /// key is the index key. Returns `None` for other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (keys, index) = match text.split_once(';') {
            Some((keys, index)) => (keys, Some(parse_key(index)?)),
            None => (text, None),
        };
        let keys: Vec<_> = keys.split(',').take(MAX_KEYS + 1).map(parse_key).collect::<Option<_>>()?;
        (keys.len() <= MAX_KEYS).then_some(Self { keys, index })
    }

    #[cfg(feature = "pseudonyms")]
    pub(crate) fn current(&self) -> Option<&[u8; KEY_BYTES]> {
        self.keys.first()
    }

    /// Returns all keys, the one that encrypts first.
    #[cfg(any(feature = "interactive", feature = "store"))]
    pub(crate) fn all(&self) -> &[[u8; KEY_BYTES]] {
        &self.keys
    }

    /// Returns the secret of the index key.
    #[cfg(feature = "store")]
    pub(crate) fn index(&self) -> Option<&[u8; KEY_BYTES]> {
        self.index.as_ref().or(self.keys.last())
    }
}

impl fmt::Debug for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateKey(..)")
    }
}

fn parse_key(text: &str) -> Option<[u8; KEY_BYTES]> {
    BASE64_STANDARD.decode(text.trim()).ok()?.try_into().ok()
}

#[cfg(any(feature = "interactive", feature = "pseudonyms", feature = "store"))]
/// Derives a key by HKDF (RFC 5869): servers that share a secret have different keys, and so have different purposes.
pub(crate) fn derive(secret: &[u8; KEY_BYTES], purpose: &[u8], info: &[&[u8]]) -> Option<[u8; KEY_BYTES]> {
    struct KeyLength;

    impl KeyType for KeyLength {
        fn len(&self) -> usize {
            KEY_BYTES
        }
    }

    let mut key = [0; KEY_BYTES];
    let pseudo_random = Salt::new(HKDF_SHA256, purpose).extract(secret);
    pseudo_random.expand(info, KeyLength).ok()?.fill(&mut key).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> String {
        BASE64_STANDARD.encode([byte; KEY_BYTES])
    }

    #[test]
    fn only_32_bytes_in_base64_are_a_key() {
        let (short, long) = (BASE64_STANDARD.encode([1; 31]), BASE64_STANDARD.encode([1; 33]));
        let four = [key(1), key(2), key(3), key(1)].join(",");
        let other = ["", "secret", &short, &long, &format!("{},", key(1)), &format!(",{}", key(1)), &four];
        for text in other {
            assert!(StateKey::parse(text).is_none(), "{text}");
            assert!(StateKey::parse(&format!("{};{text}", key(1))).is_none(), "an index {text}");
            assert!(StateKey::parse(&format!("{text};{}", key(1))).is_none(), "before an index {text}");
        }
        assert!(StateKey::parse(&format!("{0};{0};{0}", key(1))).is_none());
        let three = [key(1), key(2), key(1)].join(",");
        assert_eq!(format!("{:?}", StateKey::parse(&three).unwrap()), "StateKey(..)");
    }
}
