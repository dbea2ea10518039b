//! Keyed pseudonyms: correlate the log events of one caller without identifying the caller.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::principal::Principal;
use crate::state_key::{StateKey, derive};

/// Length of a pseudonym: enough to avoid collisions.
const BYTES: usize = 12;

/// Creates pseudonyms, the same in every environment. Linking them to callers requires the state key.
#[derive(Debug, Clone)]
pub struct Pseudonyms(Key);

impl Pseudonyms {
    /// Derives the key of a server. Servers that share a state key have different pseudonyms.
    pub fn new(key: &StateKey, server: &str) -> Option<Self> {
        let key = derive(key.current()?, b"mcp log subject", &[server.as_bytes()])?;
        Some(Self(Key::new(HMAC_SHA256, &key)))
    }

    /// Returns the pseudonym of a caller: 16 characters.
    pub fn of(&self, caller: &Principal) -> String {
        // An issuer is a URL or an ARN, which contains no line break.
        let message = [caller.issuer.as_bytes(), b"\n", caller.subject.as_bytes()].concat();
        BASE64_URL_SAFE_NO_PAD.encode(&sign(&self.0, &message).as_ref()[..BYTES])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudonym_depends_on_key_server_issuer_and_subject() {
        let key = |text| StateKey::parse(text).unwrap();
        let (one, other) =
            (key("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="), key("YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="));
        let name = |key: &StateKey, server: &str, issuer: &str, subject: &str| {
            Pseudonyms::new(key, server).unwrap().of(&Principal::new(issuer, subject))
        };

        let ada = name(&one, "server", "https://issuer.example", "ada");

        assert_eq!(ada, name(&one, "server", "https://issuer.example", "ada"));
        assert_eq!(ada.len(), 16);
        for another in [
            name(&other, "server", "https://issuer.example", "ada"),
            name(&one, "another", "https://issuer.example", "ada"),
            name(&one, "server", "https://another.example", "ada"),
            name(&one, "server", "https://issuer.example", "bob"),
        ] {
            assert_ne!(ada, another);
        }
    }
}
