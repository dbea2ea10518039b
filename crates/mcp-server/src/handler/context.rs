//! Contexts of handlers.

use std::{
    any::Any,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use mcp_protocol::{
    ClientCapabilities, Implementation, LoggingLevel, LoggingMessageNotificationParams, ProgressNotificationParams,
    ProtocolVersion, RequestId, RequestMeta, jsonrpc, method,
};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Principal,
    handler::amount::Amount,
    interaction::{request_state::NewCipher, round::Round},
    policy::Policy,
};

/// The properties of an invocation that do not depend on MCP: request id, deadline, caller. A transport creates it; tests may set it.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The platform's request id, by which logs are searched; empty without a platform.
    pub request_id: String,
    /// When the request was received.
    pub received: SystemTime,
    /// When the platform ends the invocation; `None` without a limit.
    pub deadline: Option<Instant>,
    /// The authenticated caller; `None` for an anonymous one.
    pub principal: Option<Arc<Principal>>,
    /// The network address of the caller, if the platform knows it.
    pub address: Option<IpAddr>,
    /// A transport-specific value for handlers: see [`RequestContext::platform`].
    pub platform: Option<Arc<dyn Any + Send + Sync>>,
}

/// Time between the response and the platform's deadline, for serializing and sending it.
const DEADLINE_RESERVE: Duration = Duration::from_millis(500);

impl Invocation {
    /// Returns the deadline of the response: half a second before the platform ends the invocation.
    pub fn answer_by(&self) -> Option<Instant> {
        self.deadline.map(|end| end.checked_sub(DEADLINE_RESERVE).unwrap_or(end))
    }
}

impl Default for Invocation {
    /// An anonymous request that was received now, without a deadline.
    fn default() -> Self {
        Self {
            request_id: String::new(),
            received: SystemTime::now(),
            deadline: None,
            principal: None,
            address: None,
            platform: None,
        }
    }
}

/// The context of a tool's handler. Prompts and resources have the same.
///
/// ```
/// # use mcp_server as mcp_lambda;
/// use mcp_lambda::{HandlerError, NoArguments, ToolContext};
///
/// struct State {
///     greeting: String,
/// }
///
/// async fn greet(context: ToolContext<State>, _: NoArguments) -> Result<String, HandlerError> {
///     let name = context.principal().map_or("you", |caller| &caller.subject);
///     Ok(format!("{}, {name}!", context.state().greeting))
/// }
/// # let _ = mcp_lambda::Tool::new("greet", greet);
/// ```
pub type ToolContext<S> = RequestContext<S>;

/// The context of a request: the server's state, the caller, and notifications to the client.
///
/// Cheap to clone. It belongs to one request; no state is kept between requests. A handler that sends requests to the client
/// (elicitation, sampling, roots) takes an [`InteractiveContext`](crate::InteractiveContext) instead.
pub struct RequestContext<S> {
    state: Arc<S>,
    pub(crate) call: Arc<CallContext>,
}

/// The first parameter of a handler: [`RequestContext`] (with the alias [`ToolContext`] for tools), or
/// [`InteractiveContext`](crate::InteractiveContext) if it sends requests to the client.
#[diagnostic::on_unimplemented(
    message = "a handler's first parameter is a `ToolContext`, `RequestContext` or `InteractiveContext`, not `{Self}`"
)]
pub trait HandlerContext: FromRequest {}

/// Construction of a context. Sealed, so that other crates cannot implement it.
pub trait FromRequest: Send + Sized + 'static {
    /// The server's state.
    type State: Send + Sync + 'static;

    /// The cipher of `requestState`; `None` for a handler that is not interactive, so that a server without interactive handlers links
    /// no cryptography.
    fn cipher() -> Option<NewCipher>;

    fn from_context(context: RequestContext<Self::State>) -> Self;
}

impl<S: Send + Sync + 'static> HandlerContext for RequestContext<S> {}

