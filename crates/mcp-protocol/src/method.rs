//! Method names of the schemas [2026-07-28](https://modelcontextprotocol.io/specification/2026-07-28/schema) and, for
//! legacy methods, [2025-11-25](https://modelcontextprotocol.io/specification/2025-11-25/schema).

#![expect(missing_docs, reason = "the schema documents items without a rule of their own")]

/// `server/discover`: versions, capabilities and identity of a modern server.
pub const SERVER_DISCOVER: &str = "server/discover";
pub const TOOLS_LIST: &str = "tools/list";
pub const TOOLS_CALL: &str = "tools/call";
pub const RESOURCES_LIST: &str = "resources/list";
pub const RESOURCES_TEMPLATES_LIST: &str = "resources/templates/list";
/// `resources/read`; its `uri` is mirrored in the `Mcp-Name` header.
pub const RESOURCES_READ: &str = "resources/read";
pub const PROMPTS_LIST: &str = "prompts/list";
/// `prompts/get`; its `name` is mirrored in the `Mcp-Name` header.
pub const PROMPTS_GET: &str = "prompts/get";
pub const COMPLETION_COMPLETE: &str = "completion/complete";

/// `initialize`: handshake of the legacy revisions.
pub const INITIALIZE: &str = "initialize";
/// `ping` of the legacy revisions.
pub const PING: &str = "ping";
/// `logging/setLevel` of the legacy revisions.
pub const LOGGING_SET_LEVEL: &str = "logging/setLevel";
/// `resources/subscribe` of the legacy revisions.
pub const RESOURCES_SUBSCRIBE: &str = "resources/subscribe";
/// `resources/unsubscribe` of the legacy revisions.
pub const RESOURCES_UNSUBSCRIBE: &str = "resources/unsubscribe";

/// `tasks/get` of the extension `io.modelcontextprotocol/tasks`; its `taskId` is mirrored in the `Mcp-Name` header.
#[cfg(feature = "tasks")]
pub const TASKS_GET: &str = "tasks/get";
/// `tasks/update`: responses to a task's requests; its `taskId` is mirrored in the `Mcp-Name` header.
#[cfg(feature = "tasks")]
pub const TASKS_UPDATE: &str = "tasks/update";
/// `tasks/cancel`; its `taskId` is mirrored in the `Mcp-Name` header.
#[cfg(feature = "tasks")]
pub const TASKS_CANCEL: &str = "tasks/cancel";

/// `notifications/progress`, server to client.
pub const NOTIFICATIONS_PROGRESS: &str = "notifications/progress";
/// `notifications/message`, server to client.
pub const NOTIFICATIONS_MESSAGE: &str = "notifications/message";
/// `notifications/cancelled`, client to server.
pub const NOTIFICATIONS_CANCELLED: &str = "notifications/cancelled";

/// All methods of client requests.
const REQUESTS: &[&str] = &[
    SERVER_DISCOVER,
    TOOLS_LIST,
    TOOLS_CALL,
    RESOURCES_LIST,
    RESOURCES_TEMPLATES_LIST,
    RESOURCES_READ,
    PROMPTS_LIST,
    PROMPTS_GET,
    COMPLETION_COMPLETE,
    INITIALIZE,
    PING,
    LOGGING_SET_LEVEL,
    RESOURCES_SUBSCRIBE,
    RESOURCES_UNSUBSCRIBE,
    #[cfg(feature = "tasks")]
    TASKS_GET,
    #[cfg(feature = "tasks")]
    TASKS_UPDATE,
    #[cfg(feature = "tasks")]
    TASKS_CANCEL,
];

/// Returns the constant for a method name; `None` for an unsupported method.
pub fn known(name: &str) -> Option<&'static str> {
    REQUESTS.iter().copied().find(|own| *own == name)
}
