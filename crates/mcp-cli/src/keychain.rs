//! The key in the system's keychain that encrypts the files of the store.
//!
//! The keychain does not hold the tokens: they are too long for some keychains (Windows: 2,560 bytes), and several processes
//! change them under file locks.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::files;

/// Service and account of the entry in the keychain.
const SERVICE: &str = "mcpl";
const ACCOUNT: &str = "state";
const KEY_BYTES: usize = 32;
/// Label for the user who has to unlock the keychain.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A key for AES-256-GCM.
pub(crate) struct Key(RandomizedNonceKey);

impl Key {
    /// Gets the key from the keychain, or creates it. `folder` has the lock for its creation.
    ///
    /// # Errors
    ///
    /// If there is no keychain, or if the user does not unlock it.
    pub(crate) fn of_keychain(folder: &Path) -> anyhow::Result<Self> {
        let lock = folder.join("keychain.lock");
        let (sender, receiver) = mpsc::channel();
        // It may ask the user, and block for as long as that takes.
        thread::spawn(move || sender.send(found_or_made(lock)));
        let bytes = receiver.recv_timeout(TIMEOUT).map_err(|_| anyhow!("the keychain does not answer"))??;
        Self::new(&bytes)
    }

    fn new(bytes: &[u8]) -> anyhow::Result<Self> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes);
        Ok(Self(key.map_err(|_| anyhow!("the entry `{SERVICE}` in the keychain is no key"))?))
    }

    /// Encrypts a text for a server: nonce, ciphertext and tag, in Base64.
    pub(crate) fn seal(&self, server: &str, mut content: Vec<u8>) -> io::Result<String> {
        let nonce = self.0.seal_in_place_append_tag(Aad::from(server), &mut content).map_err(io::Error::other)?;
        let sealed = [nonce.as_ref().as_slice(), &content].concat();
        Ok(BASE64_STANDARD.encode(sealed))
    }

    /// Decrypts a text for a server; `None` if it was not encrypted with this key for this server.
    pub(crate) fn open(&self, server: &str, sealed: &str) -> Option<Vec<u8>> {
        let mut sealed = BASE64_STANDARD.decode(sealed).ok()?;
        let (nonce, content) = sealed.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        self.0.open_in_place(nonce, Aad::from(server), content).ok().map(|opened| opened.to_vec())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

/// Whether there is a keychain, and it can be read: no key is made.
///
/// # Errors
///
/// If there is none, or it stays locked.
pub(crate) fn probe() -> anyhow::Result<()> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let found = keyring::Entry::new(SERVICE, ACCOUNT).and_then(|entry| match entry.get_secret() {
            Err(keyring::Error::NoEntry) => Ok(()),
            found => found.map(drop),
        });
        sender.send(found)
    });
    let found = receiver.recv_timeout(TIMEOUT).map_err(|_| anyhow!("the keychain does not answer"))?;
    Ok(found?)
}

fn found_or_made(lock: PathBuf) -> anyhow::Result<Vec<u8>> {
    // Two processes would make two keys.
    let _lock = files::lock(&lock)?;
    let entry = keyring::Entry::new(SERVICE, ACCOUNT).context("there is no keychain")?;
    match entry.get_secret() {
        Err(keyring::Error::NoEntry) => {
            let mut bytes = vec![0; KEY_BYTES];
            rand::fill(&mut bytes).map_err(io::Error::other)?;
            entry.set_secret(&bytes).context("the keychain takes no key")?;
            Ok(bytes)
        }
        found => found.context("the keychain gives no key"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_server_alone() {
        let (key, other) = (Key::new(&[1; KEY_BYTES]).unwrap(), Key::new(&[2; KEY_BYTES]).unwrap());

        let sealed = key.seal("https://a.example/mcp", b"token".to_vec()).unwrap();

        assert_eq!(key.open("https://a.example/mcp", &sealed).as_deref(), Some(b"token".as_slice()));
        assert_eq!(key.open("https://b.example/mcp", &sealed), None);
        assert_eq!(other.open("https://a.example/mcp", &sealed), None);
        assert_eq!(key.open("https://a.example/mcp", "AAAA"), None);
        assert_ne!(key.seal("https://a.example/mcp", b"token".to_vec()).unwrap(), sealed);
        assert!(Key::new(&[1; 5]).is_err());
    }
}
