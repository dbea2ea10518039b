//! The builder of a server.

use std::{collections::HashMap, fmt, num::NonZeroUsize, pin::Pin, sync::Arc, time::Duration};

use mcp_protocol::{Icon, Implementation};

use crate::{
    Authorization, Caching, InitError, List, Prompt, Resource, ResourceTemplate, Router, StateKey, Tool,
    dispatch::routes::Routes,
    interaction::request_state::NewCipher,
    policy::{Requirement, requirement_setters},
};

/// How long clients may keep a list, unless the author says otherwise. Lists change only with a deployment.
const DEFAULT_LIST_TTL: Duration = Duration::from_secs(300);

/// A server in the making: its name, its state, and what it offers.
///
/// `S` is what the function sets up once per execution environment and every call shares: a database pool, a client,
/// or `()`. The order of registration is the order that clients see.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use mcp_server::{NoArguments, Server, Settings, Tool, ToolContext, ToolError};
///
/// struct State {
///     calls: AtomicU64,
/// }
///
/// async fn count(context: ToolContext<State>, _: NoArguments) -> Result<String, ToolError> {
///     let before = context.state().calls.fetch_add(1, Ordering::Relaxed);
///     Ok(format!("{before} calls before this one, in this environment"))
/// }
///
/// let router = Server::new("counter", "0.1.0", State { calls: AtomicU64::new(0) })
///     .instructions("Counts its calls.")
///     .tool(Tool::new("count", count).description("How often this was called.").destructive(false))
///     .build(Settings::default())?;
/// # let _ = router;
/// # Ok::<(), mcp_server::InitError>(())
/// ```
pub struct Server<S> {
    pub(crate) info: Implementation,
    pub(crate) instructions: Option<String>,
    pub(crate) state: Arc<S>,
    pub(crate) tools: Vec<Tool<S>>,
    /// Their positions.
    pub(crate) tools_by_name: HashMap<String, usize>,
    pub(crate) prompts: Vec<Prompt<S>>,
    pub(crate) resources: Vec<Resource<S>>,
    pub(crate) templates: Vec<ResourceTemplate<S>>,
    pub(crate) page_size: Option<NonZeroUsize>,
    pub(crate) caching: HashMap<List, Caching>,
    pub(crate) requirement: Requirement,
    pub(crate) scope_hierarchy: Vec<(String, Vec<String>)>,
    pub(crate) close: Option<CloseHook<S>>,
    pub(crate) before_snapshot: Option<Hook<S>>,
    pub(crate) after_restore: Option<Hook<S>>,
}

