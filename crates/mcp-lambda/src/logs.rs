//! Log lines: JSON where a service reads them, text where a person does, and CloudWatch metrics inside the JSON.
//!
//! A subscriber of our own: what `tracing-subscriber` brings to format lines is a fifth of a small function's zip.
//!
//! Three prefixes of a field's name make a metric of its value, in CloudWatch's
//! [embedded metric format](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html);
//! the first two are those of `tracing-opentelemetry`. A handler may use them too:
//!
//! | Prefix | |
//! | --- | --- |
//! | `monotonic_counter.` | a number of things; the unit is Count |
//! | `histogram.` | a size; the unit is Milliseconds for a name that ends in `_ms`, Bytes for `_bytes` |
//! | `dimension.` | a dimension of this line's metrics, besides the function. Each value is a series of its own, which costs money: never anything that a caller chooses |

use std::{
    borrow::Cow,
    cell::RefCell,
    fmt::{self, Write as _},
    io::{IsTerminal, Write as _},
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use mcp_server::InitError;
#[cfg(feature = "otel")]
use mcp_server::error_chain;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};
use tracing_subscriber::filter::Targets;

use crate::{Env, call_log::UNKNOWN};

const LOG_LEVEL: &str = "AWS_LAMBDA_LOG_LEVEL";
const LOG_FORMAT: &str = "AWS_LAMBDA_LOG_FORMAT";
const RUST_LOG: &str = "RUST_LOG";
const FUNCTION_NAME: &str = "AWS_LAMBDA_FUNCTION_NAME";
const METRICS: &str = "MCP_METRICS";

/// The namespace of all metrics.
const NAMESPACE: &str = "mcp";
const COUNTER: &str = "monotonic_counter.";
const HISTOGRAM: &str = "histogram.";
const DIMENSION: &str = "dimension.";
const MAX_DIMENSION_BYTES: usize = 1024;

/// Begins to log: JSON on Lambda, text on a terminal; Lambda's own variables choose level and format.
pub(crate) fn init(env: &Env) {
    let (filter, is_understood) = filter(env.get(RUST_LOG).or(env.get(LOG_LEVEL)));
    // A second call, in a process that has its subscriber already, changes nothing.
    let logs = Logs::new(env, filter, write_to_stdout);
    #[cfg(not(feature = "otel"))]
    let _ = tracing::subscriber::set_global_default(logs);
    #[cfg(feature = "otel")]
    init_with_spans(env, logs);
    if !is_understood {
        tracing::warn!(
            "{RUST_LOG} or {LOG_LEVEL} is no level and no list of targets with levels: logging from info on"
        );
    }
}

#[cfg(feature = "otel")]
fn init_with_spans<W: Fn(&[u8]) + Send + Sync + 'static>(env: &Env, logs: Logs<W>) {
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

/// Refuses a value of `MCP_METRICS` that means nothing.
pub(crate) fn check(env: &Env) -> Result<(), InitError> {
    match env.get(METRICS) {
        None | Some("on" | "off") => Ok(()),
        Some(other) => Err(InitError::setting(METRICS, "`on` or `off`", other)),
    }
}

/// Which lines are logged, and whether the wish was understood. A bare word that is no level is not taken for the name
/// of a target, as that would switch everything else off.
fn filter(wish: Option<&str>) -> (Targets, bool) {
    let from_info = Targets::new().with_default(LevelFilter::INFO);
    let wish = wish.unwrap_or("info").to_ascii_lowercase();
    let understood = match wish.as_str() {
        // Lambda's own name for what is worse than an error.
        "fatal" => Some(Targets::new().with_default(LevelFilter::ERROR)),
        targets if targets.contains(['=', ',']) => Targets::from_str(targets).ok(),
        level => LevelFilter::from_str(level).ok().map(|level| Targets::new().with_default(level)),
    };
    let is_understood = understood.is_some();
    (without_wire(&understood.unwrap_or(from_info)), is_understood)
}

