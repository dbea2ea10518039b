//! Any bytes as a token: every token is rejected, since no trusted key has signed it, and the verifier does not panic.

#![no_main]

use std::{sync::LazyLock, time::SystemTime};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use mcp_auth::{OidcConfig, Reason, Verifier, VerifyError};
use tokio::runtime::Runtime;

/// Issuer without a listener.
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let get = |name: &str| (name == "OIDC_ISSUER").then_some("http://127.0.0.1:1");
    Verifier::new(OidcConfig::from_env(get).expect("valid settings").expect("an issuer"))
});
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    reject(&text);
    // Header, claims and signature are on one line each.
    let parts: Vec<String> = input.splitn(3, |byte| *byte == b'\n').map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).collect();
    let token = parts.join(".");
    let error = reject(&token);
    if token.len() > 8 * 1024 {
        assert!(matches!(error, VerifyError::Invalid(Reason::TooLong)), "{error}");
    }
});

fn reject(token: &str) -> VerifyError {
    let verified = RUNTIME.block_on(VERIFIER.verify(token, "https://mcp.example.com", SystemTime::now(), None));
    verified.expect_err("the token has no trusted signature")
}
