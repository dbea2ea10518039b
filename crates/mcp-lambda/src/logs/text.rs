//! Log events as text for a terminal.

use std::{fmt, io::Write as _, time::SystemTime};

use tracing::{
    Event, Level,
    field::{Field, Visit},
};

use super::{
    COUNTER, DIMENSION, HISTOGRAM,
    escape::{is_control, write_quoted},
    repeats::{MESSAGE, Summary},
};

pub(super) fn render(line: &mut Vec<u8>, event: &Event<'_>, now: SystemTime, is_coloured: bool) {
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

/// Writes counted rejections.
pub(super) fn render_summary(line: &mut Vec<u8>, summary: &Summary) {
    let (time, level) = (humantime::format_rfc3339_millis(summary.last), summary.metadata.level());
    let target = summary.metadata.target();
    let _ = write!(line, "{time} {level:>5} {target}: {MESSAGE} repeats={} repeated=", summary.count);
    write_quoted(line, &summary.message);
    if let Some(status) = summary.status {
        let _ = write!(line, " status={status}");
    }
    if let Some((field, target)) = &summary.target {
        TextFields(line).record_str(field, target);
    }
}

struct TextFields<'l>(&'l mut Vec<u8>);

impl TextFields<'_> {
    fn key(&mut self, field: &Field) {
        let name = field.name();
        let name = [COUNTER, HISTOGRAM, DIMENSION].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        let _ = write!(self.0, " {name}=");
    }

    /// Writes a number or a boolean.
    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.key(field);
        let _ = write!(self.0, "{value}");
    }
}

impl Visit for TextFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        // A message may be a literal or contain dynamic text. If it has special characters it is quoted, so that it cannot forge fields.
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
