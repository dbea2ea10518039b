//! Lifetime and sharing of cached responses (2026-07-28, `server/utilities/caching`).

use std::time::Duration;

use mcp_protocol::CacheScope;

/// Caching of a response by clients: lifetime and scope.
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
    /// Time for which the response is fresh; zero for a response that must not be cached.
    pub ttl: Duration,
    /// Whether the cached response may be shared between callers.
    pub scope: CacheScope,
}

impl Caching {
    /// Allows clients and intermediate caches to keep the response for `ttl` and to share it: for responses that are the
    /// same for every caller.
    pub const fn public(ttl: Duration) -> Self {
        Self { ttl, scope: CacheScope::Public }
    }

    /// Allows the requesting client to keep the response for `ttl`: for responses that depend on the caller.
    pub const fn private(ttl: Duration) -> Self {
        Self { ttl, scope: CacheScope::Private }
    }

    /// The response is private and immediately stale.
    pub const NONE: Self = Self::private(Duration::ZERO);

    pub(crate) fn ttl_ms(self) -> u64 {
        u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A method whose response clients may cache, besides `resources/read`.
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