impl<S: Send + Sync + 'static> FromRequest for RequestContext<S> {
    type State = S;

    fn cipher() -> Option<NewCipher> {
        None
    }

    fn from_context(context: Self) -> Self {
        context
    }
}

/// The shared context of one call. It has no type parameter: handlers downcast the state.
pub(crate) struct CallContext {
    pub(crate) state: Arc<dyn Any + Send + Sync>,
    pub(crate) id: RequestId,
    pub(crate) revision: ProtocolVersion,
    pub(crate) meta: RequestMeta,
    pub(crate) invocation: Arc<Invocation>,
    pub(crate) policy: Arc<Policy>,
    /// The deadline of the response.
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancellation: CancellationToken,
    pub(crate) notifications: Option<mpsc::Sender<String>>,
    pub(crate) sent: Mutex<SentNotifications>,
    pub(crate) extensions: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
    /// `None` for a handler that is not interactive.
    pub(crate) round: Option<Round>,
    /// `None` for a call that cannot become a task.
    #[cfg(feature = "tasks")]
    pub(crate) task: Option<Arc<crate::tasks::task_run::TaskRun>>,
}

impl CallContext {
    fn sent(&self) -> MutexGuard<'_, SentNotifications> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CallContext {
    fn drop(&mut self) {
        let SentNotifications { count, dropped, .. } = *self.sent();
        if dropped > 0 {
            let request_id = &self.invocation.request_id;
            tracing::warn!(
                request_id,
                sent = count,
                dropped,
                "notifications of a call were dropped: the limit was exceeded"
            );
        }
    }
}

/// Maximum number of notifications of a call, progress and log messages together.
const MAX_NOTIFICATIONS: u32 = 1000;
/// Maximum number of notifications of a call in one second.
const MAX_NOTIFICATIONS_PER_SECOND: u32 = 100;

/// Counters of the notifications that a call has sent.
#[derive(Debug)]
pub(crate) struct SentNotifications {
    last_progress: f64,
    count: u32,
    /// Start of the current second, and the notifications that were sent in it.
    second: Option<(tokio::time::Instant, u32)>,
    dropped: u32,
}

impl Default for SentNotifications {
    fn default() -> Self {
        Self { last_progress: f64::NEG_INFINITY, count: 0, second: None, dropped: 0 }
    }
}

impl SentNotifications {
    /// Counts a notification as sent or dropped. Returns whether it may be sent.
    fn count(&mut self, now: tokio::time::Instant) -> bool {
        let (start, in_second) = match self.second {
            Some((start, count)) if now.duration_since(start) < Duration::from_secs(1) => (start, count),
            _ => (now, 0),
        };
        let is_admitted = self.count < MAX_NOTIFICATIONS && in_second < MAX_NOTIFICATIONS_PER_SECOND;
        let counter = if is_admitted { &mut self.count } else { &mut self.dropped };
        *counter = counter.saturating_add(1);
        self.second = Some((start, in_second + u32::from(is_admitted)));
        is_admitted
    }
}

impl<S: Send + Sync + 'static> RequestContext<S> {
    pub(crate) fn of(call: Arc<CallContext>) -> Self {
        let Ok(state) = Arc::clone(&call.state).downcast() else {
            unreachable!("an item is registered only on a server with its type of state")
        };
        Self { state, call }
    }
}

