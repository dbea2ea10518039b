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

#[test]
fn a_planned_rotation_publishes_a_key_an_hour_before_it_signs() {
    let first = KeyRing::rotate(r#"{"keys":[]}"#, LIFETIME, at(1_000)).unwrap().unwrap();
    let second = KeyRing::rotate(&first, LIFETIME, at(100_000)).unwrap().unwrap();
    let ring = KeyRing::parse(&second).unwrap();
    let [old, new] = &ids(&ring, 100_000)[..] else { panic!() };

    assert_eq!(ids(&KeyRing::parse(&first).unwrap(), 1_000), std::slice::from_ref(old));
    assert_eq!((signer(&ring, 103_599), signer(&ring, 103_600)), (old.clone(), new.clone()));
    assert!(KeyRing::rotate(&second, LIFETIME, at(103_599)).unwrap().is_none(), "a command that is delivered twice");
    // Keys that are retired are left out; the others stay, however often keys are rotated.
    let mut secret = second;
    for round in 1..=6 {
        let now = 100_000 + round * 4_000;
        secret = KeyRing::rotate(&secret, LIFETIME, at(now)).unwrap().unwrap();
        let raw = RawRing::read(&secret).unwrap();
        assert_eq!(raw.keys.last().unwrap().signs_from, now + 3_600);
        assert!(raw.keys.len() <= 3, "{round}");
    }
    assert!(!secret.contains(&RawRing::read(&first).unwrap().keys[0].private_key));
}

#[test]
fn a_replaced_ring_has_a_new_key_alone_which_signs_at_once() {
    let old = KeyRing::replace(at(1_000)).unwrap();
    let new = KeyRing::replace(at(2_000)).unwrap();
    let [old, new] = [&old, &new].map(|secret| KeyRing::parse(secret).unwrap());

    assert_eq!(ids(&new, 2_000), [signer(&new, 2_000)]);
    assert_ne!(ids(&new, 2_000), ids(&old, 2_000));
}

#[test]
fn a_malformed_secret_is_not_rotated() {
    let signed = KeyRing::replace(at(0)).unwrap().replace("}]", "},{\"private_key\":\"x\",\"signs_from\":0}]");
    for secret in ["", "{}", "[]", "s3cret", r#"{"keys":[],"other":1}"#, &signed] {
        let error = KeyRing::rotate(secret, LIFETIME, at(0)).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{secret}");
    }
}
