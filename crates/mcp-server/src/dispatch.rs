//! One request in, one answer out. From the bottom up: `call` (an answer), `render`, `pages` and `lists` (what is rendered once),
//! `built` (a server's parts), `run` (a handler and its end), one module for each kind of item, `resolve` (what a request is
//! for, looked up once), `built_server`.

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
mod tools;
