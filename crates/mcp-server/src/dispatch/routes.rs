//! One request in, one answer out: the typed half of a router.
//!
//! Whatever can be answered from what is rendered once is answered at once; a handler is a future.
//! Nothing is remembered between requests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use mcp_protocol::{
    CallToolRequestParams, CallToolResult, CompleteRequestParams, CompleteResult, Completion, CompletionReference,
    GetPromptRequestParams, GetPromptResult, Implementation, JsonObject, LoggingLevel, MirroredParameter,
    PaginatedRequestParams, ProtocolVersion, ResultType, Retry,
    json::{self, Budget, shortened},
    meta, method,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tracing::Span;

use crate::{
    Answer, Call, CallError, CallOutcome, InitError, Introduction, PartialArgument, Principal, Prompt, Rendered,
    RequestContext, Resource, ResourceTemplate, ResultKind, Server, Settings, StateKey, Tool, ToolOutput, arguments,
    arguments::raw::Check,
    dispatch::lists::Lists,
    dispatch::resources::ItemAt,
    dispatch::router::{AnyRoutes, Hooked, Target},
    dispatch::run::{Item, Rounds, needs_modern_client, start},
    handler::error::HandlerFuture,
    handler::interactive::Interaction,
    interaction::request_state::{Binding, MAX_STATE_BYTES, NewCipher, RequestState, StateCipher},
    items::completion::Completer,
    items::tool::Handler,
    policy::{Policy, Requirement},
    schema::{CheckResult, Violation},
    server::{CloseHook, Hook},
};

/// What is typed, and the values of other arguments: names and short texts.
const MAX_COMPLETION_BYTES: usize = 64 * 1024;

/// What [`Router`](crate::Router) does, of a server with a state of type `S`.
pub(crate) struct Routes<S> {
    pub(crate) inner: Arc<Inner<S>>,
}

pub(crate) struct Inner<S> {
    pub(crate) state: Arc<S>,
    pub(crate) info: Implementation,
    pub(crate) instructions: Option<String>,
    pub(crate) server_info: Value,
    /// The end of a modern result's JSON text: `_meta`, and the brace after it.
    rendered_meta: String,
    pub(crate) cipher: Option<Box<dyn StateCipher>>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) tools: Vec<RegisteredTool<S>>,
    tools_by_name: HashMap<String, usize>,
    pub(crate) prompts: Vec<Prompt<S>>,
    pub(crate) resources: Vec<Resource<S>>,
    pub(crate) templates: Vec<ResourceTemplate<S>>,
    pub(crate) lists: Lists,
    close: Mutex<Option<CloseHook<S>>>,
    before_snapshot: Option<Hook<S>>,
    after_restore: Option<Hook<S>>,
}

pub(crate) struct RegisteredTool<S> {
    pub(crate) tool: Tool<S>,
    check: Option<Check>,
    result_check: Option<Box<dyn CheckResult>>,
}

