//! YAML parser that returns JSON values, with a budget.

mod scalars;
#[cfg(test)]
mod steps;

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, StrInput};
use serde_json::{Map, Value};

use self::scalars::scalar;

use crate::{
    budget::{LimitExceeded, Meter},
    document::truncate,
};

/// Memory of an anchor in the parser and here, without its value.
const ANCHOR_BYTES: usize = 512;
/// Merge key: adds the members of other objects (<https://yaml.org/type/merge.html>). YAML 1.2 does not define it, but
/// parsers support it.
const MERGE_KEY: &str = "<<";
const YAML_TAGS: &str = "tag:yaml.org,2002:";
/// Maximum number of directives: the parser stores all directives of a document until its first event.
const MAX_DIRECTIVES: usize = 16;

/// Error of a text that cannot be parsed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum YamlError {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
    #[error("duplicate member {name:?} at line {line}")]
    DuplicateMember { name: String, line: usize },
    #[error("the name of a member is an array, an object or null at line {line}")]
    Name { line: usize },
    #[error(
        "the value of `{MERGE_KEY}` at line {line} must be an object or an array of objects: quote the key if it is a name"
    )]
    Merge { line: usize },
    #[error("cyclic alias at line {line}")]
    Cycle { line: usize },
    #[error("the text has more than {MAX_DIRECTIVES} directives")]
    Directives,
    #[error("the text has several documents")]
    MultipleDocuments,
    #[error("the text is incomplete")]
    Incomplete,
}

/// Parses YAML. Each alias is charged as its expanded value, since few lines of aliases can expand beyond any memory.
///
/// # Errors
///
/// Returns an error if the text is not YAML, has duplicate members, or exceeds the budget.
pub(crate) fn read(text: &str, meter: &Meter) -> Result<Value, YamlError> {
    if directives(text).take(MAX_DIRECTIVES + 1).count() > MAX_DIRECTIVES {
        return Err(YamlError::Directives);
    }
    let parser = Parser::new_from_str_with_options(text, options());
    let mut reader = EventReader { parser, meter, anchors: HashMap::new(), line: 0 };
    let mut value = Value::Null;
    let mut documents = 0;
    loop {
        match reader.next()? {
            Event::StreamStart | Event::DocumentEnd => {}
            Event::StreamEnd => return Ok(value),
            Event::DocumentStart(..) if documents == 1 => return Err(YamlError::MultipleDocuments),
            Event::DocumentStart(..) => documents += 1,
            event => (value, _) = reader.value(event, 0)?,
        }
    }
}

/// Returns the lines that may be directives. The parser ends lines at LF and CR, and allows a directive after a BOM.
fn directives(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\n', '\r', '\u{feff}']).filter(|line| line.starts_with('%'))
}

fn options() -> Options {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options
}

struct EventReader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    meter: &'t Meter,
    anchors: HashMap<usize, Anchor>,
    /// Line of the last event.
    line: usize,
}

/// Value of an anchor.
#[derive(Clone)]
struct Anchor {
    value: Value,
    /// Memory of the value, in bytes.
    bytes: usize,
    /// Number of values.
    values: usize,
    /// Nesting depth of arrays and objects.
    height: usize,
}

