//! [`StoreKeys`]: keyed digests for rows, and the cipher of their values.

use std::fmt;

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};

use super::rows::{Kind, MAX_VALUE_BYTES, RowKey, StoreError, SubjectKey};
use crate::{
    Principal,
    state_key::{
        StateKey, derive,
        sealing::{OpenError, SealingKeys},
    },
};

/// The first byte of a sealed value: the version of its format.
const FORMAT: u8 = 1;
/// Size of a sealed value without its content, in bytes.
pub(super) const OVERHEAD: usize = SealingKeys::OVERHEAD;
/// Maximum number of sealing keys.
const MAX_SEALING_KEYS: usize = 3;

/// The first byte of a digest's message: digests for different purposes are never equal.
const ROW: u8 = 1;
const SUBJECT: u8 = 2;
#[cfg(feature = "tasks")]
const WAKE_UP: u8 = 3;

/// The keys of a server's store. All environments of a server need the same index key.
///
/// | Key | Use | Rotation |
/// | --- | --- | --- |
/// | index key | HMAC-SHA256 for the keys of rows and subjects | none: with another index key, all rows read as absent |
/// | sealing keys | AES-256-GCM-SIV for values: the first seals, all open | add the new key, then seal with it, then remove the old key when its rows have expired |
///
/// Every key is derived by HKDF from a secret and the server's name, so that two servers can share secrets and tables.
pub struct StoreKeys {
    index: Key,
    sealing: SealingKeys,
}

impl StoreKeys {
    /// Derives the keys from an index secret and one to three sealing secrets, the current one first. `None` for another number
    /// of secrets.
    pub fn new(server: &str, index: &[u8; 32], sealing: &[[u8; 32]]) -> Option<Self> {
        if !(1..=MAX_SEALING_KEYS).contains(&sealing.len()) {
            return None;
        }
        let index = derive(index, b"mcp store index", &[server.as_bytes()])?;
        let sealing = SealingKeys::new(FORMAT, sealing, b"mcp store seal", server)?;
        Some(Self { index: Key::new(HMAC_SHA256, &index), sealing })
    }

    /// Derives the keys from a state key. The index key is derived from its index part, such as `index` in `current,previous;index`,
    /// or from the last of its keys if it has none.
    ///
    /// A rotation keeps the index: that of a first rotation from `old` is `new,old;old`. Rows that were sealed with a key that is no
    /// longer part of the state key cannot be read. With another index, existing rows read as absent, which ends all work that uses
    /// them. For some minutes, environments with different index keys run, and a row that exists for one is absent for the other.
    pub fn from_state_key(server: &str, key: &StateKey) -> Option<Self> {
        Self::new(server, key.index()?, key.all())
    }

    /// Returns the key of a row. In the message, each part has a fixed length or is preceded by its length.
    pub(crate) fn row_key(&self, kind: Kind, caller: Option<&Principal>, id: &[u8]) -> RowKey {
        let mut message = Message::new(&self.index, ROW);
        message.part(kind.name().as_bytes());
        match caller {
            None => message.byte(0),
            Some(Principal { issuer, subject, client_id, .. }) => {
                message.byte(1);
                message.part(issuer.as_bytes());
                message.part(subject.as_bytes());
                match client_id {
                    None => message.byte(0),
                    Some(client_id) => {
                        message.byte(1);
                        message.part(client_id.as_bytes());
                    }
                }
            }
        }
        message.part(id);
        RowKey::from_bytes(message.digest())
    }

    /// Returns the digest of a subject, the same for all clients.
    pub fn subject_key(&self, issuer: &str, subject: &str) -> SubjectKey {
        let mut message = Message::new(&self.index, SUBJECT);
        message.part(issuer.as_bytes());
        message.part(subject.as_bytes());
        SubjectKey::from_bytes(message.digest())
    }