impl<S: Send + Sync + 'static> Routes<S> {
    #[track_caller]
    pub(crate) fn new(mut server: Server<S>, settings: Settings) -> Result<Self, InitError> {
        let cipher = match (server.interactive_item(), &settings.state_key) {
            (None, _) => None,
            (Some((_, new_cipher)), Some(key)) => Some(make_cipher(new_cipher, key, &server.info.name)?),
            (Some((item, _)), None) => {
                return Err(InitError::new(format!(
                    "MCP_STATE_KEY must be set, since the {item} asks the client: 32 random bytes in Base64, the same for \
                     all environments, such as `openssl rand -base64 32` prints"
                )));
            }
        };
        let policy = Policy::of(&mut server, settings.authorization)?;
        for tool in &mut server.tools {
            if let Some(schemes) = policy.security_schemes(&tool.requirement) {
                tool.definition.meta.get_or_insert_default().extend(schemes);
            }
        }
        let lists = Lists::new(&server, &policy);
        let server_info = to_value(&server.info);
        let inner = Inner {
            state: server.state,
            rendered_meta: format!(r#","_meta":{}}}"#, Value::Object(result_meta(&server_info))),
            server_info,
            info: server.info,
            instructions: server.instructions,
            cipher,
            policy: Arc::new(policy),
            tools: server.tools.into_iter().map(RegisteredTool::new).collect(),
            tools_by_name: server.tools_by_name,
            prompts: server.prompts,
            resources: server.resources,
            templates: server.templates,
            lists,
            close: Mutex::new(server.close),
            before_snapshot: server.before_snapshot,
            after_restore: server.after_restore,
        };
        // In the init phase, which has a whole processor.
        inner.lists.tools(&inner.tools, ProtocolVersion::LATEST);
        Ok(Self { inner: Arc::new(inner) })
    }

    fn initialize(&self, call: &Call<'_>) -> Result<Rendered, CallError> {
        // What else it says is for display; it is read nowhere, so that it refuses nobody.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct RequestedVersion {
            protocol_version: String,
        }
        let params: RequestedVersion = required_params(call.params)?;
        let version = ProtocolVersion::parse(&params.protocol_version).filter(|version| !version.is_modern());
        Ok(self.inner.lists.initialize.get(version.unwrap_or(ProtocolVersion::LATEST_LEGACY)).clone())
    }

    fn call_tool(&self, call: Call<'_>) -> Result<Answer, CallError> {
        let params: CallToolRequestParams<'_> = required_params(call.params)?;
        let Some(&index) = self.inner.tools_by_name.get(&*params.name) else {
            return Err(CallError::UnknownTool(params.name.into_owned()));
        };
        let registered = &self.inner.tools[index];
        self.inner.policy.permit(&registered.tool.requirement, call.invocation.principal.as_deref())?;
        let revision = call.revision;
        if let Some(text) = registered.refuse_client(&call)? {
            return Ok(Answer::Ready(Box::new(self.inner.tool_error(text, revision))));
        }
        let tool = &registered.tool;
        let binding =
            || Binding::new(method::TOOLS_CALL, tool.name(), params.arguments, call.invocation.principal.as_deref());
        let rounds = self.inner.rounds(&call, tool.cipher, params.retry(), binding)?;
        let begin = |context: RequestContext<S>| registered.start(context, params.arguments);
        let name = tool.name();
        let span = tracing::info_span!(
            "execute_tool",
            otel.name = %format_args!("execute_tool {name}"),
            gen_ai.operation.name = "execute_tool",
            gen_ai.tool.name = name
        );
        Ok(start(&self.inner, call, Item::Tool, rounds, span, begin, move |inner, output| {
            match inner.tools[index].check_result(&output) {
                Ok(()) => inner.tool_outcome(output, revision),
                Err(violation) => CallOutcome::fault(violation),
            }
        }))
    }

    fn get_prompt(&self, call: Call<'_>) -> Result<Answer, CallError> {
        let params: GetPromptRequestParams<'_> = required_params(call.params)?;
        let Some(prompt) = self.inner.prompts.iter().find(|prompt| prompt.name() == params.name) else {
            return Err(CallError::UnknownPrompt(params.name.into_owned()));
        };
        self.inner.policy.permit(&prompt.requirement, call.invocation.principal.as_deref())?;
        let binding =
            || Binding::new(method::PROMPTS_GET, prompt.name(), params.arguments, call.invocation.principal.as_deref());
        let rounds = self.inner.rounds(&call, prompt.cipher, params.retry(), binding)?;
        let revision = call.revision;
        let description = prompt.definition.description.clone();
        let begin = |context| (prompt.handler)(context, params.arguments);
        Ok(start(&self.inner, call, Item::Other, rounds, Span::none(), begin, move |inner, messages| {
            let result = GetPromptResult {
                result_type: Some(ResultType::Complete),
                description,
                messages,
                meta: inner.meta_for(revision),
            };
            outcome_of(&result.for_revision(revision))
        }))
    }

    fn complete(&self, call: Call<'_>) -> Result<Answer, CallError> {
        let params = completion_params(call.params)?;
        let argument = &params.argument.name;
        let (is_known, completer, requirement) = match self.inner.completed(&params.reference)? {
            Completed::Prompt(prompt) => {
                let is_known = prompt.definition.arguments.iter().any(|own| own.name == *argument);
                (is_known, prompt.completers.get(argument), &prompt.requirement)
            }
            Completed::Resource(resource) => (false, None, &resource.requirement),
            Completed::Template(template) => {
                let is_known = template.pattern.variables().any(|own| own == argument);
                (is_known, template.completers.get(argument), &template.requirement)
            }
        };
        self.inner.policy.permit(requirement, call.invocation.principal.as_deref())?;
        if !is_known {
            return Err(CallError::InvalidInput(format!("there is no argument `{}`", shortened(argument))));
        }
        let completer: Completer<S> = match completer {
            Some(completer) => Arc::clone(completer),
            // Nothing is suggested for it.
            None => Arc::new(|_, _| Box::pin(async { Ok(Vec::<String>::new().into()) })),
        };
        let known = params.context.unwrap_or_default().arguments;
        let typed = PartialArgument { value: params.argument.value, known };
        let revision = call.revision;
        let begin = |context| Ok(completer(context, typed));
        Ok(start(&self.inner, call, Item::Other, None, Span::none(), begin, move |inner, completion: Completion| {
            let completion = completion.clamped();
            let result =
                CompleteResult { result_type: Some(ResultType::Complete), completion, meta: inner.meta_for(revision) };
            outcome_of(&result.for_revision(revision))
        }))
    }
}

