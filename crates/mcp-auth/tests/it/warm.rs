//! Fetch of the keys before the first token (`OIDC_WARM`).

use std::time::{Instant, SystemTime};

use mcp_auth::{OidcConfig, Verifier};
use mcp_testing::{IssuerResponse, TEST_AUDIENCE, TestIssuer};
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
async fn keys_are_fetched_before_the_first_token_if_configured() {
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
async fn an_unavailable_issuer_delays_the_start_by_at_most_five_seconds_and_is_retried_with_the_first_token() {
    let (good, silent, down) = (TestIssuer::start().await, TestIssuer::start().await, TestIssuer::start().await);
    silent.set_keys_response(IssuerResponse::Silence);
    down.set_keys_response(IssuerResponse::Status(500));
    let verifier = verifier(&[&silent, &down, &good], "1");
    let started = Instant::now();

    verifier.warm().await;

    // Lambda's init phase has 10 s in all.
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    assert!(is_accepted(&verifier, &good).await);
    for (issuer, key) in [(&silent, "rsa"), (&down, "rsa")] {
        issuer.publish([mcp_testing::TestKey::rsa().jwk(key)]);
        assert!(is_accepted(&verifier, issuer).await);
    }
}
