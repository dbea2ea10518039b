//! Signing keys and their planned rotation.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    digest,
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use mcp_server::json::{self, Budget};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::unix_seconds;

/// Maximum length of the secret, in bytes: that of Secrets Manager.
const MAX_SECRET_BYTES: usize = 64 * 1024;
const MAX_KEYS: usize = 5;
/// Allowed sizes of a modulus, in bytes: 2048 to 4096 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;
/// How long a new key is published before it signs: longer than servers and verifiers cache keys.
const LEAD: Duration = Duration::from_secs(60 * 60);
/// How long a replaced key stays published after its last token has expired, for clocks that differ.
const RETIREMENT: Duration = Duration::from_secs(10 * 60);

/// The signing keys of a server, for RS256. `Debug` prints key ids only.
///
/// The secret is JSON: `{"keys": [{"private_key": "…", "signs_from": 1767225600}]}`. `private_key` is PKCS#8, as PEM or Base64, and
/// `signs_from` is in seconds since 1970. All keys are published; the one that began to sign last signs. [`rotate`](Self::rotate)
/// adds a key that signs from an hour later, and removes keys whose tokens have expired.
///
/// RS256 is the algorithm that every verifier of RFC 9068 supports (section 2.1).
pub struct KeyRing {
    /// In the order of `signs_from`, at least one.
    keys: Vec<SigningKey>,
}

