//! Elicitation at the terminal: forms field by field, and URLs.

use std::io::{self, BufRead, IsTerminal as _, Read as _, Write};

use anyhow::Context;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    json_text::{member, members},
    oauth::is_secure,
    output::{printable, printable_line},
    received::{self, MESSAGE_BUDGET},
};

/// Maximum number of fields of a form.
const MAX_FIELDS: usize = 100;
/// Maximum length of a typed line.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Whether there is a terminal for questions.
pub(crate) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// The client capabilities, with elicitation if there is a terminal.
pub(crate) fn capabilities() -> Value {
    match is_possible() {
        true => json!({ "elicitation": { "form": {}, "url": {} } }),
        false => json!({}),
    }
}

/// Asks the user and returns the result of `elicitation/create`.
pub(crate) async fn ask(params: Option<&RawValue>) -> anyhow::Result<Value> {
    let params = params.context("the server's question has no parameters")?.to_owned();
    mcp_protocol::json::check(params.get(), MESSAGE_BUDGET).context("could not read the server's question")?;
    let asking = move || put(&params, &mut io::stdin().lock(), &mut io::stderr());
    let asked = tokio::task::spawn_blocking(asking).await.context("could not ask the server's question")?;
    asked.context("could not ask the server's question")
}

fn put(params: &RawValue, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<Value> {
    let text = |name: &str| member(params, name).and_then(|own| mcp_protocol::json::borrow::<String>(own.get()).ok());
    writeln!(output, "The server asks: {}", printable(&text("message").unwrap_or_default()))?;
    if text("mode").is_some_and(|mode| mode == "url") {
        return link(&text("url").unwrap_or_default(), input, output);
    }
    let schema = member(params, "requestedSchema");
    let fields = schema.and_then(|own| member(own, "properties")).map(|own| members(own.get())).unwrap_or_default();
    let required: Vec<String> = schema
        .and_then(|own| member(own, "required"))
        .and_then(|own| received::read(own.get()).ok())
        .unwrap_or_default();
    if fields.len() > MAX_FIELDS {
        writeln!(output, "declined: the form has more than {MAX_FIELDS} fields")?;
        return Ok(json!({ "action": "decline" }));
    }
    let mut content = Map::new();
    for (name, schema) in fields {
        let schema: Value = received::read(schema.get()).map_err(io::Error::other)?;
        match field(&name, &schema, required.contains(&name), input, output)? {
            Entered::Value(value) => _ = content.insert(name, value),
            Entered::Nothing => {}
            Entered::End => return Ok(json!({ "action": "cancel" })),
        }
    }
    Ok(match choice("Send? [Y]es, [n]o, [c]ancel: ", &["", "y", "yes"], input, output)? {
        "accept" => json!({ "action": "accept", "content": content }),
        action => json!({ "action": action }),
    })
}

fn link(url: &str, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<Value> {
    if !is_secure(url) {
        writeln!(output, "declined: `{}` is no https URL", printable_line(url))?;
        return Ok(json!({ "action": "decline" }));
    }
    writeln!(output, "  {}", printable_line(url))?;
    let prompt = "Open this address in a browser if you trust it. Done? [Y]es, [n]o, [c]ancel: ";
    Ok(json!({ "action": choice(prompt, &["", "y", "yes"], input, output)? }))
}

/// Asks until the answer is one of three; the end of the input cancels.
fn choice(
    prompt: &str,
    accepted: &[&str],
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> io::Result<&'static str> {
    loop {
        let Some(line) = line(prompt, input, output)? else { return Ok("cancel") };
        match line.to_lowercase().as_str() {
            own if accepted.contains(&own) => return Ok("accept"),
            "n" | "no" => return Ok("decline"),
            "c" | "cancel" => return Ok("cancel"),
            _ => {}
        }
    }
}

/// The typed value of a field.
enum Entered {
    Value(Value),
    Nothing,
    End,
}

fn field(
    name: &str,
    schema: &Value,
    is_required: bool,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> io::Result<Entered> {
    let text = |name: &str| printable_line(schema[name].as_str().unwrap_or_default());
    let title = if text("title").is_empty() { printable_line(name) } else { text("title") };
    let optional = if is_required { "" } else { ", optional" };
    let description = text("description");
    let colon = if description.is_empty() { "" } else { ": " };
    writeln!(output, "{title} ({}{optional}){colon}{description}", expected(schema))?;
    let choices = choices(schema);
    for (number, (value, title)) in choices.iter().enumerate() {
        let value = if title == value { String::new() } else { format!(" ({})", printable_line(value)) };
        writeln!(output, "  {}) {}{value}", number + 1, printable_line(title))?;
    }
    let default = schema.get("default").filter(|default| !default.is_null());
    let prompt = match default {
        Some(Value::String(default)) => format!("[{}] > ", printable_line(default)),
        Some(default) => format!("[{}] > ", printable_line(&default.to_string())),
        None => "> ".to_owned(),
    };
    loop {
        let Some(line) = line(&prompt, input, output)? else { return Ok(Entered::End) };
        if line.is_empty() {
            match default {
                Some(default) => return Ok(Entered::Value(default.clone())),
                None if !is_required => return Ok(Entered::Nothing),
                None => {}
            }
        }
        match value(schema, &choices, &line) {
            Ok(value) => return Ok(Entered::Value(value)),
            Err(why) => writeln!(output, "{why}")?,
        }
    }
}

/// A line without its end; `None` at the end of the input.
fn line(prompt: &str, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<Option<String>> {
    write!(output, "{prompt}")?;
    output.flush()?;
    let mut line = Vec::new();
    if input.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
        writeln!(output)?;
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).trim().to_owned()))
}

/// The type of a field and its bounds, for display.
fn expected(schema: &Value) -> String {
    let kind = match (schema["type"].as_str(), choices(schema).is_empty()) {
        (Some("array"), _) => "numbers, separated by commas",
        (_, false) => "a number of the list",
        (Some("boolean"), true) => "yes or no",
        (Some("integer"), true) => "a whole number",
        (Some("number"), true) => "a number",
        (_, true) => match schema["format"].as_str() {
            Some("email") => "an email address",
            Some("uri") => "a URI",
            Some("date") => "a date, such as 2026-07-28",
            Some("date-time") => "a time, such as 2026-07-28T12:00:00Z",
            _ => "text",
        },
    };
    let bound = |names: [&str; 3], words: &str| {
        let own = names.into_iter().find_map(|name| schema[name].as_f64().map(|_| schema[name].to_string()));
        own.map(|bound| format!(", {words} {bound}")).unwrap_or_default()
    };
    let least = bound(["minimum", "minLength", "minItems"], "at least");
    let most = bound(["maximum", "maxLength", "maxItems"], "at most");
    format!("{kind}{least}{most}")
}

/// The values that a field can have, each with its title; none if they are not listed.
fn choices(schema: &Value) -> Vec<(String, String)> {
    let schema = if schema["type"] == "array" { &schema["items"] } else { schema };
    let titled = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    if let Some(titled) = titled {
        let own = titled.iter().filter_map(|own| {
            let value = own["const"].as_str()?;
            Some((value.to_owned(), own["title"].as_str().unwrap_or(value).to_owned()))
        });
        return own.collect();
    }
    let values = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).enumerate();
    let name = |index: usize, value: &str| schema["enumNames"][index].as_str().unwrap_or(value).to_owned();
    values.map(|(index, value)| (value.to_owned(), name(index, value))).collect()
}

