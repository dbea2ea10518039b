//! The builder of a server.

use std::{
    collections::HashMap,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use mcp_protocol::{Icon, Implementation, JsonObject};

#[cfg(all(feature = "interactive", feature = "store"))]
use crate::legacy::LegacyQuestions;
#[cfg(feature = "limits")]
use crate::limits::{
    limiter::{Anonymous, Limits},
    rate_limit::RateLimit,
};
#[cfg(any(feature = "interactive", feature = "store"))]
use crate::state_key::rotation::KeyLoader;
#[cfg(feature = "store")]
use crate::store::{SealedStore, Store};
use crate::{
    Access, Authorization, BuildError, BuiltServer, Caching, List, Prompt, Resource, ResourceTemplate, StateKey, Tool,
    dispatch::{
        built::Built,
        hooks::{Hooks, ManagedResource},
        lists::{ListSources, Lists},
        render::Renderer,
    },
    items::{catalog::Catalog, registered_tool::RegisteredTool},
    policy::{
        Policy,
        requirement::{Requirement, requirement_setters},
    },
};

/// Default caching time of lists, which change only with a deployment.
const DEFAULT_LIST_TTL: Duration = Duration::from_secs(300);

/// The builder of a server: name, state and items.
///
/// `S` is set up once per execution environment and shared by all calls: a database pool, a client, or `()`. Clients
/// see items in the order of registration.
///
/// ```
/// # use mcp_server as mcp_lambda;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use mcp_lambda::{HandlerError, NoArguments, Server, Tool, ToolContext};
///
/// struct State {
///     calls: AtomicU64,
/// }
///
/// async fn count(context: ToolContext<State>, _: NoArguments) -> Result<String, HandlerError> {
///     let before = context.state().calls.fetch_add(1, Ordering::Relaxed);
///     Ok(format!("{before} earlier calls in this execution environment"))
/// }
///
/// let server = Server::new("counter", "0.1.0", State { calls: AtomicU64::new(0) })
///     .instructions("Counts its calls.")
///     .tool(Tool::new("count", count).description("Returns how often it was called.").destructive(false));
/// # let _ = server.build(mcp_server::Settings::default());
/// ```
pub struct Server<S> {
    info: Implementation,
    instructions: Option<String>,
    state: Arc<S>,
    catalog: Catalog,
    page_size: Option<NonZeroUsize>,
    caching: HashMap<List, Caching>,
    requirement: Requirement,
    scope_hierarchy: Vec<(String, Vec<String>)>,
    hooks: Hooks,
    #[cfg(feature = "limits")]
    limit: Option<RateLimit>,
    #[cfg(feature = "limits")]
    anonymous_limit: Anonymous,
    #[cfg(feature = "store")]
    store: Option<Arc<dyn Store>>,
}

impl<S: Send + Sync + 'static> Server<S> {
    /// Creates a builder with the server's name, version and state.
    pub fn new(name: impl Into<String>, version: impl Into<String>, state: S) -> Self {
        Self {
            info: Implementation::new(name, version),
            instructions: None,
            state: Arc::new(state),
            catalog: Catalog::default(),
            page_size: None,
            caching: HashMap::new(),
            requirement: Requirement::default(),
            scope_hierarchy: Vec::new(),
            hooks: Hooks::default(),
            #[cfg(feature = "limits")]
            limit: None,
            #[cfg(feature = "limits")]
            anonymous_limit: Anonymous::AsServer,
            #[cfg(feature = "store")]
            store: None,
        }
    }

    /// Adds a tool.
    ///
    /// # Panics
    ///
    /// When a tool has this name already, or its hand-written schema cannot be compiled.
    #[must_use]
    #[track_caller]
    pub fn tool(mut self, tool: Tool<S>) -> Self {
        self.catalog.add_tool(RegisteredTool::new(tool));
        self
    }

    /// Adds a prompt.
    ///
    /// # Panics
    ///
    /// When a prompt has this name already.
    #[must_use]
    #[track_caller]
    pub fn prompt(mut self, prompt: Prompt<S>) -> Self {
        self.catalog.add_prompt(prompt.registered());
        self
    }

    /// Adds a resource.
    ///
    /// # Panics
    ///
    /// When a resource has an equivalent URI already.
    #[must_use]
    #[track_caller]
    pub fn resource(mut self, resource: Resource<S>) -> Self {
        self.catalog.add_resource(resource.registered());
        self
    }

    /// Adds a resource template. If a URI matches several templates, the first is used; a resource with an equivalent URI has
    /// precedence over all templates. A template that matches a resource's URI must require at
    /// least what the resource requires, or [`build`](Self::build) fails.
    ///
    /// # Panics
    ///
    /// When the same template is registered already.
    #[must_use]
    #[track_caller]
    pub fn resource_template(mut self, template: ResourceTemplate<S>) -> Self {
        self.catalog.add_template(template.registered());
        self
    }

    /// Sets instructions for the server as a whole. Clients may add them to the model's prompt.
    #[must_use]
    pub fn instructions(mut self, instructions: impl Into<String>) -> Self {
        self.instructions = Some(instructions.into());
        self
    }

    /// Sets the display name.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.info.title = Some(title.into());
        self
    }

    /// Sets the icons of the server.
    #[must_use]
    pub fn icons(mut self, icons: impl IntoIterator<Item = Icon>) -> Self {
        self.info.icons = icons.into_iter().collect();
        self
    }

    /// Sets the page size of lists. By default a list has one page.
    #[must_use]
    pub fn page_size(mut self, items: NonZeroUsize) -> Self {
        self.page_size = Some(items);
        self
    }

    /// Sets the caching of a list. By default it is public for 5 minutes; a list of resources that a handler returns
    /// is private and immediately stale.
    #[must_use]
    pub fn caching(mut self, list: List, caching: Caching) -> Self {
        self.caching.insert(list, caching);
        self
    }

    requirement_setters!();

    /// Declares that a caller with the scope `broad` also has each scope of `narrow`.
    #[must_use]
    pub fn scope_includes<T: Into<String>>(
        mut self,
        broad: impl Into<String>,
        narrow: impl IntoIterator<Item = T>,
    ) -> Self {
        self.scope_hierarchy.push((broad.into(), narrow.into_iter().map(Into::into).collect()));
        self
    }

    /// Sets a hook that runs before the process ends, for at most the time that the platform grants. A transport may have to register
    /// for shutdown in the init phase, which it does only for a server with a hook.
    #[must_use]
    pub fn on_close<F, Fut>(mut self, close: F) -> Self
    where
        F: FnOnce(Arc<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let state = Arc::clone(&self.state);
        self.hooks.close = Mutex::new(Some(Box::new(move || Box::pin(close(state)))));
        self
    }

    /// Sets hooks around a snapshot of the initialized process: `before` runs before it is taken, `after` in each
    /// process that is restored from it. In `before`, close connections and discard secrets that may be rotated: a snapshot must not
    /// contain them.
    #[must_use]
    pub fn around_snapshot<F, G, Before, After>(mut self, before: F, after: G) -> Self
    where
        F: Fn(Arc<S>) -> Before + Send + Sync + 'static,
        G: Fn(Arc<S>) -> After + Send + Sync + 'static,
        Before: Future<Output = ()> + Send + 'static,
        After: Future<Output = ()> + Send + 'static,
    {
        let state = Arc::clone(&self.state);
        self.hooks.before_snapshot = Some(Arc::new(move || Box::pin(before(Arc::clone(&state)))));
        let state = Arc::clone(&self.state);
        self.hooks.after_restore = Some(Arc::new(move || Box::pin(after(Arc::clone(&state)))));
        self
    }

    /// Closes a resource when the environment ends, after [`on_close`](Self::on_close), and around a snapshot within
    /// [`around_snapshot`](Self::around_snapshot). Pass a clone of the value in the state.
    #[must_use]
    pub fn manages(mut self, resource: impl ManagedResource) -> Self {
        self.hooks.managed.push(Arc::new(resource));
        self
    }

    /// Sets the store of state that outlives a request, and closes it as [`manages`](Self::manages) does. All execution
    /// environments of the server need the same store and the same state key, which seals its values.
    #[cfg(feature = "store")]
    #[must_use]
    pub fn store(mut self, store: impl Store + ManagedResource) -> Self {
        let store = Arc::new(store);
        self.hooks.managed.push(Arc::clone(&store) as _);
        self.store = Some(store);
        self
    }

    /// Limits the requests of each caller: of every method, and in a batch each. Notifications and malformed requests are not counted,
    /// polls are counted apart ([`RateLimit`]), and of an authenticated caller only requests that it is authorized for.
    ///
    /// Anonymous callers have the same limit, by address and in each execution environment, unless
    /// [`limit_anonymous`](Self::limit_anonymous) sets another.
    #[cfg(feature = "limits")]
    #[must_use]
    pub fn limit(mut self, limit: RateLimit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Limits the requests of anonymous callers, and those with failed authentication, by address. `None` removes their limits, also
    /// those of tools.
    #[cfg(feature = "limits")]
    #[must_use]
    pub fn limit_anonymous(mut self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.anonymous_limit = limit.into().map_or(Anonymous::Unlimited, Anonymous::Limit);
        self
    }

    /// Builds the server, and renders lists once for each revision.
    ///
    /// # Errors
    ///
    /// When an item is interactive, or the server has a store, and no state key is configured; when access rules are declared without
    /// authentication; when a resource template requires less than a resource that it matches, or than a later
    /// template whose URIs it matches.
    pub fn build(self, settings: Settings) -> Result<BuiltServer, BuildError> {
        #[cfg(any(feature = "interactive", feature = "store"))]
        let key_loader = Arc::<KeyLoader>::default();
        #[cfg(feature = "store")]
        let store = match (self.store, &settings.state_key) {
            (None, _) => None,
            (Some(_), None) => return Err(BuildError::NoStoreKey),
            (Some(store), Some(key)) => {
                let sealed = SealedStore::of_server(store, &self.info.name, key, Arc::clone(&key_loader));
                Some(sealed.ok_or(BuildError::UnusableStateKey)?)
            }
        };
        #[cfg(feature = "limits")]
        let limits = {
            let is_limited = self.limit.is_some() || matches!(self.anonymous_limit, Anonymous::Limit(_));
            let has_limit = is_limited || self.catalog.tools.iter().any(|tool| tool.limit.is_some());
            let limits = has_limit.then(|| Limits::new(self.limit, self.anonymous_limit));
            #[cfg(feature = "store")]
            let limits = limits.map(|limits| limits.with_store(store.clone()));
            limits
        };
        let Self {
            info,
            instructions,
            state,
            mut catalog,
            page_size,
            caching,
            requirement,
            scope_hierarchy,
            hooks,
            ..
        } = self;
        #[cfg(feature = "tasks")]
        if let Some(tool) = crate::dispatch::tasks::result_tool::for_server::<S>(&catalog, store.is_some())? {
            catalog.add_tool(RegisteredTool::new(tool));
        }
        let cipher = match (catalog.interactive_item(), &settings.state_key) {
            (None, _) => None,
            (Some((_, new_cipher)), Some(key)) => {
                Some((new_cipher.0)(key, &info.name).ok_or(BuildError::UnusableStateKey)?)
            }
            (Some((item, _)), None) => return Err(BuildError::NoStateKey { item }),
        };
        #[cfg(all(feature = "interactive", feature = "store"))]
        let questions = match (&cipher, &store, &settings.state_key) {
            (Some(_), Some(store), Some(key)) => {
                let questions = LegacyQuestions::new(key, &info.name, store.clone(), Arc::clone(&key_loader));
                Some(questions.ok_or(BuildError::UnusableStateKey)?)
            }
            _ => None,
        };
        let restricted = catalog.restricted_item().or_else(|| requirement.is_some().then(|| "server".to_owned()));
        if let (Some(item), Authorization::Unconfigured) = (restricted, &settings.authorization) {
            return Err(BuildError::NoAuthentication { item });
        }
        let policy = Policy::new(settings.authorization, requirement, &scope_hierarchy, catalog.requirements_mut());
        if let Some((template, other)) = catalog.weaker_template(&policy) {
            return Err(BuildError::WeakerTemplate { template, other });
        }
        for tool in &mut catalog.tools {
            if let (Some(describe), Some(access)) = (settings.describe_access, policy.access(&tool.requirement)) {
                tool.tool.definition.meta.get_or_insert_default().extend(describe(&access));
            }
        }
        let renderer = Renderer::new(&info);
        let has_listers = catalog.has_listers();
        let lists = Lists::new(ListSources {
            info: &info,
            instructions: instructions.as_deref(),
            catalog: &catalog,
            policy: &policy,
            page_size: page_size.map(Into::into),
            caching_of: |list| {
                let is_dynamic = list == List::Resources && has_listers;
                let unset = if is_dynamic { Caching::NONE } else { Caching::public(DEFAULT_LIST_TTL) };
                caching.get(&list).copied().unwrap_or(unset)
            },
            meta: renderer.meta(),
        });
        let policy = Arc::new(policy);
        Ok(BuiltServer::new(Built {
            state,
            info,
            instructions,
            renderer,
            cipher,
            policy,
            catalog,
            lists,
            hooks,
            #[cfg(feature = "limits")]
            limits,
            #[cfg(feature = "store")]
            store,
            #[cfg(any(feature = "interactive", feature = "store"))]
            key_loader,
            #[cfg(feature = "tasks")]
            waker: std::sync::RwLock::new(None),
            #[cfg(all(feature = "interactive", feature = "store"))]
            questions,
        }))
    }
}

