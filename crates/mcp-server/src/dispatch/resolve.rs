//! Lookup of a request's target, once: access rules, mirrored parameters, the log and dispatch use the same lookup.

use std::{borrow::Cow, fmt, sync::Arc};

use mcp_protocol::{LoggingLevel, MirroredParameter, ProtocolVersion, RequestParams, json, method};
use serde_json::value::RawValue;

use super::{
    built::Built,
    call::{Call, CallResponse, Rendered},
    completion,
    pages::Pages,
    prompts, resources,
    run::{Run, invalid},
    tools,
};
use crate::{
    CallError, Invocation, Principal,
    items::{
        catalog::{CompletionTarget, MatchedResource},
        prompt::Prompt,
        registered::Registered,
        registered_tool::RegisteredTool,
    },
    policy::requirement::Requirement,
};

/// A request whose target is known, with the authorization decision. Created by
/// [`BuiltServer::resolve`](crate::BuiltServer::resolve).
pub struct Resolved<'a> {
    built: &'a Arc<Built>,
    revision: ProtocolVersion,
    params: RequestParams<'a>,
    invocation: Arc<Invocation>,
    name: Option<Cow<'a, str>>,
    target: Option<Target<'a>>,
    error: Option<CallError>,
}

/// The target of a request.
enum Target<'a> {
    Tool(&'a RegisteredTool),
    Prompt(&'a Prompt<Registered>),
    Resource(MatchedResource<'a>),
    Subscription(MatchedResource<'a>),
    Completion(CompletionTarget<'a>),
    /// The access rule of its tool is checked when the task has been read.
    #[cfg(feature = "tasks")]
    Task(super::tasks::requests::TaskMethod),
    Discover,
    Initialize,
    Ping,
    SetLevel,
    ListTools,
    ListPrompts,
    ListResources,
    ListTemplates,
}

impl<'a> Target<'a> {
    /// Returns the access rule of the item; `None` for targets that the rule for discovery covers.
    fn requirement(&self) -> Option<&'a Requirement> {
        Some(match self {
            Self::Tool(tool) => &tool.requirement,
            Self::Prompt(prompt) => &prompt.requirement,
            Self::Resource(item) | Self::Subscription(item) => item.requirement(),
            Self::Completion(completed) => completed.requirement(),
            #[cfg(feature = "tasks")]
            Self::Task(_) => return None,
            Self::Discover
            | Self::Initialize
            | Self::Ping
            | Self::SetLevel
            | Self::ListTools
            | Self::ListPrompts
            | Self::ListResources
            | Self::ListTemplates => return None,
        })
    }
}

impl<'a> Resolved<'a> {
    pub(crate) fn new(
        built: &'a Arc<Built>,
        revision: ProtocolVersion,
        method: &str,
        params: RequestParams<'a>,
        invocation: &Arc<Invocation>,
    ) -> Self {
        let caller = invocation.principal.as_deref();
        let name = name_of(method, &params);
        let (target, error) = match find(built, revision, method, &params, name.as_deref()) {
            Ok(target) => {
                let permitted = match target.requirement() {
                    Some(requirement) => built.policy.permit(requirement, caller),
                    None => built.policy.permit_discovery(caller),
                };
                (Some(target), permitted.err())
            }
            Err(error) => (None, Some(hide_existence(built, error, caller))),
        };
        Self { built, revision, params, invocation: Arc::clone(invocation), name, target, error }
    }

    /// Returns the name of a tool or prompt, or the URI of a resource, in the request, registered or not.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the parameters.
    pub fn params(&self) -> &RequestParams<'a> {
        &self.params
    }

    /// Returns the registered name of the item: of a tool or prompt, of a resource or its template. `None` if nothing
    /// is registered, and for other requests.
    pub fn registered_name(&self) -> Option<&str> {
        match self.target.as_ref()? {
            Target::Tool(tool) => Some(&tool.definition.name),
            Target::Prompt(prompt) => Some(&prompt.definition.name),
            Target::Resource(item) => Some(item.name()),
            _ => None,
        }
    }

    /// Returns the parameters of a tool that clients mirror into headers; empty for other targets.
    pub fn mirrored_parameters(&self) -> &'a [MirroredParameter] {
        match self.target {
            Some(Target::Tool(tool)) => &tool.mirrored,
            _ => &[],
        }
    }

    /// Reports whether the item's handler may send requests to the client.
    #[cfg(feature = "interactive")]
    pub fn is_interactive(&self) -> bool {
        let cipher = match &self.target {
            Some(Target::Tool(tool)) => tool.cipher,
            Some(Target::Prompt(prompt)) => prompt.cipher,
            Some(Target::Resource(MatchedResource::Resource(own))) => own.cipher,
            Some(Target::Resource(MatchedResource::Template(own, _))) => own.cipher,
            _ => None,
        };
        cipher.is_some()
    }

    /// Reports whether a handler may run again after an attempt with an unknown outcome: tools that are read-only or idempotent,
    /// and all prompts and resources.
    #[cfg(all(feature = "interactive", feature = "store"))]
    pub fn is_repeatable(&self) -> bool {
        match &self.target {
            Some(Target::Tool(tool)) => tool
                .definition
                .annotations
                .as_ref()
                .is_some_and(|own| own.read_only_hint == Some(true) || own.idempotent_hint == Some(true)),
            _ => true,
        }
    }

    /// Returns the authentication or authorization error. Check it for all requests of a batch before any of them runs, since a batch
    /// is authorized as a whole. Other errors are returned by [`run`](Self::run).
    pub fn authorization_error(&self) -> Option<&CallError> {
        self.error.as_ref().filter(|error| error.is_authorization())
    }

    /// As [`authorization_error`](Self::authorization_error), by value: for a request that does not run.
    pub fn into_authorization_error(self) -> Option<CallError> {
        self.error.filter(CallError::is_authorization)
    }

    /// Counts the request under the limits of the server and of its tool, unless it is rejected anyway. Call it before
    /// [`run`](Self::run). A request about a task is counted as a continuation. Requests of anonymous callers were counted under the server's limit by
    /// [`BuiltServer::count_anonymous`](crate::BuiltServer::count_anonymous).
    ///
    /// # Errors
    ///
    /// When a limit does not permit the request.
    #[cfg(feature = "limits")]
    pub async fn count(&self, address: Option<std::net::IpAddr>) -> Result<(), crate::Limited> {
        let (Some(limits), None) = (&self.built.limits, &self.error) else {
            return Ok(());
        };
        let tool = match &self.target {
            #[cfg(feature = "tasks")]
            Some(Target::Task(_)) => return limits.count_continuation(&self.invocation).await,
            Some(Target::Tool(tool)) => tool.limit.as_ref().map(|limit| (tool.definition.name.as_str(), limit)),
            _ => None,
        };
        limits.count(&self.invocation, address, tool).await
    }

    /// Counts a request that continues an earlier one, such as a poll, apart from other requests. Those of anonymous callers were
    /// counted by [`BuiltServer::count_anonymous`](crate::BuiltServer::count_anonymous).
    ///
    /// # Errors
    ///
    /// When the limit does not permit the request.
    #[cfg(all(feature = "limits", feature = "interactive", feature = "store"))]
    pub async fn count_continuation(&self) -> Result<(), crate::Limited> {
        match &self.built.limits {
            Some(limits) => limits.count_continuation(&self.invocation).await,
            None => Ok(()),
        }
    }

    /// Loads the state key again if `requestState` was sealed with an unknown key. Call it before [`run`](Self::run). It does nothing
    /// for a request that is rejected.
    #[cfg(feature = "interactive")]
    pub async fn load_state_key(&self) {
        let (Some(cipher), None) = (&self.built.cipher, &self.error) else { return };
        if self.is_interactive()
            && let Ok(Some(sealed)) = self.params.request_state()
        {
            cipher.load_key(&sealed, &self.built.key_loader).await;
        }
    }

    /// Runs the request, unless its caller is not authorized. Rendered results are returned immediately; a handler is
    /// a future.
    pub fn run(self, call: Call) -> CallResponse {
        let Self { built, revision, params, invocation, name, target, error } = self;
        let target = match (target, error) {
            (Some(target), None) => target,
            (_, Some(error)) => return CallResponse::ready(Err(error)),
            (None, None) => return CallResponse::ready(Err(CallError::Internal)),
        };
        let requirement = target.requirement().unwrap_or_else(|| built.policy.server_requirement());
        let run = Run { built, revision, invocation: Arc::clone(&invocation), call, requirement };
        let answer = match target {
            Target::Tool(tool) => tools::call(run, tool, &params),
            Target::Prompt(prompt) => prompts::get(run, prompt, &params),
            Target::Resource(item) => resources::read(run, item, name.as_deref().unwrap_or_default(), &params),
            Target::Completion(completed) => completion::complete(run, &completed, &params),
            #[cfg(feature = "tasks")]
            Target::Task(method) => super::tasks::requests::handle(run, method, &params),
            Target::ListResources => resources::list(run, &params),
            Target::Subscription(item) => ready(resources::subscribe(&item)),
            Target::Discover => ready(Ok(built.lists.discover.clone())),
            Target::Initialize => ready(initialize(built, &params)),
            Target::Ping => ready(Ok(Rendered::empty())),
            Target::SetLevel => ready(set_level(&params)),
            // Returns an empty list too: some clients request lists whose capability is not declared.
            Target::ListTools => page(&params, built.lists.tools(&built.catalog.tools, revision)),
            Target::ListPrompts => page(&params, built.lists.prompts(&built.catalog.prompts, revision)),
            Target::ListTemplates => page(&params, built.lists.templates(&built.catalog.templates, revision)),
        };
        let caller = invocation.principal.as_deref();
        answer.unwrap_or_else(|error| CallResponse::ready(Err(hide_existence(built, error, caller))))
    }
}

/// Returns the name or URI that a request of this method contains.
fn name_of<'a>(method: &str, params: &RequestParams<'a>) -> Option<Cow<'a, str>> {
    match method {
        method::TOOLS_CALL | method::PROMPTS_GET => params.name().ok(),
        method::RESOURCES_READ | method::RESOURCES_SUBSCRIBE | method::RESOURCES_UNSUBSCRIBE => params.uri().ok(),
        #[cfg(feature = "tasks")]
        method::TASKS_GET | method::TASKS_UPDATE | method::TASKS_CANCEL => params.task_id().ok(),
        _ => None,
    }
}

