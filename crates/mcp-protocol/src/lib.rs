//! Wire types of the [Model Context Protocol](https://modelcontextprotocol.io), revisions 2024-11-05 to 2026-07-28.
//!
//! Types have the names of the [schema](https://modelcontextprotocol.io/specification/2026-07-28/schema), which
//! documents members without special rules. The crate has no I/O, no clock and no async code: transports are in other
//! crates.
//!
//! | Module | Contents |
//! | --- | --- |
//! | `version` | protocol revisions |
//! | [`json`] | JSON parsing within a memory budget |
//! | [`jsonrpc`] | parsing bodies into messages, serializing responses, error codes |
//! | [`meta`] | `_meta` of requests and results |
//! | `capabilities`, `implementation` | capabilities, name and version of clients and servers |
//! | `lifecycle` | `initialize` (legacy) and `server/discover` (modern) |
//! | `tools`, `content` | `tools/list`, `tools/call`, content blocks |
//! | `resources`, `prompts` | resources, resource templates and prompts |
//! | `completion` | completion of prompt arguments and template variables |
//! | `input`, `elicitation`, `sampling`, `roots` | requests from a server to a client, and their results |
//! | `notifications` | progress and log messages |
//! | `tasks` | with the feature of that name: the extension `io.modelcontextprotocol/tasks` |
//! | [`method`] | method names |
//! | `formats` | values of `format` that clients support |
//! | [`mirrored`] | tool parameters that clients repeat in headers |
//! | [`uri`] | URI normalization, and validation of secure URLs |
//! | [`mod@lookup`] | lookup of one value in JSON text, without parsing the rest |
//!
//! One set of types serves all revisions. `for_revision` removes the fields that an older revision does not define,
//! before a value is serialized:
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
#[cfg(feature = "tasks")]
pub mod tasks;
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
pub use jsonrpc::{ErrorObject, Incoming, MalformedMessage, Message, Notification, Request, RequestId, Response};
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

/// JSON object whose members the schema does not define.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;
