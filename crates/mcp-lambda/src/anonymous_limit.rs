//! The rate limit of anonymous callers, as the operator sets it.

use std::{num::NonZeroU32, time::Duration};

use mcp_server::{InitError, RateLimit, Server};

use crate::Env;

const ANONYMOUS_LIMIT: &str = "MCP_ANONYMOUS_LIMIT";

/// The rate limit of anonymous callers and of failed authentication, by network address and in each execution environment: the value
/// of `MCP_ANONYMOUS_LIMIT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnonymousLimit {
    /// What the server declares with [`Server::limit`] and [`Server::limit_anonymous`].
    #[default]
    Declared,
    /// A number of requests a minute.
    PerMinute(NonZeroU32),
    /// `off`: none, also for tools with a limit. Behind a CDN, all anonymous callers have the addresses of the CDN.
    Off,
}

impl AnonymousLimit {
    pub(crate) fn from_env(env: &Env) -> Result<Self, InitError> {
        match env.get(ANONYMOUS_LIMIT) {
            None => Ok(Self::Declared),
            Some("off") => Ok(Self::Off),
            Some(number) => number
                .parse()
                .map(Self::PerMinute)
                .map_err(|_| InitError::setting(ANONYMOUS_LIMIT, "`off` or a number of requests a minute", number)),
        }
    }

    /// Sets the limit of a server, unless what it declares counts.
    pub(crate) fn apply<S: Send + Sync + 'static>(self, server: Server<S>) -> Server<S> {
        match self {
            Self::Declared => server,
            Self::PerMinute(requests) => {
                server.limit_anonymous(RateLimit::per_caller(requests.get(), Duration::from_secs(60)))
            }
            Self::Off => server.limit_anonymous(None),
        }
    }
}