impl<S: Send + Sync + 'static> AnyRoutes for Routes<S> {
    fn info(&self) -> &Implementation {
        &self.inner.info
    }

    fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    fn mirrored_parameters(&self, tool: &str) -> &[MirroredParameter] {
        self.inner.tool(tool).map_or(&[], |registered| &registered.tool.mirrored)
    }

    fn registered_name(&self, method: &str, name: Option<&str>, uri: Option<&str>) -> Option<&str> {
        match method {
            method::TOOLS_CALL => Some(self.inner.tool(name?)?.tool.name()),
            method::PROMPTS_GET => self.inner.prompts.iter().map(Prompt::name).find(|own| Some(*own) == name),
            method::RESOURCES_READ => self.inner.resource_name(uri?),
            _ => None,
        }
    }

    fn introduce(&self, caller: Option<&Principal>) -> Result<Introduction<'_>, CallError> {
        self.inner.introduce(caller)
    }

    fn permit(&self, target: &Target<'_>, caller: Option<&Principal>) -> Result<(), CallError> {
        match self.inner.requirement(target) {
            Some(requirement) => self.inner.policy.permit(requirement, caller),
            None => self.inner.policy.permit_discovery(caller),
        }
    }

    fn tool_outcome(&self, output: ToolOutput, revision: ProtocolVersion) -> CallOutcome {
        self.inner.tool_outcome(output, revision)
    }

    fn has_close_hook(&self) -> bool {
        self.inner.close.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn close(&self) -> Hooked {
        let hook = self.inner.close.lock().unwrap_or_else(PoisonError::into_inner).take();
        let work = hook.map(|hook| hook(Arc::clone(&self.inner.state)));
        Box::pin(async { work.unwrap_or_else(|| Box::pin(std::future::ready(()))).await })
    }

    fn before_snapshot(&self) -> Hooked {
        run(self.inner.before_snapshot.as_ref(), &self.inner.state)
    }

    fn after_restore(&self) -> Hooked {
        run(self.inner.after_restore.as_ref(), &self.inner.state)
    }

    fn answer(&self, call: Call<'_>) -> Answer {
        let modern = call.revision.is_modern();
        let inner = &self.inner;
        let caller = call.invocation.principal.clone();
        // Whoever gets nothing here does not learn either what there is.
        let or_error = |answer: Result<Answer, CallError>| {
            let answer = answer.map_err(|error| match inner.policy.permit_discovery(caller.as_deref()) {
                Err(refusal) if !error.is_authorization() => refusal,
                _ => error,
            });
            answer.unwrap_or_else(|error| Answer::ready(Err(error)))
        };
        let (has_tools, has_prompts) = (!inner.tools.is_empty(), !inner.prompts.is_empty());
        let has_resources = !inner.resources.is_empty() || !inner.templates.is_empty();
        match call.method {
            method::TOOLS_CALL if has_tools => return or_error(self.call_tool(call)),
            method::PROMPTS_GET if has_prompts => return or_error(self.get_prompt(call)),
            method::RESOURCES_READ if has_resources => return or_error(self.read_resource(call)),
            method::RESOURCES_SUBSCRIBE | method::RESOURCES_UNSUBSCRIBE if !modern && inner.has_subscribable() => {
                return or_error(self.subscribe(&call).map(|rendered| Answer::ready(Ok(rendered))));
            }
            method::COMPLETION_COMPLETE if inner.has_completers() => return or_error(self.complete(call)),
            _ => {}
        }
        if let Err(refusal) = inner.policy.permit_discovery(caller.as_deref()) {
            return Answer::ready(Err(refusal));
        }
        let result = match call.method {
            method::SERVER_DISCOVER if modern => Ok(inner.lists.discover.clone()),
            method::INITIALIZE if !modern => self.initialize(&call),
            method::PING if !modern => Ok(Rendered::empty()),
            method::LOGGING_SET_LEVEL if !modern => set_level(&call),
            // Also where there is nothing to list: programs request lists that no capability declares.
            method::TOOLS_LIST => {
                page(&call, |cursor| inner.lists.tools(&inner.tools, call.revision).get(cursor).cloned())
            }
            method::PROMPTS_LIST => {
                page(&call, |cursor| inner.lists.prompts(&inner.prompts, call.revision).get(cursor).cloned())
            }
            method::RESOURCES_LIST => return or_error(self.list_resources(call)),
            method::RESOURCES_TEMPLATES_LIST => {
                page(&call, |cursor| inner.lists.templates(&inner.templates, call.revision).get(cursor).cloned())
            }
            unknown => Err(CallError::MethodNotFound(unknown.to_owned())),
        };
        Answer::ready(result)
    }
}