impl<'t> EventReader<'t> {
    fn next(&mut self) -> Result<Event<'t>, YamlError> {
        let (event, span) = match self.parser.next_event().ok_or(YamlError::Incomplete)? {
            Ok(event) => event,
            Err(error) if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) => {
                return Ok(self.meter.fail(LimitExceeded::Depth)?);
            }
            Err(error) => return Err(error.into()),
        };
        self.line = span.start.line();
        Ok(event)
    }

    /// Parses the value that starts with an event; returns it with its height.
    fn value(&mut self, event: Event<'t>, depth: usize) -> Result<(Value, usize), YamlError> {
        let (left, values) = (self.meter.left(), self.meter.values());
        self.meter.take_values(1, depth)?;
        let (value, height, anchor) = match event {
            Event::Alias(anchor) => return self.alias(anchor, depth),
            Event::Scalar(text, style, anchor, tag) => (scalar(&text, style, tag.as_deref(), self.meter)?, 0, anchor),
            Event::SequenceStart(_, anchor, _) => {
                let (array, height) = self.array(depth)?;
                (array, height, anchor)
            }
            Event::MappingStart(_, anchor, _) => {
                let (object, height) = self.object(depth)?;
                (object, height, anchor)
            }
            _ => return Err(YamlError::Incomplete),
        };
        if anchor != 0 {
            let bytes = left - self.meter.left();
            let values = values - self.meter.values();
            self.meter.take(bytes.saturating_add(ANCHOR_BYTES))?;
            self.anchors.insert(anchor, Anchor { value: value.clone(), bytes, values, height });
        }
        Ok((value, height))
    }

    fn array(&mut self, depth: usize) -> Result<(Value, usize), YamlError> {
        let (mut array, mut height) = (Vec::new(), 0);
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok((array.into(), height + 1)),
                event => {
                    let (item, own) = self.value(event, depth + 1)?;
                    height = height.max(own);
                    self.meter.push(&mut array, item)?;
                }
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<(Value, usize), YamlError> {
        let (mut object, mut height) = (Map::new(), 0);
        let mut merged = Vec::new();
        loop {
            let event = match self.next()? {
                Event::MappingEnd => break,
                event => event,
            };
            let is_merge_key = is_merge_key(&event);
            let name = self.name(event)?;
            if is_merge_key {
                height = height.max(self.merge(depth, &mut merged)?);
                continue;
            }
            self.meter.take_member(object.len())?;
            if object.contains_key(&name) {
                return Err(YamlError::DuplicateMember { name: truncate(&name).into(), line: self.line });
            }
            let event = self.next()?;
            let (value, own) = self.value(event, depth + 1)?;
            height = height.max(own);
            object.insert(name, value);
        }
        for (name, value) in merged.into_iter().flatten() {
            if !object.contains_key(&name) {
                self.meter.take_member(object.len())?;
                object.insert(name, value);
            }
        }
        Ok((object.into(), height + 1))
    }

    /// Parses the value of a merge key; the first objects take precedence. Returns the height of their members.
    ///
    /// An alias is charged as its expanded value, even if no member is added.
    fn merge(&mut self, depth: usize, merged: &mut Vec<Map<String, Value>>) -> Result<usize, YamlError> {
        let line = self.line;
        let event = self.next()?;
        let (objects, levels) = match self.value(event, depth + 1)? {
            (Value::Array(items), height) => (items, height.saturating_sub(2)),
            (value, height) => (vec![value], height.saturating_sub(1)),
        };
        for object in objects {
            let Value::Object(members) = object else { return Err(YamlError::Merge { line }) };
            self.meter.push(merged, members)?;
        }
        Ok(levels)
    }

    /// Parses a member name as text, so that `200` is a valid name.
    fn name(&mut self, event: Event<'t>) -> Result<String, YamlError> {
        let name = match event {
            Event::Scalar(text, _, 0, _) => text,
            Event::Scalar(text, style, anchor, tag) => {
                self.value(Event::Scalar(text.clone(), style, anchor, tag), 0)?;
                text
            }
            Event::Alias(anchor) => match self.alias(anchor, 0)?.0 {
                Value::String(text) => return Ok(text),
                Value::Number(number) => number.to_string().into(),
                Value::Bool(truth) => truth.to_string().into(),
                _ => return Err(YamlError::Name { line: self.line }),
            },
            _ => return Err(YamlError::Name { line: self.line }),
        };
        self.meter.take_string(&name)?;
        Ok(name.into_owned())
    }

    fn alias(&mut self, anchor: usize, depth: usize) -> Result<(Value, usize), YamlError> {
        let anchor = self.anchors.get(&anchor).ok_or(YamlError::Cycle { line: self.line })?;
        self.meter.take_values(anchor.values, depth + anchor.height)?;
        self.meter.take(anchor.bytes)?;
        Ok((anchor.value.clone(), anchor.height))
    }
}

