//! One request in, one answer out.

pub(crate) mod call;
mod lists;
mod pages;
mod resources;
pub(crate) mod router;
pub(crate) mod routes;
mod run;
pub(crate) mod summary;
