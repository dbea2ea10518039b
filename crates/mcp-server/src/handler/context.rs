//! What a handler gets beside its arguments.

use std::{
    any::Any,
    fmt,
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

/// The invocation that a request came in, as far as a handler may care.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The platform's id of the request, which the logs are searched by; empty without a platform.
    pub request_id: String,
    /// When the request came.
    pub received: SystemTime,
    /// When the platform ends the invocation; `None` if it does not.
    pub deadline: Option<Instant>,
    /// The authenticated caller; `None` for an anonymous one.
    pub principal: Option<Arc<Principal>>,
    /// What a transport adds for handlers, of a type of its own: see [`RequestContext::platform`].
    pub platform: Option<Arc<dyn Any + Send + Sync>>,
}

/// The time between the answer and the platform's deadline: enough to write it and send it.
const DEADLINE_RESERVE: Duration = Duration::from_millis(500);

impl Invocation {
    /// The instant by which the answer must be given: half a second before the platform ends the invocation.
    pub fn answer_by(&self) -> Option<Instant> {
        self.deadline.map(|end| end.checked_sub(DEADLINE_RESERVE).unwrap_or(end))
    }
}

impl Default for Invocation {
    /// One that came now, anonymous, without a deadline.
    fn default() -> Self {
        Self { request_id: String::new(), received: SystemTime::now(), deadline: None, principal: None, platform: None }
    }
}

/// What the handler of a tool gets beside its arguments. Prompts and resources get the same.
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

/// The request that a handler serves: the server's state, who asks, and the way back to the client.
///
/// Cheap to clone. All of it is about one request; nothing is remembered between requests. A handler that asks the
/// client something takes an [`InteractiveContext`](crate::InteractiveContext) in its place.
pub struct RequestContext<S> {
    state: Arc<S>,
    pub(crate) call: Arc<CallContext>,
}

/// What a handler may take as its first parameter: [`RequestContext`] (for tools by the name of [`ToolContext`]), or
/// [`InteractiveContext`](crate::InteractiveContext) if it asks the client.
#[diagnostic::on_unimplemented(
    message = "a handler's first parameter is a `ToolContext`, `RequestContext` or `InteractiveContext`, not `{Self}`"
)]
pub trait HandlerContext: FromRequest {}

/// How a context is made. Out of reach from other crates, so that there are no more kinds of it.
pub trait FromRequest: Send + Sized + 'static {
    /// The server's state.
    type State: Send + Sync + 'static;

    /// How to seal what travels between rounds; `None` for a handler that never asks, so that a server without such
    /// handlers links no cryptography.
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

/// What the handlers of one call share. It has no type parameter: the state is found by its type.
pub(crate) struct CallContext {
    pub(crate) state: Arc<dyn Any + Send + Sync>,
    pub(crate) id: RequestId,
    pub(crate) revision: ProtocolVersion,
    pub(crate) meta: RequestMeta,
    pub(crate) invocation: Arc<Invocation>,
    pub(crate) policy: Arc<Policy>,
    /// The instant by which the answer is given.
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancellation: CancellationToken,
    pub(crate) notifications: Option<mpsc::Sender<String>>,
    pub(crate) sent: Mutex<SentNotifications>,
    pub(crate) extensions: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
    /// `None` for a handler that never asks.
    pub(crate) round: Option<Round>,
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
            tracing::warn!(request_id, sent = count, dropped, "notifications of a call were dropped: it sent too many");
        }
    }
}

/// The most notifications that a call sends, of progress and of logging together.
const MAX_NOTIFICATIONS: u32 = 1000;
/// The most that it sends in one second.
const MAX_NOTIFICATIONS_PER_SECOND: u32 = 100;

/// What a call has sent to its client before the result.
#[derive(Debug)]
pub(crate) struct SentNotifications {
    last_progress: f64,
    count: u32,
    /// When the current second began, and how many were sent in it.
    second: Option<(tokio::time::Instant, u32)>,
    dropped: u32,
}

impl Default for SentNotifications {
    fn default() -> Self {
        Self { last_progress: f64::NEG_INFINITY, count: 0, second: None, dropped: 0 }
    }
}

impl SentNotifications {
    /// Whether one more may be sent now; it is counted either way.
    fn admit(&mut self, now: tokio::time::Instant) -> bool {
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
            unreachable!("an item is registered only at a server with its type of state")
        };
        Self { state, call }
    }
}

