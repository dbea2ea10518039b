//! JWK Sets (RFC 7517): parsing of keys, and verification of signatures.

use aws_lc_rs::{
    encoding::AsDer,
    signature::{self, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use mcp_server::json::{self, Budget};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use crate::token::{UnverifiedToken, parse_algorithm};

/// Maximum number of keys of a set. Further keys are ignored.
const MAX_KEYS: usize = 100;
/// Accepted sizes of an RSA modulus. The minimum is that of RFC 7518, section 3.3.
const RSA_MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The usable keys of an issuer.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// The algorithms that it may be used with.
    algorithms: Vec<Algorithm>,
    decoding_key: DecodingKey,
}

/// Result of the verification of a signature with the keys of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignatureCheck {
    /// The signature is valid for a key of the set.
    Valid,
    /// The set has the key that the token names, and the signature is not valid for it.
    Invalid,
    /// The signature is not valid for any key of the set, and may be from a key that is not in the set.
    UnknownKey,
}

/// Memory budget of one key of a set.
const KEY_BUDGET: Budget = Budget::memory(512 * 1024);

#[derive(Deserialize)]
struct RawKeySet<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

impl KeySet {
    /// Parses a set. A key that is malformed, not supported or not for signatures is ignored with a warning.
    ///
    /// # Errors
    ///
    /// When the document is not a JWK Set.
    pub(crate) fn parse(issuer: &str, json: &[u8]) -> Result<Self, serde_json::Error> {
        // Unbounded JSON: at most 256 KiB, and the keys are not parsed here.
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
            match Key::parse(raw.get()) {
                Ok(key) => keys.push(key),
                Err(why) => tracing::warn!(issuer, why, "a key of an issuer is ignored"),
            }
        }
        Ok(Self { keys })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Verifies the signature of a token with the keys that it may be from.
    pub(crate) fn verify(&self, token: &UnverifiedToken<'_>) -> SignatureCheck {
        let mut has_named_key = false;
        for key in &self.keys {
            // A token without `kid` may be from any key.
            if token.key_id.is_some() && key.id != token.key_id {
                continue;
            }
            has_named_key |= token.key_id.is_some();
            if !key.algorithms.contains(&token.algorithm) {
                continue;
            }
            let verified = crypto::verify(token.signature, token.message, &key.decoding_key, token.algorithm);
            if matches!(verified, Ok(true)) {
                return SignatureCheck::Valid;
            }
        }
        if has_named_key { SignatureCheck::Invalid } else { SignatureCheck::UnknownKey }
    }
}

impl Key {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let jwk: Map<String, Value> =
            json::read(text, KEY_BUDGET).map_err(|_| "it is not a JSON object, or has duplicate members")?;
        let text = |name: &str| match jwk.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err("a member that must be a string is not"),
        };
        if jwk.contains_key("d") {
            return Err("it is a private key that was published: the issuer must replace it");
        }
        if text("use")?.is_some_and(|purpose| purpose != "sig") {
            return Err("its `use` is not `sig`");
        }
        if !may_verify(&jwk) {
            return Err("its `key_ops` does not contain `verify`");
        }
        let component = |name: &'static str| text(name)?.ok_or("a component is missing");
        let bytes = |name: &'static str| {
            BASE64_URL_SAFE_NO_PAD.decode(component(name)?).map_err(|_| "a component is not Base64url")
        };
        let ec = |size| Ok::<_, &str>((point(&bytes("x")?, &bytes("y")?, size)?, component("x")?, component("y")?));
        let (allowed, encoded, decoding_key): (&[Algorithm], _, _) = match (component("kty")?, text("crv")?) {
            ("RSA", _) => {
                let encoded = rsa(&bytes("n")?, &bytes("e")?)?;
                (&RSA, encoded, DecodingKey::from_rsa_components(component("n")?, component("e")?))
            }
            ("EC", Some("P-256")) => {
                let (encoded, x, y) = ec(32)?;
                (&[Algorithm::ES256], encoded, DecodingKey::from_ec_components(x, y))
            }
            ("EC", Some("P-384")) => {
                let (encoded, x, y) = ec(48)?;
                (&[Algorithm::ES384], encoded, DecodingKey::from_ec_components(x, y))
            }
            ("OKP", Some("Ed25519")) => {
                (&[Algorithm::EdDSA], ed25519(bytes("x")?)?, DecodingKey::from_ed_components(component("x")?))
            }
            _ => return Err("its type or curve is not supported"),
        };
        let decoding_key = decoding_key.map_err(|_| "its components are malformed")?;
        // Microsoft Entra omits `alg`: the key may then be used with each algorithm of its type.
        let algorithms = match text("alg")? {
            None => allowed,
            Some(name) => {
                let own = parse_algorithm(name).and_then(|own| allowed.iter().position(|allowed| *allowed == own));
                let own = own.ok_or("its `alg` is not supported, or is not for its type")?;
                &allowed[own..=own]
            }
        };
        // jsonwebtoken parses a key only when it verifies a signature. Parsed here, so that a set of unusable keys is not
        // cached in place of usable ones.
        if algorithms
            .iter()
            .any(|own| verification_algorithm(*own).is_none_or(|own| ParsedPublicKey::new(own, &encoded).is_err()))
        {
            return Err("it is not a valid key of its type");
        }
        Ok(Self { id: text("kid")?.map(str::to_owned), algorithms: algorithms.to_vec(), decoding_key })
    }
}

