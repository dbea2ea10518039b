//! The builder of a server.

use std::{fmt, future::Future, num::NonZeroUsize, pin::Pin, sync::Arc, time::Duration};

use mcp_protocol::{Icon, Implementation};

use crate::{Router, Tool};

/// How long clients may keep a list, unless the author says otherwise. Lists change only with a deployment.
const DEFAULT_LIST_TTL: Duration = Duration::from_secs(300);

/// A server in the making: its name, its state, and what it offers.
///
/// `S` is what the function sets up once per execution environment and every call shares: a database pool, a client,
/// or `()`. The order of registration is the order that clients see.
pub struct Server<S> {
    pub(crate) info: Implementation,
    pub(crate) instructions: Option<String>,
    pub(crate) state: Arc<S>,
    pub(crate) tools: Vec<Tool<S>>,
    pub(crate) page_size: Option<NonZeroUsize>,
    pub(crate) list_ttl: Duration,
    pub(crate) close: Option<CloseHook<S>>,
}

pub(crate) type CloseHook<S> = Box<dyn FnOnce(Arc<S>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl<S: Send + Sync + 'static> Server<S> {
    /// A server with a name, a version and its state.
    pub fn new(name: impl Into<String>, version: impl Into<String>, state: S) -> Self {
        Self {
            info: Implementation::new(name, version),
            instructions: None,
            state: Arc::new(state),
            tools: Vec::new(),
            page_size: None,
            list_ttl: DEFAULT_LIST_TTL,
            close: None,
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
        assert!(
            self.tools.iter().all(|other| other.name() != tool.name()),
            "there are two tools named `{}`",
            tool.name()
        );
        self.tools.push(tool);
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

    /// How long clients may keep a list or what `server/discover` told them; 5 minutes unless set.
    #[must_use]
    pub fn list_ttl(mut self, ttl: Duration) -> Self {
        self.list_ttl = ttl;
        self
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

    /// The finished server. Lists are rendered here, once for each revision.
    ///
    /// # Panics
    ///
    /// When a hand-written schema cannot be compiled; the message names its tool.
    #[track_caller]
    pub fn build(self) -> Router<S> {
        Router::new(self)
    }
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("info", &self.info)
            .field("tools", &self.tools.iter().map(|tool| &tool.definition.name).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
