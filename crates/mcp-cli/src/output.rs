//! Standard output of the commands: JSON for programs; colours and tables at a terminal.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Mutex, PoisonError},
};

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets::NOTHING};
use mcp_protocol::json;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::Notify;

use crate::json_text::{self, Members, indented};

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const NOTE: Style = AnsiColor::Yellow.on_default();
pub(crate) const PROBLEM: Style = AnsiColor::Red.on_default().bold();
/// Maximum length of a text in a table.
const MAX_CELL_CHARS: usize = 60;
/// Maximum number of rows of a table.
const MAX_ROWS: usize = 10_000;

/// The first line that could not be printed, other than to a reader that has ended.
static FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints a line. Colours are left out unless they are for a terminal. A failure is that of the command: see [`failure`].
pub(crate) fn print(line: &str) {
    let mut stdout = anstream::stdout();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            FAILURE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
        _ => {}
    }
}

/// Why something could not be printed. A reader that has ended, as `head` does, is no failure.
pub(crate) fn failure() -> Option<io::Error> {
    FAILURE.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Writes bytes as they are, for a program or a file.
///
/// # Errors
///
/// When they cannot be written; not when the reader has ended, as `head` does.
pub(crate) fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Makes the progress line stop: a prompt is open at the terminal, and the typed line must not be overwritten.
static RELEASED: Notify = Notify::const_new();

/// Ends the line that shows how long a request takes, before a person types at the terminal.
pub(crate) fn release_terminal() {
    RELEASED.notify_one();
}

/// Waits for [`release_terminal`].
pub(crate) async fn terminal_released() {
    RELEASED.notified().await;
}

/// Prints a note on standard error.
pub(crate) fn note(line: &str) {
    let _ = writeln!(anstream::stderr(), "{}", printable(line));
}

/// Whether standard output is a terminal.
pub(crate) fn is_for_people() -> bool {
    io::stdout().is_terminal()
}

/// Sanitizes a server's text for a terminal: removes control characters and controls of bidirectional text.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|own| !is_unprintable(*own)).collect()
}

/// Sanitizes a server's text to one line, so that it cannot imitate a line of `mcpl`.
pub(crate) fn printable_line(text: &str) -> String {
    printable(&text.replace(['\n', '\t'], " "))
}

/// Truncates a foreign text to `max_chars` characters on one line; unprintable characters are escaped.
pub(crate) fn excerpt(text: &str, max_chars: usize) -> String {
    let (mut shown, mut count) = (String::new(), 0);
    for own in text.chars() {
        let is_escaped = is_unprintable(own) || matches!(own, '\n' | '\t');
        let written = if is_escaped { own.escape_default().to_string() } else { own.to_string() };
        count += written.chars().count();
        if count > max_chars {
            shown.push('…');
            break;
        }
        shown.push_str(&written);
    }
    shown
}

/// JSON with unprintable characters escaped, which keeps its meaning.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(escaped(&serde_json::to_string_pretty(value)?))
}

/// Escapes unprintable characters in JSON text; numbers and the order of members stay.
pub(crate) fn json_as_written(text: &str) -> String {
    escaped(&indented(text))
}

fn escaped(json: &str) -> String {
    let mut escaped = String::new();
    for own in json.chars() {
        // All of them are in the first plane; line ends are between the tokens alone.
        match is_unprintable(own) {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(own))),
            false => escaped.push(own),
        }
    }
    escaped
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
pub(crate) fn of_json(text: &str) -> String {
    let records = match text.trim_start().as_bytes().first() {
        Some(b'[') => json_text::items(text),
        // As tools wrap them: `{"events": [...]}`.
        Some(b'{') => match json_text::members(text).as_slice() {
            [(_, only)] => json_text::items(only.get()),
            _ => None,
        },
        _ => None,
    };
    printable(&records.and_then(|records| table(&records)).unwrap_or_else(|| indented(text)))
}

fn table(records: &[&RawValue]) -> Option<String> {
    fn read<'a>(record: &&'a RawValue) -> Option<Members<'a>> {
        json::borrow(record.get()).ok()
    }
    if records.len() > MAX_ROWS {
        return None;
    }
    let columns: Vec<String> = records.first().and_then(read)?.0.into_iter().map(|(name, _)| name).collect();
    if columns.is_empty() {
        return None;
    }
    let rows: Option<Vec<Vec<String>>> = records
        .iter()
        .map(|record| {
            let record = read(record).filter(|own| own.0.iter().map(|(name, _)| name).eq(&columns))?;
            record.0.iter().map(|(_, value)| cell(value.get())).collect()
        })
        .collect();
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(columns).add_rows(rows?);
    Some(table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n"))
}

fn cell(value: &str) -> Option<String> {
    let text = match value.as_bytes().first()? {
        b'"' => json::borrow(value).ok()?,
        b'n' => String::new(),
        b'[' | b'{' => return None,
        _ => value.to_owned(),
    };
    (text.chars().count() <= MAX_CELL_CHARS && !text.contains('\n')).then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn records_are_a_table_and_the_rest_is_indented() {
        let records = r#"[{"name":"login","id":1.10},{"name":null,"id":123456789012345678901}]"#;
        let shown = of_json(records);

        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        // c03: numbers as they were written
        assert_eq!(lines, [vec!["name", "id"], vec!["login", "1.10"], vec!["123456789012345678901"]]);
        assert_eq!(of_json(&format!(r#"{{"events":{records}}}"#)), shown);
        let long = format!(r#"[{{"a":"{}"}}]"#, "x".repeat(61));
        for other in [
            r#"[{"a":1},{"b":1}]"#,
            r#"[{"a":[1]}]"#,
            &long,
            "[]",
            "[{}]",
            r#"{"a":1,"b":[{"c":1}]}"#,
            "[1,2]",
            "[{},1]",
        ] {
            let expected: Value = serde_json::from_str(other).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&of_json(other)).unwrap_or_default(), expected, "{other}");
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
        let shown =
            [of_json(&json!({ "a": HOSTILE }).to_string()), of_json(&json!([{ HOSTILE: HOSTILE }]).to_string())];
        assert!(shown.iter().all(|text| text.chars().all(|own| own == '\n' || !is_unprintable(own))), "{shown:?}");
    }

    /// 8.9
    #[test]
    fn json_means_the_same_and_is_printable() {
        let value = json!({ HOSTILE: [HOSTILE, { "x": "é" }] });

        let written = json(&value).unwrap();

        assert_eq!(json_as_written(&value.to_string()), written);
        assert!(written.chars().all(|own| own == '\n' || (!is_unprintable(own) && own != '\t')), "{written}");
        assert!(written.contains("\\u202e") && written.contains("\\u009b") && written.contains('é'), "{written}");
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
    }
}
