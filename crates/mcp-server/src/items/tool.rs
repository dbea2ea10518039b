//! Tools: handlers and their definitions.

use std::{fmt, marker::PhantomData, sync::Arc};

use garde::Validate;
use mcp_protocol::{ClientCapabilities, JsonObject, MirroredParameter, ToolAnnotations, mirrored_parameters};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

#[cfg(feature = "limits")]
use crate::limits::rate_limit::RateLimit;
use crate::{
    Arguments, HandlerContext, HandlerError, RequestContext, arguments,
    arguments::raw::{Check, Compile, RawSchemaFeature},
    handler::{
        context::CallContext,
        error::{HandlerFuture, Reason},
    },
    interaction::request_state::NewCipher,
    items::output::{IntoToolOutput, ToolOutput},
    items::registered::Registered,
    items::setters::item_setters,
    policy::requirement::Requirement,
    schema::{self, NewResultValidator, SchemaOrigin},
};

/// Maximum length of a tool's name (2026-07-28, Tools, "Tool Names").
const MAX_NAME_CHARS: usize = 128;

/// A tool of a server with state `S`.
///
/// Built from an async function over a typed argument struct. Schemas are derived from the types; the methods below
/// set the rest.
///
/// ```
/// # use mcp_server as mcp_lambda;
/// use garde::Validate;
/// use mcp_lambda::{HandlerError, Json, Tool, ToolContext};
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize, JsonSchema, Validate)]
/// #[serde(deny_unknown_fields)]
/// #[garde(allow_unvalidated)]
/// struct DivideArgs {
///     /// The dividend.
///     dividend: i64,
///     /// The divisor; not 0.
///     divisor: i64,
/// }
///
/// #[derive(Serialize, JsonSchema)]
/// struct Quotient {
///     quotient: i64,
///     remainder: i64,
/// }
///
/// async fn divide(_: ToolContext<()>, args: DivideArgs) -> Result<Json<Quotient>, HandlerError> {
///     let quotient = args.dividend.checked_div(args.divisor);
///     let remainder = args.dividend.checked_rem(args.divisor);
///     match (quotient, remainder) {
///         (Some(quotient), Some(remainder)) => Ok(Json(Quotient { quotient, remainder })),
///         // The text is sent to the model, which can correct its call.
///         _ => Err(HandlerError::invalid_input("`divisor` must not be 0")),
///     }
/// }
///
/// let tool = Tool::new("divide", divide).description("Divides integers.").read_only().idempotent();
/// # assert_eq!(tool.name(), "divide");
/// ```
pub struct Tool<S> {
    pub(crate) definition: mcp_protocol::Tool,
    pub(crate) handler: ToolHandler,
    pub(crate) required_capabilities: ClientCapabilities,
    pub(crate) cipher: Option<NewCipher>,
    pub(crate) requirement: Requirement,
    pub(crate) mirrored: Vec<MirroredParameter>,
    raw_schema: Option<RawSchema>,
    pub(crate) new_result_validator: Option<NewResultValidator>,
    #[cfg(feature = "limits")]
    pub(crate) limit: Option<RateLimit>,
    #[cfg(feature = "tasks")]
    pub(crate) task: Option<crate::Task>,
    state: PhantomData<fn(S)>,
}

/// The handler of a tool.
pub(crate) enum ToolHandler {
    /// For arguments of a type.
    Typed(TypedHandler),
    /// For arguments with a hand-written schema.
    Raw(RawHandler),
}

/// Parses the arguments; returns the running handler, or the message about invalid arguments, for the model.
type TypedHandler =
    Box<dyn Fn(Arc<CallContext>, Option<&RawValue>, &Value) -> Result<HandlerFuture<ToolOutput>, String> + Send + Sync>;

type RawHandler = Box<dyn Fn(Arc<CallContext>, JsonObject) -> HandlerFuture<ToolOutput> + Send + Sync>;

/// A hand-written schema, compiled when the server is built. A plain function pointer, so that a server without one
/// does not link a JSON Schema validator.
struct RawSchema {
    /// The author's schema: arguments are validated against it, and errors name its keywords.
    schema: Value,
    compile: Option<Compile>,
}

