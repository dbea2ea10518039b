//! Key pairs of a test issuer, generated once per process. Signing does not use the verifier's library, so that a
//! verifier's defects are not masked.

use std::sync::LazyLock;

use aws_lc_rs::{
    encoding::AsDer,
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        RsaEncoding, RsaKeyPair,
    },
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

/// Key pair for signatures.
#[derive(Debug)]
pub enum TestKey {
    /// RSA with 2048 bits.
    Rsa(RsaKeyPair),
    /// P-256.
    P256(EcdsaKeyPair),
    /// P-384.
    P384(EcdsaKeyPair),
    /// Ed25519.
    Ed25519(Ed25519KeyPair),
}

static RSA: LazyLock<[TestKey; 2]> = LazyLock::new(|| [rsa(KeySize::Rsa2048), rsa(KeySize::Rsa2048)]);
static P256: LazyLock<[TestKey; 2]> = LazyLock::new(|| [p256(), p256()]);
static P384: LazyLock<TestKey> = LazyLock::new(|| TestKey::P384(ec(&ECDSA_P384_SHA384_FIXED_SIGNING)));
static ED25519: LazyLock<TestKey> = LazyLock::new(|| TestKey::Ed25519(Ed25519KeyPair::generate().expect("a key")));

fn rsa(size: KeySize) -> TestKey {
    TestKey::Rsa(RsaKeyPair::generate(size).expect("a key"))
}

fn p256() -> TestKey {
    TestKey::P256(ec(&ECDSA_P256_SHA256_FIXED_SIGNING))
}

fn ec(algorithm: &'static signature::EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    EcdsaKeyPair::generate(algorithm).expect("a key")
}

impl TestKey {
    /// Returns the issuer's RSA key.
    pub fn rsa() -> &'static Self {
        &RSA[0]
    }

    /// Returns an RSA key that the issuer does not publish, or its next key in a rotation.
    pub fn other_rsa() -> &'static Self {
        &RSA[1]
    }

    /// Returns the issuer's P-256 key.
    pub fn p256() -> &'static Self {
        &P256[0]
    }

    /// Returns a P-256 key that the issuer does not publish.
    pub(crate) fn other_p256() -> &'static Self {
        &P256[1]
    }

    /// Returns the issuer's P-384 key.
    pub fn p384() -> &'static Self {
        &P384
    }

    /// Returns the issuer's Ed25519 key.
    pub fn ed25519() -> &'static Self {
        &ED25519
    }

    /// Returns the public key as a JWK (RFC 7517) with the id `key_id`, for the default algorithm of the key type.
    pub fn jwk(&self, key_id: &str) -> Value {
        let mut jwk = match self {
            Self::Rsa(pair) => {
                let key = pair.public_key();
                let (n, e) = (key.modulus(), key.exponent());
                let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
                json!({ "kty": "RSA", "alg": "RS256", "n": base64(n), "e": base64(e) })
            }
            Self::P256(pair) => point("P-256", "ES256", pair),
            Self::P384(pair) => point("P-384", "ES384", pair),
            Self::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": base64(pair.public_key().as_ref()) })
            }
        };
        jwk["kid"] = json!(key_id);
        jwk["use"] = json!("sig");
        jwk
    }

    /// Signs a message with an algorithm of the key type. An unsuitable algorithm is replaced by the default of the
    /// type, as in a forged token whose header alone is changed.
    pub fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match algorithm {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).expect("a signature");
                signature
            }
            Self::P256(pair) | Self::P384(pair) => pair.sign(&random, message).expect("a signature").as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// Returns HMACs with the public key as the secret, in each encoding that a verifier could use. A verifier that
    /// takes the algorithm from the token accepts them. `algorithm` is `HS256` or `HS512`.
    pub(crate) fn hmacs_with_public_key(&self, algorithm: &str, message: &[u8]) -> Vec<Vec<u8>> {
        let algorithm = if algorithm == "HS512" { hmac::HMAC_SHA512 } else { hmac::HMAC_SHA256 };
        let (own, spki) = match self {
            Self::Rsa(pair) => {
                (pair.public_key().as_ref(), pair.public_key().as_der().map(|der| der.as_ref().to_vec()))
            }
            Self::P256(pair) | Self::P384(pair) => {
                (pair.public_key().as_ref(), pair.public_key().as_der().map(|der| der.as_ref().to_vec()))
            }
            Self::Ed25519(pair) => {
                (pair.public_key().as_ref(), pair.public_key().as_der().map(|der| der.as_ref().to_vec()))
            }
        };
        let spki: Vec<u8> = spki.expect("a public key has a DER encoding");
        let lines: Vec<String> = BASE64_STANDARD
            .encode(&spki)
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line).into())
            .collect();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
        [own, &spki, pem.as_bytes(), pem.trim_end().as_bytes()]
            .map(|secret| hmac::sign(&hmac::Key::new(algorithm, secret), message).as_ref().to_vec())
            .to_vec()
    }
}

fn point(curve: &str, algorithm: &str, pair: &EcdsaKeyPair) -> Value {
    // An uncompressed point: 4, x, y.
    let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
    json!({ "kty": "EC", "crv": curve, "alg": algorithm, "x": base64(x), "y": base64(y) })
}

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
