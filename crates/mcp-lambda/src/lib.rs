//! MCP servers on AWS Lambda, from plain async functions.
//!
//! # Quick start
//!
//! ```toml
//! [dependencies]
//! mcp-lambda = { git = "…" }
//! # For the arguments of tools: bounds, schema, deserialization.
//! garde = { version = "0.23", default-features = false, features = ["derive"] }
//! schemars = "1"
//! serde = { version = "1", features = ["derive"] }
//! # Only for CPU-bound work on another thread: `tokio::task::spawn_blocking`.
//! tokio = { version = "1", features = ["rt"] }
//!
//! [dev-dependencies]
//! mcp-testing = { git = "…" }
//! serde_json = "1"
//! tokio = { version = "1", features = ["macros", "rt"] }
//! ```
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use garde::Validate;
//! use mcp_lambda::{HandlerError, HttpConfig, InitError, McpService, Server, Tool, ToolContext};
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//!
//! #[derive(Deserialize, JsonSchema, Validate)]
//! #[serde(deny_unknown_fields)]
//! struct GreetArgs {
//!     /// Name of the person to greet; 1 to 100 characters.
//!     #[garde(length(chars, min = 1, max = 100))]
//!     name: String,
//! }
//!
//! async fn greet(_: ToolContext<()>, args: GreetArgs) -> Result<String, HandlerError> {
//!     Ok(format!("Hello, {}!", args.name))
//! }
//!
//! async fn service(config: HttpConfig) -> Result<McpService, InitError> {
//!     let server = Server::new("greeter", env!("CARGO_PKG_VERSION"), ())
//!         .tool(Tool::new("greet", greet).description("Greets a person by name.").read_only());
//!     McpService::new(server, config)
//! }
//!
//! fn main() -> ExitCode {
//!     mcp_lambda::main(service)
//! }
//! ```
//!
//! Doc comments of fields become descriptions in the tool's input schema, and garde's rules become its bounds. Arguments that violate
//! the schema never reach the handler. A test calls the service as any other `tower` service.
//!
//! `examples/` has complete tools with tests: `search_notes` (paginated search in Postgres), `shrink_image` (images as arguments and
//! results), `search_files` (progress, cancellation) and `ask` (questions to the user, with a store).
//!
//! # Types by task
//!
//! | Task | Types |
//! | --- | --- |
//! | run a function | [`main`], [`McpService`], [`HttpConfig`]; [`FromEnv`] and [`Env`] for the function's own variables, [`InitError`] |
//! | build a server | [`Server`], [`Tool`], [`Prompt`], [`Resource`], [`ResourceTemplate`] |
//! | write a handler | [`ToolContext`], [`RequestContext`], [`LambdaContext`], [`HandlerError`] with [`InvalidInput`] and [`Unavailable`] |
//! | take arguments | a struct that is [`Arguments`], [`NoArguments`], [`Base64`], [`Cursor`] |
//! | return a result | a string, [`Json`](struct@Json), [`ContentBlock`], [`ToolOutput`] from tools; [`PromptMessage`] from prompts; [`ResourceContents`], [`ResourcePage`] and [`ResourceOutput`] from resources |
//! | describe an item | [`Icon`], [`IconTheme`], [`Annotations`], [`Role`] |
//! | complete arguments | [`PartialArgument`], [`Completion`] |
//! | report progress | [`RequestContext::progress`], [`Amount`] |
//! | stop work on another thread | [`RequestContext::cancellation`], [`CancellationToken`] |
//! | elicit input, sample, list roots | [`InteractiveContext`], [`Elicited`], [`TitledOption`]; [`form`] for hand-written forms, [`sampling`] |
//! | authenticate and authorize callers | [`Principal`], [`Authorization`], [`ScopeNames`], [`Enforcement`] |
#![cfg_attr(
    feature = "token-exchange",
    doc = "| call another service as the caller | [`TokenExchangeContext`], [`TokenTarget`], [`ExchangedToken`] |"
)]
#![cfg_attr(
    not(feature = "token-exchange"),
    doc = "| call another service as the caller | `TokenExchangeContext`, with the feature `token-exchange` |"
)]
//! | inspect the client and the request | [`ClientCapabilities`], [`Implementation`], [`ProtocolVersion`], [`RequestId`], [`LoggingLevel`] |
//! | set cache hints for clients | [`Caching`], [`List`] |
#![cfg_attr(
    feature = "limits",
    doc = "| limit the rate of requests | [`Server::limit`], [`Tool::limit`], [`RateLimit`] |"
)]
#![cfg_attr(not(feature = "limits"), doc = "| limit the rate of requests | `RateLimit`, with the feature `limits` |")]
#![cfg_attr(feature = "postgres", doc = "| use Postgres | [`postgres`], [`main_with_schema`] |")]
#![cfg_attr(not(feature = "postgres"), doc = "| use Postgres | `postgres`, with the feature of that name |")]
#![cfg_attr(feature = "https", doc = "| send requests | [`https`] |")]
#![cfg_attr(not(feature = "https"), doc = "| send requests | `https`, with the feature of that name |")]
#![cfg_attr(feature = "store", doc = "| keep state between requests | [`Server::store`], [`store`] |")]
#![cfg_attr(not(feature = "store"), doc = "| keep state between requests | `store`, with the feature of that name |")]
#![cfg_attr(feature = "tasks", doc = "| let a call outlive its request | [`Tool::task`], [`Task`] |")]
#![cfg_attr(not(feature = "tasks"), doc = "| let a call outlive its request | `Task`, with the feature `tasks` |")]
//! | write a schema by hand | [`Tool::raw`], [`JsonObject`] |
//! | handle errors, parse untrusted data | [`BoxError`], [`error_chain`], [`json`], [`uri`] |
//! | serve other paths, add layers | [`McpService::route`], [`McpService::public_route`], [`McpService::layer`]; [`transport::Body`] |
//! | write a `main` or a transport of your own | [`McpService::into_lambda_service`] for `lambda_runtime::run`; [`transport`] |
//!
//! # Features
//!
//! None is on by default.
//!
//! | Feature | What it adds |
//! | --- | --- |
//! | `auth` | authentication of callers by OIDC access tokens |
//! | `https` | an HTTPS client for handlers, with limits and protection against server-side request forgery |
//! | `interactive` | elicitation, sampling and roots requests from handlers: [`InteractiveContext`] |
//! | `limits` | rate limits by caller and by network address: `Server::limit`, `Tool::limit` |
//! | `otel` | export of spans to an OpenTelemetry collector |
//! | `postgres` | a Postgres connection for each concurrent request of an execution environment |
//! | `secrets` | the state key from Secrets Manager: `MCP_STATE_KEY_SECRET_ARN` |
//! | `store` | state that outlives a request, shared by all execution environments: `Server::store` |
//! | `tasks` | calls of tools that outlive their request: `Tool::task`; includes `interactive` and `store` |
//! | `token-exchange` | exchange of the caller's token for a token of another service: `TokenExchangeContext` |
//! | `raw-schema` | tools with hand-written schemas: [`Tool::raw`] |
//!
#![doc = include_str!("guide/local.md")]
#![doc = include_str!("guide/handlers.md")]
#![cfg_attr(
    all(feature = "interactive", feature = "postgres", feature = "store"),
    doc = include_str!("guide/questions.md")
)]
#![cfg_attr(all(feature = "postgres", feature = "tasks"), doc = include_str!("guide/tasks.md"))]
#![cfg_attr(feature = "limits", doc = include_str!("guide/limits.md"))]
#![cfg_attr(feature = "postgres", doc = include_str!("guide/database.md"))]

