//! Method names, each written once. Revision of the schema: 2026-07-28 and, for the legacy ones, 2025-11-25.

/// `server/discover`: versions, capabilities and identity of a modern server.
pub const SERVER_DISCOVER: &str = "server/discover";
/// `tools/list`.
pub const TOOLS_LIST: &str = "tools/list";
/// `tools/call`.
pub const TOOLS_CALL: &str = "tools/call";
/// `resources/read`; its `uri` is mirrored in the `Mcp-Name` header.
pub const RESOURCES_READ: &str = "resources/read";
/// `prompts/get`; its `name` is mirrored in the `Mcp-Name` header.
pub const PROMPTS_GET: &str = "prompts/get";

/// `initialize`: the handshake of the legacy revisions.
pub const INITIALIZE: &str = "initialize";
/// `ping` of the legacy revisions.
pub const PING: &str = "ping";
/// `logging/setLevel` of the legacy revisions.
pub const LOGGING_SET_LEVEL: &str = "logging/setLevel";

/// `notifications/progress`, server to client.
pub const NOTIFICATIONS_PROGRESS: &str = "notifications/progress";
/// `notifications/message`, server to client.
pub const NOTIFICATIONS_MESSAGE: &str = "notifications/message";