impl<S: Send + Sync + 'static> Tool<S> {
    /// Creates a tool named `name` with its `handler`.
    ///
    /// The argument type derives `Deserialize`, `JsonSchema` and `Validate`. Its fields, their doc comments and their
    /// bounds become the input schema, and invalid arguments never reach the handler. [`Arguments`] lists the schema
    /// of each type. Write `#[garde(length(chars, ..))]` for strings: a schema counts characters, garde bytes by
    /// default.
    ///
    /// # Panics
    ///
    /// When the name is not 1 to 128 of `A-Z a-z 0-9 _ - .`; when the schema does not describe an object, is a union, or has
    /// a property with a name that model APIs reject; when an `x-mcp-header` annotation breaks the specification's rules.
    /// No client could use the tool.
    #[track_caller]
    pub fn new<C, A, T, F, Fut>(name: impl Into<String>, handler: F) -> Self
    where
        C: HandlerContext<State = S>,
        A: Arguments,
        T: IntoToolOutput + 'static,
        F: Fn(C, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, HandlerError>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let call: TypedHandler = Box::new(move |call, raw, input_schema| {
            let arguments = arguments::parse::<A>(raw, input_schema)?;
            let (handler, context) = (Arc::clone(&handler), C::from_context(RequestContext::of(call)));
            Ok(Box::pin(async move { finish(handler(context, arguments).await) }))
        });
        let input_schema = schema::input_schema_of::<A>();
        let call = ToolHandler::Typed(call);
        Self { cipher: C::cipher(), ..Self::with_schema(name.into(), input_schema, output_of::<T>(), call, None) }
    }

    /// Creates a tool with a hand-written input schema, for rules that types cannot express. Needs the feature
    /// `raw-schema`. Arguments are validated against it before the handler receives them as JSON, unless the tool is
    /// [`unvalidated`](Self::unvalidated). The dialect is that of `$schema` (drafts 4, 6, 7, 2019-09 and 2020-12),
    /// 2020-12 by default; references are never fetched.
    ///
    /// Clients receive a schema of 2020-12 rewritten as those of types are ([`Arguments`]), which accepts the same
    /// values; its `$ref`s stay. Schemas of other dialects are not rewritten. Put a rule between parameters that
    /// needs `oneOf`, `anyOf`, `not` or `enum` at the root into the description, and check it in the handler. Some
    /// model APIs also reject `allOf` there.
    ///
    /// A schema that refers to itself in several places, such as a union of trees, accepts arguments of a few levels
    /// only: 16 with two such references, 8 with four. The first violation is reported, with its path if the
    /// arguments have at most 4 KiB.
    ///
    #[cfg_attr(feature = "raw-schema", doc = "```")]
    #[cfg_attr(not(feature = "raw-schema"), doc = "```ignore")]
    /// # mod mcp_lambda { pub use mcp_protocol::JsonObject; pub use mcp_server::*; }
    /// use mcp_lambda::{HandlerError, JsonObject, Tool, ToolContext};
    /// use serde_json::json;
    ///
    /// let schema = json!({
    ///     "type": "object",
    ///     "properties": {
    ///         "stops": {
    ///             "description": "Names of the stops, without duplicates.",
    ///             "type": "array", "items": { "type": "string" }, "minItems": 2, "uniqueItems": true,
    ///         },
    ///     },
    ///     "required": ["stops"],
    ///     "additionalProperties": false,
    /// });
    ///
    /// async fn find_route(_: ToolContext<()>, args: JsonObject) -> Result<String, HandlerError> {
    ///     Ok(format!("{} stops", args["stops"].as_array().map_or(0, Vec::len)))
    /// }
    ///
    /// let tool = Tool::<()>::raw("find_route", schema, find_route).read_only();
    /// # let _ = tool;
    /// ```
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new), and when a `$ref` points into a part of the schema that is rewritten. [`Server::tool`](crate::Server::tool)
    /// panics when the schema cannot be compiled.
    #[track_caller]
    pub fn raw<C, T, F, Fut>(name: impl Into<String>, input_schema: Value, handler: F) -> Self
    where
        C: HandlerContext<State = S>,
        T: IntoToolOutput + 'static,
        F: Fn(C, JsonObject) -> Fut + RawSchemaFeature + Send + Sync + 'static,
        Fut: Future<Output = Result<T, HandlerError>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let call: RawHandler = Box::new(move |call, arguments| {
            let (handler, context) = (Arc::clone(&handler), C::from_context(RequestContext::of(call)));
            Box::pin(async move { finish(handler(context, arguments).await) })
        });
        let raw_schema = Some(RawSchema { schema: input_schema.clone(), compile: Some(F::compile()) });
        Self {
            cipher: C::cipher(),
            ..Self::with_schema(name.into(), input_schema, output_of::<T>(), ToolHandler::Raw(call), raw_schema)
        }
    }

    #[track_caller]
    fn with_schema(
        name: String,
        input_schema: Value,
        output: Option<(Value, NewResultValidator)>,
        handler: ToolHandler,
        raw_schema: Option<RawSchema>,
    ) -> Self {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        assert!(
            (1..=MAX_NAME_CHARS).contains(&name.len()) && name.chars().all(is_allowed),
            "tool name `{name}`: use 1 to {MAX_NAME_CHARS} of A-Z a-z 0-9 _ - ."
        );
        let (output_schema, new_result_validator) = output.unzip();
        let origin = if raw_schema.is_some() { SchemaOrigin::HandWritten } else { SchemaOrigin::Derived };
        let input_schema =
            schema::tool_input_schema(input_schema, origin).unwrap_or_else(|error| panic!("tool `{name}`: {error}"));
        let mirrored = mirrored_parameters(&input_schema).unwrap_or_else(|error| panic!("tool `{name}`: {error}"));
        Self {
            definition: mcp_protocol::Tool {
                name,
                title: None,
                description: None,
                input_schema,
                output_schema: output_schema.map(schema::for_clients),
                annotations: None,
                icons: Vec::new(),
                meta: None,
            },
            handler,
            required_capabilities: ClientCapabilities::default(),
            cipher: None,
            requirement: Requirement::default(),
            mirrored,
            raw_schema,
            new_result_validator,
            #[cfg(feature = "limits")]
            limit: None,
            #[cfg(feature = "tasks")]
            task: None,
            state: PhantomData,
        }
    }

    /// Sets the display name.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        let title = title.into();
        self.annotations().title = Some(title.clone());
        self.definition.title = Some(title);
        self
    }

    /// Marks the tool as read-only.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.annotations().read_only_hint = Some(true);
        self.annotations().destructive_hint = Some(false);
        self
    }

    /// Declares whether the tool may delete or overwrite data. Clients assume so by default.
    #[must_use]
    pub fn destructive(mut self, destructive: bool) -> Self {
        self.annotations().destructive_hint = Some(destructive);
        self
    }

    /// Marks the tool as idempotent: a second call with the same arguments has no further effect.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.annotations().idempotent_hint = Some(true);
        self
    }

    /// Declares whether the tool interacts with external systems, such as the web. Clients assume so by default.
    #[must_use]
    pub fn open_world(mut self, open_world: bool) -> Self {
        self.annotations().open_world_hint = Some(open_world);
        self
    }

    /// Requires client capabilities: calls of other clients are rejected before the handler runs.
    #[must_use]
    pub fn requires_client(mut self, capabilities: ClientCapabilities) -> Self {
        self.required_capabilities = capabilities;
        self
    }

    /// Limits the calls of this tool by each caller. They count under the limit of the [server](crate::Server::limit), too, and so does a
    /// call that this limit rejects.
    ///
    /// An authenticated caller over the limit gets a tool result with `isError`, whose text says when to try again.
    #[cfg(feature = "limits")]
    #[must_use]
    pub fn limit(self, limit: RateLimit) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Passes arguments to the handler without validation against the hand-written schema.
    ///
    /// # Panics
    ///
    /// When the schema is derived from a type, where parsing validates the arguments.
    #[must_use]
    #[track_caller]
    pub fn unvalidated(mut self) -> Self {
        match &mut self.raw_schema {
            Some(raw_schema) => raw_schema.compile = None,
            None => panic!("tool `{}`: only a tool created with `Tool::raw` can be unvalidated", self.definition.name),
        }
        self
    }

    /// Lets calls outlive their request, as tasks. Needs the feature `tasks`, and a server with a [store](crate::Server::store).
    ///
    /// # Panics
    ///
    /// When the handler does not take an [`InteractiveContext`](crate::InteractiveContext).
    #[cfg(feature = "tasks")]
    #[must_use]
    #[track_caller]
    pub fn task(mut self, task: crate::Task) -> Self {
        let name = &self.definition.name;
        assert!(self.cipher.is_some(), "tool `{name}`: the handler of a task takes an `InteractiveContext`");
        self.task = Some(task);
        self
    }

    item_setters!(
        "Sets the description: effect and use of the tool. The model selects tools by it.",
        "Sets the icons."
    );

    /// Reports whether calls may become tasks.
    #[cfg(feature = "tasks")]
    pub fn may_become_task(&self) -> bool {
        self.task.is_some()
    }

    /// Returns the tool's name.
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    fn annotations(&mut self) -> &mut ToolAnnotations {
        self.definition.annotations.get_or_insert_default()
    }
}

