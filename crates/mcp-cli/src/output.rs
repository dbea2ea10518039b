//! What commands answer, on standard output: with colours and in tables for people.

use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets::NOTHING};
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

/// Text without what would move the cursor of a terminal, or hide what stands there.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|own| !own.is_control() || matches!(own, '\n' | '\t')).collect()
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

    #[test]
    fn what_a_terminal_would_obey_is_left_out() {
        assert_eq!(printable("a\u{1b}[2Jb\r\u{7}\nc\td"), "a[2Jb\nc\td");
    }
}
