//! The log event of each call, with its metrics ([`crate::logs`]). It never contains arguments, results or tokens.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use http::StatusCode;
use mcp_protocol::{ProtocolVersion, RequestMeta, is_traceparent, method};
#[cfg(feature = "auth")]
use mcp_server::Pseudonyms;
use mcp_server::{CallError, CallOutcome, Invocation, Principal, ResultKind, error_chain};
use tracing::Span;

use crate::{HttpConfig, LambdaInvocation, logs::REJECTION, traces};

/// The longest logged name or version of a client.
const MAX_CLIENT_CHARS: usize = 64;
/// The longest logged error chain: an event with metrics must fit into one event of CloudWatch Logs.
const MAX_ERROR_CHARS: usize = 8 * 1024;
const TARGET: &str = "mcp_lambda::call";
/// The name of log events of calls that were not rejected.
const NAME: &str = "call";
/// Logged and counted in place of a name that is not registered, because callers choose such names.
pub(crate) const UNKNOWN: &str = "unknown";

/// Creates the log event of each call of a service.
pub(crate) struct CallLogs {
    /// Whether no call has begun yet.
    is_cold_start: AtomicBool,
    subjects: Subjects,
}

/// How the log identifies callers.
enum Subjects {
    Unlogged,
    Plain,
    #[cfg(feature = "auth")]
    Pseudonyms(Box<Pseudonyms>),
}

impl CallLogs {
    #[cfg_attr(
        not(feature = "auth"),
        expect(unused_variables, reason = "pseudonyms need cryptography, which only `auth` links")
    )]
    pub(crate) fn new(config: &HttpConfig, server: &str) -> Self {
        let subjects = match &config.state_key {
            _ if config.logs_subjects => Subjects::Plain,
            #[cfg(feature = "auth")]
            Some(key) => {
                Pseudonyms::new(key, server).map_or(Subjects::Unlogged, |own| Subjects::Pseudonyms(Box::new(own)))
            }
            _ => Subjects::Unlogged,
        };
        Self { is_cold_start: AtomicBool::new(true), subjects }
    }

    /// Begins the log event of a call that was received at `begin`. The span ends with it.
    pub(crate) fn begin(&self, invocation: &Arc<Invocation>, begin: Instant, span: Span) -> CallLog {
        let is_enabled = tracing::enabled!(target: TARGET, tracing::Level::ERROR);
        let is_cold_start = self.is_cold_start.swap(false, Ordering::Relaxed);
        span.record("faas.coldstart", is_cold_start);
        CallLog {
            is_enabled,
            invocation: Arc::clone(invocation),
            begin,
            is_cold_start,
            span,
            request: RequestSummary::default(),
            subject: invocation.principal.as_deref().filter(|_| is_enabled).and_then(|caller| self.subject(caller)),
            fault: None,
            is_written: false,
        }
    }

    fn subject(&self, caller: &Principal) -> Option<String> {
        match &self.subjects {
            Subjects::Unlogged => None,
            Subjects::Plain => Some(caller.subject.clone()),
            #[cfg(feature = "auth")]
            Subjects::Pseudonyms(pseudonyms) => Some(pseudonyms.of(caller)),
        }
    }
}

/// The logged properties of a request; empty for a body that is not a request.
#[derive(Clone, Default)]
struct RequestSummary {
    method: Option<&'static str>,
    /// The registered name of the tool, prompt or resource, if the method has one.
    item: Option<String>,
    revision: Option<ProtocolVersion>,
    client: Option<(String, String)>,
    traceparent: Option<String>,
}

