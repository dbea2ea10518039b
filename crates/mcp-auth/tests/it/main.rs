//! Tests of the verifier against an issuer on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod token_cache;
mod warm;