#[cfg(feature = "limits")]
mod anonymous_limit;
mod authentication;
mod body;
mod call_log;
#[cfg(feature = "store")]
mod command;
mod config;
mod era;
mod events;
mod headers;
mod http;
mod invocations;
mod lambda_service;
mod logs;
#[cfg(feature = "postgres")]
mod migration;
mod origin;
mod platform;
mod run;
mod runtime_api;
#[cfg(feature = "secrets")]
mod secrets;
mod shutdown;
mod sse;
#[cfg(feature = "store")]
mod subject_deletion;
#[cfg(feature = "tasks")]
mod tasks;
#[cfg(feature = "token-exchange")]
mod token_exchange;
mod traces;
pub mod transport;

pub use self::http::McpService;
pub use config::{Env, FromEnv, HttpConfig};
#[cfg(feature = "tasks")]
#[doc(inline)]
pub use mcp_server::Task;
#[cfg(feature = "postgres")]
pub use migration::main_with_schema;
pub use platform::LambdaContext;
pub use run::main;
#[cfg(feature = "token-exchange")]
pub use token_exchange::TokenExchangeContext;
pub(crate) use transport::{
    Authentication, Body, EventError, EventResponse, EventSource, IamIdentity, InvokeMode, LambdaInvocation,
    LambdaRequest, Origin, PublicUrl, Transport,
};

#[doc(no_inline)]
pub use mcp_server::CancellationToken;
#[cfg(feature = "limits")]
#[doc(inline)]
pub use mcp_server::RateLimit;
#[doc(inline)]
pub use mcp_server::{
    Amount, Arguments, Authorization, Base64, BoxError, Caching, Cursor, Elicited, Enforcement, HandlerContext,
    HandlerError, InitError, InteractiveContext, IntoPromptMessages, IntoToolOutput, InvalidInput, Json, List,
    NoArguments, PartialArgument, Principal, Prompt, RequestContext, Resource, ResourceOutput, ResourcePage,
    ResourceTemplate, ScopeNames, Server, Tool, ToolContext, ToolOutput, Unavailable, error_chain, json, uri,
};

