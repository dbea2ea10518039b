//! One line for each call, which has its metrics too ([`crate::logs`]). Never arguments, results or tokens.

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

use crate::{HttpConfig, LambdaInvocation, traces};

/// What a client says of itself is logged up to here.
const MAX_CLIENT_CHARS: usize = 64;
/// The longest chain of errors: a line with metrics must fit into one event of CloudWatch Logs.
const MAX_ERROR_CHARS: usize = 8 * 1024;
const TARGET: &str = "mcp_lambda::call";
/// Logged and counted in place of names that are not registered: callers choose those.
pub(crate) const UNKNOWN: &str = "unknown";

/// What a service knows about all its calls.
pub(crate) struct CallLogs {
    /// No call has been begun yet.
    is_cold: AtomicBool,
    subjects: Subjects,
}

/// How callers appear.
enum Subjects {
    Unlogged,
    Plain,
    #[cfg(feature = "auth")]
    Pseudonyms(Box<Pseudonyms>),
}

impl CallLogs {
    #[cfg_attr(not(feature = "auth"), expect(unused_variables, reason = "without tokens no cryptography is linked"))]
    pub(crate) fn new(config: &HttpConfig, server: &str) -> Self {
        let subjects = match &config.state_key {
            _ if config.logs_subjects => Subjects::Plain,
            #[cfg(feature = "auth")]
            Some(key) => {
                Pseudonyms::new(key, server).map_or(Subjects::Unlogged, |own| Subjects::Pseudonyms(Box::new(own)))
            }
            _ => Subjects::Unlogged,
        };
        Self { is_cold: AtomicBool::new(true), subjects }
    }