/// Crates that log requests and headers as they are, with bearer tokens, at the level TRACE.
const WIRE: [&str; 4] = ["lambda_runtime", "hyper", "h2", "aws_sigv4"];

/// The same with these crates at DEBUG at most.
fn without_wire(filter: &Targets) -> Targets {
    let cap = |target: &str, level: LevelFilter| match WIRE.iter().any(|own| target.starts_with(own)) {
        true => level.min(LevelFilter::DEBUG),
        false => level,
    };
    let mut capped: Targets = filter.iter().map(|(target, level)| (target.to_owned(), cap(target, level))).collect();
    for target in WIRE.into_iter().filter(|target| filter.would_enable(target, &Level::TRACE)) {
        capped = capped.with_target(target, LevelFilter::DEBUG);
    }
    match filter.default_level() {
        Some(level) => capped.with_default(level),
        None => capped,
    }
}

/// In one piece, so that lines of several threads do not mix. A failure cannot be reported.
fn write_to_stdout(line: &[u8]) {
    let _ = std::io::stdout().lock().write_all(line);
}

/// What writes the lines.
pub(crate) struct Logs<W> {
    filter: Targets,
    max_level: LevelFilter,
    format: Format,
    write: W,
}

enum Format {
    Json(JsonFormat),
    Text { is_coloured: bool },
}

impl<W: Fn(&[u8]) + 'static> Logs<W> {
    fn new(env: &Env, filter: Targets, write: W) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let is_json = env.get(LOG_FORMAT).map_or(!is_terminal, |format| format.eq_ignore_ascii_case("json"));
        let format = if is_json {
            let has_metrics = env.get(METRICS) != Some("off");
            let function = env.get(FUNCTION_NAME).filter(|_| has_metrics);
            let quoted = |name: &str| {
                let mut quoted = Vec::new();
                write_quoted(&mut quoted, name);
                quoted
            };
            Format::Json(JsonFormat { function: function.map(quoted) })
        } else {
            Format::Text { is_coloured: is_terminal }
        };
        let levels = filter.iter().map(|(_, level)| level).chain(filter.default_level());
        Self { max_level: levels.max().unwrap_or(LevelFilter::OFF), filter, format, write }
    }

    fn line(&self, event: &Event<'_>) {
        thread_local! {
            /// Lines are written in the same memory one after the other.
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let now = SystemTime::now();
        LINE.with(|line| {
            let render = |line: &mut Vec<u8>| {
                line.clear();
                match &self.format {
                    Format::Json(format) => format.render(line, event, now),
                    Format::Text { is_coloured } => render_text(line, event, now, *is_coloured),
                }
                line.push(b'\n');
                (self.write)(line);
            };
            match line.try_borrow_mut() {
                Ok(mut line) => render(&mut line),
                // Something logs while it is written into a line.
                Err(_) => render(&mut Vec::new()),
            }
        });
    }
}

impl<W: Fn(&[u8]) + 'static> Subscriber for Logs<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // `tracing::enabled!` asks about what is neither.
        !metadata.is_span() && self.filter.would_enable(metadata.target(), metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.max_level)
    }

    fn event(&self, event: &Event<'_>) {
        self.line(event);
    }

    // There are no spans here: a line says itself what it belongs to.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The same beside the layer that exports spans, which wants a registry below.
#[cfg(feature = "otel")]
impl<W: Fn(&[u8]) + Send + Sync + 'static> Logs<W> {
    pub(crate) fn into_layer<S>(self) -> impl tracing_subscriber::Layer<S>
    where
        S: Subscriber + for<'s> tracing_subscriber::registry::LookupSpan<'s>,
    {
        use tracing_subscriber::{Layer, filter::FilterFn, layer};

        struct Lines<W>(Logs<W>);

        impl<S: Subscriber, W: Fn(&[u8]) + Send + Sync + 'static> Layer<S> for Lines<W> {
            fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
                self.0.line(event);
            }
        }

        let filter = self.filter.clone();
        let is_wanted = move |metadata: &Metadata<'_>| {
            !metadata.is_span() && filter.would_enable(metadata.target(), metadata.level())
        };
        let max_level = self.max_level;
        Lines(self).with_filter(FilterFn::new(is_wanted).with_max_level_hint(max_level))
    }
}

