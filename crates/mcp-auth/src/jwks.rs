//! The keys in a JWK Set (RFC 7517), and which of them may have made a signature.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use crate::{
    token::{UnverifiedToken, parse_algorithm},
    unique_json,
};

/// As many as are read of a set.
const MAX_KEYS: usize = 100;
/// Sizes of an RSA modulus that are accepted, in bytes: 2048 (RFC 7518, section 3.3) to 8192 bits.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The keys of an issuer that can verify.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// Those that it can be used with.
    algorithms: Vec<Algorithm>,
    decoding_key: DecodingKey,
}

/// What the keys of a set say about a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A key has made it.
    Genuine,
    /// The token names its key, and that key has not made it.
    Wrong,
    /// None of these keys has made it, but one that is not here might have.
    UnknownKey,
}

#[derive(Deserialize)]
struct RawKeySet<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

impl KeySet {
    /// Reads a set key by key: one that is odd, or meant for something else, is left out with a warning.
    ///
    /// # Errors
    ///
    /// When the document is no set.
    pub(crate) fn parse(issuer: &str, json: &[u8]) -> Result<Self, serde_json::Error> {
        let set: RawKeySet<'_> = serde_json::from_slice(json)?;
        if set.keys.len() > MAX_KEYS {
            tracing::warn!(
                issuer,
                keys = set.keys.len(),
                "an issuer has too many keys: only the first {MAX_KEYS} are read"
            );
        }
        let mut keys = Vec::new();
        for raw in set.keys.iter().take(MAX_KEYS) {
            match Key::parse(raw.get().as_bytes()) {
                Ok(key) => keys.push(key),
                Err(why) => tracing::warn!(issuer, why, "a key of an issuer is left out"),
            }
        }
        Ok(Self { keys })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether one of the keys has signed a token.
    pub(crate) fn verify(&self, token: &UnverifiedToken<'_>) -> Verdict {
        let mut has_named = false;
        for key in &self.keys {
            // A token without a key's name may be from any of them.
            if token.key_id.is_some() && key.id != token.key_id {
                continue;
            }
            has_named |= token.key_id.is_some();
            if !key.algorithms.contains(&token.algorithm) {
                continue;
            }
            let verified = crypto::verify(token.signature, token.message, &key.decoding_key, token.algorithm);
            if matches!(verified, Ok(true)) {
                return Verdict::Genuine;
            }
        }
        if has_named { Verdict::Wrong } else { Verdict::UnknownKey }
    }
}

impl Key {
    fn parse(json: &[u8]) -> Result<Self, &'static str> {
        let jwk = unique_json::object(json).map_err(|_| "it is no JSON object, or has a member twice")?;
        let text = |name: &str| match jwk.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err("a member that must be a string is none"),
        };
        if jwk.contains_key("d") {
            return Err("it is a private key, and everyone has it now");
        }
        if text("use")?.is_some_and(|purpose| purpose != "sig") {
            return Err("it is not for signatures");
        }
        if !may_verify(&jwk) {
            return Err("it is not for verifying");
        }
        let component = |name: &'static str| text(name)?.ok_or("a component is missing");
        let (suitable, decoding_key): (&[Algorithm], _) = match (component("kty")?, text("crv")?) {
            ("RSA", _) => {
                let (modulus, exponent) = (component("n")?, component("e")?);
                let bytes = BASE64_URL_SAFE_NO_PAD.decode(modulus).map_err(|_| "its modulus is not Base64")?;
                let bytes = bytes.iter().skip_while(|byte| **byte == 0).count();
                if !RSA_MODULUS_BYTES.contains(&bytes) {
                    return Err("its modulus is shorter than 2048 bits or longer than 8192");
                }
                (&RSA, DecodingKey::from_rsa_components(modulus, exponent))
            }
            ("EC", Some("P-256")) => {
                (&[Algorithm::ES256], DecodingKey::from_ec_components(component("x")?, component("y")?))
            }
            ("EC", Some("P-384")) => {
                (&[Algorithm::ES384], DecodingKey::from_ec_components(component("x")?, component("y")?))
            }
            ("OKP", Some("Ed25519")) => (&[Algorithm::EdDSA], DecodingKey::from_ed_components(component("x")?)),
            _ => return Err("its type is not one that is verified with"),
        };
        let decoding_key = decoding_key.map_err(|_| "its components cannot be read")?;
        // Microsoft Entra leaves `alg` out: then any algorithm that suits the type.
        let algorithms = match text("alg")? {
            None => suitable.to_vec(),
            Some(name) => {
                let own = parse_algorithm(name).filter(|own| suitable.contains(own));
                vec![own.ok_or("its algorithm is not accepted, or does not suit its type")?]
            }
        };
        Ok(Self { id: text("kid")?.map(str::to_owned), algorithms, decoding_key })
    }
}