/// The log event of one call. If it is dropped before [`end`](Self::end), the call is logged as abandoned.
pub(crate) struct CallLog {
    invocation: Arc<Invocation>,
    begin: Instant,
    is_cold_start: bool,
    span: Span,
    request: RequestSummary,
    subject: Option<String>,
    /// The fault of the server because of which no handler was called.
    fault: Option<&'static str>,
    /// Whether the log event is enabled; otherwise no fields are collected.
    is_enabled: bool,
    is_written: bool,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Ok,
    InputRequired,
    HandlerError,
    Invalid,
    Refused,
    #[cfg(feature = "limits")]
    Limited,
    Timeout,
    TooLarge,
    Unavailable,
    Fault,
    Abandoned,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::InputRequired => "input_required",
            Self::HandlerError => "tool_error",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            #[cfg(feature = "limits")]
            Self::Limited => "limited",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
            Self::Fault => "fault",
            Self::Abandoned => "abandoned",
        }
    }

    fn is_success(self) -> bool {
        matches!(self, Self::Ok | Self::InputRequired)
    }

    fn of(outcome: &CallOutcome) -> Self {
        match (&outcome.result, outcome.fault.is_some(), outcome.kind) {
            (_, true, ResultKind::Unavailable) => Self::Unavailable,
            (_, true, _) => Self::Fault,
            (Err(error), _, _) => Self::of_error(error),
            (Ok(_), _, ResultKind::Complete) => Self::Ok,
            (Ok(_), _, ResultKind::Failed) => Self::HandlerError,
            (Ok(_), _, ResultKind::InputRequired) => Self::InputRequired,
            (Ok(_), _, ResultKind::Challenged) => Self::Refused,
            (Ok(_), _, ResultKind::Unavailable) => Self::Unavailable,
        }
    }

    #[deny(clippy::wildcard_enum_match_arm, reason = "a new error must be counted as what it is")]
    fn of_error(error: &CallError) -> Self {
        match error {
            CallError::Unauthenticated { .. } | CallError::InsufficientScope { .. } | CallError::Forbidden => {
                Self::Refused
            }
            CallError::DeadlineExceeded => Self::Timeout,
            CallError::Failed(_) => Self::HandlerError,
            CallError::TooLarge { .. } => Self::TooLarge,
            CallError::Unavailable(_) => Self::Unavailable,
            CallError::Internal => Self::Fault,
            CallError::MethodNotFound(_)
            | CallError::InvalidParams(_)
            | CallError::InvalidMeta(_)
            | CallError::UnknownTool(_)
            | CallError::UnknownPrompt(_)
            | CallError::ResourceNotFound { .. }
            | CallError::InvalidInput(_)
            | CallError::RequestState
            | CallError::InvalidCursor
            | CallError::HeaderMismatch(_)
            | CallError::MissingClientCapability(_)
            | CallError::UnsupportedVersion { .. } => Self::Invalid,
        }
    }

    /// The outcome of a request that was not dispatched, from its response. For legacy clients, errors have status 200.
    fn of_response(response: &ResponseSummary) -> Self {
        match response.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Refused,
            #[cfg(feature = "limits")]
            StatusCode::TOO_MANY_REQUESTS => Self::Limited,
            status if status.is_server_error() => Self::Fault,
            status if status.is_client_error() || response.code.is_some() => Self::Invalid,
            _ => Self::Ok,
        }
    }
}

/// The outcome of a call for the log; made before the outcome is consumed.
pub(crate) struct OutcomeSummary {
    outcome: Outcome,
    fault: Option<String>,
    /// The size of a result that is too large, and the limit, in bytes.
    too_large: Option<(usize, usize)>,
}

impl OutcomeSummary {
    pub(crate) fn of(outcome: &CallOutcome) -> Self {
        let fault = outcome.fault.as_ref().map(|fault| clip(&error_chain(fault.as_ref()), MAX_ERROR_CHARS));
        Self { outcome: Outcome::of(outcome), fault, too_large: None }
    }

    /// The outcome of a request over a rate limit.
    #[cfg(feature = "limits")]
    pub(crate) fn limited() -> Self {
        Self { outcome: Outcome::Limited, fault: None, too_large: None }
    }

    pub(crate) fn too_large(bytes: usize, limit: usize) -> Self {
        Self { outcome: Outcome::TooLarge, fault: None, too_large: Some((bytes, limit)) }
    }
}

/// The properties of a response that are logged.
pub(crate) struct ResponseSummary {
    pub(crate) status: StatusCode,
    /// The code of a JSON-RPC error.
    pub(crate) code: Option<i64>,
    pub(crate) bytes: usize,
    pub(crate) is_streamed: bool,
}

impl CallLog {
    /// Sets the method that the message names.
    pub(crate) fn set_method(&mut self, name: &str) {
        self.request.method = Some(method::known(name).unwrap_or(UNKNOWN));
    }

    /// Sets the requested item. `item` is its registered name; `None` if it is not registered.
    pub(crate) fn set_item(&mut self, item: Option<&str>, revision: ProtocolVersion, meta: &RequestMeta) {
        traces::record_item(&self.span, self.request.method, item, revision);
        if !self.is_enabled {
            return;
        }
        let has_item =
            matches!(self.request.method, Some(method::TOOLS_CALL | method::PROMPTS_GET | method::RESOURCES_READ));
        let client = meta.client_info.as_ref();
        self.request = RequestSummary {
            method: self.request.method,
            item: has_item.then(|| item.unwrap_or(UNKNOWN).to_owned()),
            revision: Some(revision),
            client: client
                .map(|client| (clip(&client.name, MAX_CLIENT_CHARS), clip(&client.version, MAX_CLIENT_CHARS))),
            traceparent: meta.traceparent.as_deref().filter(|value| is_traceparent(value)).map(str::to_owned),
        };
    }

    /// Drops the log event without writing it.
    pub(crate) fn discard(mut self) {
        self.is_written = true;
    }

    /// Sets the fault because of which no handler was called.
    pub(crate) fn set_fault(&mut self, fault: &'static str) {
        self.fault = Some(fault);
    }

    /// A log event for one request of a batch. It keeps the cold start flag, which [`clear_cold_start`](Self::clear_cold_start) clears.
    pub(crate) fn for_batched_request(&self) -> Self {
        Self {
            is_enabled: self.is_enabled,
            invocation: Arc::clone(&self.invocation),
            begin: self.begin,
            is_cold_start: self.is_cold_start,
            // A batch has one span.
            span: Span::none(),
            request: RequestSummary::default(),
            subject: self.subject.clone(),
            fault: None,
            is_written: false,
        }
    }

