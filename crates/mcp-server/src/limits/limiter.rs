//! Counts requests by caller or by address.

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

#[cfg(feature = "store")]
use super::leases::{Leases, NotTaken};
use super::{
    rate_limit::{RateLimit, Scope},
    table::{At, Key, Table},
};
use crate::{Invocation, Principal, policy::network::Network};

/// The rejection of a request that is over a rate limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limited {
    /// The text for the client or the model. It says when to try again.
    pub message: String,
    /// Time until the caller may try again: at least one second, in whole seconds.
    pub retry_after: Duration,
    /// Whether the caller is anonymous, so that a transport can reject it by status.
    pub is_anonymous: bool,
    /// Whether the limit could not be checked, because the store is not available.
    pub is_unavailable: bool,
}

impl Limited {
    fn new(subject: Subject<'_>, scope: Scope<'_>, limit: &RateLimit, wait: u64) -> Self {
        let seconds = wait.div_ceil(1000).max(1);
        let calls = match scope {
            Scope::Server => counted(limit.requests.into(), "request"),
            Scope::Continuations => format!("{} polls and answers", limit.requests),
            Scope::Tool(name) => format!("{} of `{name}`", counted(limit.requests.into(), "call")),
        };
        let caller = if subject.is_anonymous() { "network address without authentication" } else { "caller" };
        let message = format!(
            "rate limit reached: at most {calls} in {} for each {caller}; try again in {}",
            counted(limit.window.as_secs(), "second"),
            counted(seconds, "second")
        );
        let retry_after = Duration::from_secs(seconds);
        Self { message, retry_after, is_anonymous: subject.is_anonymous(), is_unavailable: false }
    }

    #[cfg(feature = "store")]
    fn unavailable(wait: u64) -> Self {
        let seconds = wait.div_ceil(1000).max(1);
        let message =
            format!("the rate limit cannot be checked at the moment: try again in {}", counted(seconds, "second"));
        Self { message, retry_after: Duration::from_secs(seconds), is_anonymous: false, is_unavailable: true }
    }
}

fn counted(number: u64, unit: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

/// Requests that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// New requests, in a batch each.
    Requests(u32),
    /// A request that continues an earlier one: a poll, an answer or a cancellation.
    Continuation,
}

/// The limit of anonymous callers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Anonymous {
    /// That of authenticated callers.
    #[default]
    AsServer,
    /// None, also for tools with a limit.
    Unlimited,
    Limit(RateLimit),
}

/// Whose requests are counted.
#[derive(Debug, Clone, Copy, Hash)]
enum Subject<'a> {
    /// Issuer and subject. Without the client: a person can register any number of clients.
    Caller(&'a str, &'a str),
    /// As [`Caller`](Self::Caller), by requests that were leased from the store.
    #[cfg(feature = "store")]
    Leased(&'a str, &'a str),
    Network(Network),
}

impl Subject<'_> {
    fn is_anonymous(self) -> bool {
        matches!(self, Self::Network(_))
    }
}

/// The limits of a server, and the counts of this process.
#[derive(Debug)]
pub(crate) struct Limits {
    server: Option<RateLimit>,
    anonymous: Anonymous,
    /// Keyed, and two of 64 bits: callers can neither choose nor find subjects with the same digest.
    hashers: [RandomState; 2],
    callers: Table,
    /// Apart from `callers`, so that a flood of addresses evicts no count of an authenticated caller.
    addresses: Table,
    #[cfg(feature = "store")]
    leases: Option<Leases>,
}

impl Limits {
    pub(crate) fn new(server: Option<RateLimit>, anonymous: Anonymous) -> Self {
        Self {
            server,
            anonymous,
            hashers: [RandomState::new(), RandomState::new()],
            callers: Table::default(),
            addresses: Table::default(),
            #[cfg(feature = "store")]
            leases: None,
        }
    }

    #[cfg(feature = "store")]
    pub(crate) fn with_store(self, store: Option<crate::store::SealedStore>) -> Self {
        Self { leases: store.map(Leases::new), ..self }
    }

