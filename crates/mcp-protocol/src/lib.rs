//! Wire types of the [Model Context Protocol](https://modelcontextprotocol.io), revisions 2024-11-05 to 2026-07-28.
//!
//! The names are the schema's own, so a reader who knows the specification can find everything here, and a reader who
//! does not can look everything up there. There is no I/O, no clock and no async in this crate; whoever talks to a
//! peer decides how bytes travel.
//!
//! | Module | What it holds |
//! | --- | --- |
//! | `version` | the revisions, as a type |
//! | [`json`] | JSON text of a peer, within a budget |
//! | [`jsonrpc`] | reading a body into messages, writing responses, error codes |
//! | [`meta`] | `_meta` of requests and results |
//! | `capabilities`, `implementation` | what a peer can do, and who it is |
//! | `lifecycle` | `initialize` (legacy) and `server/discover` (modern) |
//! | `tools`, `content` | `tools/list`, `tools/call` and what a tool returns |
//! | `resources`, `prompts` | what can be read, and what a person can choose |
//! | `completion` | values for the arguments of both |
//! | `input`, `elicitation`, `sampling`, `roots` | what a server asks a client, and how it answers |
//! | `notifications` | progress and log messages |
//! | [`method`] | every method name, once |
//! | `formats` | the values of `format` that clients know |
//! | [`mirrored`] | parameters that are repeated in headers |
//! | [`uri`] | URIs as they are compared, and which URLs are secure |
//! | [`mod@lookup`] | one value out of JSON text, without building the rest |
//!
//! One set of types serves all revisions. Where an older one lacks a field, `for_revision` takes it away before the
//! value is written:
//!
//! ```
//! use mcp_protocol::{Implementation, ProtocolVersion};
//!
//! let mut server = Implementation::new("greeter", "0.1.0");
//! server.title = Some("Greeter".to_owned());
//!
//! let seen_in_2025_03_26 = server.for_revision(ProtocolVersion::V2025_03_26);
//! assert_eq!(seen_in_2025_03_26.title, None);
//! ```

mod capabilities;
mod completion;
mod content;
mod elicitation;
mod formats;
mod implementation;
mod input;
pub mod json;
pub mod jsonrpc;
mod lifecycle;
pub mod lookup;
pub mod meta;
pub mod method;
pub mod mirrored;
mod notifications;
mod params;
mod prompts;
mod resources;
mod roots;
mod sampling;
mod tools;
pub mod uri;
mod version;

pub use capabilities::{ClientCapabilities, ResourcesCapability, ServerCapabilities};
pub use completion::{CompleteResult, Completion, CompletionArgument, CompletionContext, CompletionReference};
pub use content::{
    Annotations, AudioContent, BlobResourceContents, ContentBlock, EmbeddedResource, ImageContent, ResourceContents,
    ResourceLink, Role, TextContent, TextResourceContents,
};
pub use elicitation::{
    BooleanSchema, ElicitAction, ElicitRequestFormParams, ElicitRequestParams, ElicitRequestUrlParams, ElicitResult,
    FormMode, LegacyTitledEnumSchema, MultiSelectField, NumberSchema, PrimitiveSchemaDefinition, Properties,
    RequestedSchema, StringField, StringSchema, TitledItems, TitledMultiSelectEnumSchema, TitledOption,
    TitledSingleSelectEnumSchema, UntitledItems, UntitledMultiSelectEnumSchema, UntitledSingleSelectEnumSchema,
    UrlMode,
};
pub use formats::INTEROPERABLE_FORMATS;
pub use implementation::{Icon, IconTheme, Implementation};
pub use input::{InputRequest, InputRequests, InputRequiredResult};
pub use jsonrpc::{ErrorObject, Incoming, MalformedMessage, Message, Notification, Request, RequestId};
pub use lifecycle::{DiscoverResult, InitializeResult};
pub use lookup::lookup;
pub use meta::{ProgressToken, RequestMeta, is_traceparent};
pub use mirrored::{MirroredParameter, mirrored_parameters};
pub use notifications::{LoggingLevel, LoggingMessageNotificationParams, ProgressNotificationParams};
pub use params::RequestParams;
pub use prompts::{GetPromptResult, ListPromptsResult, Prompt, PromptArgument, PromptMessage};
pub use resources::{ListResourceTemplatesResult, ListResourcesResult, ReadResourceResult, Resource, ResourceTemplate};
pub use roots::{ListRootsResult, Root};
pub use sampling::{
    CreateMessageRequestParams, CreateMessageResult, IncludeContext, ModelHint, ModelPreferences, OneOrMany,
    SamplingMessage, SamplingMessageContentBlock, ToolChoice, ToolChoiceMode, ToolResultContent, ToolUseContent,
};
pub use tools::{CacheScope, CallToolResult, ListToolsResult, ResultType, Tool, ToolAnnotations};
pub use version::ProtocolVersion;

/// A JSON object, for the places where the schema leaves the members open.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;