impl<S> Tool<S> {
    /// Erases the type of the state, which the handler downcasts when it runs.
    pub(crate) fn registered(self) -> Tool<Registered> {
        let Self { definition, handler, required_capabilities, cipher, requirement, mirrored, raw_schema, .. } = self;
        let (new_result_validator, state) = (self.new_result_validator, PhantomData);
        #[cfg(feature = "limits")]
        let limit = self.limit;
        #[cfg(feature = "tasks")]
        let task = self.task;
        Tool {
            definition,
            handler,
            required_capabilities,
            cipher,
            requirement,
            mirrored,
            raw_schema,
            new_result_validator,
            #[cfg(feature = "limits")]
            limit,
            #[cfg(feature = "tasks")]
            task,
            state,
        }
    }

    /// Compiles a hand-written schema.
    pub(crate) fn compile_check(&self) -> Result<Option<Check>, String> {
        let Some(RawSchema { schema, compile: Some(Compile(compile)) }) = &self.raw_schema else { return Ok(None) };
        compile(schema).map(Some)
    }
}

/// Returns the output schema of a handler's results, and the constructor of their validation, which is not linked
/// without a schema.
fn output_of<T: IntoToolOutput>() -> Option<(Value, NewResultValidator)> {
    T::output_schema().map(|schema| (schema, schema::result_validator as NewResultValidator))
}

fn finish<T: IntoToolOutput>(result: Result<T, HandlerError>) -> Result<ToolOutput, HandlerError> {
    result?.into_tool_output().map_err(|error| HandlerError(Reason::Unserializable(error)))
}

impl<S> fmt::Debug for Tool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool").field("definition", &self.definition).finish_non_exhaustive()
    }
}

/// Arguments of a tool without arguments.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
// The comment above documents this crate, and is not sent to models.
#[schemars(description = "")]
pub struct NoArguments {}
