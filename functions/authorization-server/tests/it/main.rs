//! The function: its settings, and requests in the format of a Function URL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod commands;
mod requests;
mod role;
mod settings;
mod support;
