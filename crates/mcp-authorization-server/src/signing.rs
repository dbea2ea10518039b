//! Signing keys and their planned rotation.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use mcp_server::json::{self, Budget};
use serde::Deserialize;
use serde_json::{Value, json};

/// Maximum length of the secret, in bytes: that of Secrets Manager.
const MAX_SECRET_BYTES: usize = 64 * 1024;
const MAX_KEYS: usize = 5;
/// Allowed sizes of a modulus, in bytes: 2048 to 4096 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;
/// How long a replaced key stays published after its last token has expired, for clocks that differ.
const RETIREMENT: Duration = Duration::from_secs(10 * 60);

/// The signing keys of a server, for RS256. `Debug` prints key ids only.
///
/// The secret is JSON: `{"keys": [{"private_key": "…", "signs_from": 1767225600}]}`. `private_key` is PKCS#8, as PEM or Base64, and
/// `signs_from` is in seconds since 1970. All keys are published; the one that began to sign last signs. A key is rotated by adding
/// another one that signs from an hour later, and removed when its tokens have expired.
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRing {
    keys: Vec<RawKey>,
}

#[derive(Deserialize)]
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
        if secret.len() > MAX_SECRET_BYTES {
            return Err(KeyRingError("the secret has more than 64 KiB"));
        }
        // Without the error of the parser, which may quote the secret.
        let raw: RawRing = json::read(secret, Budget::of(secret)).map_err(|_| {
            KeyRingError(r#"the secret is not JSON of the form {"keys":[{"private_key":"…","signs_from":0}]}"#)
        })?;
        if raw.keys.is_empty() || raw.keys.len() > MAX_KEYS {
            return Err(KeyRingError("the secret has no key, or more than five"));
        }
        let mut keys = raw.keys.iter().map(SigningKey::parse).collect::<Result<Vec<_>, _>>()?;
        keys.sort_by_key(|key| key.signs_from);
        let is_repeated = keys.iter().enumerate().any(|(index, key)| keys[..index].iter().any(|own| own.id == key.id));
        if is_repeated { Err(KeyRingError("a key occurs twice")) } else { Ok(Self { keys }) }
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
mod tests {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    };

    use super::*;
    use crate::test_support::{at, key_ring, private_keys};

    const LIFETIME: Duration = Duration::from_secs(600);

    fn ids(ring: &KeyRing, now: u64) -> Vec<String> {
        let set = ring.jwks(LIFETIME, at(now));
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    fn signer(ring: &KeyRing, now: u64) -> String {
        let token = ring.sign("at+jwt", &json!({ "sub": "ada" }), at(now)).unwrap();
        let header = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!((&header["alg"], &header["typ"]), (&json!("RS256"), &json!("at+jwt")));
        header["kid"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_new_key_is_published_before_it_signs_and_an_old_one_until_its_tokens_expire() {
        // The new key is listed first.
        let ring = key_ring(&[10_000, 0]);
        let both = ids(&ring, 0);
        let [old, new] = &both[..] else { panic!("{both:?}") };
        let retired = 10_000 + 600 + 600;

        for (now, signing, published) in [
            (0, old, &both[..]),
            (9_999, old, &both),
            (10_000, new, &both),
            (retired - 1, new, &both),
            (retired, new, &both[1..]),
        ] {
            assert_eq!(&signer(&ring, now), signing, "{now}");
            assert_eq!(ids(&ring, now), published, "{now}");
        }
        // No key has begun.
        let future = key_ring(&[20_000, 10_000]);
        assert_eq!(signer(&future, 0), signer(&future, 10_000));
    }

    #[test]
    fn a_signature_verifies_with_the_published_key() {
        let ring = key_ring(&[0]);
        let token = ring.sign("at+jwt", &json!({ "sub": "ada" }), at(1)).unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let jwk = &ring.jwks(LIFETIME, at(1))["keys"][0];
        let [n, e, signature] = [jwk["n"].as_str().unwrap(), jwk["e"].as_str().unwrap(), signature]
            .map(|text| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap());

        let key = RsaPublicKeyComponents { n, e };
        assert!(key.verify(&RSA_PKCS1_2048_8192_SHA256, message.as_bytes(), &signature).is_ok());
        assert!(jwk.get("d").is_none() && !format!("{ring:?}").contains("private"));
    }

    #[test]
    fn unusable_secrets_are_rejected_without_quoting_them() {
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let ec = BASE64_STANDARD.encode(ec.to_pkcs8v1().unwrap());
        let [first, second] = private_keys();
        let ring = |keys: Value| json!({ "keys": keys }).to_string();
        let of = |key: &str, from: Value| json!({ "private_key": key, "signs_from": from });
        for secret in [
            String::new(),
            "s3cret".to_owned(),
            "[]".to_owned(),
            "x".repeat(MAX_SECRET_BYTES + 1),
            ring(json!([])),
            ring(json!([of("s3cret!", json!(0))])),
            ring(json!([of(&ec, json!(0))])),
            ring(json!([of(first, json!(-1))])),
            ring(json!([of(first, json!("2026-01-01"))])),
            ring(json!([of(first, json!(u64::MAX))])),
            ring(json!([of(first, json!(0)), of(first, json!(1))])),
            ring(json!(vec![of(second, json!(0)); 6])),
            json!({ "keys": [of(first, json!(0))], "other": 1 }).to_string(),
        ] {
            let error = KeyRing::parse(&secret).unwrap_err().to_string();

            assert!(!error.contains("s3cret") && error.len() < 200, "{error}");
        }
    }

    #[test]
    fn a_private_key_may_be_pem() {
        let [first, _] = private_keys();
        let lines: Vec<&str> = first.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\r\n"));
        let secret = |key: &str| json!({ "keys": [{ "private_key": key, "signs_from": 0 }] }).to_string();

        let ring = KeyRing::parse(&secret(&pem)).unwrap();

        assert_eq!(ids(&ring, 0), ids(&KeyRing::parse(&secret(first)).unwrap(), 0));
    }
}