/// Encodes an RSA key as `SubjectPublicKeyInfo`. Of this form the library checks exponent and modulus when it parses the key;
/// of other forms only when it verifies a signature.
fn rsa(n: &[u8], e: &[u8]) -> Result<Vec<u8>, &'static str> {
    let unused = n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !RSA_MODULUS_BITS.contains(&(8 * n.len() - unused)) {
        return Err("its modulus is shorter than 2048 bits or longer than 8192");
    }
    let der = RsaPublicKeyComponents { n, e }.as_der().map_err(|_| "its modulus or its exponent is malformed")?;
    Ok(der.as_ref().to_vec())
}

/// Encodes a point of a curve in uncompressed form (SEC 1, section 2.3.3). The library checks that it is on the curve.
fn point(x: &[u8], y: &[u8], bytes: usize) -> Result<Vec<u8>, &'static str> {
    match (x.len(), y.len()) == (bytes, bytes) {
        true => Ok([&[4][..], x, y].concat()),
        false => Err("a coordinate has the wrong size for the curve"),
    }
}

/// Checks that an Ed25519 key is in its canonical encoding, and not a point of small order, for which signatures can be
/// forged. The library checks neither. It checks that the point is on the curve when it verifies a signature.
fn ed25519(x: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    let mut y = <[u8; 32]>::try_from(x.as_slice()).map_err(|_| "it does not have 32 bytes")?;
    // The highest bit is the sign of the x coordinate.
    y[31] &= 0x7f;
    // Canonical: less than the prime 2^255 - 19. The encoding is little-endian.
    if y[0] >= 0xed && y[1..31].iter().all(|byte| *byte == 0xff) && y[31] == 0x7f {
        return Err("it is not in its canonical encoding");
    }
    match SMALL_ORDER.contains(&y) {
        false => Ok(x),
        true => Err("it is a point of small order: signatures can be forged"),
    }
}

/// The y coordinates of the eight points of Ed25519 whose order divides 8. In this order: both points of order 4 (0), the
/// neutral element (1), the point of order 2 (-1), and twice two points of order 8.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = [0xff; 32];
        (minus_one[0], minus_one[31]) = (0xec, 0x7f);
        minus_one
    },
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Returns the library's algorithm, by which it parses a key. `None` for an algorithm that is not accepted.
fn verification_algorithm(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
        Algorithm::ES256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::ES384 => &signature::ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDSA => &signature::ED25519,
        _ => return None,
    })
}

