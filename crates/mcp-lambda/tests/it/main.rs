//! Tests of the public service: with `http` types and Lambda events, in every revision.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failure here is a failed test"
)]

mod authorization;
mod bad_input;
mod browser;
mod call_log;
mod common;
mod emulated;
mod events;
mod front_page;
mod interaction;
mod legacy;
mod lifecycle;
#[cfg(feature = "limits")]
mod limits;
mod meta;
mod modern;
mod page;
mod process;
mod process_responses;
mod prompts;
mod properties;
#[cfg(all(feature = "interactive", feature = "store"))]
mod questions;
mod resources;
mod results;
mod route_responses;
mod routes;
#[cfg(feature = "secrets")]
mod secrets;
mod streaming;
mod uris;