    /// Returns the authentication code of a wake-up for a row.
    #[cfg(feature = "tasks")]
    pub(crate) fn wake_up_code(&self, row: RowKey) -> [u8; 32] {
        let mut message = Message::new(&self.index, WAKE_UP);
        message.part(row.as_bytes());
        message.digest()
    }

    /// Reports whether a code is that of a wake-up for the row, in constant time.
    #[cfg(feature = "tasks")]
    pub(crate) fn is_wake_up_code(&self, row: RowKey, code: &[u8; 32]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.wake_up_code(row), code).is_ok()
    }

    pub(crate) fn seal(&self, kind: Kind, row: RowKey, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        let maximum = MAX_VALUE_BYTES - OVERHEAD;
        if value.len() > maximum {
            return Err(StoreError::TooLarge { bytes: value.len(), maximum });
        }
        let sealed = self.sealing.seal(&additional_data(kind, row), value.to_vec());
        sealed.ok_or_else(|| StoreError::Other("could not seal the value".into()))
    }

    pub(crate) fn open(&self, kind: Kind, row: RowKey, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.sealing.open(&additional_data(kind, row), sealed).map_err(|error| match error {
            OpenError::UnknownKey => StoreError::UnknownKey,
            OpenError::Invalid => StoreError::Unreadable,
        })
    }
}

impl fmt::Debug for StoreKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKeys(..)")
    }
}

/// Only the last part has a variable length.
fn additional_data(kind: Kind, row: RowKey) -> Vec<u8> {
    [row.as_bytes().as_slice(), kind.name().as_bytes()].concat()
}

struct Message(Context);

impl Message {
    fn new(key: &Key, purpose: u8) -> Self {
        let mut own = Self(Context::with_key(key));
        own.byte(purpose);
        own
    }

    fn byte(&mut self, byte: u8) {
        self.0.update(&[byte]);
    }

    fn part(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    fn digest(self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.0.sign().as_ref());
        digest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::state_key::sealing::KEY_ID_BYTES;

    const TASK: Kind = Kind::new("task");
    const ROUND: Kind = Kind::new("round");

    fn keys(sealing: &[u8]) -> StoreKeys {
        let sealing: Vec<_> = sealing.iter().map(|byte| [*byte; 32]).collect();
        StoreKeys::new("server", &[9; 32], &sealing).unwrap()
    }

    fn caller(issuer: &str, subject: &str, client: Option<&str>) -> Principal {
        Principal { client_id: client.map(str::to_owned), ..Principal::new(issuer, subject) }
    }

    #[test]
    fn row_keys_of_different_rows_differ() {
        let own = keys(&[1]);
        let mut seen = HashSet::new();
        let callers = [
            None,
            Some(caller("", "", None)),
            Some(caller("", "", Some(""))),
            Some(caller("ab", "c", None)),
            Some(caller("a", "bc", None)),
            Some(caller("a", "bc", Some("d"))),
            Some(caller("a", "b", Some("cd"))),
            Some(caller("a", "b\0", Some("cd"))),
        ];
        let long = vec![b'x'; 1 << 20];
        let ids: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"d", b"cd", "\u{e9}".as_bytes(), "e\u{301}".as_bytes(), &long];

        for kind in [TASK, ROUND] {
            for caller in &callers {
                for id in ids {
                    assert!(seen.insert(own.row_key(kind, caller.as_ref(), id)), "{kind:?} {caller:?} {}", id.len());
                }
            }
        }
        let other = StoreKeys::new("other", &[9; 32], &[[1; 32]]).unwrap();
        assert!(seen.insert(other.row_key(TASK, None, b"")), "another server");
        assert!(seen.contains(&keys(&[2, 1]).row_key(TASK, None, b"")), "sealing keys do not change row keys");
    }

    #[test]
    fn a_subject_key_is_the_same_for_all_clients_of_a_subject() {
        let own = keys(&[1]);

        assert_eq!(own.subject_key("a", "b"), keys(&[2]).subject_key("a", "b"));
        assert_ne!(own.subject_key("a", "bc"), own.subject_key("ab", "c"));
        assert_ne!(own.subject_key("", "").as_bytes(), own.row_key(TASK, None, b"").as_bytes());
    }

