//! The cache of verified tokens.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mcp_auth::{OidcConfig, Verifier, VerifyError};
use mcp_server::Principal;
use mcp_testing::{TEST_AUDIENCE, TestIssuer};
use serde_json::json;

async fn verify(verifier: &Verifier, token: &str, seconds: u64) -> Result<Arc<Principal>, VerifyError> {
    let base_url = TEST_AUDIENCE.strip_suffix("/mcp").unwrap();
    verifier.verify(token, base_url, UNIX_EPOCH + Duration::from_secs(seconds), None).await
}

#[tokio::test]
async fn a_full_cache_evicts_expired_tokens_and_no_valid_one() {
    let issuer = TestIssuer::start().await;
    let own = issuer.issuer();
    let config = OidcConfig::from_env(|name| (name == "OIDC_ISSUER").then_some(own)).unwrap().unwrap();
    let verifier = Verifier::new(config);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let of = |subject: String, expires: u64| {
        issuer.mint([], |_, claims| (claims["sub"], claims["exp"]) = (json!(subject), json!(expires)))
    };
    let (lasting, late) = (of("ada".to_owned(), now + 1000), of("bob".to_owned(), now + 1000));
    let brief: Vec<_> = (1..256).map(|number| of(format!("user {number}"), now + 10)).collect();

    let ada = verify(&verifier, &lasting, now).await.unwrap();
    for token in &brief {
        verify(&verifier, token, now).await.unwrap();
    }
    let again = verify(&verifier, &lasting, now + 10).await.unwrap();
    assert!(Arc::ptr_eq(&ada, &again));
    assert!(verify(&verifier, &brief[0], now + 10).await.is_err(), "it is in the cache, but has expired");
    // The cache is full.
    verify(&verifier, &late, now + 10).await.unwrap();

    let again = verify(&verifier, &lasting, now + 10).await.unwrap();
    assert!(Arc::ptr_eq(&ada, &again), "a valid token was evicted");
}