struct JsonFormat {
    /// The function's name, quoted; `None` where there are no metrics.
    function: Option<Vec<u8>>,
}

impl JsonFormat {
    fn render(&self, line: &mut Vec<u8>, event: &Event<'_>, now: SystemTime) {
        let metadata = event.metadata();
        let (time, level, target) = (humantime::format_rfc3339_millis(now), metadata.level(), metadata.target());
        let _ = write!(line, r#"{{"timestamp":"{time}","level":"{level}","target":"{target}""#);
        let mut fields = JsonFields { line, metrics: String::new(), dimensions: String::new() };
        event.record(&mut fields);
        let JsonFields { metrics, dimensions, .. } = fields;
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

/// Writes fields as members. Names are the code's own, and need no escapes.
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

    /// One that is no number is a field of the line; declared, it would spoil the others.
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
        // A number or a boolean, into memory: it cannot fail.
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

/// What CloudWatch takes for the value of a dimension: ASCII without control characters, not blank, at most so long.
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

/// Writes what is not a literal of the code, in both formats: a JSON string, in which characters that a reader of the log
/// might act on instead of show them are escaped too.
fn write_quoted(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    // Most texts are ASCII and need no escape.
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    let (plain, rest) = text.split_at(text.bytes().position(|byte| !is_plain(byte)).unwrap_or(text.len()));
    line.extend_from_slice(plain.as_bytes());
    for own in rest.chars() {
        // Into memory: it cannot fail.
        let _ = match own {
            '"' | '\\' => write!(line, "\\{own}"),
            '\n' => line.write_all(b"\\n"),
            '\r' => line.write_all(b"\\r"),
            '\t' => line.write_all(b"\\t"),
            // None of them takes more than four digits.
            _ if is_control(own) => write!(line, "\\u{:04x}", u32::from(own)),
            _ => line.write_all(own.encode_utf8(&mut [0; 4]).as_bytes()),
        };
    }
    line.push(b'"');
}

/// C0, DEL and C1, which terminals act on, line and paragraph separators, and what turns the direction of text.
fn is_control(own: char) -> bool {
    own.is_control()
        || matches!(
            own,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

fn render_text(line: &mut Vec<u8>, event: &Event<'_>, now: SystemTime, is_coloured: bool) {
    let metadata = event.metadata();
    let (time, level, target) = (humantime::format_rfc3339_millis(now), metadata.level(), metadata.target());
    let colour = match *level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG | Level::TRACE => 2,
    };
    let _ = match is_coloured {
        true => write!(line, "\x1b[2m{time}\x1b[0m \x1b[{colour}m{level:>5}\x1b[0m \x1b[2m{target}:\x1b[0m"),
        false => write!(line, "{time} {level:>5} {target}:"),
    };
    event.record(&mut TextFields(line));
}

struct TextFields<'l>(&'l mut Vec<u8>);

impl TextFields<'_> {
    fn key(&mut self, field: &Field) {
        let name = field.name();
        let name = [COUNTER, HISTOGRAM, DIMENSION].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        let _ = write!(self.0, " {name}=");
    }

    /// A number or a boolean.
    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.key(field);
        let _ = write!(self.0, "{value}");
    }
}

impl Visit for TextFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        // A message is a literal, or has one in it; which, nothing here tells. Quoted, it cannot be taken for fields.
        if field.name() == "message" {
            self.0.push(b' ');
            if !value.contains(|own: char| matches!(own, '"' | '\\' | '=') || is_control(own)) {
                self.0.extend_from_slice(value.as_bytes());
                return;
            }
        } else {
            self.key(field);
        }
        write_quoted(self.0, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.plain(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use mcp_server::{HandlerError, Server, Tool, ToolContext};
    use serde_json::{Value, json};

    use super::*;
    use crate::{Authentication, HttpConfig, McpService, transport::respond_buffered};

    /// What is written while `log` runs.
    fn written(variables: &[(&str, &str)], log: impl FnOnce()) -> String {
        let env = Env::from_pairs(variables.iter().copied());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let write = move |line: &[u8]| sink.lock().unwrap().extend_from_slice(line);
        let (filter, _) = filter(env.get(RUST_LOG));
        tracing::subscriber::with_default(Logs::new(&env, filter, write), log);
        String::from_utf8(std::mem::take(&mut lines.lock().unwrap())).unwrap()
    }

    fn json_line(variables: &[(&str, &str)], log: impl FnOnce()) -> Value {
        let line = written(&[&[(LOG_FORMAT, "JSON")], variables].concat(), log);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    #[test]
    fn a_line_is_one_json_object_with_any_content() {
        let hostile = "a \"quote\",\na line, {\"level\":\"ERROR\"} and \u{1}";

        let line =
            json_line(&[], || tracing::warn!(text = hostile, shown = %hostile, number = 1.5, yes = true, "{hostile}"));

        assert_eq!((&line["level"], &line["target"]), (&json!("WARN"), &json!(module_path!())));
        assert_eq!(
            (&line["text"], &line["shown"], &line["message"]),
            (&json!(hostile), &json!(hostile), &json!(hostile))
        );
        assert_eq!((&line["number"], &line["yes"]), (&json!(1.5), &json!(true)));
        humantime::parse_rfc3339(line["timestamp"].as_str().unwrap()).unwrap();
    }

    /// Every character that is escaped (8.12).
    fn hostile() -> impl Iterator<Item = char> {
        let bidirectional = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        let marks = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}'];
        ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}').chain(bidirectional).chain(marks)
    }

    /// 8.12: of every character, in every kind of field and in the message.
    #[test]
    fn what_a_terminal_or_an_editor_would_act_on_is_escaped() {
        let (mut all, mut count) = (String::new(), 0);
        for own in '\0'..=char::MAX {
            all.push(own);
            if all.len() < 60_000 && own != char::MAX {
                continue;
            }
            count += all.chars().count();
            let text = std::mem::take(&mut all);
            let log = || tracing::warn!(text, shown = %text, debug = ?text, "{text}");

            let json = written(&[(LOG_FORMAT, "JSON")], log);
            let plain = written(&[(LOG_FORMAT, "Text")], log);

            for line in [&json, &plain] {
                let raw: Vec<char> = hostile().filter(|own| line.trim_end_matches('\n').contains(*own)).collect();
                assert_eq!((raw, line.matches('\n').count()), (vec![], 1));
            }
            let line: Value = serde_json::from_str(&json).unwrap();
            for field in ["text", "shown", "message"] {
                assert_eq!(line[field], json!(text));
            }
        }
        assert_eq!(count, 0x11_0000 - 0x800, "all but surrogates");
    }

    /// 8.12: quoted, a value is one value.
    #[test]
    fn no_value_and_no_message_can_pass_for_other_fields() {
        for text in ["x outcome=ok", "x\" outcome=\"ok", "x\\\" outcome=ok", "x\n2026-11-26T00:00:00Z ERROR forged"] {
            let line = written(&[(LOG_FORMAT, "Text")], || tracing::info!(shown = %text, last = 1, "{text}"));

            let rest = line.split_once(module_path!()).unwrap().1;
            let quoted = json!(text).to_string();
            assert_eq!(rest, format!(": {quoted} shown={quoted} last=1\n"));
        }
    }

    /// 8.12: what a caller sends, in all that is logged of it.
    #[test]
    fn what_a_caller_sends_is_escaped_in_both_formats() {
        #[derive(serde::Deserialize, schemars::JsonSchema, garde::Validate)]
        struct Args {
            #[garde(skip)]
            text: String,
        }
        async fn panics(_: ToolContext<()>, args: Args) -> Result<String, HandlerError> {
            panic!("{}", args.text)
        }
        async fn fails(_: ToolContext<()>, args: Args) -> Result<String, HandlerError> {
            Err(HandlerError::internal(std::io::Error::other(args.text)))
        }
        let authentication = Authentication::Iam { grant_scopes: Vec::new() };
        let config = HttpConfig { authentication, logs_subjects: true, ..HttpConfig::default() };
        let server = Server::new("test", "0", ()).tool(Tool::new("panics", panics)).tool(Tool::new("fails", fails));
        let service = McpService::new(server, config).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for own in hostile() {
            let text = format!("a{own}b\" outcome=\"ok");
            let text = text.as_str();
            for (version, origin, method, tool) in [
                ("2026-07-28", Some(text), "tools/call", "fails"),
                ("2026-07-28", None, "tools/call", "fails"),
                ("2026-07-28", None, "tools/call", "panics"),
                ("2025-11-25", None, text, "fails"),
                ("2025-11-25", None, "tools/call", text),
            ] {
                let mut meta = json!({
                    "traceparent": text, "io.modelcontextprotocol/clientCapabilities": {},
                    "io.modelcontextprotocol/clientInfo": { "name": text, "version": text },
                });
                let mut headers = json!({
                    "accept": "application/json, text/event-stream", "content-type": "application/json",
                    "mcp-protocol-version": version, "origin": origin, "user-agent": text,
                });
                if version == "2026-07-28" {
                    meta["io.modelcontextprotocol/protocolVersion"] = json!(version);
                    (headers["mcp-method"], headers["mcp-name"]) = (json!(method), json!(tool));
                }
                let params = json!({ "name": tool, "arguments": { "text": text }, "_meta": meta });
                let body = json!({ "jsonrpc": "2.0", "id": text, "method": method, "params": params });
                let event = json!({
                    "version": "2.0", "rawPath": "/mcp", "rawQueryString": text, "body": body.to_string(), "headers": headers,
                    "requestContext": {
                        "http": { "method": "POST", "userAgent": text, "path": text },
                        "authorizer": { "iam": { "accountId": text, "userArn": text, "userId": text } },
                    },
                })
                .to_string();
                let log = || {
                    let invocation = crate::LambdaInvocation::traced(text, format!("Root={text}"));
                    let answer = respond_buffered(&service, event.as_bytes(), invocation);
                    runtime.block_on(answer).unwrap();
                };

                let json = written(&[(LOG_FORMAT, "JSON")], log);
                let plain = written(&[(LOG_FORMAT, "Text")], log);

                for line in json.lines().chain(plain.lines()) {
                    assert!(!hostile().any(|own| line.contains(own)), "{method:?} {tool:?}: {line:?}");
                }
                for line in json.lines().map(serde_json::from_str::<Value>) {
                    assert_eq!(line.unwrap()["request_id"], text);
                }
                assert!(!plain.contains(" outcome=\"ok"), "{plain}");
                assert_eq!((json.lines().count(), plain.lines().count()), (1, 1));
                // The value of a header has no such characters: the request is malformed.
                let is_malformed = origin.is_some() && own.is_ascii() && own != '\t';
                assert_eq!(json.contains("request rejected: malformed event"), is_malformed, "{json}");
            }
        }
    }

    #[test]
    fn metrics_are_in_the_line_that_tells_of_them() {
        let log = || {
            tracing::info!(
                dimension.item = "greet",
                monotonic_counter.faults = 1,
                histogram.duration_ms = 1.25,
                "called"
            );
        };

        let line = json_line(&[(FUNCTION_NAME, "greeter")], log);

        let expected = json!([{
            "Namespace": "mcp",
            "Dimensions": [["function_name"], ["function_name", "item"]],
            "Metrics": [{ "Name": "faults", "Unit": "Count" }, { "Name": "duration_ms", "Unit": "Milliseconds" }],
        }]);
        assert_eq!(line["_aws"]["CloudWatchMetrics"], expected);
        assert!(line["_aws"]["Timestamp"].as_u64().unwrap() > 1_700_000_000_000);
        assert_eq!((&line["function_name"], &line["item"]), (&json!("greeter"), &json!("greet")));
        assert_eq!((&line["faults"], &line["duration_ms"]), (&json!(1), &json!(1.25)));

        let off = json_line(&[(FUNCTION_NAME, "greeter"), (METRICS, "off")], log);
        assert_eq!((off.get("_aws"), &off["faults"]), (None, &json!(1)));
    }

    #[test]
    fn what_cloudwatch_would_refuse_is_not_declared() {
        let variables = &[(FUNCTION_NAME, "greeter")];
        for not_a_number in [f64::NAN, f64::INFINITY] {
            let line = json_line(variables, || {
                tracing::info!(monotonic_counter.faults = 1, histogram.ratio = not_a_number, "called");
            });
            let metrics = &line["_aws"]["CloudWatchMetrics"][0]["Metrics"];
            assert_eq!(metrics, &json!([{ "Name": "faults", "Unit": "Count" }]));
        }
        let line = json_line(variables, || tracing::info!(histogram.duration_ms = "long", "called"));
        assert_eq!((line.get("_aws"), &line["duration_ms"]), (None, &json!("long")));

        for (item, value) in
            [("grüße", "gr??e"), (" ", "unknown"), ("", "unknown"), ("a\tb", "a?b"), ("events://{id}", "events://{id}")]
        {
            let line =
                json_line(variables, || tracing::info!(dimension.item = item, monotonic_counter.faults = 1, "called"));
            assert_eq!(line["item"], value);
        }
        let long = "é".repeat(2000);
        let line =
            json_line(variables, || tracing::info!(dimension.item = long, monotonic_counter.faults = 1, "called"));
        assert_eq!(line["item"].as_str().unwrap().len(), MAX_DIMENSION_BYTES);
    }

    #[test]
    fn a_person_gets_text() {
        let line = written(&[(LOG_FORMAT, "Text")], || {
            tracing::error!(dimension.item = "greet", histogram.duration_ms = 2, "it {}", "broke");
        });

        let rest = line.split_once(' ').unwrap().1;
        assert_eq!(rest, format!("ERROR {}: it broke item=\"greet\" duration_ms=2\n", module_path!()));
    }

    #[test]
    fn what_is_not_wanted_is_not_written() {
        let log = || {
            tracing::debug!("a detail");
            let _span = tracing::info_span!("a span").entered();
        };

        assert_eq!(written(&[], log), "");
        assert!(written(&[(RUST_LOG, "debug")], log).contains("a detail"));
        assert_eq!(written(&[(RUST_LOG, "off")], || tracing::error!("the end")), "");
    }

    #[test]
    fn a_wish_that_is_not_understood_means_info() {
        for (wish, is_understood, level) in [
            (None, true, Level::INFO),
            (Some("DEBUG"), true, Level::DEBUG),
            (Some("verbose"), false, Level::INFO),
            (Some("FATAL"), true, Level::ERROR),
            (Some("warn,mcp_lambda=trace"), true, Level::TRACE),
        ] {
            let (filter, understood) = filter(wish);

            assert_eq!(understood, is_understood, "{wish:?}");
            assert!(filter.would_enable("mcp_lambda", &level), "{wish:?}");
            assert!(level == Level::TRACE || !filter.would_enable("mcp_lambda", &Level::TRACE));
        }
    }

    #[test]
    fn crates_that_log_bearer_tokens_are_at_debug_at_most() {
        for wish in
            ["trace", "lambda_runtime=trace,info", "info,lambda_runtime::layers=trace", "hyper=trace,lambda=trace"]
        {
            let (filter, _) = filter(Some(wish));

            for target in ["lambda_runtime", "lambda_runtime::layers::trace", "hyper_util::client", "aws_sigv4"] {
                assert!(!filter.would_enable(target, &Level::TRACE), "{wish} {target}");
            }
        }
        let (filter, _) = filter(Some("trace"));
        assert!(
            filter.would_enable("lambda_runtime", &Level::DEBUG) && filter.would_enable("mcp_lambda", &Level::TRACE)
        );
    }
}
