//! Method names, each written once. Revision of the schema: 2026-07-28 and, for the legacy ones, 2025-11-25.

/// `server/discover`: versions, capabilities and identity of a modern server.
pub const SERVER_DISCOVER: &str = "server/discover";
/// `tools/list`.
pub const TOOLS_LIST: &str = "tools/list";
/// `tools/call`.
pub const TOOLS_CALL: &str = "tools/call";
/// `resources/list`.
pub const RESOURCES_LIST: &str = "resources/list";
/// `resources/templates/list`.
pub const RESOURCES_TEMPLATES_LIST: &str = "resources/templates/list";
/// `resources/read`; its `uri` is mirrored in the `Mcp-Name` header.
pub const RESOURCES_READ: &str = "resources/read";
/// `prompts/list`.
pub const PROMPTS_LIST: &str = "prompts/list";
/// `prompts/get`; its `name` is mirrored in the `Mcp-Name` header.
pub const PROMPTS_GET: &str = "prompts/get";
/// `completion/complete`.
pub const COMPLETION_COMPLETE: &str = "completion/complete";

/// `initialize`: the handshake of the legacy revisions.
pub const INITIALIZE: &str = "initialize";
/// `ping` of the legacy revisions.
pub const PING: &str = "ping";
/// `logging/setLevel` of the legacy revisions.
pub const LOGGING_SET_LEVEL: &str = "logging/setLevel";
/// `resources/subscribe` of the legacy revisions.
pub const RESOURCES_SUBSCRIBE: &str = "resources/subscribe";
/// `resources/unsubscribe` of the legacy revisions.
pub const RESOURCES_UNSUBSCRIBE: &str = "resources/unsubscribe";

/// `notifications/progress`, server to client.
pub const NOTIFICATIONS_PROGRESS: &str = "notifications/progress";
/// `notifications/message`, server to client.
pub const NOTIFICATIONS_MESSAGE: &str = "notifications/message";

/// Every method that a client may ask for here.
const REQUESTS: [&str; 14] = [
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
];

/// A method's name as it is written here; `None` for one that is not.
pub fn known(name: &str) -> Option<&'static str> {
    REQUESTS.into_iter().find(|own| *own == name)
}
