//! Retries: which requests may be sent again, when, and the error of one that may not.

use std::time::{Duration, SystemTime};

use mcp_protocol::method;
use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

use crate::message::Envelope;

/// Whether a request is safe to retry: it changes nothing, or has its effect once however often it arrives.
pub(super) fn is_safe(envelope: &Envelope) -> bool {
    const SAFE: [&str; 13] = [
        method::INITIALIZE,
        method::PING,
        method::SERVER_DISCOVER,
        method::TOOLS_LIST,
        method::PROMPTS_LIST,
        method::PROMPTS_GET,
        method::RESOURCES_LIST,
        method::RESOURCES_TEMPLATES_LIST,
        method::RESOURCES_READ,
        method::COMPLETION_COMPLETE,
        method::TASKS_GET,
        method::TASKS_UPDATE,
        method::TASKS_CANCEL,
    ];
    envelope.id().is_some() && envelope.method().is_some_and(|method| SAFE.contains(&method))
}

/// Whether a request lists tools, resources, resource templates or prompts.
pub(super) fn is_list(envelope: &Envelope) -> bool {
    const LISTS: [&str; 4] =
        [method::TOOLS_LIST, method::PROMPTS_LIST, method::RESOURCES_LIST, method::RESOURCES_TEMPLATES_LIST];
    envelope.id().is_some() && envelope.method().is_some_and(|method| LISTS.contains(&method))
}

/// Whether a request is neither a handshake nor a ping, which clients send automatically.
pub(super) fn is_use(envelope: &Envelope) -> bool {
    const AUTOMATIC: [&str; 3] = [method::INITIALIZE, method::PING, method::SERVER_DISCOVER];
    envelope.id().is_some() && envelope.method().is_some_and(|method| !AUTOMATIC.contains(&method))
}

pub(super) fn is_busy(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// The delay of `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let until_date = || httpdate::parse_http_date(text).ok().map(|date| date.duration_since(now).unwrap_or_default());
    text.parse().ok().map(Duration::from_secs).or_else(until_date)
}

/// The suffix of an error about a request that may have been carried out.
pub(super) fn unknown_outcome(sent: &Envelope) -> String {
    match sent.method().filter(|_| sent.id().is_some() && !is_safe(sent)) {
        Some(method) => format!(", and it is not known whether `{method}` was carried out"),
        None => String::new(),
    }
}

/// Adds the suffix of [`unknown_outcome`] to the error of a response that could not be read.
pub(super) fn unread(error: anyhow::Error, sent: &Envelope) -> anyhow::Error {
    match unknown_outcome(sent) {
        unknown if unknown.is_empty() => error,
        unknown => error.context(format!("the answer could not be read{unknown}")),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn a_server_says_how_long_to_wait_in_two_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for (text, seconds) in [
            ("7", Some(7)),
            ("Sun, 09 Sep 2001 01:46:50 GMT", Some(10)),
            ("Sun, 09 Sep 2001 01:46:30 GMT", Some(0)),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
    }

    /// h10
    #[test]
    fn only_what_changes_nothing_leaves_nothing_open() {
        let unknown = |line: &str| unknown_outcome(&Envelope::parse(line).unwrap());
        assert_eq!(
            unknown(r#"{"id":1,"method":"tools/call"}"#),
            ", and it is not known whether `tools/call` was carried out"
        );
        for method in ["tools/list", "tasks/get", "tasks/update", "tasks/cancel"] {
            assert_eq!(unknown(&format!(r#"{{"id":1,"method":"{method}"}}"#)), "", "{method}");
        }
        assert_eq!(unknown(r#"{"method":"notifications/initialized"}"#), "");
    }
}