/// Settings of a deployment.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Key that encrypts `requestState`; required only for a server with interactive handlers, or with a store.
    pub state_key: Option<StateKey>,
    /// Authentication and enforcement of access rules.
    pub authorization: Authorization,
    /// Returns members of a tool's `_meta` that describe its access rules, for clients that use them. Called only if callers have
    /// scopes.
    pub describe_access: Option<fn(&Access) -> JsonObject>,
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("info", &self.info).field("catalog", &self.catalog).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "interactive")]
    use crate::InteractiveContext;
    use crate::{HandlerError, NoArguments, ToolContext};

    async fn plain(_: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
        Ok("")
    }

    #[cfg(feature = "interactive")]
    async fn interactive(_: InteractiveContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
        Ok("")
    }

    #[test]
    fn a_missing_setting_is_an_error_that_names_the_item() {
        let error = |tool| {
            let server = Server::new("s", "1", ()).tool(Tool::new("plain", plain)).tool(tool);
            server.build(Settings::default()).unwrap_err().to_string()
        };

        let restricted = error(Tool::new("purge", plain).require_scope("events:purge"));
        assert!(restricted.starts_with("the tool `purge` declares access rules"), "{restricted}");

        #[cfg(feature = "interactive")]
        {
            let interactive = error(Tool::new("book", interactive));
            assert!(interactive.starts_with("the tool `book` sends requests to the client"), "{interactive}");
        }
    }

    #[cfg(feature = "store")]
    #[test]
    fn a_store_needs_a_state_key() {
        let server = || Server::new("s", "1", ()).store(crate::store::MemoryStore::new());
        let error = server().build(Settings::default()).unwrap_err();
        assert_eq!(error.to_string(), "the server has a store: it needs a state key");

        let key = StateKey::parse("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        let built = server().build(Settings { state_key: key, ..Settings::default() }).unwrap();
        assert!(built.store().is_some());
    }
}
