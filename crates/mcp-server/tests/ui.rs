//! What an author is told about the likeliest mistakes, by the compiler that `rust-toolchain.toml` names. After a change that
//! is meant: `TRYBUILD=overwrite cargo test --package mcp-server --test mistakes`.

/// With all features.
#[cfg(all(feature = "interactive", feature = "raw-schema"))]
#[test]
fn a_mistake_is_told_in_words_that_say_what_to_do() {
    trybuild::TestCases::new().compile_fail("tests/mistakes/*.rs");
}

/// Without features, as `make check` runs it: `cargo test --package mcp-server --test mistakes`.
#[cfg(not(any(feature = "interactive", feature = "raw-schema")))]
#[test]
fn a_missing_feature_is_named() {
    trybuild::TestCases::new().compile_fail("tests/mistakes/features/*.rs");
}
