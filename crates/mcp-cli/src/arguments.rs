//! Arguments of a tool or a prompt on the command line: `limit=5`, `point.x=1`, `text=@file`, or a whole object.

pub(crate) mod schema;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    io::{self, Read as _},
    path::Path,
};

use anyhow::{Context, bail};
use mcp_protocol::json::{self, Budget};
use serde::{Serialize, Serializer};
use serde_json::{Value, value::RawValue};

use self::schema::{choices, free, kinds, part, property, shown_choices, signature_of};
use crate::{command_line::UsageError, files, json_text};

/// Maximum size of standard input.
const MAX_INPUT_BYTES: u64 = 16 * 1024 * 1024;
/// Memory budget of JSON of the command line: unbounded, since it is the user's own.
const BUDGET: Budget = Budget::memory(usize::MAX);

/// Values by name, each as it was written.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Arguments(BTreeMap<String, Argument>);

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Argument {
    Value(Box<RawValue>),
    /// Of words such as `point.x=1`.
    Members(Arguments),
    /// Of words such as `lines.0=a`, by their indexes.
    #[serde(serialize_with = "items")]
    Items(BTreeMap<usize, Argument>),
}

/// Serializes the items of a list, which have no gaps.
fn items<S: Serializer>(items: &BTreeMap<usize, Argument>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(items.values())
}

impl PartialEq for Argument {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Value(one), Self::Value(other)) => one.get() == other.get(),
            (Self::Members(one), Self::Members(other)) => one == other,
            (Self::Items(one), Self::Items(other)) => one == other,
            _ => false,
        }
    }
}

/// The kind of the target of arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Taker {
    Tool,
    Prompt,
}

impl Taker {
    fn name(self) -> &'static str {
        match self {
            Self::Tool => "the tool",
            Self::Prompt => "the prompt",
        }
    }
}

/// Checks words without a schema, before the server is contacted.
///
/// # Errors
///
/// A [`UsageError`] when a word is not written NAME=VALUE, or a name or standard input is given twice.
pub(crate) fn check(words: &[String]) -> Result<(), UsageError> {
    let mut names = BTreeSet::new();
    let mut inputs = 0;
    for word in words {
        let pair = word.split_once('=');
        if word == "-" || word == "@-" || pair.is_some_and(|(_, value)| value == "@-") {
            inputs += 1;
        }
        // A whole object, unless that is how a name begins.
        if word == "-" || word.starts_with(['{', '@']) {
            continue;
        }
        let Some((name, _)) = pair else {
            return Err(UsageError::new(format!("`{word}` is not written NAME=VALUE")));
        };
        if !names.insert(name) {
            return Err(twice(name));
        }
    }
    if inputs > 1 {
        return Err(UsageError::new("standard input is given twice, and can be read once: use a file for one of them"));
    }
    Ok(())
}

fn twice(name: &str) -> UsageError {
    UsageError::new(format!("`{name}` is given twice"))
}

/// Parses words by the types of a schema:
///
/// - `name=value`; `name=@file` and `name=@-` for the content of a file or standard input, `name=@@x` for the text `@x`
/// - `name.member=value` for a member of an object, `name.0=value` for an item of a list
/// - `{…}`, `@file`, `-` for a whole object
///
/// # Errors
///
/// If a word is malformed, does not fit the schema or gives a name twice.
pub(crate) fn read(words: &[String], schema: &Value, taker: Taker) -> anyhow::Result<Arguments> {
    check(words)?;
    read_from(words, Reader { root: schema, taker }, &mut content)
}

fn read_from(
    words: &[String],
    reader: Reader<'_>,
    content: &mut dyn FnMut(&str) -> anyhow::Result<String>,
) -> anyhow::Result<Arguments> {
    let schema = reader.root;
    let mut arguments = Arguments::default();
    for word in words {
        let pair = word.split_once('=');
        let is_known = pair.is_some_and(|(name, _)| property(schema, schema, name).is_some());
        let object = match word.as_str() {
            _ if is_known => None,
            "-" => Some(content("-")?),
            word if word.starts_with('{') => Some(word.to_owned()),
            word => word.strip_prefix('@').map(&mut *content).transpose()?,
        };
        if let Some(object) = object {
            json::check(&object, BUDGET).with_context(|| format!("could not read `{word}`"))?;
            let members: json_text::Members<'_> =
                json::borrow(&object).with_context(|| format!("`{word}` is no JSON object"))?;
            for (name, value) in members.0 {
                arguments.insert("", &name, Argument::Value(value.to_owned()))?;
            }
            continue;
        }
        let (name, text) = pair.ok_or_else(|| UsageError::new(format!("`{word}` is not written NAME=VALUE")))?;
        let text = match text.strip_prefix('@') {
            Some(escaped) if escaped.starts_with('@') => Text::typed(escaped),
            Some(source) => Text { own: content(source)?, separator: '\n' },
            None => Text::typed(text),
        };
        arguments.insert_at(reader, "", name, &text, schema)?;
    }
    for (name, argument) in &arguments.0 {
        argument.check_items(name)?;
    }
    Ok(arguments)
}

