//! Tests of the whole server.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failure here is a failed test")]

mod assertions;
mod databases;
mod endpoints;
mod faults;
mod grants_page;
mod hostile;
mod hostile_inputs;
mod hostile_table;
mod postgres;
mod rotation;
mod sign_in;
mod support;
mod upstream_check;
