//! Tasks (extension `io.modelcontextprotocol/tasks` of 2026-07-28): calls of tools that outlive their request.
//!
//! From the bottom up: `task` (the author's settings), `clock`, `record` (the row of a task), `rows` (access to the store), `slots` (live
//! tasks of a caller), `reservation` (the place of a call that may become one), `lease`, `attempt` (one run of a handler in the background), `task_run` (what a handler's context knows of its
//! task), `wake` (how a run is started).

pub(crate) mod attempt;
pub(crate) mod clock;
pub(crate) mod lease;
pub(crate) mod record;
pub(crate) mod reservation;
pub(crate) mod rows;
pub(crate) mod slots;
pub(crate) mod task;
pub(crate) mod task_run;
pub(crate) mod wake;

/// Name of the tool that returns the result of a task to clients without the extension.
pub(crate) const RESULT_TOOL: &str = "get_task_result";
