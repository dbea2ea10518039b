//! Keys, store and clock of unit tests.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::KeySize,
    signature::RsaKeyPair,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use mcp_server::{
    StateKey,
    store::{SealedStore, Store, StoreKeys},
};
use serde_json::json;

use crate::{KeyRing, seal::SERVER};

static PRIVATE_KEYS: LazyLock<[String; 2]> = LazyLock::new(|| [private_key(), private_key()]);

fn private_key() -> String {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    BASE64_STANDARD.encode(AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref())
}

/// Two private keys in Base64.
pub(crate) fn private_keys() -> [&'static str; 2] {
    [&PRIVATE_KEYS[0], &PRIVATE_KEYS[1]]
}

/// A ring of up to two keys that sign from these times.
pub(crate) fn key_ring(signs_from: &[u64]) -> KeyRing {
    let keys = signs_from.iter().zip(private_keys());
    let keys: Vec<_> = keys.map(|(from, key)| json!({ "private_key": key, "signs_from": from })).collect();
    KeyRing::parse(&json!({ "keys": keys }).to_string()).unwrap()
}

/// A time in seconds since 1970.
pub(crate) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A state key of one or two keys, each of 32 equal bytes.
pub(crate) fn state_key(bytes: &[u8]) -> StateKey {
    let keys: Vec<_> = bytes.iter().map(|byte| BASE64_STANDARD.encode([*byte; 32])).collect();
    StateKey::parse(&keys.join(",")).unwrap()
}

/// A store with keys of `state_key(&[1])`.
pub(crate) fn sealed_store(store: Arc<dyn Store>) -> SealedStore {
    SealedStore::new(store, StoreKeys::from_state_key(SERVER, &state_key(&[1])).unwrap())
}