    /// Counts requests of an anonymous caller, or with failed authentication: all of them, or none.
    pub(crate) fn count_anonymous(
        &self,
        address: Option<IpAddr>,
        counted: Counted,
        now: SystemTime,
    ) -> Result<(), Limited> {
        let limit = match &self.anonymous {
            Anonymous::AsServer => self.server.as_ref(),
            Anonymous::Unlimited => None,
            Anonymous::Limit(limit) => Some(limit),
        };
        let Some(limit) = limit else { return Ok(()) };
        match counted {
            Counted::Requests(requests) => self.count_address(address, Scope::Server, limit, requests, now),
            Counted::Continuation => {
                self.count_address(address, Scope::Continuations, &limit.of_continuations(), 1, now)
            }
        }
    }

    /// Counts a request of an authenticated caller that continues an earlier one.
    #[cfg(all(feature = "interactive", feature = "store"))]
    pub(crate) async fn count_continuation(&self, invocation: &Invocation) -> Result<(), Limited> {
        match (&self.server, invocation.principal.as_deref()) {
            (Some(limit), Some(caller)) => {
                self.count_caller(invocation, caller, Scope::Continuations, &limit.of_continuations()).await
            }
            _ => Ok(()),
        }
    }

    /// Counts a request that is about to run: for an authenticated caller by the limits of the server and of the tool, for an
    /// anonymous one by that of the tool.
    pub(crate) async fn count(
        &self,
        invocation: &Invocation,
        address: Option<IpAddr>,
        tool: Option<(&str, &RateLimit)>,
    ) -> Result<(), Limited> {
        let Some(caller) = invocation.principal.as_deref() else {
            return match (tool, self.anonymous) {
                (Some(_), Anonymous::Unlimited) | (None, _) => Ok(()),
                (Some((name, limit)), _) => {
                    self.count_address(address, Scope::Tool(name), limit, 1, invocation.received)
                }
            };
        };
        if let Some(limit) = &self.server {
            self.count_caller(invocation, caller, Scope::Server, limit).await?;
        }
        match tool {
            Some((name, limit)) => self.count_caller(invocation, caller, Scope::Tool(name), limit).await,
            None => Ok(()),
        }
    }

    fn count_address(
        &self,
        address: Option<IpAddr>,
        scope: Scope<'_>,
        limit: &RateLimit,
        requests: u32,
        now: SystemTime,
    ) -> Result<(), Limited> {
        let (subject, at) = (Subject::Network(Network::of(address)), at(now, limit));
        let counted = self.addresses.count(self.key(subject, scope), at, limit.requests, requests);
        counted.map_err(|end| Limited::new(subject, scope, limit, end.saturating_sub(at.now)))
    }

    #[cfg_attr(not(feature = "store"), expect(clippy::unused_async, reason = "only the store awaits"))]
    async fn count_caller(
        &self,
        invocation: &Invocation,
        caller: &Principal,
        scope: Scope<'_>,
        limit: &RateLimit,
    ) -> Result<(), Limited> {
        let at = at(invocation.received, limit);
        #[cfg(feature = "store")]
        if let Some(leases) = &self.leases {
            let subject = Subject::Leased(&caller.issuer, &caller.subject);
            let taken =
                leases.take(&self.callers, self.key(subject, scope), invocation, caller, scope, limit, at).await;
            match taken {
                Ok(()) => return Ok(()),
                Err(NotTaken::Exhausted(end)) => {
                    return Err(Limited::new(subject, scope, limit, end.saturating_sub(at.now)));
                }
                Err(NotTaken::Unavailable(wait)) if limit.fails_closed => {
                    return Err(Limited::unavailable(wait));
                }
                Err(NotTaken::Unavailable(_)) => {}
            }
        }
        let subject = Subject::Caller(&caller.issuer, &caller.subject);
        let counted = self.callers.count(self.key(subject, scope), at, limit.requests, 1);
        counted.map_err(|end| Limited::new(subject, scope, limit, end.saturating_sub(at.now)))
    }

    /// A digest of fixed size, however long the claims are.
    fn key(&self, subject: Subject<'_>, scope: Scope<'_>) -> Key {
        let digest = |hasher: &RandomState| hasher.hash_one((subject, scope));
        [digest(&self.hashers[0]), digest(&self.hashers[1])]
    }

    /// Size of the counts in bytes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.callers.bytes() + self.addresses.bytes()
    }
}

/// The time of a request and the window of a limit, in milliseconds.
fn at(now: SystemTime, limit: &RateLimit) -> At {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4);
    At { now: millis(now.duration_since(UNIX_EPOCH).unwrap_or_default()), window: millis(limit.window) }
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Limited {}