/// Looks up the target of a request. `name` is the result of [`name_of`].
fn find<'a>(
    built: &'a Built,
    revision: ProtocolVersion,
    method: &str,
    params: &RequestParams<'_>,
    name: Option<&str>,
) -> Result<Target<'a>, CallError> {
    let (catalog, is_modern) = (&built.catalog, revision.is_modern());
    let matched = || match name {
        Some(uri) => catalog.match_resource(uri).ok_or_else(|| CallError::ResourceNotFound { uri: uri.to_owned() }),
        None => Err(params.uri().map_or_else(invalid, |_| CallError::Internal)),
    };
    Ok(match method {
        method::TOOLS_CALL if !catalog.tools.is_empty() => match name {
            Some(name) => Target::Tool(catalog.tool(name).ok_or_else(|| CallError::UnknownTool(name.to_owned()))?),
            None => return Err(params.name().map_or_else(invalid, |_| CallError::Internal)),
        },
        method::PROMPTS_GET if !catalog.prompts.is_empty() => match name {
            Some(name) => {
                Target::Prompt(catalog.prompt(name).ok_or_else(|| CallError::UnknownPrompt(name.to_owned()))?)
            }
            None => return Err(params.name().map_or_else(invalid, |_| CallError::Internal)),
        },
        method::RESOURCES_READ if catalog.has_resources() => Target::Resource(matched()?),
        method::RESOURCES_SUBSCRIBE | method::RESOURCES_UNSUBSCRIBE if !is_modern && catalog.has_subscribable() => {
            Target::Subscription(matched()?)
        }
        method::COMPLETION_COMPLETE if catalog.has_completers() => {
            Target::Completion(catalog.completion_target(&completion::reference(params)?)?)
        }
        #[cfg(feature = "tasks")]
        method::TASKS_GET | method::TASKS_UPDATE | method::TASKS_CANCEL
            if is_modern && catalog.task_tool().is_some() =>
        {
            Target::Task(super::tasks::requests::TaskMethod::of(method))
        }
        method::SERVER_DISCOVER if is_modern => Target::Discover,
        method::INITIALIZE if !is_modern => Target::Initialize,
        method::PING if !is_modern => Target::Ping,
        method::LOGGING_SET_LEVEL if !is_modern => Target::SetLevel,
        method::TOOLS_LIST => Target::ListTools,
        method::PROMPTS_LIST => Target::ListPrompts,
        method::RESOURCES_LIST => Target::ListResources,
        method::RESOURCES_TEMPLATES_LIST => Target::ListTemplates,
        unknown => return Err(CallError::MethodNotFound(unknown.to_owned())),
    })
}