/// Returns whether an event is a merge key: plain or tagged. A quoted `<<` is a normal name.
fn is_merge_key(event: &Event<'_>) -> bool {
    let Event::Scalar(text, style, _, tag) = event else { return false };
    let is_merge_tag = match tag {
        None => *style == ScalarStyle::Plain,
        Some(tag) => tag.suffix_in_namespace(YAML_TAGS).is_some_and(|own| own == "merge"),
    };
    text == MERGE_KEY && is_merge_tag
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::budget::Budget;

    pub(super) fn read(text: &str) -> Result<Value, String> {
        let requester = Arc::new(());
        super::read(text, &Meter::new(Budget::of_function(512), &Arc::downgrade(&requester)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn aliases_are_expanded() {
        let value = read("a: &a { x: 1.5, y: [-1, ~, true] }\nb: *a\n200: .inf\n&n name: *n\n").unwrap();

        let a = json!({ "x": 1.5, "y": [-1, null, true] });
        assert_eq!(value, json!({ "a": a, "b": a, "200": null, "name": "name" }));
        assert!(read("a: &a [*a]").unwrap_err().contains("cyclic alias"));
        assert!(read("a: *b").is_err());
    }

    /// Same behavior as PyYAML and js-yaml.
    #[test]
    fn merge_keys_add_missing_members() {
        let base = "a: &a { x: 1, y: { p: 1 } }\nb: &b { x: 2, z: 3 }\nl: &l [*a, *b]\n";
        for (text, expected) in [
            ("<<: *a", json!({ "x": 1, "y": { "p": 1 } })),
            ("x: 0, <<: *a", json!({ "x": 0, "y": { "p": 1 } })),
            ("<<: *a, y: 0", json!({ "x": 1, "y": 0 })),
            ("<<: [*b, *a]", json!({ "x": 2, "y": { "p": 1 }, "z": 3 })),
            ("<<: *l, w: 4", json!({ "w": 4, "x": 1, "y": { "p": 1 }, "z": 3 })),
            ("<<: *b, <<: *a", json!({ "x": 2, "y": { "p": 1 }, "z": 3 })),
            ("<<: { x: 5, <<: *b }", json!({ "x": 5, "z": 3 })),
            ("<<: [{ <<: [*b] }, { w: 6 }]", json!({ "w": 6, "x": 2, "z": 3 })),
            ("<<: &i { x: 7 }, i: *i", json!({ "i": { "x": 7 }, "x": 7 })),
            ("<<: []", json!({})),
            ("? << : *b", json!({ "x": 2, "z": 3 })),
            ("&k <<: *b, k: *k", json!({ "k": "<<", "x": 2, "z": 3 })),
            ("!!merge <<: *b", json!({ "x": 2, "z": 3 })),
            ("!<tag:yaml.org,2002:merge> <<: *b", json!({ "x": 2, "z": 3 })),
            // Normal names.
            ("\"<<\": *b", json!({ "<<": { "x": 2, "z": 3 } })),
            ("'<<': 1", json!({ "<<": 1 })),
            ("!!str <<: 1", json!({ "<<": 1 })),
            ("<<<: 1", json!({ "<<<": 1 })),
        ] {
            for value in [
                read(&format!("{base}v: {{ {text} }}")).unwrap()["v"].take(),
                read(&format!("{base}v: [[{{ {text} }}]]")).unwrap()["v"][0][0].take(),
            ] {
                assert_eq!(value, expected, "{text}");
            }
        }
        let block = "a: &a\n  x: 1\n  y: 2\nb: &b\n  <<: *a\n  y: 3\nc:\n  z: 4\n  <<:\n    - *b\n    - *a\n";
        assert_eq!(read(block).unwrap()["c"], json!({ "x": 1, "y": 3, "z": 4 }));
    }

    #[test]
    fn invalid_merge_key_values_are_errors_with_their_line() {
        for text in ["<<:", "<<: 1", "<<: text", "<<: [1]", "<<: [{}, []]", "<<: *s", "<<: [*s]"] {
            let error = read(&format!("s: &s text\nb:\n  a: 1\n  {text}\n  c: 1\n")).unwrap_err();

            assert!(error.contains("`<<` at line 4"), "{text}: {error}");
        }
        for text in ["a: &a { <<: *a }", "a: &a { b: { <<: [*a] } }", "&a <<: *a", "a: &a [{ <<: *a }]"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read("a: &a { <<: *a }").unwrap_err().contains("cyclic alias"));
        assert!(read("a: { <<: { b: 1 }, c: 1, c: 2 }").unwrap_err().contains("duplicate member \"c\""));
    }

    #[test]
    fn merge_keys_beyond_the_memory_budget_are_rejected() {
        let list = |count: usize, what: &str| vec![what; count].join(",");
        let members = |count: usize| (0..count).map(|number| format!("k{number}: 1,")).collect::<String>();
        // Each level is nine times as large.
        let laughs: String = (1..12)
            .map(|level| {
                format!("a{level}: &a{level} {{ <<: [{}], k{level}: 1 }}\n", list(9, &format!("*a{}", level - 1)))
            })
            .collect();
        let nested: String = (1..12)
            .map(|level| {
                let before = level - 1;
                format!("a{level}: &a{level} {{ l: {{ <<: *a{before} }}, r: {{ <<: *a{before} }}, m: *a{before} }}\n")
            })
            .collect();
        let wide = format!("a: &a {{ {} }}\nb: {{ <<: [{}] }}", members(10_000), list(100_000, "*a"));
        let many = format!("a: &a {{ {} }}\nb: [{}]", members(10_000), list(100_000, "{ <<: *a }"));
        // No member is added.
        let overridden = format!("a: &a {{ {0} }}\nb: {{ {0} <<: [{1}] }}", members(10_000), list(100_000, "*a"));
        for text in [
            format!("a0: &a0 {{ k0: 1 }}\n{laughs}"),
            format!("a0: &a0 {{ k0: 1 }}\n{nested}a: [{}]", list(100_000, "*a11")),
            wide,
            many,
            overridden,
        ] {
            let error = read(&text).unwrap_err();

            assert!(error.contains("more than"), "{error}");
        }
    }

    #[test]
    fn merge_keys_do_not_exceed_the_nesting_limit() {
        let inline = format!("a: {}1{}", "{ <<: ".repeat(1_000_000), "}".repeat(1_000_000));
        let mut chain = format!("- &a0 {{ x: {}{} }}\n", "[".repeat(50), "]".repeat(50));
        for number in 1..5 {
            let before = number - 1;
            chain += &format!("- &a{number} {{ y: {}{{ <<: *a{before} }}{} }}\n", "[".repeat(50), "]".repeat(50));
        }
        for text in [inline, chain] {
            assert!(read(&text).unwrap_err().contains("levels deep"));
        }
        // Merged members replace the merge key.
        let mut long = "- &a0 { x: 1 }\n".to_owned();
        for number in 1..200 {
            long += &format!("- &a{number} {{ <<: *a{} }}\n", number - 1);
        }
        assert_eq!(read(&long).unwrap()[199], json!({ "x": 1 }));
    }

    #[test]
    fn values_outside_json_are_approximated() {
        let value =
            read("big: 1000000000000000000000\nless: -1000000000000000000000\nown: !include a.yaml\nlist: !a [1]")
                .unwrap();

        assert_eq!(value, json!({ "big": 1e21, "less": -1e21, "own": "a.yaml", "list": [1] }));
    }

    #[test]
    fn aliases_beyond_the_memory_budget_are_rejected() {
        let many = |what: &str, times: usize| vec![what; times].join(",");
        let numbers = format!("a: &a [{}]\nb: [{}]", many("1", 15_000), many("*a", 15_000));
        let objects = format!("a: &a [{}]\nb: [{}]", many("{x: 1}", 5000), many("*a", 5000));
        let texts = format!("a: &a {}\nb: [{}]", "x".repeat(40_000), many("*a", 15_000));
        let names = format!("a: &a {{{}: 1}}\nb: [{}]", "x".repeat(900), many("*a", 200_000));

        for text in [numbers, objects, texts, names] {
            let error = read(&text).unwrap_err();

            assert!(error.contains("more than"), "{error}");
        }
    }

    #[test]
    fn aliases_do_not_exceed_the_nesting_limit() {
        let mut text = format!("- &a0 {}{}\n", "[".repeat(50), "]".repeat(50));
        for number in 1..5 {
            text += &format!("- &a{number} {}*a{}{}\n", "[".repeat(50), number - 1, "]".repeat(50));
        }

        assert!(read(&text).unwrap_err().contains("levels deep"));
    }

    #[test]
    fn duplicate_members_are_errors() {
        for text in ["a: 1\na: 2", "x: [{ a: 1, 'a': 2 }]", "x: { &a a: 1, *a : 2 }"] {
            let error = read(text).unwrap_err();

            assert!(error.contains("duplicate member \"a\""), "{error}");
        }
    }

    #[test]
    fn non_documents_are_errors() {
        for text in ["a: 1\n---\nb: 2", "? [a]\n: 1", "a: [1", "a: }", "\"a", "a: 1\n b: 2"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(read("").unwrap(), Value::Null);
        assert_eq!(read("%YAML 1.2\n---\na: 1\n...\n").unwrap(), json!({ "a": 1 }));
        assert!(read(&"%TAG !a! b\n".repeat(20)).unwrap_err().contains("directives"));
    }

    /// The parser stores all directives of a document until its first event, without calling the meter.
    #[test]
    fn directives_are_counted_at_each_line_start_of_the_parser() {
        for end in ["\n", "\r", "\r\n", "\n\u{feff}", "\r\u{feff}\u{feff}"] {
            for before in ["", "\r", "# a\r", "\u{feff}"] {
                let directives: String = (0..1000).map(|number| format!("%TAG !a{number}! b{end}")).collect();

                let error = read(&format!("{before}{directives}---\ropenapi: 3.1.0")).unwrap_err();

                assert!(error.contains("directives"), "{end:?}: {error}");
            }
        }
        // The parser does not treat these as line ends.
        for no_end in ['\u{85}', '\u{2028}', '\u{2029}', '\u{b}', '\u{c}'] {
            let text = format!("%TAG !a! b{no_end}%TAG !b! c\n--- !b!x 1");
            assert!(Parser::new_from_str(&text).any(|event| event.is_err()), "{no_end:?}");
        }
    }

    #[test]
    fn duplicate_member_names_are_truncated() {
        let name = "x".repeat(10_000);

        let error = read(&format!("? {name}\n: 1\n? {name}\n: 2\n")).unwrap_err();

        assert!(error.contains("duplicate member") && error.len() < 300, "{}", error.len());
    }

    #[test]
    fn long_documents_without_aliases_are_parsed() {
        let text = format!("a: [{}]", vec!["1"; 2_000_000].join(","));

        assert_eq!(read(&text).unwrap()["a"].as_array().unwrap().len(), 2_000_000);
    }
}