pub(crate) type Hook<S> = Box<dyn Fn(Arc<S>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;
pub(crate) type CloseHook<S> = Box<dyn FnOnce(Arc<S>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl<S: Send + Sync + 'static> Server<S> {
    /// A server with a name, a version and its state.
    pub fn new(name: impl Into<String>, version: impl Into<String>, state: S) -> Self {
        Self {
            info: Implementation::new(name, version),
            instructions: None,
            state: Arc::new(state),
            tools: Vec::new(),
            tools_by_name: HashMap::new(),
            prompts: Vec::new(),
            resources: Vec::new(),
            templates: Vec::new(),
            page_size: None,
            caching: HashMap::new(),
            requirement: Requirement::default(),
            scope_hierarchy: Vec::new(),
            close: None,
            before_snapshot: None,
            after_restore: None,
        }
    }

    /// Adds a tool.
    ///
    /// # Panics
    ///
    /// When there is a tool of that name already.
    #[must_use]
    #[track_caller]
    pub fn tool(mut self, tool: Tool<S>) -> Self {
        let same = self.tools_by_name.insert(tool.name().to_owned(), self.tools.len());
        assert!(same.is_none(), "there are two tools named `{}`", tool.name());
        self.tools.push(tool);
        self
    }

    /// Adds a prompt.
    ///
    /// # Panics
    ///
    /// When there is a prompt of that name already.
    #[must_use]
    #[track_caller]
    pub fn prompt(mut self, prompt: Prompt<S>) -> Self {
        let name = prompt.name();
        assert!(self.prompts.iter().all(|other| other.name() != name), "there are two prompts named `{name}`");
        self.prompts.push(prompt);
        self
    }

    /// Adds a resource.
    ///
    /// # Panics
    ///
    /// When there is a resource at that URI already, in any spelling.
    #[must_use]
    #[track_caller]
    pub fn resource(mut self, resource: Resource<S>) -> Self {
        let uri = &resource.definition.uri;
        assert!(self.resources.iter().all(|other| other.uri != resource.uri), "there are two resources at `{uri}`");
        self.resources.push(resource);
        self
    }

    /// Adds a resource template. A URI that several templates fit is read by the first of them; a resource at that URI, in
    /// any spelling, goes before all templates. A template that fits a resource's URI must require what the resource
    /// requires, or the server does not build.
    ///
    /// # Panics
    ///
    /// When there is the same template already.
    #[must_use]
    #[track_caller]
    pub fn resource_template(mut self, template: ResourceTemplate<S>) -> Self {
        let own = &template.definition.uri_template;
        let is_new = self.templates.iter().all(|other| other.definition.uri_template != *own);
        assert!(is_new, "there are two resource templates `{own}`");
        self.templates.push(template);
        self
    }

    /// How to use the server as a whole; clients may make it part of the model's prompt.
    #[must_use]
    pub fn instructions(mut self, instructions: impl Into<String>) -> Self {
        self.instructions = Some(instructions.into());
        self
    }

    /// A name for people.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.info.title = Some(title.into());
        self
    }

    /// Pictures of the server.
    #[must_use]
    pub fn icons(mut self, icons: impl IntoIterator<Item = Icon>) -> Self {
        self.info.icons = icons.into_iter().collect();
        self
    }

    /// Lists come in pages of this many items. Without it they come whole.
    #[must_use]
    pub fn page_size(mut self, items: NonZeroUsize) -> Self {
        self.page_size = Some(items);
        self
    }

    /// How long clients may keep a list, and who may share it. Unless set it is public for 5 minutes; a list of resources
    /// that a handler makes is private and stale at once.
    #[must_use]
    pub fn caching(mut self, list: List, caching: Caching) -> Self {
        self.caching.insert(list, caching);
        self
    }

    requirement_setters!();

    /// Whoever has the scope `broad` has each of `narrow` too.
    #[must_use]
    pub fn scope_includes<T: Into<String>>(
        mut self,
        broad: impl Into<String>,
        narrow: impl IntoIterator<Item = T>,
    ) -> Self {
        self.scope_hierarchy.push((broad.into(), narrow.into_iter().map(Into::into).collect()));
        self
    }

    pub(crate) fn caching_of(&self, list: List) -> Caching {
        let is_made = list == List::Resources && self.templates.iter().any(|template| template.lister.is_some());
        let unset = if is_made { Caching::NONE } else { Caching::public(DEFAULT_LIST_TTL) };
        self.caching.get(&list).copied().unwrap_or(unset)
    }

    /// Runs before the execution environment ends, for at most the time that Lambda grants (about 300 ms for a
    /// function without external extensions). Registering it costs a round trip at init, so a server without one
    /// does not pay.
    #[must_use]
    pub fn on_close<F, Fut>(mut self, close: F) -> Self
    where
        F: FnOnce(Arc<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.close = Some(Box::new(move |state| Box::pin(close(state))));
        self
    }

    /// Runs `before` when the platform is about to take a snapshot of the initialised process (SnapStart), and `after` in
    /// each process that is restored from it. What a snapshot must not hold is closed before: connections, secrets that
    /// may be rotated meanwhile.
    #[must_use]
    pub fn around_snapshot<F, G, Before, After>(mut self, before: F, after: G) -> Self
    where
        F: Fn(Arc<S>) -> Before + Send + Sync + 'static,
        G: Fn(Arc<S>) -> After + Send + Sync + 'static,
        Before: Future<Output = ()> + Send + 'static,
        After: Future<Output = ()> + Send + 'static,
    {
        self.before_snapshot = Some(Box::new(move |state| Box::pin(before(state))));
        self.after_restore = Some(Box::new(move |state| Box::pin(after(state))));
        self
    }

    /// The finished server. Lists are rendered here, once for each revision.
    ///
    /// # Errors
    ///
    /// When something asks the client and there is no state key to seal what has been learned so far; when there is a
    /// policy and no way to know callers; when a resource template requires less than a resource whose URI it fits, or than
    /// a later template of which it fits a URI.
    ///
    /// # Panics
    ///
    /// When a hand-written schema cannot be compiled; the message names its tool.
    #[track_caller]
    pub fn build(self, settings: Settings) -> Result<Router, InitError> {
        Routes::new(self, settings).map(Router::new)
    }

    /// What asks the client, if anything does: how to name it, and how to seal.
    pub(crate) fn interactive_item(&self) -> Option<(String, NewCipher)> {
        let tools = self.tools.iter().map(|tool| (format!("tool `{}`", tool.name()), tool.cipher));
        let prompts = self.prompts.iter().map(|prompt| (format!("prompt `{}`", prompt.name()), prompt.cipher));
        let resources = self.resources.iter().map(|own| (format!("resource `{}`", own.definition.uri), own.cipher));
        let templates = self
            .templates
            .iter()
            .map(|own| (format!("resource template `{}`", own.definition.uri_template), own.cipher));
        tools.chain(prompts).chain(resources).chain(templates).find_map(|(name, cipher)| Some((name, cipher?)))
    }
}

impl<S> Server<S> {
    /// What each item requires, with how to name the item.
    pub(crate) fn requirements(&self) -> impl Iterator<Item = (String, &Requirement)> {
        let tools = self.tools.iter().map(|tool| (format!("tool `{}`", tool.definition.name), &tool.requirement));
        let prompts = self.prompts.iter().map(|own| (format!("prompt `{}`", own.definition.name), &own.requirement));
        let resources =
            self.resources.iter().map(|own| (format!("resource `{}`", own.definition.uri), &own.requirement));
        let templates = self
            .templates
            .iter()
            .map(|own| (format!("resource template `{}`", own.definition.uri_template), &own.requirement));
        tools.chain(prompts).chain(resources).chain(templates)
    }

    pub(crate) fn requirements_mut(&mut self) -> impl Iterator<Item = &mut Requirement> {
        let tools = self.tools.iter_mut().map(|tool| &mut tool.requirement);
        let prompts = self.prompts.iter_mut().map(|prompt| &mut prompt.requirement);
        let resources = self.resources.iter_mut().map(|resource| &mut resource.requirement);
        let templates = self.templates.iter_mut().map(|template| &mut template.requirement);
        tools.chain(prompts).chain(resources).chain(templates)
    }
}

/// What a deployment decides about a server.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What `requestState` is sealed with; only a server that asks its clients needs it.
    pub state_key: Option<StateKey>,
    /// How callers are known.
    pub authorization: Authorization,
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("info", &self.info)
            .field("tools", &self.tools)
            .field("prompts", &self.prompts)
            .field("resources", &self.resources)
            .field("templates", &self.templates)
            .finish_non_exhaustive()
    }
}
