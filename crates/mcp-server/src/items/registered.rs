//! Items as a built server holds them: the state is bound to their handlers, so that its type is not needed any more.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use mcp_protocol::{ClientCapabilities, Completion, MirroredParameter, PromptMessage, uri::NormalUri};
use serde_json::{Value, value::RawValue};

use super::{
    completion::{Completer, PartialArgument},
    output::ToolOutput,
    prompt::Prompt,
    resource::{Resource, ResourceOutput, ResourcePage, ResourceTemplate},
    tool::{Handler, Tool},
    uri_template::UriTemplate,
};
use crate::{
    Caching, arguments,
    handler::{
        context::{CallContext, RequestContext},
        error::HandlerFuture,
    },
    interaction::request_state::NewCipher,
    policy::requirement::Requirement,
    schema::{CheckResult, Violation},
};

/// Starts a handler for one call.
type Start<I, T> = Box<dyn Fn(Arc<CallContext>, I) -> HandlerFuture<T> + Send + Sync>;

/// Reads the arguments of one call; returns the running handler, or, for the model, what is wrong with them.
type Read<T> = Box<dyn Fn(Arc<CallContext>, Option<&RawValue>) -> Result<HandlerFuture<T>, String> + Send + Sync>;
type ReadBySchema<T> =
    Box<dyn Fn(Arc<CallContext>, Option<&RawValue>, &Value) -> Result<HandlerFuture<T>, String> + Send + Sync>;

/// Completers by the argument.
type Completers = HashMap<String, BoundCompleter>;

pub(crate) type BoundCompleter = Start<PartialArgument, Completion>;

/// A tool of a built server.
pub(crate) struct RegisteredTool {
    pub(crate) definition: mcp_protocol::Tool,
    pub(crate) required_capabilities: ClientCapabilities,
    pub(crate) cipher: Option<NewCipher>,
    pub(crate) requirement: Requirement,
    pub(crate) mirrored: Vec<MirroredParameter>,
    pub(crate) result_check: ResultCheck,
    read: ReadBySchema<ToolOutput>,
}

impl RegisteredTool {
    #[track_caller]
    pub(crate) fn new<S: Send + Sync + 'static>(tool: Tool<S>, state: &Arc<S>) -> Self {
        let name = tool.name();
        let check = tool.compile_check().unwrap_or_else(|mistake| panic!("tool `{name}`: its schema: {mistake}"));
        let result_check = tool.new_result_check.zip(tool.definition.output_schema.as_ref());
        let result_check = ResultCheck(result_check.map(|(new, schema)| new(schema).into()));
        let state = Arc::clone(state);
        let read: ReadBySchema<_> = match tool.handler {
            Handler::Typed(handler) => {
                Box::new(move |call, raw, schema| handler(RequestContext::new(Arc::clone(&state), call), raw, schema))
            }
            Handler::Raw(handler) => Box::new(move |call, raw, schema| {
                let bytes = raw.map_or(0, |raw| raw.get().len());
                let arguments = Value::Object(arguments::parse_object(raw, schema)?);
                if let Some(check) = &check {
                    check(&arguments, bytes)?;
                }
                // What was checked is what the handler gets.
                let Value::Object(arguments) = arguments else { unreachable!("it was made an object above") };
                Ok(handler(RequestContext::new(Arc::clone(&state), call), arguments))
            }),
        };
        Self {
            definition: tool.definition,
            required_capabilities: tool.required_capabilities,
            cipher: tool.cipher,
            requirement: tool.requirement,
            mirrored: tool.mirrored,
            result_check,
            read,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.definition.name
    }

    /// Reads the arguments and starts the handler.
    pub(crate) fn start(
        &self,
        call: Arc<CallContext>,
        arguments: Option<&RawValue>,
    ) -> Result<HandlerFuture<ToolOutput>, String> {
        (self.read)(call, arguments, &self.definition.input_schema)
    }
}

/// The check of a tool's results against its output schema, if it has one.
#[derive(Clone)]
pub(crate) struct ResultCheck(Option<Arc<dyn CheckResult>>);