/// The schema of values.
#[derive(Debug, Clone, Copy)]
struct Reader<'a> {
    /// The schema, to which its references lead.
    root: &'a Value,
    taker: Taker,
}

/// The text of a value.
struct Text {
    own: String,
    /// The separator of the items of a list that is not JSON: a comma, in a file a line end.
    separator: char,
}

impl Text {
    fn typed(text: &str) -> Self {
        Self { own: text.to_owned(), separator: ',' }
    }
}

impl Arguments {
    /// Inserts a value at its name: `a.b` is a member of `a`, unless that is the name of a parameter. `path` is that of
    /// this object, with a dot after it.
    fn insert_at(
        &mut self,
        reader: Reader<'_>,
        path: &str,
        name: &str,
        text: &Text,
        schema: &Value,
    ) -> anyhow::Result<()> {
        let Reader { root, taker } = reader;
        if let Some(own) = property(root, schema, name) {
            let value = value(&format!("{path}{name}"), text, root, own)?;
            return self.insert(path, name, Argument::Value(value));
        }
        if let Some((first, rest)) = name.split_once('.')
            && let Some(own) = property(root, schema, first)
        {
            let path = format!("{path}{first}");
            if !self.0.contains_key(first) {
                self.0.insert(first.to_owned(), Argument::empty(&path, root, own)?);
            }
            let Some(argument) = self.0.get_mut(first) else { bail!(twice(&path)) };
            return argument.insert_at(reader, &path, rest, text, own);
        }
        let Some(free) = free(root, schema) else {
            let owner = path.trim_end_matches('.');
            let owner = if owner.is_empty() { taker.name().to_owned() } else { format!("`{owner}`") };
            bail!("there is no parameter `{path}{name}`; {owner} takes ({})", signature_of(root, schema));
        };
        self.insert(path, name, Argument::Value(value(&format!("{path}{name}"), text, root, free)?))
    }

    fn insert(&mut self, path: &str, name: &str, argument: Argument) -> anyhow::Result<()> {
        if self.0.insert(name.to_owned(), argument).is_some() {
            bail!(twice(&format!("{path}{name}")));
        }
        Ok(())
    }
}

impl Argument {
    /// An argument whose parts are given separately: a list or an object, by the schema.
    fn empty(path: &str, root: &Value, schema: &Value) -> anyhow::Result<Self> {
        let kinds = kinds(root, schema);
        if kinds.is_empty() || kinds.contains("object") {
            return Ok(Self::Members(Arguments::default()));
        }
        if kinds.contains("array") {
            return Ok(Self::Items(BTreeMap::new()));
        }
        bail!("`{path}` must be of type {}, and has no members", joined(kinds));
    }

    /// Puts a value into this one, of the name `path`.
    fn insert_at(
        &mut self,
        reader: Reader<'_>,
        path: &str,
        name: &str,
        text: &Text,
        schema: &Value,
    ) -> anyhow::Result<()> {
        let items = match self {
            Self::Value(_) => bail!(twice(path)),
            Self::Members(members) => return members.insert_at(reader, &format!("{path}."), name, text, schema),
            Self::Items(items) => items,
        };
        let (index, rest) = name.split_once('.').map_or((name, None), |(index, rest)| (index, Some(rest)));
        let Ok(index) = index.parse::<usize>() else {
            bail!("`{path}` is a list: write `{path}.0` for its first item, or the list as JSON");
        };
        let path = format!("{path}.{index}");
        let own = part(reader.root, schema, "items").unwrap_or(&Value::Null);
        match (rest, items.entry(index)) {
            (None, Entry::Occupied(_)) => bail!(twice(&path)),
            (None, Entry::Vacant(place)) => {
                place.insert(Self::Value(value(&path, text, reader.root, own)?));
                Ok(())
            }
            (Some(rest), Entry::Occupied(item)) => item.into_mut().insert_at(reader, &path, rest, text, own),
            (Some(rest), Entry::Vacant(place)) => {
                let item = place.insert(Self::empty(&path, reader.root, own)?);
                item.insert_at(reader, &path, rest, text, own)
            }
        }
    }

