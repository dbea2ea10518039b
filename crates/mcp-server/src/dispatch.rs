//! Dispatch of requests. From the bottom up: `call` (a request and its response), `render`, `pages` and `lists` (results that are
//! rendered once), `built` (the parts of a built server), `run` (execution of handlers), one module per kind of item, `resolve`
//! (lookup of a request's target), `built_server`.

pub(crate) mod built;
pub(crate) mod built_server;
pub(crate) mod call;
mod completion;
pub(crate) mod hooks;
pub(crate) mod lists;
mod pages;
mod prompts;
pub(crate) mod render;
pub(crate) mod resolve;
mod resources;
mod run;
pub(crate) mod summary;
#[cfg(feature = "tasks")]
pub(crate) mod tasks;
mod tools;