/// Hides whether an item exists from callers who may use nothing of a closed server.
fn hide_existence(built: &Built, error: CallError, caller: Option<&Principal>) -> CallError {
    match built.policy.permit_discovery(caller) {
        Err(authorization_error) if !error.is_authorization() => authorization_error,
        _ => error,
    }
}

fn ready(result: Result<Rendered, CallError>) -> Result<CallResponse, CallError> {
    result.map(|result| CallResponse::ready(Ok(result)))
}

fn initialize(built: &Built, params: &RequestParams<'_>) -> Result<Rendered, CallError> {
    // Other members are informational. They are not parsed, so that no client is rejected for them.
    let requested = params.protocol_version().map_err(invalid)?;
    let version = ProtocolVersion::parse(&requested).filter(|version| !version.is_modern());
    Ok(built.lists.initialize.get(version.unwrap_or(ProtocolVersion::LATEST_LEGACY)).clone())
}

fn set_level(params: &RequestParams<'_>) -> Result<Rendered, CallError> {
    let level = params.level.map_or("null", RawValue::get);
    // No state is kept between requests; such clients get the default level.
    json::borrow::<LoggingLevel>(level).map_err(invalid)?;
    Ok(Rendered::empty())
}

fn page(params: &RequestParams<'_>, pages: &Pages<Rendered>) -> Result<CallResponse, CallError> {
    let cursor = params.cursor().map_err(invalid)?;
    ready(pages.get(cursor.as_deref()).cloned().ok_or(CallError::InvalidCursor))
}

impl fmt::Debug for Resolved<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolved").field("name", &self.name).field("error", &self.error).finish_non_exhaustive()
    }
}