    /// Checks that lists have no gaps.
    fn check_items(&self, path: &str) -> anyhow::Result<()> {
        match self {
            Self::Value(_) => Ok(()),
            Self::Members(members) => {
                members.0.iter().try_for_each(|(name, own)| own.check_items(&format!("{path}.{name}")))
            }
            Self::Items(items) => {
                if let Some(missing) = (0..items.len()).find(|index| !items.contains_key(index)) {
                    bail!("`{path}.{missing}` is missing: the items of a list are numbered from 0 on");
                }
                items.iter().try_for_each(|(index, own)| own.check_items(&format!("{path}.{index}")))
            }
        }
    }
}

/// The content of a file, or of standard input by the name `-`.
fn content(source: &str) -> anyhow::Result<String> {
    if source != "-" {
        return files::read_text(Path::new(source)).with_context(|| format!("could not read {source}"));
    }
    let mut text = String::new();
    let input = io::stdin().lock().take(MAX_INPUT_BYTES + 1).read_to_string(&mut text);
    let bytes = input.context("could not read standard input")?;
    if bytes as u64 > MAX_INPUT_BYTES {
        bail!("standard input has more than {MAX_INPUT_BYTES} bytes");
    }
    Ok(text)
}

/// A text as a value of its schema, which is one of its choices, if it has them.
fn value(name: &str, text: &Text, root: &Value, schema: &Value) -> anyhow::Result<Box<RawValue>> {
    let Some(choices) = choices(root, schema) else { return typed_value(name, text, root, schema) };
    let own = typed_value(name, text, root, schema).ok();
    let read = own.as_ref().and_then(|own| json::read::<Value>(own.get(), BUDGET).ok());
    match own.filter(|_| read.is_some_and(|read| choices.iter().any(|choice| is_same(choice, &read)))) {
        Some(own) => Ok(own),
        None => bail!("`{name}` must be one of {}, not `{}`", shown_choices(&choices), json::shortened(&text.own)),
    }
}

/// Whether two values are the same, whichever way their numbers are written.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

fn typed_value(name: &str, text: &Text, root: &Value, schema: &Value) -> anyhow::Result<Box<RawValue>> {
    let separator = text.separator;
    let text = text.own.as_str();
    let kinds = kinds(root, schema);
    let takes = |kind: &str| kinds.contains(kind);
    let as_text = || serde_json::value::to_raw_value(text).context("could not write a text");
    if takes("string") && kinds.iter().all(|kind| matches!(*kind, "string" | "null")) {
        return as_text();
    }
    // Unbounded JSON: an argument that the user has typed, which stays text.
    let parsed = serde_json::from_str::<Box<RawValue>>(text.trim()).ok().filter(|_| json::check(text, BUDGET).is_ok());
    if let Some(parsed) = parsed
        && (kinds.is_empty() || kinds_of(parsed.get()).iter().any(|kind| takes(kind)))
    {
        return Ok(parsed);
    }
    if kinds.is_empty() || takes("string") {
        return as_text();
    }
    if takes("array") && !text.trim_start().starts_with('[') {
        let items = part(root, schema, "items").unwrap_or(&Value::Null);
        let words: Vec<&str> = match separator {
            ',' if text.is_empty() => Vec::new(),
            ',' => text.split(',').collect(),
            _ => text.lines().filter(|line| !line.trim().is_empty()).collect(),
        };
        let items: Vec<Box<RawValue>> = words
            .into_iter()
            .map(|word| value(name, &Text::typed(word.trim()), root, items))
            .collect::<Result<_, _>>()?;
        return serde_json::value::to_raw_value(&items).context("could not write a list");
    }
    bail!("`{name}` must be of type {}, not `{}`", joined(kinds), json::shortened(text));
}

fn joined(kinds: BTreeSet<&str>) -> String {
    kinds.into_iter().collect::<Vec<_>>().join(" or ")
}

/// The types that a JSON text is a value of.
fn kinds_of(text: &str) -> &'static [&'static str] {
    match text.as_bytes().first() {
        Some(b'"') => &["string"],
        Some(b'{') => &["object"],
        Some(b'[') => &["array"],
        Some(b't' | b'f') => &["boolean"],
        Some(b'n') => &["null"],
        _ if is_whole(text) => &["integer", "number"],
        _ => &["number"],
    }
}

/// Whether a number has no fraction: `5`, `5.0` and `1e3` have none.
fn is_whole(number: &str) -> bool {
    let is_decimal = !number.contains(['.', 'e', 'E']);
    is_decimal || number.parse::<f64>().is_ok_and(|number| number.fract() == 0.0)
}

#[cfg(test)]
mod tests;
