//! Log events as JSON objects, with embedded CloudWatch metrics.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    io::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use tracing::{
    Event,
    field::{Field, Visit},
};

use super::{
    COUNTER, DIMENSION, HISTOGRAM,
    escape::write_quoted,
    repeats::{MESSAGE, Summary},
};
use crate::call_log::UNKNOWN;

/// The namespace of all metrics.
const NAMESPACE: &str = "mcp";
/// CloudWatch's limit for the value of a dimension.
pub(super) const MAX_DIMENSION_BYTES: usize = 1024;

pub(super) struct JsonFormat {
    /// The function's name as a JSON string; `None` if metrics are disabled.
    function: Option<Vec<u8>>,
}

impl JsonFormat {
    /// Creates the format with metrics of `function`; without metrics for `None`.
    pub(super) fn new(function: Option<&str>) -> Self {
        let quoted = |name: &str| {
            let mut quoted = Vec::new();
            write_quoted(&mut quoted, name);
            quoted
        };
        Self { function: function.map(quoted) }
    }

    pub(super) fn render(&self, line: &mut Vec<u8>, event: &Event<'_>, now: SystemTime) {
        let metadata = event.metadata();
        let (time, level, target) = (humantime::format_rfc3339_millis(now), metadata.level(), metadata.target());
        let _ = write!(line, r#"{{"timestamp":"{time}","level":"{level}","target":"{target}""#);
        let mut fields = JsonFields { line, metrics: String::new(), dimensions: String::new() };
        event.record(&mut fields);
        let JsonFields { metrics, dimensions, .. } = fields;
        self.end(line, &metrics, &dimensions, now);
    }

    /// Writes counted rejections. Their metrics have all values, at the time of the last rejection.
    pub(super) fn render_summary(&self, line: &mut Vec<u8>, summary: &Summary) {
        let (time, level) = (humantime::format_rfc3339_millis(summary.last), summary.metadata.level());
        let target = summary.metadata.target();
        let _ = write!(
            line,
            r#"{{"timestamp":"{time}","level":"{level}","target":"{target}","message":"{MESSAGE}","repeats":{},"repeated":"#,
            summary.count
        );
        write_quoted(line, &summary.message);
        if let Some(status) = summary.status {
            let _ = write!(line, r#","status":{status}"#);
        }
        let mut fields = JsonFields { line, metrics: String::new(), dimensions: String::new() };
        if let Some((field, target)) = &summary.target {
            fields.text(field, target);
        }
        for (name, sum) in &summary.counters {
            fields.metric(name, "Count", true);
            let _ = write!(fields.line, r#","{name}":{sum}"#);
        }
        for (name, values) in &summary.values {
            fields.metric(name, unit(name), true);
            let _ = write!(fields.line, r#","{name}":"#);
            fields.value(values);
        }
        let JsonFields { metrics, dimensions, .. } = fields;
        self.end(line, &metrics, &dimensions, summary.last);
    }

    /// Ends a line, with the definitions of its metrics.
    fn end(&self, line: &mut Vec<u8>, metrics: &str, dimensions: &str, now: SystemTime) {
        if let Some(function) = &self.function
            && !metrics.is_empty()
        {
            let milliseconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
            let more = if dimensions.is_empty() { String::new() } else { format!(r#",["function_name"{dimensions}]"#) };
            line.extend_from_slice(br#","function_name":"#);
            line.extend_from_slice(function);
            let _ = write!(
                line,
                r#","_aws":{{"Timestamp":{milliseconds},"CloudWatchMetrics":[{{"Namespace":"{NAMESPACE}","Dimensions":[["function_name"]{more}],"Metrics":[{metrics}]}}]}}"#
            );
        }
        line.push(b'}');
    }
}

/// Writes fields as members. Their names are literals in the code, and need no escaping.
struct JsonFields<'l> {
    line: &'l mut Vec<u8>,
    /// Definitions of metrics, separated by commas.
    metrics: String,
    /// Names of dimensions, each with a comma before it.
    dimensions: String,
}

impl JsonFields<'_> {
    fn key(&mut self, field: &Field, is_number: bool) {
        let name = field.name();
        let name = if let Some(name) = name.strip_prefix(COUNTER) {
            self.metric(name, "Count", is_number);
            name
        } else if let Some(name) = name.strip_prefix(HISTOGRAM) {
            self.metric(name, unit(name), is_number);
            name
        } else if let Some(name) = name.strip_prefix(DIMENSION) {
            let _ = write!(self.dimensions, r#","{name}""#);
            name
        } else {
            name
        };
        self.line.extend_from_slice(b",\"");
        self.line.extend_from_slice(name.as_bytes());
        self.line.extend_from_slice(b"\":");
    }

    /// Declares a metric. A value that is not a finite number is written as a field only: CloudWatch would reject all metrics of the event.
    fn metric(&mut self, name: &str, unit: &str, is_number: bool) {
        if !is_number {
            return;
        }
        let comma = if self.metrics.is_empty() { "" } else { "," };
        let _ = write!(self.metrics, r#"{comma}{{"Name":"{name}","Unit":"{unit}"}}"#);
    }

    fn number(&mut self, field: &Field, value: impl serde::Serialize, is_finite: bool) {
        self.key(field, is_finite);
        self.value(&value);
    }

    fn text(&mut self, field: &Field, value: &str) {
        self.key(field, false);
        match field.name().starts_with(DIMENSION) {
            true => write_quoted(self.line, &dimension_value(value)),
            false => write_quoted(self.line, value),
        }
    }

    fn value(&mut self, value: &impl serde::Serialize) {
        // Writing a number or a boolean to memory cannot fail.
        let _ = serde_json::to_writer(&mut *self.line, value);
    }
}

fn unit(name: &str) -> &'static str {
    match name.rsplit_once('_') {
        Some((_, "ms")) => "Milliseconds",
        Some((_, "bytes")) => "Bytes",
        _ => "None",
    }
}

impl Visit for JsonFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.key(field, false);
        self.value(&value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value, true);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value, true);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.number(field, value, value.is_finite());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

/// Replaces what CloudWatch rejects in the value of a dimension: it must be printable ASCII, not blank, and at most 1024 bytes.
fn dimension_value(value: &str) -> Cow<'_, str> {
    let is_valid = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if value.len() <= MAX_DIMENSION_BYTES && value.bytes().all(is_valid) && !value.trim().is_empty() {
        return Cow::Borrowed(value);
    }
    let valid = value.chars().take(MAX_DIMENSION_BYTES);
    let valid: String = valid.map(|own| if u8::try_from(own).is_ok_and(is_valid) { own } else { '?' }).collect();
    match valid.trim() {
        "" => Cow::Borrowed(UNKNOWN),
        _ => Cow::Owned(valid),
    }
}
