//! Types of the extension [`io.modelcontextprotocol/tasks`](https://github.com/modelcontextprotocol/ext-tasks) (2026-07-28), with
//! the feature `tasks`: a request whose result the client fetches later.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

use crate::{ClientCapabilities, ErrorObject, InputRequests, JsonObject};

/// Identifier of the extension.
pub const EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// Returns the capabilities of a client that supports the extension.
pub fn client_capabilities() -> ClientCapabilities {
    let extensions = JsonObject::from_iter([(EXTENSION.to_owned(), json!({}))]);
    ClientCapabilities { extensions: Some(extensions), ..ClientCapabilities::default() }
}

/// Status of a task. The last three are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// The request is being processed.
    Working,
    /// The task waits for responses of the client.
    InputRequired,
    /// The request has a result, which may be a tool's error.
    Completed,
    /// The request has a JSON-RPC error.
    Failed,
    /// The client cancelled the request.
    Cancelled,
}

/// Type of a result that has a task: the values of [`ResultType`](crate::ResultType), and the one of this extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskResultType {
    /// The result of `tasks/get`.
    Complete,
    /// A task in place of the result of a request.
    Task,
}

/// Result of a request that became a task, and of `tasks/get`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskResult<'a> {
    /// [`TaskResultType::Task`] only in place of a request's result.
    pub result_type: TaskResultType,
    /// Unguessable id of the task.
    pub task_id: Cow<'a, str>,
    /// Status of the task.
    pub status: TaskStatus,
    /// Description of the status, for users and models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_message: Option<Cow<'a, str>>,
    /// When the task was created: an ISO 8601 timestamp.
    pub created_at: String,
    /// When the task last changed: an ISO 8601 timestamp.
    pub last_updated_at: String,
    /// Lifetime since creation in milliseconds.
    pub ttl_ms: Option<u64>,
    /// Suggested time between two requests in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_interval_ms: Option<u64>,
    /// Open requests to the client, by key. Only of a task with [`TaskStatus::InputRequired`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_requests: Option<InputRequests>,
    /// The result of the request. Only of a task with [`TaskStatus::Completed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Cow<'a, RawValue>>,
    /// The error of the request. Only of a task with [`TaskStatus::Failed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorObject>,
    /// Holds the server's name and version.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}