impl<S> RequestContext<S> {
    /// Returns the server's state, which was set up in the init phase.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// Returns the call's value of this type, which is created on first use and dropped with the call: for per-call state of
    /// a library that handlers use.
    pub fn extension<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut own = self.call.extensions.lock().unwrap_or_else(PoisonError::into_inner);
        let existing = own.iter().find_map(|value| Arc::clone(value).downcast().ok());
        existing.unwrap_or_else(|| {
            let new = Arc::new(T::default());
            own.push(Arc::clone(&new) as Arc<dyn Any + Send + Sync>);
            new
        })
    }

    /// Returns the JSON-RPC id of the request.
    pub fn id(&self) -> &RequestId {
        &self.call.id
    }

    /// Returns the platform's request id, by which logs are searched; empty without a platform.
    pub fn request_id(&self) -> &str {
        &self.call.invocation.request_id
    }

    /// Returns the protocol version of the request.
    pub fn protocol_version(&self) -> ProtocolVersion {
        self.call.revision
    }

    /// Returns the client's unverified name and version. `None` for legacy clients, which send them only in `initialize`:
    /// another request.
    pub fn client_info(&self) -> Option<&Implementation> {
        self.call.meta.client_info.as_ref()
    }

    /// Returns the client's capabilities. `None` for legacy clients, as for [`client_info`](Self::client_info).
    pub fn client_capabilities(&self) -> Option<&ClientCapabilities> {
        self.call.meta.client_capabilities.as_ref()
    }

    /// Returns the authenticated caller; `None` for an anonymous one.
    pub fn principal(&self) -> Option<&Principal> {
        self.call.invocation.principal.as_deref()
    }

    /// Reports whether the caller has a scope, or one that includes it: for results that depend on the caller. An anonymous
    /// caller has no scopes. If access rules are not enforced, every caller has all scopes.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.call.policy.has_scope(self.principal(), scope)
    }

    /// Returns a member of the request's `_meta` for which there is no method. Validate it: the client chooses its type and value.
    pub fn meta(&self, key: &str) -> Option<&Value> {
        self.call.meta.other.get(key)
    }

    /// Returns the caller's `traceparent` ([W3C Trace Context](https://www.w3.org/TR/trace-context/)).
    pub fn traceparent(&self) -> Option<&str> {
        self.call.meta.traceparent.as_deref()
    }

    /// Returns the caller's `tracestate` (W3C Trace Context).
    pub fn tracestate(&self) -> Option<&str> {
        self.call.meta.tracestate.as_deref()
    }

    /// Returns the caller's `baggage` ([W3C Baggage](https://www.w3.org/TR/baggage/)).
    pub fn baggage(&self) -> Option<&str> {
        self.call.meta.baggage.as_deref()
    }

    /// Returns the transport-specific value of a request; `None` for another type, or without such a value.
    pub fn platform<T: Any>(&self) -> Option<&T> {
        self.call.invocation.platform.as_deref()?.downcast_ref()
    }

    /// Returns the time when the request was received. Compare expiry times with it: it does not change while the handler
    /// runs, and tests can set it.
    pub fn received(&self) -> SystemTime {
        self.call.invocation.received
    }

    /// Returns the deadline, at which the server responds with an error: half a second before the platform ends the
    /// invocation. `None` without a limit. A handler that blocks its thread is not interrupted: use `spawn_blocking` for such work.
    pub fn deadline(&self) -> Option<Instant> {
        self.call.deadline
    }

    /// Returns the time until [`deadline`](Self::deadline); zero after it.
    pub fn remaining(&self) -> Option<Duration> {
        self.call.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Returns the token that is cancelled when the handler's future is dropped before completion, as at the deadline: for
    /// spawned work that should stop too.
    ///
    /// A handler needs it only for work on another thread: its own future ends at an `.await`. It is not cancelled when the
    /// client disconnects, which transports need not report.
    ///
    /// ```
    /// # use mcp_server as mcp_lambda;
    /// use mcp_lambda::{HandlerError, NoArguments, ToolContext};
    ///
    /// async fn sum(context: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    ///     let cancellation = context.cancellation().clone();
    ///     let numbers = (1..=1_000_000_u64).take_while(move |_| !cancellation.is_cancelled());
    ///     let sum = tokio::task::spawn_blocking(|| numbers.sum::<u64>()).await?;
    ///     Ok(sum.to_string())
    /// }
    /// # let _ = mcp_lambda::Tool::new("sum", sum);
    /// ```
    pub fn cancellation(&self) -> &CancellationToken {
        &self.call.cancellation
    }

    /// Sends progress to the client, if it requested progress; otherwise does nothing.
    ///
    /// `done` must increase from call to call, and `total` is its value at the end: numbers of any type, or `None` for an
    /// unknown total. A value that does not increase or is not finite is not sent, as the protocol requires.
    ///
    /// A call sends at most 100 notifications in one second and 1000 in all, of progress and of [`log`](Self::log) together.
    /// Further ones are dropped, and counted in a log event of the function when the call has ended.
    ///
    /// ```
    /// # use mcp_server::{NoArguments, ToolContext, HandlerError};
    /// async fn import(context: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
    ///     let files = ["a.csv", "b.csv"];
    ///     for (done, file) in files.iter().enumerate() {
    ///         context.progress(done, files.len(), Some(file)).await;
    ///     }
    ///     context.progress(files.len(), files.len(), None).await;
    ///     Ok("imported")
    /// }
    /// ```
    pub async fn progress(&self, done: impl Into<Amount>, total: impl Into<Amount>, message: Option<&str>) {
        self.send_progress(done.into(), total.into(), message).await;
    }

    async fn send_progress(&self, done: Amount, total: Amount, message: Option<&str>) {
        let (Some(token), Some(notifications)) = (&self.call.meta.progress_token, &self.call.notifications) else {
            return;
        };
        let Some(progress) = done.finite() else { return };
        {
            let mut sent = self.call.sent();
            if progress <= sent.last_progress || !sent.count(tokio::time::Instant::now()) {
                return;
            }
            sent.last_progress = progress;
        }
        let params = ProgressNotificationParams {
            progress_token: token.clone(),
            progress,
            total: total.finite(),
            message: message.map(str::to_owned),
        };
        let params = params.for_revision(self.call.revision);
        send(notifications, jsonrpc::notification(method::NOTIFICATIONS_PROGRESS, &params)).await;
    }

    /// Sends a log message to the client, if the client has requested messages of that level; otherwise does nothing.
    ///
    /// A modern client sets the level in `_meta` of each request, and gets no messages without it. A legacy client sets it with
    /// `logging/setLevel`, which another execution environment may have served: [`LoggingLevel::Info`] is assumed. Logging to the client
    /// is deprecated in 2026-07-28: for operators, use `tracing`. The limits of [`progress`](Self::progress) apply.
    pub async fn log(&self, level: LoggingLevel, logger: Option<&str>, data: impl Into<Value>) {
        let wanted = match self.call.revision.is_modern() {
            true => self.call.meta.log_level,
            false => Some(LoggingLevel::Info),
        };
        let (Some(notifications), true) = (&self.call.notifications, wanted.is_some_and(|wanted| level >= wanted))
        else {
            return;
        };
        if !self.call.sent().count(tokio::time::Instant::now()) {
            return;
        }
        let params = LoggingMessageNotificationParams { level, logger: logger.map(str::to_owned), data: data.into() };
        send(notifications, jsonrpc::notification(method::NOTIFICATIONS_MESSAGE, &params)).await;
    }
}

/// Sends a message; waits while the channel is full, and drops the message if the channel is closed.
async fn send(notifications: &mpsc::Sender<String>, message: Result<String, serde_json::Error>) {
    if let Ok(message) = message {
        let _ = notifications.send(message).await;
    }
}

impl<S> Clone for RequestContext<S> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), call: Arc::clone(&self.call) }
    }
}

impl<S> fmt::Debug for RequestContext<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestContext")
            .field("id", &self.call.id)
            .field("revision", &self.call.revision)
            .field("request_id", &self.call.invocation.request_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_are_limited_per_second_and_per_call() {
        let start = tokio::time::Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut sent = SentNotifications::default();
        let mut admitted = |millis: u64| (0..150).filter(|_| sent.count(at(millis))).count();

        assert_eq!((admitted(0), admitted(999), admitted(1000), admitted(1500)), (100, 0, 100, 0));
        let others: usize = (2..20).map(|second| admitted(second * 1000)).sum();
        assert_eq!(others, 800);
        assert_eq!((sent.count, sent.dropped), (1000, 22 * 150 - 1000));
    }
}
