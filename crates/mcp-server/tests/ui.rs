//! Compiler errors for the most common mistakes of an author, with the compiler that `rust-toolchain.toml` names. After an intended
//! change: `TRYBUILD=overwrite cargo test --package mcp-server --test ui`.

/// With all features.
#[cfg(all(feature = "interactive", feature = "raw-schema"))]
#[test]
fn a_compiler_error_says_how_to_fix_the_mistake() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

/// Without features, as `make check` runs it: `cargo test --package mcp-server --test ui`.
#[cfg(not(any(feature = "interactive", feature = "raw-schema")))]
#[test]
fn a_missing_feature_is_named() {
    trybuild::TestCases::new().compile_fail("tests/ui/features/*.rs");
}
