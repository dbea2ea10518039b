//! Log events as JSON (with embedded CloudWatch metrics) or, on a terminal, as text.
//!
//! `filter` selects events by level and target, `repeats` counts repeated rejections, `subscriber` formats and writes events, `json` and
//! `text` are the two formats, and `escape` escapes untrusted text in both. The formatters of `tracing-subscriber` are not used, because
//! they are a fifth of a small function's zip.
//!
//! Three prefixes of a field's name turn its value into a metric, in CloudWatch's
//! [embedded metric format](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
//! The first two are those of `tracing-opentelemetry`. Handlers may use them too:
//!
//! | Prefix | Meaning |
//! | --- | --- |
//! | `monotonic_counter.` | a counter; the unit is Count |
//! | `histogram.` | a measurement; the unit is Milliseconds for a name that ends in `_ms`, Bytes for `_bytes`, otherwise None |
//! | `dimension.` | a dimension of the event's metrics, besides the function. Each value creates a metric series, which costs money: never use a value that callers choose |

use std::{
    io::Write as _,
    sync::{Arc, OnceLock},
};

use mcp_server::InitError;
#[cfg(feature = "otel")]
use mcp_server::error_chain;

use crate::Env;

mod escape;
mod filter;
mod json;
mod repeats;
mod subscriber;
mod text;

use filter::filter;
pub(crate) use repeats::REJECTION;
use subscriber::Logs;

const LOG_LEVEL: &str = "AWS_LAMBDA_LOG_LEVEL";
const LOG_FORMAT: &str = "AWS_LAMBDA_LOG_FORMAT";
const RUST_LOG: &str = "RUST_LOG";
const FUNCTION_NAME: &str = "AWS_LAMBDA_FUNCTION_NAME";
const METRICS: &str = "MCP_METRICS";

const COUNTER: &str = "monotonic_counter.";
const HISTOGRAM: &str = "histogram.";
const DIMENSION: &str = "dimension.";

type GlobalLogs = Arc<Logs<fn(&[u8])>>;

static LOGS: OnceLock<GlobalLogs> = OnceLock::new();

/// Installs the global subscriber: JSON on Lambda, text on a terminal. `AWS_LAMBDA_LOG_LEVEL` and `AWS_LAMBDA_LOG_FORMAT` set level
/// and format.
pub(crate) fn init(env: &Env) {
    let (filter, is_valid) = filter(env.get(RUST_LOG).or(env.get(LOG_LEVEL)));
    // Does nothing if the process has a global subscriber already.
    let logs = Arc::clone(LOGS.get_or_init(|| Arc::new(Logs::new(env, filter, write_to_stdout))));
    #[cfg(not(feature = "otel"))]
    let _ = tracing::subscriber::set_global_default(logs);
    #[cfg(feature = "otel")]
    init_with_spans(env, logs);
    if !is_valid {
        tracing::warn!(
            "{RUST_LOG} or {LOG_LEVEL} is no level and no list of targets with levels: logging from info on"
        );
    }
}

/// Writes the counts of rejections that are not written yet. For the end of the execution environment.
pub(crate) fn flush() {
    if let Some(logs) = LOGS.get() {
        logs.flush();
    }
}

#[cfg(feature = "otel")]
fn init_with_spans(env: &Env, logs: GlobalLogs) {
    match mcp_otel::TraceExporter::from_env(|name| env.get(name)) {
        Ok(Some(exporter)) => exporter.install(logs.into_layer()),
        Ok(None) => {
            let _ = tracing::subscriber::set_global_default(logs);
        }
        Err(error) => {
            let _ = tracing::subscriber::set_global_default(logs);
            let error = error_chain(&error);
            tracing::warn!(error, "no spans are exported: a variable of OpenTelemetry is wrong");
        }
    }
}

/// Validates `MCP_METRICS`.
pub(crate) fn check(env: &Env) -> Result<(), InitError> {
    match env.get(METRICS) {
        None | Some("on" | "off") => Ok(()),
        Some(other) => Err(InitError::setting(METRICS, "`on` or `off`", other)),
    }
}

/// Writes a line in one call, so that lines of several threads do not interleave. A write error is ignored: it cannot be logged.
fn write_to_stdout(line: &[u8]) {
    let _ = std::io::stdout().lock().write_all(line);
}

#[cfg(test)]
mod tests;