/// Parses a line as the value of a field.
fn value(schema: &Value, choices: &[(String, String)], line: &str) -> Result<Value, String> {
    let bounds = |size: f64, least: &str, most: &str| {
        let is_within = schema[least].as_f64().is_none_or(|least| size >= least)
            && schema[most].as_f64().is_none_or(|most| size <= most);
        is_within.then_some(()).ok_or_else(|| format!("That must be {}.", expected(schema)))
    };
    let chosen = |word: &str| {
        let word = word.trim();
        // The value itself goes before its number, should it look like one.
        let named = choices.iter().find(|(value, title)| value == word || title.eq_ignore_ascii_case(word));
        let numbered = || choices.get(word.parse::<usize>().ok()?.checked_sub(1)?);
        let own = named.or_else(numbered).map(|(value, _)| json!(value));
        own.ok_or_else(|| format!("That must be a number from 1 to {}.", choices.len()))
    };
    let wrong = || format!("That must be {}.", expected(schema));
    match schema["type"].as_str() {
        Some("array") => {
            let words = line.split(',').filter(|word| !word.trim().is_empty());
            let chosen: Vec<Value> = words.map(chosen).collect::<Result<_, _>>()?;
            bounds(f64::from(u32::try_from(chosen.len()).unwrap_or(u32::MAX)), "minItems", "maxItems")?;
            Ok(Value::Array(chosen))
        }
        _ if !choices.is_empty() => chosen(line),
        Some("boolean") => match line.to_lowercase().as_str() {
            "y" | "yes" | "true" => Ok(json!(true)),
            "n" | "no" | "false" => Ok(json!(false)),
            _ => Err(wrong()),
        },
        Some(kind @ ("integer" | "number")) => {
            // Unbounded JSON: a line that the user has typed.
            let number: serde_json::Number = serde_json::from_str(line).map_err(|_| wrong())?;
            let size = number.as_f64().ok_or_else(wrong)?;
            if kind == "integer" && size.fract() != 0.0 {
                return Err(wrong());
            }
            bounds(size, "minimum", "maximum")?;
            Ok(Value::Number(number))
        }
        _ if line.is_empty() => Err("An answer is needed.".to_owned()),
        _ => {
            bounds(f64::from(u32::try_from(line.chars().count()).unwrap_or(u32::MAX)), "minLength", "maxLength")?;
            Ok(json!(line))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is answered to a question when lines are typed, and what was shown.
    fn asked(params: &str, typed: &str) -> (Value, String) {
        let params = RawValue::from_string(params.to_owned()).unwrap();
        let mut shown = Vec::new();
        let answer = put(&params, &mut typed.as_bytes(), &mut shown).unwrap();
        (answer, String::from_utf8(shown).unwrap())
    }

    const FORM: &str = r#"{"message":"Who \u001b[2Jare you?","requestedSchema":{"type":"object","required":["name","size"],"properties":{
        "name":{"type":"string","title":"Your name","description":"As on the badge","minLength":2},
        "age":{"type":"integer","minimum":0,"maximum":150},
        "size":{"enum":["s","m"],"enumNames":["Small","Medium"],"default":"m"},
        "colour":{"type":"string","oneOf":[{"const":"r","title":"Red"},{"const":"b"}]},
        "days":{"type":"array","items":{"enum":["mo","tu","we"]},"maxItems":2},
        "news":{"type":"boolean","default":false}}}}"#;

    /// Section 9, "a question of the server is asked at the terminal"
    #[test]
    fn a_form_is_asked_field_by_field() {
        let (answer, shown) = asked(FORM, "A\n\nAda\nold\n1.5\n151\n36\nSmall\n3\n1\n1,2,3\n1, we\n\n\n");

        let content =
            json!({ "name": "Ada", "age": 36, "size": "s", "colour": "r", "days": ["mo", "we"], "news": false });
        assert_eq!(answer, json!({ "action": "accept", "content": content }));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "The server asks: Who [2Jare you?");
        assert_eq!(lines[1], "Your name (text, at least 2): As on the badge");
        for expected in [
            "That must be text, at least 2.\n",
            "age (a whole number, at least 0, at most 150, optional)\n",
            "size (a number of the list)\n  1) Small (s)\n  2) Medium (m)\n[m] > ",
            "  1) Red (r)\n  2) b\n",
            "That must be a number from 1 to 2.\n",
            "days (numbers, separated by commas, at most 2, optional)\n",
            "news (yes or no, optional)\n[false] > ",
        ] {
            assert!(shown.contains(expected), "{expected} in {shown}");
        }
    }

    #[test]
    fn a_form_may_be_left_declined_and_cancelled() {
        let (answer, _) = asked(FORM, "Ada\n\n\n\n\nyes\nY\n");
        assert_eq!(answer, json!({ "action": "accept", "content": { "name": "Ada", "size": "m", "news": true } }));
        for (end, action) in [("n\n", "decline"), ("x\nno\n", "decline"), ("c\n", "cancel"), ("", "cancel")] {
            assert_eq!(asked(FORM, &format!("Ada\n\n\n\n\nyes\n{end}")).0, json!({ "action": action }));
        }
        assert_eq!(asked(FORM, "Ada\n").0, json!({ "action": "cancel" }));
        assert_eq!(asked(r#"{"message":"Sure?"}"#, "\n").0, json!({ "action": "accept", "content": {} }));
        let fields: Vec<String> = (0..=MAX_FIELDS).map(|own| format!(r#""f{own}":{{"type":"string"}}"#)).collect();
        let large = format!(r#"{{"message":"","requestedSchema":{{"properties":{{{}}}}}}}"#, fields.join(","));
        assert_eq!(asked(&large, "\n").0, json!({ "action": "decline" }));
    }

    /// Section 9, "and a link for URL questions"
    #[test]
    fn a_link_is_shown_and_only_a_secure_one() {
        let question = |url: &str| format!(r#"{{"mode":"url","message":"Pay","url":"{url}","elicitationId":"1"}}"#);
        for (typed, action) in [("\n", "accept"), ("n\n", "decline"), ("c\n", "cancel"), ("", "cancel")] {
            let (answer, shown) = asked(&question("https://pay.example/1"), typed);
            assert_eq!(answer, json!({ "action": action }));
            assert!(shown.contains("\n  https://pay.example/1\n"), "{shown}");
        }
        for url in ["http://pay.example", "javascript:x", "https://a@pay.example", "https://pay.example/\\u202e"] {
            let (answer, shown) = asked(&question(url), "\n");
            assert_eq!(answer, json!({ "action": "decline" }));
            assert!(shown.contains("is no https URL") && !shown.contains('\u{202e}'), "{shown}");
        }
    }
}
