//! How long clients may keep what they were told, and who may share it (2026-07-28, `server/utilities/caching`).

use std::time::Duration;

use mcp_protocol::CacheScope;

/// How long a client may keep an answer, and who may share it.
///
/// ```
/// # use mcp_server as mcp_lambda;
/// use std::time::Duration;
///
/// use mcp_lambda::{Caching, List, Server};
///
/// // The tools are the same for everyone, and change only with a deployment.
/// let server = Server::new("greeter", "0.1.0", ()).caching(List::Tools, Caching::public(Duration::from_secs(3600)));
/// # let _ = server;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caching {
    /// How long the answer stays fresh; zero for one that should be asked for again each time.
    pub ttl: Duration,
    /// Who may share it.
    pub scope: CacheScope,
}

impl Caching {
    /// The answer may be kept for `ttl`, and shared with anyone, also by caches between client and server: for what is
    /// the same for every caller.
    pub const fn public(ttl: Duration) -> Self {
        Self { ttl, scope: CacheScope::Public }
    }

    /// The answer may be kept for `ttl` by the client that got it: for what could differ by caller.
    pub const fn private(ttl: Duration) -> Self {
        Self { ttl, scope: CacheScope::Private }
    }

    /// The answer is private, and stale at once.
    pub const NONE: Self = Self::private(Duration::ZERO);

    pub(crate) fn ttl_ms(self) -> u64 {
        u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What clients may keep besides resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum List {
    /// `server/discover`.
    Discover,
    /// `tools/list`.
    Tools,
    /// `prompts/list`.
    Prompts,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    ResourceTemplates,
}