const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

fn may_verify(jwk: &Map<String, Value>) -> bool {
    match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A P-256 and an Ed25519 key, and an RSA modulus of 2048 bits (RFC 7517, appendix A.1; RFC 8037, appendix A.2).
    const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    const X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
    const Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";
    const ED: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn parse(key: Value) -> Result<Key, &'static str> {
        Key::parse(key.to_string().as_bytes())
    }

    #[test]
    fn a_key_is_used_for_what_it_says() {
        let rsa = json!({ "kty": "RSA", "n": N, "e": "AQAB" });
        let with = |base: &Value, name: &str, value: Value| {
            let mut key = base.clone();
            key[name] = value;
            key
        };
        let ec = json!({ "kty": "EC", "crv": "P-256", "x": X, "y": Y });
        for (key, algorithms) in [
            (rsa.clone(), Some(&RSA[..])),
            (with(&rsa, "alg", json!("RS256")), Some(&[Algorithm::RS256][..])),
            (with(&rsa, "use", json!("sig")), Some(&RSA)),
            (with(&rsa, "key_ops", json!(["verify"])), Some(&RSA)),
            (ec.clone(), Some(&[Algorithm::ES256])),
            (json!({ "kty": "OKP", "crv": "Ed25519", "x": ED, "alg": "EdDSA" }), Some(&[Algorithm::EdDSA])),
            (with(&rsa, "use", json!("enc")), None),
            (with(&rsa, "use", json!(["sig"])), None),
            (with(&rsa, "key_ops", json!(["encrypt"])), None),
            (with(&rsa, "key_ops", json!("verify")), None),
            (with(&rsa, "alg", json!("RSA-OAEP")), None),
            (with(&rsa, "alg", json!("HS256")), None),
            (with(&rsa, "alg", json!("ES256")), None),
            (with(&rsa, "d", json!("AQAB")), None),
            (with(&rsa, "n", json!("AQAB")), None),
            (with(&ec, "crv", json!("P-521")), None),
            (with(&ec, "crv", json!("secp256k1")), None),
            (with(&ec, "alg", json!("ES384")), None),
            (json!({ "kty": "oct", "k": "AQAB" }), None),
            (json!({ "kty": "OKP", "crv": "X25519", "x": ED }), None),
            (json!({ "kty": "RSA", "e": "AQAB" }), None),
            (json!("RSA"), None),
            (json!({}), None),
        ] {
            assert_eq!(parse(key.clone()).ok().map(|key| key.algorithms), algorithms.map(<[_]>::to_vec), "{key}");
        }
    }

    #[test]
    fn one_odd_key_spoils_no_other() {
        let good = json!({ "kty": "RSA", "n": N, "e": "AQAB", "kid": "good" });
        let odd = json!({ "kty": "RSA", "n": 7, "e": null, "kid": ["odd"] });
        let set = json!({ "keys": [odd, good, "x", null] }).to_string();

        let set = KeySet::parse("https://issuer.example", set.as_bytes()).unwrap();

        assert_eq!(set.keys.len(), 1);
        assert_eq!(set.keys[0].id.as_deref(), Some("good"));
    }

    #[test]
    fn no_more_than_a_hundred_keys_are_read() {
        let key = json!({ "kty": "RSA", "n": N, "e": "AQAB" });
        let set = json!({ "keys": vec![key; 500] }).to_string();

        assert_eq!(KeySet::parse("https://issuer.example", set.as_bytes()).unwrap().keys.len(), MAX_KEYS);
        assert!(KeySet::parse("https://issuer.example", b"{}").is_err());
        assert!(KeySet::parse("https://issuer.example", b"[]").is_err());
    }
}
