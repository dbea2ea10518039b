//! A tool: a handler, and what clients are told about it.

use std::{fmt, marker::PhantomData, sync::Arc};

use garde::Validate;
use mcp_protocol::{ClientCapabilities, JsonObject, MirroredParameter, ToolAnnotations, mirrored_parameters};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

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
    schema::{self, Author, NewResultCheck},
};

/// Characters and length that a tool's name may have (2026-07-28, Tools, "Tool Names").
const MAX_NAME_CHARS: usize = 128;

/// A tool of a server with state `S`.
///
/// Built from an async function over a typed argument struct. Whatever clients need to know follows from the types;
/// the rest is said with the methods below.
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
///     /// What is divided.
///     dividend: i64,
///     /// By what; not 0.
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
///         // The model reads it, and can do better.
///         _ => Err(HandlerError::invalid_input("`divisor` must not be 0")),
///     }
/// }
///
/// let tool = Tool::new("divide", divide).description("Divides integers.").read_only().idempotent();
/// # assert_eq!(tool.name(), "divide");
/// ```
pub struct Tool<S> {
    pub(crate) definition: mcp_protocol::Tool,
    pub(crate) handler: Handler,
    pub(crate) required_capabilities: ClientCapabilities,
    pub(crate) cipher: Option<NewCipher>,
    pub(crate) requirement: Requirement,
    pub(crate) mirrored: Vec<MirroredParameter>,
    raw_schema: Option<RawSchema>,
    pub(crate) new_result_check: Option<NewResultCheck>,
    state: PhantomData<fn(S)>,
}

/// How a tool is called.
pub(crate) enum Handler {
    /// With arguments of a type.
    Typed(TypedHandler),
    /// With arguments that fit a hand-written schema.
    Raw(RawHandler),
}

/// Reads the arguments; returns the running handler, or, for the model, what is wrong with them.
type TypedHandler =
    Box<dyn Fn(Arc<CallContext>, Option<&RawValue>, &Value) -> Result<HandlerFuture<ToolOutput>, String> + Send + Sync>;

type RawHandler = Box<dyn Fn(Arc<CallContext>, JsonObject) -> HandlerFuture<ToolOutput> + Send + Sync>;

/// What becomes of a hand-written schema when the server is built. A plain function pointer, so that a server without
/// one does not link a JSON Schema validator.
struct RawSchema {
    /// As its author wrote it: arguments are checked against it, and errors name its keywords.
    schema: Value,
    compile: Option<Compile>,
}

