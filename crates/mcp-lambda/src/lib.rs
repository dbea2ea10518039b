//! MCP servers on AWS Lambda, from plain async functions.
//!
//! # Quick start
//!
//! ```toml
//! [dependencies]
//! mcp-lambda = { git = "…" }
//! # For the arguments of tools: what they are parsed by, their schema, their bounds.
//! garde = { version = "0.23", default-features = false, features = ["derive"] }
//! schemars = "1"
//! serde = { version = "1", features = ["derive"] }
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
//! A doc comment becomes a description in the tool's schema, and a bound of garde becomes a bound there. Arguments that break the
//! schema never reach the handler. The service is a value: a test calls it like any other `tower` service.
//!
//! Three whole tools with their tests are in `examples/`: `search_notes` (a search over Postgres in pages), `shrink_image` (an image in,
//! a smaller one out) and `search_files` (progress, cancellation).
//!
//! # Names by job
//!
//! | Job | Names |
//! | --- | --- |
//! | run a function | [`main`], [`McpService`], [`HttpConfig`]; [`FromEnv`] and [`Env`] for variables of its own, [`InitError`] |
//! | build a server | [`Server`], [`Tool`], [`Prompt`], [`Resource`], [`ResourceTemplate`] |
//! | write a handler | [`ToolContext`], [`RequestContext`], [`LambdaContext`], [`HandlerError`] with [`InvalidInput`] and [`Unavailable`] |
//! | take arguments | a type of its own that is [`Arguments`], [`NoArguments`], [`Base64`], [`Cursor`] |
//! | return a result | a text, [`Json`](struct@Json), [`ContentBlock`], [`ToolOutput`] from tools; [`PromptMessage`] from prompts; [`ResourceContents`], [`ResourcePage`] and [`ResourceOutput`] from resources |
//! | describe an item | [`Icon`], [`IconTheme`], [`Annotations`], [`Role`] |
//! | suggest arguments | [`PartialArgument`], [`Completion`] |
//! | report progress | [`RequestContext::progress`], [`Amount`] |
//! | stop work on another thread | [`RequestContext::cancellation`], [`CancellationToken`] |
//! | ask the client | [`InteractiveContext`], [`Elicited`], [`TitledOption`]; [`form`] for forms by hand, [`sampling`] |
//! | know the caller | [`Principal`], [`Authorization`], [`ScopeNames`], [`Enforcement`] |
#![cfg_attr(
    feature = "token-exchange",
    doc = "| call another service as the caller | [`TokenExchangeContext`], [`TokenTarget`], [`ExchangedToken`] |"
)]
#![cfg_attr(
    not(feature = "token-exchange"),
    doc = "| call another service as the caller | `TokenExchangeContext`, with the feature `token-exchange` |"
)]
//! | know the client | [`ClientCapabilities`], [`Implementation`], [`ProtocolVersion`], [`RequestId`], [`LoggingLevel`] |
//! | let clients cache | [`Caching`], [`List`] |
#![cfg_attr(feature = "postgres", doc = "| use Postgres | [`postgres`] |")]
#![cfg_attr(not(feature = "postgres"), doc = "| use Postgres | `postgres`, with the feature of that name |")]
#![cfg_attr(feature = "https", doc = "| send requests | [`https`] |")]
#![cfg_attr(not(feature = "https"), doc = "| send requests | `https`, with the feature of that name |")]
//! | write by hand what types cannot say | [`Tool::raw`], [`JsonObject`] |
//! | handle errors and foreign data | [`BoxError`], [`error_chain`], [`json`], [`uri`] |
//! | serve other paths, add layers | [`McpService::route`], [`McpService::public_route`], [`McpService::layer`]; [`transport::Body`] |
//! | write a `main` or a transport of your own | [`McpService::into_lambda_service`] for `lambda_runtime::run`; [`transport`] |
//!
//! # Features
//!
//! None is on by default.
//!
//! | Feature | What it adds |
//! | --- | --- |
//! | `auth` | callers are authenticated by OIDC tokens |
//! | `https` | handlers send requests, with limits and protection against server-side request forgery |
//! | `interactive` | handlers ask the client: [`InteractiveContext`] |
//! | `otel` | spans are sent to an OpenTelemetry collector |
//! | `postgres` | one Postgres connection for each request that an environment serves at once |
//! | `token-exchange` | a handler gets a token for another service in exchange for the caller's: `TokenExchangeContext` |
//! | `raw-schema` | tools have hand-written schemas: [`Tool::raw`] |
//!
#![doc = include_str!("guide/handlers.md")]
#![cfg_attr(feature = "postgres", doc = include_str!("guide/database.md"))]

mod authentication;
mod body;
mod call_log;
mod config;
mod era;
mod events;
mod headers;
mod http;
mod invocations;
mod lambda_service;
mod logs;
mod origin;
mod platform;
mod run;
mod runtime_api;
mod shutdown;
mod sse;
#[cfg(feature = "token-exchange")]
mod token_exchange;
mod traces;
pub mod transport;

pub use self::http::McpService;
pub use config::{Env, FromEnv, HttpConfig};
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

/// Forms made by hand, for [`InteractiveContext::elicit_form`].
pub mod form {
    #[doc(inline)]
    pub use mcp_protocol::{
        BooleanSchema, LegacyTitledEnumSchema, MultiSelectField, NumberSchema, PrimitiveSchemaDefinition, Properties,
        RequestedSchema, StringField, StringSchema, TitledItems, TitledMultiSelectEnumSchema,
        TitledSingleSelectEnumSchema, UntitledItems, UntitledMultiSelectEnumSchema, UntitledSingleSelectEnumSchema,
    };
}

/// Questions to the client's model and for its root directories, both deprecated in 2026-07-28: for
/// [`InteractiveContext::sample`] and [`InteractiveContext::list_roots`].
pub mod sampling {
    #[doc(inline)]
    pub use mcp_protocol::{
        CreateMessageRequestParams, CreateMessageResult, IncludeContext, ModelHint, ModelPreferences, OneOrMany, Root,
        SamplingMessage, SamplingMessageContentBlock, ToolChoice, ToolChoiceMode, ToolResultContent, ToolUseContent,
    };
}

/// Outbound requests, with the feature `https`.
///
/// A [`Client`](https::Client) belongs into the server's state, so that its connections are used again. Choose
/// [`Client::foreign`](https::Client::foreign) for URLs that come from arguments or documents, and
/// [`Client::trusted`](https::Client::trusted) for those that the operator sets. Pass on the request's deadline.
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
///         // The URL, or an address that is not public.
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

/// A Postgres database, with the feature `postgres`.
#[cfg(feature = "postgres")]
pub mod postgres {
    #[doc(inline)]
    pub use mcp_postgres::*;
}