    /// The log of a call that came at an instant; its span ends with it.
    pub(crate) fn begin(&self, invocation: &Arc<Invocation>, begin: Instant, span: Span) -> CallLog {
        let is_wanted = tracing::enabled!(target: TARGET, tracing::Level::ERROR);
        let is_cold = self.is_cold.swap(false, Ordering::Relaxed);
        span.record("faas.coldstart", is_cold);
        CallLog {
            is_wanted,
            invocation: Arc::clone(invocation),
            begin,
            is_cold,
            span,
            asked: Asked::default(),
            subject: invocation.principal.as_deref().filter(|_| is_wanted).and_then(|caller| self.subject(caller)),
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

/// What is asked for; empty for a body that is no request.
#[derive(Clone, Default)]
struct Asked {
    method: Option<&'static str>,
    /// The name that it is registered by, for a method that has such items.
    item: Option<String>,
    revision: Option<ProtocolVersion>,
    client: Option<(String, String)>,
    traceparent: Option<String>,
}

/// What is to be said of one call. Says that it was given up if it is dropped before its end.
pub(crate) struct CallLog {
    invocation: Arc<Invocation>,
    begin: Instant,
    is_cold: bool,
    span: Span,
    asked: Asked,
    subject: Option<String>,
    /// Why it is answered before a handler was asked, if that is no fault of the client's.
    fault: Option<&'static str>,
    /// Whether the log line is enabled; otherwise nothing is recorded.
    is_wanted: bool,
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

    /// A body that was answered before anyone knew what it asks for. Errors have status 200 for legacy clients.
    fn of_early(response: &ResponseSummary) -> Self {
        match response.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Refused,
            status if status.is_server_error() => Self::Fault,
            status if status.is_client_error() || response.code.is_some() => Self::Invalid,
            _ => Self::Ok,
        }
    }
}

/// Why there is no result, for the log alone; made while the outcome is still whole.
pub(crate) struct Ending {
    outcome: Outcome,
    fault: Option<String>,
    /// The bytes of a result that is too large, and those that can be carried.
    too_large: Option<(usize, usize)>,
}

impl Ending {
    pub(crate) fn of(outcome: &CallOutcome) -> Self {
        let fault = outcome.fault.as_ref().map(|fault| clip(&error_chain(fault.as_ref()), MAX_ERROR_CHARS));
        Self { outcome: Outcome::of(outcome), fault, too_large: None }
    }

    pub(crate) fn too_large(bytes: usize, limit: usize) -> Self {
        Self { outcome: Outcome::TooLarge, fault: None, too_large: Some((bytes, limit)) }
    }
}

/// The error that the client received.
pub(crate) struct ResponseSummary {
    pub(crate) status: StatusCode,
    /// The code of a JSON-RPC error.
    pub(crate) code: Option<i64>,
    pub(crate) bytes: usize,
    pub(crate) is_streamed: bool,
}

impl CallLog {
    /// Notes what the message says it wants.
    pub(crate) fn set_method(&mut self, name: &str) {
        self.asked.method = Some(method::known(name).unwrap_or(UNKNOWN));
    }

    /// Notes what is asked for. `item` is its registered name; `None` for one that is not registered.
    pub(crate) fn set_item(&mut self, item: Option<&str>, revision: ProtocolVersion, meta: &RequestMeta) {
        traces::record_item(&self.span, self.asked.method, item, revision);
        if !self.is_wanted {
            return;
        }
        let has_item =
            matches!(self.asked.method, Some(method::TOOLS_CALL | method::PROMPTS_GET | method::RESOURCES_READ));
        let client = meta.client_info.as_ref();
        self.asked = Asked {
            method: self.asked.method,
            item: has_item.then(|| item.unwrap_or(UNKNOWN).to_owned()),
            revision: Some(revision),
            client: client
                .map(|client| (clip(&client.name, MAX_CLIENT_CHARS), clip(&client.version, MAX_CLIENT_CHARS))),
            traceparent: meta.traceparent.as_deref().filter(|value| is_traceparent(value)).map(str::to_owned),
        };
    }

    /// Says nothing of this call.
    pub(crate) fn discard(mut self) {
        self.is_written = true;
    }

    /// Notes why nothing could be answered.
    pub(crate) fn failed(&mut self, fault: &'static str) {
        self.fault = Some(fault);
    }

    /// Another message of the same body; it is the environment's first if this one is not written.
    pub(crate) fn of_batch(&self) -> Self {
        Self {
            is_wanted: self.is_wanted,
            invocation: Arc::clone(&self.invocation),
            begin: self.begin,
            is_cold: self.is_cold,
            // A batch has one span.
            span: Span::none(),
            asked: Asked::default(),
            subject: self.subject.clone(),
            fault: None,
            is_written: false,
        }
    }

    /// Of several messages of one body only the first is the environment's first.
    pub(crate) fn is_not_first(&mut self) {
        self.is_cold = false;
    }

    pub(crate) fn end(mut self, ending: &Ending, response: &ResponseSummary) {
        self.write(ending, Some(response));
    }

    /// For a body that was answered before anyone knew what it asks for.
    pub(crate) fn end_early(self, response: &ResponseSummary) {
        let ending =
            Ending { outcome: Outcome::of_early(response), fault: self.fault.map(str::to_owned), too_large: None };
        self.end(&ending, response);
    }

    fn write(&mut self, ending: &Ending, response: Option<&ResponseSummary>) {
        self.is_written = true;
        let code = response.and_then(|response| response.code);
        traces::record_end(&self.span, (!ending.outcome.is_success()).then(|| ending.outcome.as_str()), code);
        if !self.is_wanted {
            return;
        }
        let count = |outcome: Outcome| (ending.outcome == outcome).then_some(1_u64);
        let asked = &self.asked;
        let client = asked.client.as_ref();
        let duration = self.begin.elapsed().as_secs_f64() * 1000.0;
        // The fields are the same at each level; a level belongs to the place in the code.
        macro_rules! line {
            ($level:ident, $message:literal) => {
                tracing::event!(
                    target: TARGET,
                    tracing::Level::$level,
                    request_id = self.invocation.request_id,
                    trace_id = LambdaInvocation::trace_of(&self.invocation).and_then(xray_root),
                    traceparent = asked.traceparent,
                    method = asked.method,
                    dimension.item = asked.item,
                    era = asked.revision.map(|revision| if revision.is_modern() { "modern" } else { "legacy" }),
                    revision = asked.revision.map(ProtocolVersion::as_str),
                    client_name = client.map(|client| client.0.as_str()),
                    client_version = client.map(|client| client.1.as_str()),
                    subject = self.subject,
                    outcome = ending.outcome.as_str(),
                    error = ending.fault,
                    error_code = code,
                    status = response.map(|response| response.status.as_u16()),
                    histogram.duration_ms = duration,
                    response_bytes = response.map(|response| response.bytes),
                    result_bytes = ending.too_large.map(|(bytes, _)| bytes),
                    limit_bytes = ending.too_large.map(|(_, limit)| limit),
                    streamed = response.map(|response| response.is_streamed),
                    cold_start = self.is_cold,
                    monotonic_counter.cold_starts = self.is_cold.then_some(1_u64),
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
        match ending.outcome {
            Outcome::Fault => line!(ERROR, "a request failed through a fault of the server"),
            Outcome::Timeout => line!(WARN, "a request did not finish before the function's deadline"),
            Outcome::TooLarge => line!(WARN, "a result is too large to be carried"),
            Outcome::Unavailable => line!(WARN, "a request failed: something that it needs is not available"),
            Outcome::Abandoned => line!(WARN, "a request was given up before its answer was complete"),
            Outcome::Ok | Outcome::InputRequired | Outcome::HandlerError | Outcome::Invalid | Outcome::Refused => {
                line!(INFO, "a request was answered");
            }
        }
    }
}

impl Drop for CallLog {
    fn drop(&mut self) {
        if !self.is_written {
            self.write(&Ending { outcome: Outcome::Abandoned, fault: None, too_large: None }, None);
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
    fn what_a_client_calls_itself_is_cut() {
        assert_eq!(clip(&"ä".repeat(65), 64), "ä".repeat(64));
        assert_eq!(clip("claude", 64), "claude");
    }

    #[test]
    fn the_root_of_a_header_of_x_ray_is_found() {
        assert_eq!(xray_root("Root=1-a-b;Parent=c;Sampled=1"), Some("1-a-b"));
    }
}