impl<S: Send + Sync + 'static> Tool<S> {
    /// A tool named `name` that `handler` serves.
    ///
    /// The argument type derives `Deserialize`, `JsonSchema` and `Validate`: its fields, their doc comments and their
    /// bounds become the input schema, and arguments that break it never reach the handler. [`Arguments`] lists what each
    /// type becomes. Write `#[garde(length(chars, ..))]` for strings: a schema counts characters, garde bytes by default.
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
        let call = Handler::Typed(call);
        Self { cipher: C::cipher(), ..Self::with_schema(name.into(), input_schema, output_of::<T>(), call, None) }
    }

    /// A tool whose input schema is written by hand, for what types cannot say. Needs the feature `raw-schema`. Arguments are checked against it before the
    /// handler gets them as JSON, unless the tool is [`unvalidated`](Self::unvalidated). The dialect is the one that `$schema`
    /// names (drafts 4, 6, 7, 2019-09 and 2020-12), 2020-12 without; no reference is fetched.
    ///
    /// Clients see a schema of 2020-12 rewritten as those of types are ([`Arguments`]), and accepting the same; its `$ref`s
    /// stay. Schemas of other dialects stay as they are. A rule between parameters that takes `oneOf`, `anyOf`, `not` or `enum`
    /// at the root goes into the description, and into the handler. Some model APIs reject `allOf` there, too.
    ///
    /// A schema that refers to itself in several places, such as a union of trees, takes arguments of a few levels only: 16 with
    /// two such references, 8 with four. The first violation is named, with its place if the arguments have at most 4 KiB.
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
    ///             "description": "Names of the stops, each once.",
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
    /// As [`new`](Self::new) does, and when a `$ref` points into a part of the schema that is rewritten; building the server
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
            ..Self::with_schema(name.into(), input_schema, output_of::<T>(), Handler::Raw(call), raw_schema)
        }
    }

    #[track_caller]
    fn with_schema(
        name: String,
        input_schema: Value,
        output: Option<(Value, NewResultCheck)>,
        handler: Handler,
        raw_schema: Option<RawSchema>,
    ) -> Self {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        assert!(
            (1..=MAX_NAME_CHARS).contains(&name.len()) && name.chars().all(is_allowed),
            "tool name `{name}`: use 1 to {MAX_NAME_CHARS} of A-Z a-z 0-9 _ - ."
        );
        let (output_schema, new_result_check) = output.unzip();
        let author = if raw_schema.is_some() { Author::Person } else { Author::Derive };
        let input_schema = schema::tool_input_schema(input_schema, author)
            .unwrap_or_else(|mistake| panic!("tool `{name}`: {mistake}"));
        let mirrored = mirrored_parameters(&input_schema).unwrap_or_else(|mistake| panic!("tool `{name}`: {mistake}"));
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
            new_result_check,
            state: PhantomData,
        }
    }

    /// A name for people.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        let title = title.into();
        self.annotations().title = Some(title.clone());
        self.definition.title = Some(title);
        self
    }

    /// The tool changes nothing.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.annotations().read_only_hint = Some(true);
        self.annotations().destructive_hint = Some(false);
        self
    }

    /// Whether the tool may destroy or overwrite something. Clients assume so unless told.
    #[must_use]
    pub fn destructive(mut self, destructive: bool) -> Self {
        self.annotations().destructive_hint = Some(destructive);
        self
    }

    /// Calling the tool twice with the same arguments does nothing more than calling it once.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.annotations().idempotent_hint = Some(true);
        self
    }

    /// Whether the tool touches a world beyond the server's own, such as the web. Clients assume so unless told.
    #[must_use]
    pub fn open_world(mut self, open_world: bool) -> Self {
        self.annotations().open_world_hint = Some(open_world);
        self
    }

    /// The tool works only for clients with these capabilities; others are refused before the handler runs.
    #[must_use]
    pub fn requires_client(mut self, capabilities: ClientCapabilities) -> Self {
        self.required_capabilities = capabilities;
        self
    }

    /// Arguments are not checked against the hand-written schema; the handler does that itself.
    ///
    /// # Panics
    ///
    /// When the schema comes from a type: there, reading the arguments is the check.
    #[must_use]
    #[track_caller]
    pub fn unvalidated(mut self) -> Self {
        match &mut self.raw_schema {
            Some(raw_schema) => raw_schema.compile = None,
            None => panic!("tool `{}`: only a tool made with `Tool::raw` can be unvalidated", self.definition.name),
        }
        self
    }

    item_setters!("What the tool does and when to use it. The model chooses by this.", "Pictures of the tool.");

    /// The tool's name.
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    fn annotations(&mut self) -> &mut ToolAnnotations {
        self.definition.annotations.get_or_insert_default()
    }
}

impl<S> Tool<S> {
    /// The same at a server, whose state it finds when it runs.
    pub(crate) fn registered(self) -> Tool<Registered> {
        let Self { definition, handler, required_capabilities, cipher, requirement, mirrored, raw_schema, .. } = self;
        let (new_result_check, state) = (self.new_result_check, PhantomData);
        Tool {
            definition,
            handler,
            required_capabilities,
            cipher,
            requirement,
            mirrored,
            raw_schema,
            new_result_check,
            state,
        }
    }

    /// The check of a hand-written schema, compiled.
    pub(crate) fn compile_check(&self) -> Result<Option<Check>, String> {
        let Some(RawSchema { schema, compile: Some(Compile(compile)) }) = &self.raw_schema else { return Ok(None) };
        compile(schema).map(Some)
    }
}

/// The output schema of a handler's results, and what makes their check. Without a schema the check is not even linked.
fn output_of<T: IntoToolOutput>() -> Option<(Value, NewResultCheck)> {
    T::output_schema().map(|schema| (schema, schema::result_check as NewResultCheck))
}

fn finish<T: IntoToolOutput>(result: Result<T, HandlerError>) -> Result<ToolOutput, HandlerError> {
    result?.into_tool_output().map_err(|error| HandlerError(Reason::Unserializable(error)))
}

impl<S> fmt::Debug for Tool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool").field("definition", &self.definition).finish_non_exhaustive()
    }
}

/// Arguments of a tool that takes none.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
// The comment above is for readers of this crate, not for models.
#[schemars(description = "")]
pub struct NoArguments {}