    #[test]
    fn a_value_opens_only_in_its_own_row_and_kind() {
        let own = keys(&[1]);
        let (row, other) = (own.row_key(TASK, None, b"1"), own.row_key(TASK, None, b"2"));
        let sealed = own.seal(TASK, row, b"secret").unwrap();

        assert_eq!(own.open(TASK, row, &sealed).unwrap(), b"secret");
        assert_eq!(sealed.len(), b"secret".len() + OVERHEAD);
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        for copied in [own.open(TASK, other, &sealed), own.open(ROUND, row, &sealed)] {
            assert!(matches!(copied, Err(StoreError::Unreadable)), "{copied:?}");
        }
    }

    #[test]
    fn changed_and_truncated_values_do_not_open() {
        let own = keys(&[1]);
        let row = own.row_key(TASK, None, b"1");
        let sealed = own.seal(TASK, row, b"").unwrap();

        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let opened = own.open(TASK, row, &changed);
            let is_of_the_id = (8..8 + KEY_ID_BYTES * 8).contains(&bit);
            match opened {
                Err(StoreError::UnknownKey) => assert!(is_of_the_id, "bit {bit}"),
                Err(StoreError::Unreadable) => assert!(!is_of_the_id, "bit {bit}"),
                other => panic!("bit {bit}: {other:?}"),
            }
        }
        for length in 0..sealed.len() {
            assert!(own.open(TASK, row, &sealed[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn older_keys_open_and_an_unknown_key_is_an_error() {
        let (old, rotated) = (keys(&[1]), keys(&[3, 2, 1]));
        let row = old.row_key(TASK, None, b"1");
        let (by_old, by_new) = (old.seal(TASK, row, b"a").unwrap(), rotated.seal(TASK, row, b"b").unwrap());

        assert_eq!(rotated.open(TASK, row, &by_old).unwrap(), b"a");
        assert!(matches!(old.open(TASK, row, &by_new), Err(StoreError::UnknownKey)));
        for count in [0, 4] {
            assert!(StoreKeys::new("server", &[9; 32], &vec![[1; 32]; count]).is_none(), "{count} keys");
        }
    }

    #[test]
    fn the_index_key_does_not_change_when_a_state_key_is_added_or_removed_beside_an_index() {
        let text = |byte: u8| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, [byte; 32]);
        let joined = |bytes: &[u8]| bytes.iter().map(|byte| text(*byte)).collect::<Vec<_>>().join(",");
        let parsed = |text: &str| StoreKeys::from_state_key("server", &StateKey::parse(text).unwrap()).unwrap();
        let of = |bytes: &[u8]| parsed(&joined(bytes));
        let with_index = |bytes: &[u8]| parsed(&format!("{};{}", joined(bytes), text(1)));
        let row = of(&[1]).row_key(TASK, None, b"1");

        assert_eq!(of(&[2, 1]).row_key(TASK, None, b"1"), row);
        assert_ne!(of(&[2]).row_key(TASK, None, b"1"), row, "the documented limit of a key without an index");
        let sealed = of(&[1]).seal(TASK, row, b"a").unwrap();
        assert_eq!(of(&[2, 1]).open(TASK, row, &sealed).unwrap(), b"a");
        for rotated in [&[2, 1][..], &[3, 2, 1], &[4, 3, 2], &[5]] {
            let own = with_index(rotated);
            assert_eq!(own.row_key(TASK, None, b"1"), row, "{rotated:?}");
            let opened = own.open(TASK, row, &sealed);
            assert_eq!(opened.is_ok(), rotated.contains(&1), "an index key opens nothing: {rotated:?} {opened:?}");
        }
        assert_eq!(format!("{:?}", of(&[1])), "StoreKeys(..)");
    }
}