impl<S> RequestContext<S> {
    /// What the function set up once, before its first request.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The call's value of a type, made when it is first asked for and dropped with the call: what a library that handlers
    /// use keeps of this call.
    pub fn extension<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut own = self.call.extensions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = own.iter().find_map(|value| Arc::clone(value).downcast().ok());
        known.unwrap_or_else(|| {
            let new = Arc::new(T::default());
            own.push(Arc::clone(&new) as Arc<dyn Any + Send + Sync>);
            new
        })
    }

    /// The JSON-RPC id of the request.
    pub fn id(&self) -> &RequestId {
        &self.call.id
    }

    /// The platform's id of the request, which the logs are searched by; empty without a platform.
    pub fn request_id(&self) -> &str {
        &self.call.invocation.request_id
    }

    /// The revision that the client speaks.
    pub fn protocol_version(&self) -> ProtocolVersion {
        self.call.revision
    }

    /// Who the client says it is. Not verified; legacy clients say it only in `initialize`, which is another request,
    /// so for them it is `None`.
    pub fn client_info(&self) -> Option<&Implementation> {
        self.call.meta.client_info.as_ref()
    }

    /// What the client can do. `None` for legacy clients, for the reason given at [`client_info`](Self::client_info).
    pub fn client_capabilities(&self) -> Option<&ClientCapabilities> {
        self.call.meta.client_capabilities.as_ref()
    }

    /// The authenticated caller; `None` for an anonymous one.
    pub fn principal(&self) -> Option<&Principal> {
        self.call.invocation.principal.as_deref()
    }

    /// Whether the caller has a scope, or one that includes it: for what one handler shows to some of its callers.
    /// An anonymous caller has none; every caller has each where the policy is switched off.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.call.policy.has_scope(self.principal(), scope)
    }

    /// Anything else in the request's `_meta`, by its key.
    pub fn meta(&self, key: &str) -> Option<&Value> {
        self.call.meta.other.get(key)
    }

    /// The caller's `traceparent` ([W3C Trace Context](https://www.w3.org/TR/trace-context/)).
    pub fn traceparent(&self) -> Option<&str> {
        self.call.meta.traceparent.as_deref()
    }

    /// The caller's `tracestate`.
    pub fn tracestate(&self) -> Option<&str> {
        self.call.meta.tracestate.as_deref()
    }

    /// The caller's `baggage` ([W3C Baggage](https://www.w3.org/TR/baggage/)).
    pub fn baggage(&self) -> Option<&str> {
        self.call.meta.baggage.as_deref()
    }

    /// What the transport adds to a request, of a type of its own; `None` for another type, or where nothing is added.
    pub fn platform<T: Any>(&self) -> Option<&T> {
        self.call.invocation.platform.as_deref()?.downcast_ref()
    }

    /// When the request came. The time to use for the age of something kept: it is the same however
    /// long the handler takes, and a test can say what it is.
    pub fn received(&self) -> SystemTime {
        self.call.invocation.received
    }

    /// When the server answers in the handler's place: half a second before the platform ends the invocation. `None`
    /// when there is no limit. A handler that blocks its thread is not interrupted: use `spawn_blocking` for such work.
    pub fn deadline(&self) -> Option<Instant> {
        self.call.deadline
    }

    /// The time until [`deadline`](Self::deadline); zero when it is over.
    pub fn remaining(&self) -> Option<Duration> {
        self.call.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Fires when the handler's future is dropped before it is done, as it is at the deadline: for work that was spawned
    /// elsewhere and should stop too.
    ///
    /// A handler itself needs it only for work on another thread: its own future ends at an `.await`. It does not fire when the
    /// client goes away, which no transport is required to report.
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

    /// Tells the client how far the call has come, if it asked to know; otherwise does nothing.
    ///
    /// `done` must grow from call to call, and `total` is its value at the end: numbers of any type, or `None` for a total
    /// that is not known. A value that does not grow, or is no finite number, is left out, as the protocol wants it.
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
            if progress <= sent.last_progress || !sent.admit(tokio::time::Instant::now()) {
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

    /// Sends a log message to the client, if it wants messages of that level; otherwise does nothing.
    ///
    /// A modern client names its level in each request and gets nothing otherwise. A legacy client names it in a
    /// request that another environment may have answered, so [`LoggingLevel::Info`] is assumed. Logging to the client
    /// is deprecated in 2026-07-28: for operators, use `tracing`. Bounded as [`progress`](Self::progress) is.
    pub async fn log(&self, level: LoggingLevel, logger: Option<&str>, data: impl Into<Value>) {
        let wanted = match self.call.revision.is_modern() {
            true => self.call.meta.log_level,
            false => Some(LoggingLevel::Info),
        };
        let (Some(notifications), true) = (&self.call.notifications, wanted.is_some_and(|wanted| level >= wanted))
        else {
            return;
        };
        if !self.call.sent().admit(tokio::time::Instant::now()) {
            return;
        }
        let params = LoggingMessageNotificationParams { level, logger: logger.map(str::to_owned), data: data.into() };
        send(notifications, jsonrpc::notification(method::NOTIFICATIONS_MESSAGE, &params)).await;
    }
}

/// Waits while the client reads; drops the message once the receiver is gone.
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

    /// S13
    #[test]
    fn a_call_sends_so_many_notifications_in_a_second_and_in_all() {
        let start = tokio::time::Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut sent = SentNotifications::default();
        let mut admitted = |millis: u64| (0..150).filter(|_| sent.admit(at(millis))).count();

        assert_eq!((admitted(0), admitted(999), admitted(1000), admitted(1500)), (100, 0, 100, 0));
        let others: usize = (2..20).map(|second| admitted(second * 1000)).sum();
        assert_eq!(others, 800);
        assert_eq!((sent.count, sent.dropped), (1000, 22 * 150 - 1000));
    }
}