#[doc(inline)]
pub use mcp_protocol::{
    Annotations, AudioContent, BlobResourceContents, ClientCapabilities, Completion, ContentBlock, EmbeddedResource,
    Icon, IconTheme, ImageContent, Implementation, JsonObject, LoggingLevel, PromptMessage, ProtocolVersion, RequestId,
    ResourceContents, ResourceLink, Role, TextContent, TextResourceContents, TitledOption,
};

#[cfg(feature = "token-exchange")]
#[doc(inline)]
pub use mcp_auth::{ExchangedToken, TokenTarget};

/// Types for hand-written elicitation forms: [`InteractiveContext::elicit_form`].
pub mod form {
    #[doc(inline)]
    pub use mcp_protocol::{
        BooleanSchema, LegacyTitledEnumSchema, MultiSelectField, NumberSchema, PrimitiveSchemaDefinition, Properties,
        RequestedSchema, StringField, StringSchema, TitledItems, TitledMultiSelectEnumSchema,
        TitledSingleSelectEnumSchema, UntitledItems, UntitledMultiSelectEnumSchema, UntitledSingleSelectEnumSchema,
    };
}

/// Types for sampling and roots requests, both deprecated in 2026-07-28: [`InteractiveContext::sample`] and
/// [`InteractiveContext::list_roots`].
pub mod sampling {
    #[doc(inline)]
    pub use mcp_protocol::{
        CreateMessageRequestParams, CreateMessageResult, IncludeContext, ModelHint, ModelPreferences, OneOrMany, Root,
        SamplingMessage, SamplingMessageContentBlock, ToolChoice, ToolChoiceMode, ToolResultContent, ToolUseContent,
    };
}

/// An HTTPS client for outbound requests of handlers, with the feature `https`.
///
/// Keep the [`Client`](https::Client) in the server's state, so that its connections are reused. Use
/// [`Client::foreign`](https::Client::foreign) for URLs from arguments or documents, and [`Client::trusted`](https::Client::trusted)
/// for URLs that the operator configures. Pass the request's deadline to [`answer_by`](https::RequestBuilder::answer_by).
///
/// ```
/// use garde::Validate;
/// use mcp_lambda::{HandlerError, ToolContext, https::Client};
/// use schemars::JsonSchema;
/// use serde::Deserialize;
///
/// struct State {
///     client: Client,
/// }
///
/// #[derive(Deserialize, JsonSchema, Validate)]
/// struct ReadArgs {
///     /// The https URL of a page.
///     #[garde(length(chars, max = 2000))]
///     url: String,
/// }
///
/// async fn read_page(context: ToolContext<State>, args: ReadArgs) -> Result<String, HandlerError> {
///     let request = context.state().client.get(&args.url).answer_by(context.deadline());
///     let response = match request.send().await {
///         Ok(response) => response,
///         Err(error) if error.is_transient() => return Err(HandlerError::unavailable("the page cannot be read now", error)),
///         // An invalid URL, or an address that is not public: the model can change the URL.
///         Err(error) => return Err(HandlerError::invalid_input(error.to_string())),
///     };
///     if !response.status().is_success() {
///         return Err(HandlerError::failed(format!("the page responded with {}", response.status())));
///     }
///     Ok(String::from_utf8_lossy(&response.bytes().await?).into_owned())
/// }
///
/// let state = State { client: Client::foreign().max_response_bytes(256 * 1024) };
/// let server = mcp_lambda::Server::new("pages", "1.0.0", state)
///     .tool(mcp_lambda::Tool::new("read_page", read_page).description("Reads a page."));
/// # let _ = server;
/// ```
#[cfg(feature = "https")]
pub mod https {
    #[doc(no_inline)]
    pub use mcp_https::{Bytes, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
    #[doc(inline)]
    pub use mcp_https::{Client, Error, RequestBuilder, Response};
}

/// Postgres connections for handlers, with the feature `postgres`. The crate documentation has an example.
#[cfg(feature = "postgres")]
pub mod postgres {
    #[doc(inline)]
    pub use mcp_postgres::*;
}

/// Stores for [`Server::store`], with the feature `store`: state that outlives a request.
///
/// [`MemoryStore`](store::MemoryStore) is for tests and for development with one process.
#[cfg_attr(feature = "postgres", doc = "[`PostgresStore`](postgres::PostgresStore) is for deployments.")]
#[cfg_attr(not(feature = "postgres"), doc = "With the feature `postgres`, `PostgresStore` is for deployments.")]
#[cfg(feature = "store")]
pub mod store {
    #[doc(inline)]
    pub use mcp_server::store::{MemoryStore, Store, StoreError};
}