impl ResultCheck {
    /// Checks a result. A failed call has none.
    pub(crate) fn check(&self, output: &ToolOutput) -> Result<(), Violation> {
        match (&self.0, &output.structured_content) {
            (Some(check), Some(result)) if !output.is_error => check.check(result.get()),
            (Some(_), None) if !output.is_error => Err(Violation::missing_result()),
            _ => Ok(()),
        }
    }
}

/// A prompt of a built server.
pub(crate) struct RegisteredPrompt {
    pub(crate) definition: mcp_protocol::Prompt,
    pub(crate) read: Read<Vec<PromptMessage>>,
    pub(crate) completers: Completers,
    pub(crate) cipher: Option<NewCipher>,
    pub(crate) requirement: Requirement,
}

impl RegisteredPrompt {
    pub(crate) fn new<S: Send + Sync + 'static>(prompt: Prompt<S>, state: &Arc<S>) -> Self {
        let Prompt { definition, handler, completers, cipher, requirement } = prompt;
        let completers = bind_completers(completers, state);
        let state = Arc::clone(state);
        let read: Read<_> = Box::new(move |call, raw| handler(RequestContext::new(Arc::clone(&state), call), raw));
        Self { definition, read, completers, cipher, requirement }
    }
}

/// A resource of a built server.
pub(crate) struct RegisteredResource {
    pub(crate) definition: mcp_protocol::Resource,
    pub(crate) uri: NormalUri,
    pub(crate) start: Start<(), ResourceOutput>,
    pub(crate) caching: Caching,
    pub(crate) is_subscribable: bool,
    pub(crate) cipher: Option<NewCipher>,
    pub(crate) requirement: Requirement,
}

impl RegisteredResource {
    pub(crate) fn new<S: Send + Sync + 'static>(resource: Resource<S>, state: &Arc<S>) -> Self {
        let Resource { definition, uri, handler, caching, is_subscribable, cipher, requirement } = resource;
        let start = bind(move |context, ()| handler(context), state);
        Self { definition, uri, start, caching, is_subscribable, cipher, requirement }
    }
}

/// A resource template of a built server.
pub(crate) struct RegisteredTemplate {
    pub(crate) definition: mcp_protocol::ResourceTemplate,
    pub(crate) pattern: UriTemplate,
    pub(crate) start: Start<BTreeMap<String, String>, ResourceOutput>,
    /// Shared with the requests that list, which may outlive their look-up.
    pub(crate) lister: Option<Arc<Start<Option<String>, ResourcePage>>>,
    pub(crate) completers: Completers,
    pub(crate) caching: Caching,
    pub(crate) cipher: Option<NewCipher>,
    pub(crate) requirement: Requirement,
}

impl RegisteredTemplate {
    pub(crate) fn new<S: Send + Sync + 'static>(template: ResourceTemplate<S>, state: &Arc<S>) -> Self {
        let ResourceTemplate { definition, pattern, handler, lister, completers, caching, cipher, requirement } =
            template;
        let start = bind(move |context, values| handler(context, values), state);
        let lister = lister.map(|list| Arc::new(bind(move |context, cursor| list(context, cursor), state)));
        let completers = bind_completers(completers, state);
        Self { definition, pattern, start, lister, completers, caching, cipher, requirement }
    }
}

fn bind<S: Send + Sync + 'static, I, T>(
    handler: impl Fn(RequestContext<S>, I) -> HandlerFuture<T> + Send + Sync + 'static,
    state: &Arc<S>,
) -> Start<I, T> {
    let state = Arc::clone(state);
    Box::new(move |call, input| handler(RequestContext::new(Arc::clone(&state), call), input))
}

fn bind_completers<S: Send + Sync + 'static>(own: HashMap<String, Completer<S>>, state: &Arc<S>) -> Completers {
    let bound = own
        .into_iter()
        .map(|(argument, complete)| (argument, bind(move |context, typed| complete(context, typed), state)));
    bound.collect()
}