struct SigningKey {
    id: String,
    pair: RsaKeyPair,
    signs_from: SystemTime,
    jwk: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRing {
    keys: Vec<RawKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    private_key: String,
    signs_from: u64,
}

/// Why the secret has no usable keys. The message does not quote the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signing keys are not usable: {0}")]
pub struct KeyRingError(&'static str);

impl KeyRing {
    /// Parses the secret.
    ///
    /// # Errors
    ///
    /// When it is malformed, has no key or more than five, a key occurs twice, or a key is not an RSA key of 2048 to 4096 bits.
    pub fn parse(secret: &str) -> Result<Self, KeyRingError> {
        let raw = RawRing::read(secret)?;
        if raw.keys.is_empty() || raw.keys.len() > MAX_KEYS {
            return Err(KeyRingError("the secret has no key, or more than five"));
        }
        let mut keys = raw.keys.iter().map(SigningKey::parse).collect::<Result<Vec<_>, _>>()?;
        keys.sort_by_key(|key| key.signs_from);
        let is_repeated = keys.iter().enumerate().any(|(index, key)| keys[..index].iter().any(|own| own.id == key.id));
        if is_repeated { Err(KeyRingError("a key occurs twice")) } else { Ok(Self { keys }) }
    }

    /// Returns the secret with one more key, which signs an hour from now. Keys whose tokens have all expired are left out; `lifetime` is
    /// that of tokens. The first key of a secret without keys, `{"keys": []}`, signs at once.
    ///
    /// `None` if a key waits to sign already, so that a command that is delivered twice changes nothing.
    ///
    /// # Errors
    ///
    /// When the secret is malformed, or no key can be generated.
    pub fn rotate(secret: &str, lifetime: Duration, now: SystemTime) -> Result<Option<String>, KeyRingError> {
        let mut raw = RawRing::read(secret)?;
        if raw.keys.is_empty() {
            return Self::replace(now).map(Some);
        }
        // The same checks as of the server that reads it.
        Self::parse(secret)?;
        raw.keys.sort_by_key(|key| key.signs_from);
        let now = unix_seconds(now);
        if raw.keys.last().is_some_and(|key| key.signs_from > now) {
            return Ok(None);
        }
        let retired = |next: &RawKey| next.signs_from + lifetime.as_secs() + RETIREMENT.as_secs() <= now;
        let first = raw.keys.iter().skip(1).take_while(|next| retired(next)).count();
        raw.keys.drain(..first);
        raw.keys.push(RawKey::generate(now + LEAD.as_secs())?);
        raw.write().map(Some)
    }

    /// Returns a secret with a new key alone, which signs at once. All access tokens end when verifiers read the new keys, at most ten
    /// minutes later: five until each environment reads the secret, and five in caches of verifiers. An environment that cannot read the
    /// secret uses the old keys for a day. Use it after a key was disclosed; [`rotate`](Self::rotate) is for plans.
    ///
    /// # Errors
    ///
    /// When no key can be generated.
    pub fn replace(now: SystemTime) -> Result<String, KeyRingError> {
        RawRing { keys: vec![RawKey::generate(unix_seconds(now))?] }.write()
    }

    /// Signs claims as a JWT of the type `typ`, with the key for the time `now`.
    ///
    /// # Errors
    ///
    /// When the library cannot sign.
    pub fn sign(&self, typ: &str, claims: &Value, now: SystemTime) -> Result<String, KeyRingError> {
        let key = self.current(now);
        let header = json!({ "alg": "RS256", "kid": key.id, "typ": typ });
        let [header, claims] = [&header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        let message = format!("{header}.{claims}");
        let mut signature = vec![0; key.pair.public_modulus_len()];
        key.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
            .map_err(|_| KeyRingError("a key cannot sign"))?;
        Ok(format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Returns the JWK Set (RFC 7517): keys that sign, will sign, or have signed tokens that can still be valid. `lifetime` is that of
    /// tokens.
    pub fn jwks(&self, lifetime: Duration, now: SystemTime) -> Value {
        let published = self.keys.iter().enumerate().filter(|(index, _)| {
            let replaced = self.keys.get(index + 1).map(|next| next.signs_from + lifetime + RETIREMENT);
            replaced.is_none_or(|retired| now < retired)
        });
        json!({ "keys": published.map(|(_, key)| &key.jwk).collect::<Vec<_>>() })
    }

    /// The key that signs: the one that began last. The first one if none has begun.
    fn current(&self, now: SystemTime) -> &SigningKey {
        let begun = self.keys.iter().rev().find(|key| key.signs_from <= now);
        begun.unwrap_or(&self.keys[0])
    }
}

impl RawRing {
    fn read(secret: &str) -> Result<Self, KeyRingError> {
        if secret.len() > MAX_SECRET_BYTES {
            return Err(KeyRingError("the secret has more than 64 KiB"));
        }
        // Without the error of the parser, which may quote the secret.
        json::read(secret, Budget::of(secret)).map_err(|_| {
            KeyRingError(r#"the secret is not JSON of the form {"keys":[{"private_key":"…","signs_from":0}]}"#)
        })
    }

    /// Writes a secret, after the checks of the server that reads it.
    fn write(&self) -> Result<String, KeyRingError> {
        let secret = serde_json::to_string(self).map_err(|_| KeyRingError("a key cannot be written"))?;
        KeyRing::parse(&secret).map(|_| secret)
    }
}

impl RawKey {
    fn generate(signs_from: u64) -> Result<Self, KeyRingError> {
        const FAILED: KeyRingError = KeyRingError("no key could be generated");
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| FAILED)?;
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| FAILED)?;
        Ok(Self { private_key: BASE64_STANDARD.encode(der.as_ref()), signs_from })
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

impl SigningKey {
    fn parse(raw: &RawKey) -> Result<Self, KeyRingError> {
        let text = raw.private_key.trim();
        let body: String =
            text.lines().filter(|line| !line.starts_with("-----")).flat_map(str::split_whitespace).collect();
        let der = BASE64_STANDARD.decode(body).map_err(|_| KeyRingError("a private key is neither PEM nor Base64"))?;
        let pair =
            RsaKeyPair::from_pkcs8(&der).map_err(|_| KeyRingError("a private key is not an RSA key in PKCS#8"))?;
        if !MODULUS_BYTES.contains(&pair.public_modulus_len()) {
            return Err(KeyRingError("a private key has less than 2048 or more than 4096 bits"));
        }
        let public = pair.public_key();
        let [n, e] = [public.modulus(), public.exponent()]
            .map(|number| BASE64_URL_SAFE_NO_PAD.encode(number.big_endian_without_leading_zero()));
        // The thumbprint (RFC 7638): required members in lexicographic order, without white space.
        let thumbprint = digest::digest(&digest::SHA256, format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#).as_bytes());
        let id = BASE64_URL_SAFE_NO_PAD.encode(thumbprint);
        let signs_from = UNIX_EPOCH
            .checked_add(Duration::from_secs(raw.signs_from))
            .filter(|_| raw.signs_from <= u32::MAX.into())
            .ok_or(KeyRingError("signs_from is not a time in seconds since 1970"))?;
        let jwk = json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": id, "n": n, "e": e });
        Ok(Self { id, pair, signs_from, jwk })
    }
}

#[cfg(test)]
mod tests;
