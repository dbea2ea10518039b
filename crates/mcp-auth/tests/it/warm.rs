//! Keys that are fetched before the first token.

use std::time::{Instant, SystemTime};

use mcp_auth::{OidcConfig, Verifier};
use mcp_testing::{IssuerAnswer, TEST_AUDIENCE, TestIssuer};
use serde_json::json;

fn verifier(issuers: &[&TestIssuer], warm: &'static str) -> Verifier {
    let entries: Vec<_> = issuers.iter().map(|own| json!({ "issuer": own.issuer() })).collect();
    let entries = json!(entries).to_string();
    let get = |name: &str| match name {
        "OIDC_ISSUERS" => Some(entries.as_str()),
        "OIDC_WARM" => Some(warm),
        _ => None,
    };
    Verifier::new(OidcConfig::from_env(get).unwrap().unwrap())
}

async fn is_accepted(verifier: &Verifier, issuer: &TestIssuer) -> bool {
    let base_url = TEST_AUDIENCE.strip_suffix("/mcp").unwrap();
    verifier.verify(&issuer.token([]), base_url, SystemTime::now(), None).await.is_ok()
}

#[tokio::test]
async fn keys_are_there_before_the_first_token_if_that_is_wanted() {
    for (warm, fetches) in [("1", 1), ("0", 0)] {
        let issuer = TestIssuer::start().await;
        let verifier = verifier(&[&issuer], warm);

        verifier.warm().await;

        assert_eq!(issuer.key_fetches(), fetches);
        assert!(is_accepted(&verifier, &issuer).await);
        assert_eq!(issuer.key_fetches(), 1);
    }
}

#[tokio::test]
async fn an_issuer_that_is_away_delays_the_start_a_little_and_the_first_token_tries_again() {
    let (good, silent, down) = (TestIssuer::start().await, TestIssuer::start().await, TestIssuer::start().await);
    silent.answer_keys(IssuerAnswer::Silence);
    down.answer_keys(IssuerAnswer::Status(500));
    let verifier = verifier(&[&silent, &down, &good], "1");
    let started = Instant::now();

    verifier.warm().await;

    // Lambda gives the init phase 10 s, for all of it.
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    assert!(is_accepted(&verifier, &good).await);
    for (issuer, key) in [(&silent, "rsa"), (&down, "rsa")] {
        issuer.publish([mcp_testing::TestKey::rsa().jwk(key)]);
        assert!(is_accepted(&verifier, issuer).await);
    }
}
