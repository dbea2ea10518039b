//! [`Task`]: the settings of a tool whose calls may become tasks.

use std::time::Duration;

use crate::interaction::digest_of;

const MIN_TTL: Duration = Duration::from_secs(60);
const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Maximum lifetime of a task of an anonymous caller, which only its id protects.
pub(crate) const MAX_ANONYMOUS_TTL: Duration = Duration::from_secs(60 * 60);
/// Several clients give up after 60 s.
const DEFAULT_ANSWER_WITHIN: Duration = Duration::from_secs(25);
const DEFAULT_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Settings of a tool whose calls may outlive their request: [`Tool::task`](crate::Tool::task), with the feature `tasks`.
///
/// The server needs a [store](crate::Server::store). The handler takes an [`InteractiveContext`](crate::InteractiveContext), and may
/// run **several times from its start**: after a wait, after an answer, and after a crash. So:
///
/// - run each effect in [`once`](crate::InteractiveContext::once), which records its result. If the environment ends between effect and
///   record, the step runs again: pass [`idempotency_key`](crate::InteractiveContext::idempotency_key) to the other service;
/// - a step ends before the timeout of the function that runs tasks. Split longer work into several steps;
/// - wait by [`sleep`](crate::InteractiveContext::sleep), in which no environment runs;
/// - increment [`revision`](Self::revision) when a deployment changes what a step means;
/// - the code before the first step also runs in the request, for up to a second: a call that ends by then needs no task.
///
/// | Client | Response to a call |
/// | --- | --- |
/// | with the extension | the result, if the handler ends before its first step and within a second; questions before the first step, as in any other request; otherwise the task |
/// | without it | the result, if the handler ends within [`answer_within`](Self::answer_within); otherwise a tool error with the task's id and the name of the tool `get_task_result`, which the server then lists |
///
/// ```
/// # use mcp_server as mcp_lambda;
/// use std::time::Duration;
///
/// use mcp_lambda::{HandlerError, InteractiveContext, NoArguments, Task, Tool};
///
/// async fn export(context: InteractiveContext<()>, _: NoArguments) -> Result<String, HandlerError> {
///     let mut rows = 0;
///     for page in 0..3 {
///         context.status(format!("{page} of 3 pages"));
///         rows += context.once(&format!("page {page}"), async { Ok::<u32, HandlerError>(100) }).await?;
///     }
///     context.sleep("settle", Duration::from_secs(600)).await;
///     Ok(format!("{rows} rows"))
/// }
///
/// let hour = Duration::from_secs(3600);
/// let tool = Tool::new("export", export).description("Exports all events.").task(Task::ttl(hour));
/// # let _ = tool;
/// ```
#[derive(Debug, Clone)]
pub struct Task {
    pub(crate) ttl: Duration,
    pub(crate) answer_within: Duration,
    pub(crate) poll_interval: Duration,
    pub(crate) needs_extension: bool,
    revision: u32,
}

impl Task {
    /// Creates settings with the lifetime of a task and its result, from the call on. Tasks of anonymous callers live for an hour at
    /// most.
    ///
    /// # Panics
    ///
    /// Panics unless the lifetime is from a minute to 30 days.
    #[must_use]
    #[track_caller]
    pub fn ttl(ttl: Duration) -> Self {
        assert!((MIN_TTL..=MAX_TTL).contains(&ttl), "the lifetime of a task must be from a minute to 30 days");
        Self {
            ttl,
            answer_within: DEFAULT_ANSWER_WITHIN,
            poll_interval: DEFAULT_POLL_INTERVAL,
            needs_extension: false,
            revision: 0,
        }
    }

    /// Sets how long a client without the extension waits for the result, before it gets the task's id. Default: 25 s, since several
    /// clients end a request after 60 s.
    #[must_use]
    pub fn answer_within(self, answer_within: Duration) -> Self {
        Self { answer_within, ..self }
    }

    /// Sets the time between two polls that clients are asked to keep. Default: 2 s.
    #[must_use]
    pub fn poll_interval(self, poll_interval: Duration) -> Self {
        Self { poll_interval, ..self }
    }

    /// Sets the revision of the handler's steps. Default: 0. Increment it in a deployment in which the value of a
    /// [`once`](crate::InteractiveContext::once) means something else under the same key, or in which keys of steps, waits or questions
    /// are used in another way. Tasks of another revision then end with the error "the server was updated while the task was open: call
    /// again". So do tasks whose tool has other schemas by now.
    #[must_use]
    pub fn revision(self, revision: u32) -> Self {
        Self { revision, ..self }
    }

    /// Returns a digest of all that the values of a task depend on: the revision, and name and schemas of the tool.
    pub(crate) fn digest(&self, tool: &mcp_protocol::Tool) -> String {
        let parts = (self.revision, &tool.name, &tool.input_schema, &tool.output_schema);
        digest_of(&serde_json::to_string(&parts).unwrap_or_default())
    }

    /// Rejects calls of clients without the extension, for tools that are of no use within one request.
    #[must_use]
    pub fn requires_extension(self) -> Self {
        Self { needs_extension: true, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_bounded() {
        for (ttl, is_valid) in [(59, false), (60, true), (30 * 86_400, true), (30 * 86_400 + 1, false)] {
            let made = std::panic::catch_unwind(|| Task::ttl(Duration::from_secs(ttl)));

            assert_eq!(made.is_ok(), is_valid, "{ttl}");
        }
    }
}
