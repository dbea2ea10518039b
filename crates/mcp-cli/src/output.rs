//! What commands answer, on standard output: with colours and in tables for people.

use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;
use serde_json::Value;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const NOTE: Style = AnsiColor::Yellow.on_default();
pub(crate) const PROBLEM: Style = AnsiColor::Red.on_default().bold();
/// Longer texts would tear a table apart.
const MAX_CELL_CHARS: usize = 60;

/// Prints a line. Colours are left out unless they are for a terminal.
pub(crate) fn print(line: &str) {
    // Nobody is left to tell that nobody reads.
    let _ = writeln!(anstream::stdout(), "{line}");
}

/// Text of a server for a terminal: without what would move its cursor, or change the order of what stands there.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|own| !is_unprintable(*own)).collect()
}

/// The same on one line, where another one would look like a line of ours.
pub(crate) fn printable_line(text: &str) -> String {
    printable(&text.replace(['\n', '\t'], " "))
}

/// JSON for programs: what is not printable is escaped, so that it means the same.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<String> {
    let mut escaped = String::new();
    for own in serde_json::to_string_pretty(value)?.chars() {
        // All of them are in the first plane; line ends are between the tokens alone.
        match is_unprintable(own) {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(own))),
            false => escaped.push(own),
        }
    }
    Ok(escaped)
}

/// Controls (C0 and C1), separators of lines, and the controls of bidirectional text; not line ends and tabs.
fn is_unprintable(own: char) -> bool {
    let is_bidirectional =
        matches!(own, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    is_bidirectional || matches!(own, '\u{2028}' | '\u{2029}') || (own.is_control() && !matches!(own, '\n' | '\t'))
}

/// Standard error, for log events: each is one printable line, also with texts of servers in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogWriter;

impl io::Write for LogWriter {
    /// Takes one whole event, as `tracing_subscriber` writes them.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = printable_line(String::from_utf8_lossy(event).trim_end_matches('\n'));
        writeln!(io::stderr(), "{line}")?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// JSON for people: records of short values as a table, everything else indented.
pub(crate) fn of_json(value: &Value) -> String {
    let records = match value {
        Value::Array(records) => Some(records),
        // As tools wrap them: `{"events": [...]}`.
        Value::Object(members) if members.len() == 1 => members.values().next().and_then(Value::as_array),
        _ => None,
    };
    printable(&records.and_then(|records| table(records)).unwrap_or_else(|| format!("{value:#}")))
}

fn table(records: &[Value]) -> Option<String> {
    let columns: Vec<&String> = records.first()?.as_object()?.keys().collect();
    let rows: Option<Vec<Vec<String>>> = records
        .iter()
        .map(|record| {
            let members = record.as_object().filter(|own| own.keys().eq(columns.iter().copied()))?;
            members.values().map(cell).collect()
        })
        .collect();
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(columns).add_rows(rows?);
    Some(table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n"))
}

fn cell(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) | Value::Object(_) => return None,
    };
    (text.chars().count() <= MAX_CELL_CHARS && !text.contains('\n')).then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_are_a_table_and_the_rest_is_indented() {
        let records = json!([{ "id": 1, "name": "login" }, { "id": 20, "name": null }]);
        let shown = of_json(&records);

        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines, [vec!["id", "name"], vec!["1", "login"], vec!["20"]]);
        assert_eq!(of_json(&json!({ "events": records })), shown);
        for other in [
            json!([{ "a": 1 }, { "b": 1 }]),
            json!([{ "a": [1] }]),
            json!([{ "a": "x".repeat(61) }]),
            json!([]),
            json!({ "a": 1, "b": [{ "c": 1 }] }),
        ] {
            assert_eq!(of_json(&other), format!("{other:#}"));
        }
    }

    /// C0 and C1 controls, and those of bidirectional text.
    const HOSTILE: &str =
        "a\u{1b}[2Jb\r\u{7}\u{7f}\u{9b}31m\u{85}\u{202e}c\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}\u{2028}d\ne\tf";

    /// 8.9
    #[test]
    fn what_a_terminal_would_obey_is_left_out() {
        assert_eq!(printable(HOSTILE), "a[2Jb31mcd\ne\tf");
        assert_eq!(printable_line(HOSTILE), "a[2Jb31mcd e f");
        for written in ["\u{202a}", "\u{202b}", "\u{202c}", "\u{202d}", "\u{2067}", "\u{2068}", "\u{80}", "\0"] {
            assert_eq!(printable(written), "", "{written:?}");
        }
        assert_eq!(printable("שלום é 👩‍👧 \u{301}"), "שלום é 👩‍👧 \u{301}");
        let shown = [of_json(&json!({ "a": HOSTILE })), of_json(&json!([{ HOSTILE: HOSTILE }]))];
        assert!(shown.iter().all(|text| text.chars().all(|own| own == '\n' || !is_unprintable(own))), "{shown:?}");
    }

    /// 8.9
    #[test]
    fn json_means_the_same_and_is_printable() {
        let value = json!({ HOSTILE: [HOSTILE, { "x": "é" }] });

        let written = json(&value).unwrap();

        assert!(written.chars().all(|own| own == '\n' || (!is_unprintable(own) && own != '\t')), "{written}");
        assert!(written.contains("\\u202e") && written.contains("\\u009b") && written.contains('é'), "{written}");
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
    }
}