    /// Clears the cold start flag: only the first request of a batch reports the cold start.
    pub(crate) fn clear_cold_start(&mut self) {
        self.is_cold_start = false;
    }

    pub(crate) fn end(mut self, summary: &OutcomeSummary, response: &ResponseSummary) {
        self.write(summary, Some(response));
    }

    /// Writes the log event of a request that was not dispatched.
    pub(crate) fn end_before_dispatch(self, response: &ResponseSummary) {
        let summary = OutcomeSummary {
            outcome: Outcome::of_response(response),
            fault: self.fault.map(str::to_owned),
            too_large: None,
        };
        self.end(&summary, response);
    }

    fn write(&mut self, summary: &OutcomeSummary, response: Option<&ResponseSummary>) {
        self.is_written = true;
        let code = response.and_then(|response| response.code);
        traces::record_end(&self.span, (!summary.outcome.is_success()).then(|| summary.outcome.as_str()), code);
        if !self.is_enabled {
            return;
        }
        let count = |outcome: Outcome| (summary.outcome == outcome).then_some(1_u64);
        let request = &self.request;
        let client = request.client.as_ref();
        let duration = self.begin.elapsed().as_secs_f64() * 1000.0;
        // `tracing` fixes the level at the call site, so that each level needs a call site with the same fields.
        macro_rules! log_event {
            ($name:expr, $level:ident, $message:literal) => {
                tracing::event!(
                    name: $name,
                    target: TARGET,
                    tracing::Level::$level,
                    request_id = self.invocation.request_id,
                    trace_id = LambdaInvocation::trace_of(&self.invocation).and_then(xray_root),
                    traceparent = request.traceparent,
                    method = request.method,
                    dimension.item = request.item,
                    era = request.revision.map(|revision| if revision.is_modern() { "modern" } else { "legacy" }),
                    revision = request.revision.map(ProtocolVersion::as_str),
                    client_name = client.map(|client| client.0.as_str()),
                    client_version = client.map(|client| client.1.as_str()),
                    subject = self.subject,
                    outcome = summary.outcome.as_str(),
                    error = summary.fault,
                    error_code = code,
                    status = response.map(|response| response.status.as_u16()),
                    histogram.duration_ms = duration,
                    response_bytes = response.map(|response| response.bytes),
                    result_bytes = summary.too_large.map(|(bytes, _)| bytes),
                    limit_bytes = summary.too_large.map(|(_, limit)| limit),
                    streamed = response.map(|response| response.is_streamed),
                    cold_start = self.is_cold_start,
                    monotonic_counter.cold_starts = self.is_cold_start.then_some(1_u64),
                    monotonic_counter.invalid_calls = count(Outcome::Invalid),
                    monotonic_counter.refused_calls = count(Outcome::Refused),
                    monotonic_counter.tool_errors = count(Outcome::HandlerError),
                    monotonic_counter.timeouts = count(Outcome::Timeout),
                    monotonic_counter.too_large_results = count(Outcome::TooLarge),
                    monotonic_counter.unavailable_calls = count(Outcome::Unavailable),
                    monotonic_counter.faults = count(Outcome::Fault),
                    $message
                )
            };
        }
        match summary.outcome {
            Outcome::Fault => log_event!(NAME, ERROR, "a request failed through a fault of the server"),
            Outcome::Timeout => log_event!(NAME, WARN, "a request did not finish before the function's deadline"),
            Outcome::TooLarge => log_event!(NAME, WARN, "a result is too large to be carried"),
            Outcome::Unavailable => {
                log_event!(NAME, WARN, "a request failed: something that it needs is not available")
            }
            Outcome::Abandoned => log_event!(NAME, WARN, "a request was abandoned before its response was complete"),
            Outcome::Invalid | Outcome::Refused => log_event!(REJECTION, INFO, "a request was answered"),
            #[cfg(feature = "limits")]
            Outcome::Limited => log_event!(REJECTION, INFO, "a request was answered"),
            Outcome::Ok | Outcome::InputRequired | Outcome::HandlerError => {
                log_event!(NAME, INFO, "a request was answered");
            }
        }
    }
}

impl Drop for CallLog {
    fn drop(&mut self) {
        if !self.is_written {
            self.write(&OutcomeSummary { outcome: Outcome::Abandoned, fault: None, too_large: None }, None);
        }
    }
}

impl fmt::Debug for CallLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallLogs").finish_non_exhaustive()
    }
}

fn clip(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => text[..end].to_owned(),
        None => text.to_owned(),
    }
}

/// `Root` of an X-Ray trace header: `Root=1-…;Parent=…;Sampled=1`.
fn xray_root(header: &str) -> Option<&str> {
    header.split(';').find_map(|part| part.trim().strip_prefix("Root="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_client_names_are_truncated() {
        assert_eq!(clip(&"ä".repeat(65), 64), "ä".repeat(64));
        assert_eq!(clip("claude", 64), "claude");
    }

    #[test]
    fn the_root_of_an_x_ray_header_is_parsed() {
        assert_eq!(xray_root("Root=1-a-b;Parent=c;Sampled=1"), Some("1-a-b"));
    }
}
