//! [`RateLimit`]: a limit, as an author declares it.

use std::time::Duration;

/// Longest window: 90 days, as that of a store's counter.
const MAX_WINDOW: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Up to this number of requests in a minute, the default block is one request.
#[cfg(feature = "store")]
const SMALL_LIMIT_PER_MINUTE: u64 = 60;
/// The default block of a larger limit is this part of it.
#[cfg(feature = "store")]
const BLOCKS_PER_WINDOW: u32 = 20;
/// Minimum limit of [continuations](RateLimit::of_continuations): some, and two for each second of the window.
const CONTINUATIONS: u64 = 10;
const CONTINUATIONS_PER_SECOND: u64 = 2;

/// A rate limit: a number of requests of each caller in a window. See [`Server::limit`](crate::Server::limit) and
/// [`Tool::limit`](crate::Tool::limit).
///
/// A window begins with the first request, and the next request after its end begins another. Around the end of a window,
/// a caller may therefore make up to twice the number in a short time.
///
/// - **An authenticated caller** is a pair of issuer and subject. Its clients share one count.
/// - **An anonymous caller** is an IPv4 address, or the first 64 bits of an IPv6 address. So is a caller whose authentication failed.
///
/// Requests of anonymous callers are counted by each execution environment for itself, and never in a store. Those of
/// authenticated callers too, unless the server has a [store](crate::Server#method.store): with `n` environments, a caller may then
/// make up to `n` times the number of requests.
///
/// **Polls** do not count as requests: those of a question to a client of 2025-11-25 and of a task, with their answers and cancellations.
/// They have a count of their own, with the same limit, but at least two for each second of the window, and ten. The client of an open
/// question polls about 40 times in the first minute, and then 30 times a minute, as often as the client of a task.
///
/// With a store, an execution environment leases requests in blocks, of one request for limits up to 60 a minute, and otherwise of a
/// twentieth of the limit. In a window, at most `block × environments` requests are served beyond the limit. Leased requests that an
/// environment does not use are lost at the end of the window.
///
/// ```
/// use std::time::Duration;
///
/// # use mcp_server as mcp_lambda;
/// use mcp_lambda::{RateLimit, Server};
///
/// let server = Server::new("greeter", "0.1.0", ()).limit(RateLimit::per_caller(120, Duration::from_secs(60)));
/// # let _ = server;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    pub(crate) requests: u32,
    pub(crate) window: Duration,
    #[cfg(feature = "store")]
    block: Option<u32>,
    #[cfg(feature = "store")]
    pub(crate) fails_closed: bool,
}

impl RateLimit {
    /// Creates a limit of `requests` in each `window` for each caller.
    ///
    /// # Panics
    ///
    /// When `requests` is 0, or the window is not from one second to 90 days.
    #[track_caller]
    pub fn per_caller(requests: u32, window: Duration) -> Self {
        assert!(requests > 0, "a rate limit permits at least one request");
        assert!(
            (Duration::from_secs(1)..=MAX_WINDOW).contains(&window),
            "the window of a rate limit is from one second to 90 days"
        );
        Self {
            requests,
            window,
            #[cfg(feature = "store")]
            block: None,
            #[cfg(feature = "store")]
            fails_closed: false,
        }
    }

    /// Sets how many requests an execution environment leases from the store at once. A larger block takes fewer round trips to the
    /// store, and makes the limit less exact.
    ///
    /// # Panics
    ///
    /// When the block is 0 or larger than the limit.
    #[cfg(feature = "store")]
    #[must_use]
    #[track_caller]
    pub fn block(self, requests: u32) -> Self {
        assert!((1..=self.requests).contains(&requests), "a block has at least one request, and at most the limit");
        Self { block: Some(requests), ..self }
    }

    /// Rejects requests while the store is not available. By default they are served, and limited by each execution environment for
    /// itself.
    #[cfg(feature = "store")]
    #[must_use]
    pub fn fail_closed(self) -> Self {
        Self { fails_closed: true, ..self }
    }

    /// Returns the limit of the requests that continue earlier ones, each of which was counted. A smaller one would end open questions.
    pub(crate) fn of_continuations(&self) -> Self {
        let least = CONTINUATIONS + CONTINUATIONS_PER_SECOND * self.window.as_secs();
        Self {
            requests: self.requests.max(u32::try_from(least).unwrap_or(u32::MAX)),
            #[cfg(feature = "store")]
            block: None,
            ..*self
        }
    }

    /// Returns the number of requests that are leased at once.
    #[cfg(feature = "store")]
    pub(crate) fn block_size(&self) -> u32 {
        let is_small = u64::from(self.requests) * 60 <= SMALL_LIMIT_PER_MINUTE * self.window.as_secs();
        let default = || if is_small { 1 } else { (self.requests / BLOCKS_PER_WINDOW).max(1) };
        self.block.unwrap_or_else(default)
    }
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, Hash)]
pub(crate) enum Scope<'a> {
    /// All requests.
    Server,
    /// All requests that continue earlier ones.
    Continuations,
    /// The calls of a tool.
    Tool(&'a str),
}