const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// Whether `key_ops` allows verification.
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

    // RSA modulus of 2048 bits and P-256 key (RFC 7517, appendix A.1), and Ed25519 key (RFC 8037, appendix A.2).
    const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    const X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
    const Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";
    const ED: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn parse(key: Value) -> Result<Key, &'static str> {
        Key::parse(&key.to_string())
    }

    #[test]
    fn a_key_is_used_with_the_algorithms_that_its_members_allow() {
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

    fn base64(bytes: impl AsRef<[u8]>) -> Value {
        json!(BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    fn bytes(text: &str) -> Vec<u8> {
        BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    /// Each of the rejected keys is well-formed JSON, and could not verify any signature.
    #[test]
    fn a_key_that_the_cryptographic_library_rejects_is_ignored() {
        let rsa = |n: &[u8], e: &[u8]| json!({ "kty": "RSA", "n": base64(n), "e": base64(e) });
        let ec = |curve: &str, x: &[u8], y: &[u8]| json!({ "kty": "EC", "crv": curve, "x": base64(x), "y": base64(y) });
        let n = bytes(N);
        let (x, y) = (bytes(X), bytes(Y));
        let with = |bytes: &[u8], index: usize, byte: u8| {
            let mut bytes = bytes.to_vec();
            bytes[index] = byte;
            bytes
        };
        for (what, key, is_key) in [
            ("RSA", rsa(&n, &[1, 0, 1]), true),
            ("an exponent of 3", rsa(&n, &[3]), true),
            ("an exponent of 1", rsa(&n, &[1]), false),
            ("an even exponent", rsa(&n, &[1, 0, 0]), false),
            ("an exponent of 0", rsa(&n, &[0]), false),
            ("no exponent", rsa(&n, &[]), false),
            ("an exponent of 34 bits", rsa(&n, &[2, 0, 0, 0, 1]), false),
            ("an exponent with a zero before it", rsa(&n, &[0, 1, 0, 1]), false),
            ("a modulus with a zero before it", rsa(&[&[0][..], &n[..]].concat(), &[1, 0, 1]), false),
            ("an even modulus", rsa(&with(&n, 255, 0), &[1, 0, 1]), false),
            ("a modulus of 2047 bits", rsa(&with(&n, 0, 0x7f), &[1, 0, 1]), false),
            ("a modulus of 1024 bits", rsa(&with(&n[..128], 127, 1), &[1, 0, 1]), false),
            ("a modulus of 8200 bits", rsa(&with(&[0xff; 1025], 0, 0xff), &[1, 0, 1]), false),
            ("no modulus", rsa(&[], &[1, 0, 1]), false),
            ("P-256", ec("P-256", &x, &y), true),
            ("a point that is not on the curve", ec("P-256", &x, &with(&y, 31, y[31] ^ 1)), false),
            ("the point at infinity", ec("P-256", &[0; 32], &[0; 32]), false),
            ("a coordinate beyond the field", ec("P-256", &[0xff; 32], &y), false),
            ("a point of another curve", ec("P-384", &x, &y), false),
            ("zeros of another curve", ec("P-384", &[0; 48], &[0; 48]), false),
            ("a byte too few", ec("P-256", &x[1..], &y), false),
            ("bytes in the wrong coordinate", ec("P-256", &x[..31], &[&x[31..], &y[..]].concat()), false),
            ("no point", ec("P-256", &[], &[]), false),
        ] {
            assert_eq!(parse(key.clone()).is_ok(), is_key, "{what}: {key}");
        }
    }

    #[test]
    fn an_ed25519_key_of_small_order_or_in_a_non_canonical_encoding_is_rejected() {
        let ed = |x: &[u8]| json!({ "kty": "OKP", "crv": "Ed25519", "x": base64(x) });
        let own = bytes(ED);
        assert!(parse(ed(&own)).is_ok());
        let mut rejected = Vec::new();
        for sign in [0, 0x80] {
            // Points of small order. With the sign bit, the two whose x coordinate is 0 are also non-canonical.
            rejected.extend(SMALL_ORDER.map(|mut y| {
                y[31] |= sign;
                y
            }));
            // Non-canonical: the prime and the 18 values above it.
            rejected.extend((0xed..=0xff_u8).map(|lowest| {
                let mut y = [0xff; 32];
                (y[0], y[31]) = (lowest, 0x7f | sign);
                y
            }));
        }
        assert_eq!(rejected.len(), 2 * (5 + 19));

        for x in &rejected {
            assert!(parse(ed(x)).is_err(), "{x:02x?}");
        }
        // Wrong lengths, and `SubjectPublicKeyInfo`.
        let spki = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00][..], &own[..]].concat();
        for x in [own[..31].to_vec(), Vec::new(), [&own[..], &[0][..]].concat(), spki] {
            assert!(parse(ed(&x)).is_err(), "{x:02x?}");
        }
    }

    /// Why [`SMALL_ORDER`] is needed: the library accepts `forged` as the signature of each message whose hash is divisible by
    /// the order of the point. No private key is needed.
    #[test]
    fn the_cryptographic_library_accepts_forged_signatures_for_points_of_small_order() {
        let [zero, one, minus_one, fifth, sixth] = SMALL_ORDER;
        let negated = |mut point: [u8; 32]| {
            point[31] |= 0x80;
            point
        };
        let forged = [one, [0; 32]].concat();
        for point in [zero, negated(zero), one, minus_one, fifth, negated(fifth), sixth, negated(sixth)] {
            let parsed = ParsedPublicKey::new(&signature::ED25519, point).unwrap();

            let signed =
                (0..1000_u32).filter(|message| parsed.verify_sig(&message.to_le_bytes(), &forged).is_ok()).count();

            assert!(signed >= 50, "{point:02x?}: {signed} of 1000 messages");
        }
    }

    #[test]
    fn a_malformed_key_does_not_affect_the_other_keys() {
        let good = json!({ "kty": "RSA", "n": N, "e": "AQAB", "kid": "good" });
        let malformed = json!({ "kty": "RSA", "n": 7, "e": null, "kid": ["malformed"] });
        let set = json!({ "keys": [malformed, good, "x", null] }).to_string();

        let set = KeySet::parse("https://issuer.example", set.as_bytes()).unwrap();

        assert_eq!(set.keys.len(), 1);
        assert_eq!(set.keys[0].id.as_deref(), Some("good"));
    }

    #[test]
    fn only_the_first_hundred_keys_are_used() {
        let key = json!({ "kty": "RSA", "n": N, "e": "AQAB" });
        let set = json!({ "keys": vec![key; 500] }).to_string();

        assert_eq!(KeySet::parse("https://issuer.example", set.as_bytes()).unwrap().keys.len(), MAX_KEYS);
        assert!(KeySet::parse("https://issuer.example", b"{}").is_err());
        assert!(KeySet::parse("https://issuer.example", b"[]").is_err());
    }
}