/// The item whose argument is completed.
enum Completed<'a, S> {
    Prompt(&'a Prompt<S>),
    /// A resource has no arguments.
    Resource(&'a Resource<S>),
    Template(&'a ResourceTemplate<S>),
}

/// Runs a hook, if there is one.
fn run<S>(hook: Option<&Hook<S>>, state: &Arc<S>) -> Hooked {
    match hook {
        Some(hook) => hook(Arc::clone(state)),
        None => Box::pin(std::future::ready(())),
    }
}

fn make_cipher(new: NewCipher, key: &StateKey, server: &str) -> Result<Box<dyn StateCipher>, InitError> {
    (new.0)(key, server).ok_or_else(|| InitError::new("could not derive a key from MCP_STATE_KEY"))
}

pub(crate) fn page(call: &Call<'_>, get: impl FnOnce(Option<&str>) -> Option<Rendered>) -> Result<Rendered, CallError> {
    let params: PaginatedRequestParams = optional_params(call.params)?;
    get(params.cursor.as_deref()).ok_or(CallError::InvalidCursor)
}

fn set_level(call: &Call<'_>) -> Result<Rendered, CallError> {
    #[derive(Deserialize)]
    struct SetLevelRequestParams {
        #[serde(rename = "level")]
        _level: LoggingLevel,
    }
    // Nothing can be remembered for the next request; the default level is what such clients get.
    required_params::<SetLevelRequestParams>(call.params).map(|_| Rendered::empty())
}

fn completion_params(params: Option<&RawValue>) -> Result<CompleteRequestParams, CallError> {
    let text = params.map_or("{}", RawValue::get);
    if text.len() > MAX_COMPLETION_BYTES {
        let refusal = format!("the parameters of a completion have at most {MAX_COMPLETION_BYTES} bytes");
        return Err(CallError::InvalidParams(refusal));
    }
    json::read(text, Budget::of(text)).map_err(|error| CallError::InvalidParams(error.to_string()))
}

pub(crate) fn required_params<'a, P: Deserialize<'a>>(params: Option<&'a RawValue>) -> Result<P, CallError> {
    let text = params.map_or("{}", RawValue::get);
    json::borrow(text).map_err(|error| CallError::InvalidParams(error.to_string()))
}

pub(crate) fn optional_params<'a, P: Deserialize<'a> + Default>(params: Option<&'a RawValue>) -> Result<P, CallError> {
    params.map_or_else(|| Ok(P::default()), |params| required_params(Some(params)))
}

impl<S: Send + Sync + 'static> RegisteredTool<S> {
    #[track_caller]
    fn new(tool: Tool<S>) -> Self {
        let name = tool.name();
        let check = tool.compile_check().unwrap_or_else(|mistake| panic!("tool `{name}`: its schema: {mistake}"));
        let result_check = tool.new_result_check.zip(tool.definition.output_schema.as_ref());
        let result_check = result_check.map(|(new, schema)| new(schema));
        Self { check, result_check, tool }
    }

    /// Checks that a result is what the tool's output schema says. A failed call has none.
    fn check_result(&self, output: &ToolOutput) -> Result<(), Violation> {
        match (&self.result_check, &output.structured_content) {
            (Some(check), Some(result)) if !output.is_error => check.check(result.get()),
            (Some(_), None) if !output.is_error => Err(Violation::missing_result()),
            _ => Ok(()),
        }
    }

    /// What a legacy client that cannot use the tool is told.
    ///
    /// # Errors
    ///
    /// When a modern client cannot.
    fn refuse_client(&self, call: &Call<'_>) -> Result<Option<String>, CallError> {
        let required = &self.tool.required_capabilities;
        if required.is_empty() {
            return Ok(None);
        }
        if !call.revision.is_modern() {
            return Ok(Some(needs_modern_client(call.revision)));
        }
        let declared = call.meta.client_capabilities.clone().unwrap_or_default();
        let missing = declared.missing(required);
        if missing.is_empty() { Ok(None) } else { Err(CallError::MissingClientCapability(Box::new(missing))) }
    }

    fn start(
        &self,
        context: RequestContext<S>,
        arguments: Option<&RawValue>,
    ) -> Result<HandlerFuture<ToolOutput>, String> {
        match &self.tool.handler {
            Handler::Typed(handler) => handler(context, arguments, &self.tool.definition.input_schema),
            Handler::Raw(handler) => {
                let bytes = arguments.map_or(0, |raw| raw.get().len());
                let schema = &self.tool.definition.input_schema;
                let arguments = Value::Object(arguments::parse_object(arguments, schema)?);
                if let Some(check) = &self.check {
                    check(&arguments, bytes)?;
                }
                // What was checked is what the handler gets.
                let Value::Object(arguments) = arguments else { unreachable!("it was made an object above") };
                Ok(handler(context, arguments))
            }
        }
    }
}

impl<S> Inner<S> {
    fn tool(&self, name: &str) -> Option<&RegisteredTool<S>> {
        self.tools_by_name.get(name).map(|index| &self.tools[*index])
    }

    fn has_subscribable(&self) -> bool {
        self.resources.iter().any(|resource| resource.is_subscribable)
    }

    fn has_completers(&self) -> bool {
        self.prompts.iter().any(|prompt| !prompt.completers.is_empty())
            || self.templates.iter().any(|template| !template.completers.is_empty())
    }

    /// The item whose argument is completed.
    fn completed(&self, reference: &CompletionReference) -> Result<Completed<'_, S>, CallError> {
        match reference {
            CompletionReference::Prompt { name, .. } => {
                let prompt = self.prompts.iter().find(|prompt| prompt.definition.name == *name);
                prompt.map(Completed::Prompt).ok_or_else(|| CallError::UnknownPrompt(name.clone()))
            }
            CompletionReference::Resource { uri } => {
                if let Some(named) = self.templates.iter().find(|template| template.definition.uri_template == *uri) {
                    return Ok(Completed::Template(named));
                }
                match self.item_at(uri) {
                    Some(ItemAt::Resource(resource)) => Ok(Completed::Resource(resource)),
                    Some(ItemAt::Template(template, _)) => Ok(Completed::Template(template)),
                    None => Err(CallError::ResourceNotFound { uri: uri.clone() }),
                }
            }
        }
    }

    /// The access rule of the item that a request names; `None` if it names none that is registered.
    fn requirement(&self, request: &Target<'_>) -> Option<&Requirement> {
        match request.method {
            method::TOOLS_CALL => Some(&self.tool(request.name?)?.tool.requirement),
            method::PROMPTS_GET => {
                let prompt = self.prompts.iter().find(|prompt| Some(prompt.definition.name.as_str()) == request.name);
                prompt.map(|prompt| &prompt.requirement)
            }
            method::RESOURCES_READ | method::RESOURCES_SUBSCRIBE | method::RESOURCES_UNSUBSCRIBE => {
                Some(self.item_at(request.uri?)?.requirement())
            }
            method::COMPLETION_COMPLETE => {
                let params = completion_params(request.params).ok()?;
                Some(match self.completed(&params.reference).ok()? {
                    Completed::Prompt(prompt) => &prompt.requirement,
                    Completed::Resource(resource) => &resource.requirement,
                    Completed::Template(template) => &template.requirement,
                })
            }
            _ => None,
        }
    }

    /// What the client has answered so far; `None` for an item that never asks.
    ///
    /// # Errors
    ///
    /// When there is a state that was not given out for this request, or the answers are no object.
    pub(crate) fn rounds(
        &self,
        call: &Call<'_>,
        cipher: Option<NewCipher>,
        retry: Retry<'_, '_>,
        binding: impl FnOnce() -> Binding,
    ) -> Result<Option<Rounds>, CallError> {
        let modern = call.revision.is_modern();
        let (Some(_), Some(cipher)) = (cipher, &self.cipher) else {
            return match retry.request_state {
                Some(_) if modern => Err(CallError::RequestState),
                _ => Ok(None),
            };
        };
        let binding = binding();
        if !modern {
            let interaction = Interaction::new(None, RequestState::default(), None);
            return Ok(Some(Rounds { interaction, binding }));
        }
        let state = match retry.request_state {
            Some(sealed) => {
                let opened = (sealed.len() <= MAX_STATE_BYTES)
                    .then(|| cipher.open(sealed, &binding, call.invocation.received))
                    .flatten();
                opened.ok_or(CallError::RequestState)?
            }
            None => RequestState::default(),
        };
        let responses = match retry.input_responses {
            Some(raw) if raw.get().starts_with('{') => Some(raw.to_owned()),
            Some(_) => return Err(CallError::InvalidParams("`inputResponses` must be an object".to_owned())),
            None => None,
        };
        let capabilities = Some(call.meta.client_capabilities.clone().unwrap_or_default());
        Ok(Some(Rounds { interaction: Interaction::new(capabilities, state, responses), binding }))
    }

    pub(crate) fn meta_for(&self, revision: ProtocolVersion) -> Option<JsonObject> {
        revision.is_modern().then(|| result_meta(&self.server_info))
    }

    pub(crate) fn tool_outcome(&self, output: ToolOutput, revision: ProtocolVersion) -> CallOutcome {
        let kind = if output.is_error { ResultKind::Failed } else { ResultKind::Complete };
        match self.render_tool(output, revision) {
            Ok(json) => CallOutcome::from(Ok(Rendered::Own(json))).of_kind(kind),
            Err(error) => CallOutcome::fault(error),
        }
    }

    /// A failed call as a result, which the model reads.
    pub(crate) fn tool_error(&self, text: String, revision: ProtocolVersion) -> CallOutcome {
        self.tool_outcome(ToolOutput::error(text), revision)
    }

    fn render_tool(&self, output: ToolOutput, revision: ProtocolVersion) -> Result<String, serde_json::Error> {
        let has_own_meta = output.meta.is_some();
        let meta = output.meta.map(|own| {
            let mut meta = self.meta_for(revision).unwrap_or_default();
            meta.extend(own);
            meta
        });
        let result = CallToolResult {
            result_type: Some(ResultType::Complete),
            content: output.content,
            structured_content: output.structured_content,
            is_error: output.is_error.then_some(true),
            meta,
        };
        let mut json = serde_json::to_string(&result.for_revision(revision))?;
        // An author's raw JSON may have line ends between its tokens; an event of a stream may not.
        if json.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
            json = json.replace(['\n', '\r'], " ");
        }
        // What all results have was written once, and goes where the object ends.
        if revision.is_modern() && !has_own_meta && json.pop().is_some() {
            json.push_str(&self.rendered_meta);
        }
        Ok(json)
    }
}

/// `_meta` of a modern result.
pub(crate) fn result_meta(server_info: &Value) -> JsonObject {
    JsonObject::from_iter([(meta::SERVER_INFO.to_owned(), server_info.clone())])
}

/// The outcome whose result is this.
pub(crate) fn outcome_of<T: serde::Serialize>(result: &T) -> CallOutcome {
    match serde_json::to_string(result) {
        Ok(json) => CallOutcome::from(Ok(Rendered::Own(json))),
        Err(error) => CallOutcome::fault(error),
    }
}

/// Serialises a type of ours that holds only strings, numbers, lists and JSON, which cannot fail.
pub(crate) fn shared<T: serde::Serialize>(value: &T) -> Rendered {
    Rendered::Shared(serde_json::to_string(value).unwrap_or_default().into())
}

pub(crate) fn to_value<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
