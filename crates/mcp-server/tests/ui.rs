//! Compiler errors for the most common mistakes in function code, with the compiler version of `rust-toolchain.toml`. To update the
//! expected errors, run `TRYBUILD=overwrite cargo test --package mcp-server --test ui`.

/// With all features.
#[cfg(all(feature = "interactive", feature = "raw-schema"))]
#[test]
fn compiler_errors_say_how_to_fix_the_mistake() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

/// Without features, as `make check` runs it: `cargo test --package mcp-server --test ui`.
#[cfg(not(any(feature = "interactive", feature = "raw-schema")))]
#[test]
fn compiler_errors_name_the_missing_feature() {
    trybuild::TestCases::new().compile_fail("tests/ui/features/*.rs");
}
