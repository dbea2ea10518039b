//! What an author is told about the likeliest mistakes, by the compiler that `rust-toolchain.toml` names. After a change that
//! is meant: `TRYBUILD=overwrite cargo test --package mcp-server --test mistakes`.

#[test]
fn a_mistake_is_told_in_words_that_say_what_to_do() {
    trybuild::TestCases::new().compile_fail("tests/mistakes/*.rs");
}
