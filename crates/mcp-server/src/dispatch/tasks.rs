//! Requests and runs of tasks. From the bottom up: `waking`, `view` (what a client sees of a task), `foreground` (a call that may become
//! a task), `requests` (`tasks/get`, `tasks/update`, `tasks/cancel`), `result_tool` (for clients without the extension), `runner` (runs in
//! the background).

pub(crate) mod foreground;
pub(crate) mod requests;
pub(crate) mod result_tool;
pub(crate) mod runner;
#[cfg(test)]
mod tests;
mod view;
mod waking;
