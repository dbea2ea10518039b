//! Bounded JSON parsing. Every JSON text from a peer is parsed by this module.
//!
//! A parsed value takes many times the memory of its text: `{"":{"":…` has 4 bytes per level and takes more than 600
//! bytes of memory. [`check`] therefore computes an upper bound of the memory before anything is allocated, and rejects
//! text that serde_json could parse in two ways. [`read`] checks and parses.
//!
//! ```
//! # use mcp_protocol as mcp_lambda;
//! use mcp_lambda::json::{self, Budget, JsonError};
//! use serde_json::Value;
//!
//! let text = r#"{"limit":5,"tags":["a","b"]}"#;
//! let value: Value = json::read(text, Budget::of(text))?;
//! assert_eq!(value["limit"], 5);
//!
//! let bomb = "[".repeat(1_000_000);
//! assert!(matches!(json::check(&bomb, Budget::of(&bomb)), Err(JsonError::TooDeep)));
//! # Ok::<(), JsonError>(())
//! ```

use std::{borrow::Cow, collections::BTreeSet, fmt};

use memchr::memchr2;
use serde::{Deserialize, de::DeserializeOwned};
use smallvec::SmallVec;

/// Maximum nesting depth of arrays and objects.
pub const MAX_DEPTH: usize = 100;
/// Maximum length of a member's name, in bytes of JSON text.
const MAX_NAME_BYTES: usize = 16 * 1024;
/// Member name that serde_json uses internally for a value that is itself JSON text. From a peer, that text would be
/// parsed a second time.
const PRIVATE_NAME: &str = "$serde_json::private::RawValue";

/// Memory of a value: 32 bytes as a [`serde_json::Value`], twice that in a growing list, more in a list of structs, and
/// about 200 if each value violates a bound and is reported.
const VALUE_COST: usize = 192;
/// Memory of the B-tree node that the first member of an object allocates.
const OBJECT_COST: usize = 640;
/// Memory of the first allocation of a list.
const ARRAY_COST: usize = 128;
/// Memory of a member's name, without its text.
const NAME_COST: usize = 32;
/// Maximum length of quoted text in a message, in bytes.
const SHOWN_BYTES: usize = 320;
/// Minimum length, in bytes, of a string whose repetition in an error message is charged.
const LONG_STRING_BYTES: usize = 4096;

/// Memory budget of a parsed JSON text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    memory: usize,
    spent: usize,
}

impl Budget {
    /// Creates the budget for the text of a whole request: 3 MiB plus four times the text. Together with the event, the
    /// body and the response, a request takes less than eight times its body plus 4 MiB.
    pub const fn of(text: &str) -> Self {
        Self::memory(3 * 1024 * 1024 + 4 * text.len())
    }

    /// Creates a budget of a fixed number of bytes.
    pub const fn memory(bytes: usize) -> Self {
        Self { memory: bytes, spent: 0 }
    }
}

/// Error of [`check`] and [`read`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonError {
    /// Not JSON, or not of the requested type.
    Malformed(String),
    /// The parsed value could exceed the memory budget.
    TooLarge {
        /// The budget, in bytes.
        budget: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// A member's name is longer than 16 KiB, or reserved by serde_json.
    InvalidName,
    /// Duplicate member: two parsers could see different values (RFC 8725, section 2.4).
    Duplicate {
        /// Path of the object, such as `filters[2]`; empty for the outermost.
        path: String,
        /// Name of the member.
        name: String,
    },
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(reason) => f.write_str(reason),
            Self::TooLarge { budget } => {
                write!(
                    f,
                    "the value has too many members or elements: reading it would take more than {budget} bytes of memory"
                )
            }
            Self::TooDeep => write!(f, "the value is nested deeper than {MAX_DEPTH} levels"),
            Self::InvalidName => {
                write!(f, "a member's name is reserved, or longer than {MAX_NAME_BYTES} bytes")
            }
            Self::Duplicate { path, name } if path.is_empty() => write!(f, "duplicate field `{name}`"),
            Self::Duplicate { path, name } => write!(f, "`{path}`: duplicate field `{name}`"),
        }
    }
}

impl std::error::Error for JsonError {}

/// Checks and parses an owned value.
///
/// # Errors
///
/// The errors of [`check`], and [`JsonError::Malformed`] if the text is not JSON of that type.
pub fn read<T: DeserializeOwned>(text: &str, budget: Budget) -> Result<T, JsonError> {
    check(text, budget)?;
    borrow(text)
}

/// Checks and parses one of several values that share a budget, and deducts its cost from the budget.
///
/// # Errors
///
/// The errors of [`read`].
pub fn read_within<T: DeserializeOwned>(text: &str, budget: &mut Budget) -> Result<T, JsonError> {
    spend(text, budget)?;
    borrow(text)
}

/// Checks and parses an owned value from bytes.
///
/// # Errors
///
/// The errors of [`read`], and [`JsonError::Malformed`] if the bytes are not UTF-8.
pub fn read_bytes<T: DeserializeOwned>(bytes: &[u8], budget: Budget) -> Result<T, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|error| JsonError::Malformed(error.to_string()))?;
    read(text, budget)
}

/// Parses a value of fixed size that borrows from the text, such as a struct of strings and
/// [`RawValue`](serde_json::value::RawValue)s. There is no budget, since the size does not depend on the text. Do not
/// use it for lists, maps, or structs that contain them.
///
/// # Errors
///
/// [`JsonError::Malformed`] if the text is not JSON of that type.
pub fn borrow<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, JsonError> {
    // Unbounded JSON: the function that all bounded readers call.
    serde_json::from_str(text).map_err(|error| JsonError::Malformed(shortened(&error)))
}

/// Formats a text for a message, truncated to 320 bytes. Formatting stops at that length, so that the cost of a message
/// does not depend on the length of a peer's text.
pub fn shortened(text: &(impl fmt::Display + ?Sized)) -> String {
    struct Short(String);

    impl fmt::Write for Short {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for character in text.chars() {
                if self.0.len() >= SHOWN_BYTES {
                    self.0.push('…');
                    return Err(fmt::Error);
                }
                self.0.push(character);
            }
            Ok(())
        }
    }

    let mut short = Short(String::new());
    // The error only signals truncation.
    let _ = fmt::Write::write_fmt(&mut short, format_args!("{text}"));
    short.0
}

/// Checks the memory budget, the nesting depth ([`MAX_DEPTH`]) and duplicate members of a JSON text. Allocates nothing
/// for typical texts, and always less than the parsed value would take.
///
/// Syntax is not checked: invalid JSON may pass, and stays within its budget until serde_json rejects it.
///
/// # Errors
///
/// Returns the first violation.
pub fn check(text: &str, mut budget: Budget) -> Result<(), JsonError> {
    spend(text, &mut budget)
}

fn spend(text: &str, budget: &mut Budget) -> Result<(), JsonError> {
    if u32::try_from(text.len()).is_err() {
        return Err(JsonError::TooLarge { budget: budget.memory });
    }
    let (frames, names) = (SmallVec::new(), SmallVec::new());
    Scan { text, budget, longest_message: 0, frames, names, spilled: Vec::new() }.run()
}

/// Maximum number of names of one object that are compared linearly; an object with more names uses a set.
const COMPARED_NAMES: usize = 32;

/// Byte range of a member's name, between its quotes.
#[derive(Debug, Clone, Copy, Default)]
struct Name {
    start: u32,
    end: u32,
}

/// Open array or object.
#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    is_object: bool,
    /// Whether the object's names are in the last set of [`Scan::spilled`].
    is_spilled: bool,
    /// Index of the object's first name in [`Scan::names`].
    first_name: u32,
    /// Index of the current element.
    index: u32,
    /// Name of the current member.
    name: Name,
}

struct Scan<'a, 'b> {
    text: &'a str,
    budget: &'b mut Budget,
    /// Size of the longest error message that could quote a string.
    longest_message: usize,
    frames: SmallVec<[Frame; 8]>,
    /// Names of all open objects that are not in a set. None has escapes.
    names: SmallVec<[Name; 16]>,
    spilled: Vec<BTreeSet<Cow<'a, str>>>,
}

impl<'a> Scan<'a, '_> {
    fn run(mut self) -> Result<(), JsonError> {
        let bytes = self.text.as_bytes();
        let mut at = 0;
        let mut expects_name = false;
        while let Some(&byte) = bytes.get(at) {
            at += 1;
            match byte {
                b'"' => {
                    let start = at;
                    let (end, has_escapes) = end_of_string(bytes, at);
                    at = end + 1;
                    if expects_name { self.name(start, end, has_escapes)? } else { self.string(start, end)? }
                }
                b':' => expects_name = false,
                b',' => {
                    if let Some(frame) = self.frames.last_mut() {
                        expects_name = frame.is_object;
                        frame.index += 1;
                    }
                }
                b'{' | b'[' => {
                    expects_name = byte == b'{';
                    self.charge(VALUE_COST + if expects_name { OBJECT_COST } else { ARRAY_COST })?;
                    if self.frames.len() == MAX_DEPTH {
                        return Err(JsonError::TooDeep);
                    }
                    let first_name = narrow(self.names.len());
                    self.frames.push(Frame { is_object: expects_name, first_name, ..Frame::default() });
                }
                b'}' | b']' => {
                    let Some(frame) = self.frames.pop() else { break };
                    self.names.truncate(frame.first_name as usize);
                    if frame.is_spilled {
                        self.spilled.pop();
                    }
                    expects_name = false;
                }
                b' ' | b'\n' | b'\r' | b'\t' => {}
                _ => {
                    self.charge(VALUE_COST)?;
                    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
                    while bytes.get(at).is_some_and(is_part) {
                        at += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn charge(&mut self, cost: usize) -> Result<(), JsonError> {
        self.budget.spent += cost;
        if self.budget.spent + self.longest_message > self.budget.memory {
            return Err(JsonError::TooLarge { budget: self.budget.memory });
        }
        Ok(())
    }

    fn string(&mut self, start: usize, end: usize) -> Result<(), JsonError> {
        let bytes = end - start;
        if bytes > LONG_STRING_BYTES {
            // serde quotes a string of the wrong type with `Debug` escapes, in a buffer that doubles its size.
            let escaped = |character: char| match character {
                // Already starts a JSON escape.
                '\\' => 3,
                ' '..='~' => 1,
                _ => character.escape_debug().len(),
            };
            let text = self.text.get(start..end).unwrap_or_default();
            self.longest_message = self.longest_message.max(2 * text.chars().map(escaped).sum::<usize>());
        }
        self.charge(VALUE_COST + bytes)
    }

    fn name(&mut self, start: usize, end: usize, has_escapes: bool) -> Result<(), JsonError> {
        let bytes = end - start;
        if bytes > MAX_NAME_BYTES {
            return Err(JsonError::InvalidName);
        }
        self.charge(NAME_COST + 2 * bytes)?;
        let name = Name { start: narrow(start), end: narrow(end) };
        let unescaped = self.unescaped(name, has_escapes)?;
        if *unescaped == *PRIVATE_NAME {
            return Err(JsonError::InvalidName);
        }
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        frame.name = name;
        let first_name = frame.first_name as usize;
        let compared = &self.names[first_name..];
        if !frame.is_spilled {
            if compared.iter().any(|own| raw(self.text, *own) == unescaped) {
                return Err(self.duplicate(&unescaped));
            }
            // Names with escapes are unescaped once and stored unescaped.
            if !has_escapes && compared.len() < COMPARED_NAMES {
                self.names.push(name);
                return Ok(());
            }
            frame.is_spilled = true;
            self.spilled.push(compared.iter().map(|own| Cow::Borrowed(raw(self.text, *own))).collect());
            self.names.truncate(first_name);
        }
        match self.spilled.last_mut() {
            Some(names) if names.contains(&unescaped) => Err(self.duplicate(&unescaped)),
            Some(names) => {
                names.insert(unescaped);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn duplicate(&self, name: &str) -> JsonError {
        JsonError::Duplicate { path: self.path(), name: shortened(name) }
    }

    fn unescaped(&self, name: Name, has_escapes: bool) -> Result<Cow<'a, str>, JsonError> {
        if !has_escapes {
            return Ok(Cow::Borrowed(raw(self.text, name)));
        }
        let quoted = self.text.get(name.start as usize - 1..name.end as usize + 1).unwrap_or_default();
        borrow::<String>(quoted).map(Cow::Owned)
    }

    /// Returns the path of the innermost open object.
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.frames[..self.frames.len().saturating_sub(1)] {
            if frame.is_object {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&shortened(raw(self.text, frame.name)));
            } else {
                path.push_str(&format!("[{}]", frame.index));
            }
        }
        path
    }
}

fn raw(text: &str, name: Name) -> &str {
    // Quotes are ASCII, so both ends are character boundaries.
    text.get(name.start as usize..name.end as usize).unwrap_or_default()
}

/// Converts a position in a text of less than 4 GiB.
#[expect(clippy::cast_possible_truncation, reason = "checked before the scan begins")]
fn narrow(position: usize) -> u32 {
    position as u32
}

/// Returns the position of the closing quote, or the end of the text, and whether the string has escapes.
fn end_of_string(bytes: &[u8], start: usize) -> (usize, bool) {
    let (mut at, mut has_escapes) = (start, false);
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes[at] == b'"' {
            return (at, has_escapes);
        }
        has_escapes = true;
        at += 2;
    }
    (bytes.len(), has_escapes)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn checked(text: &str) -> Result<(), JsonError> {
        check(text, Budget::of(text))
    }

    #[test]
    fn harmless_text_is_parsed_like_by_serde_json() {
        for text in [
            "null",
            "1e400",
            r#""a\"b\\""#,
            "[]",
            "{}",
            r#" { "a" : [ 1 , -2.5e+3 , true , "x" , { "a" : { } } ] , "b" : "\u00e9" } "#,
            r#"[{"a":1},{"a":2}]"#,
            r#"{"a":{"b":1},"b":{"a":1}}"#,
            r#"{"a":{"c":1},"b":{"c":1},"c":"a"}"#,
        ] {
            assert_eq!(checked(text), Ok(()), "{text}");
        }
        let text = r#"{"a":[1,-2,0.5,"x",null,true,{"a":{}}],"b":"\u00e9"}"#;
        let expected = json!({ "a": [1, -2, 0.5, "x", null, true, { "a": {} }], "b": "é" });
        assert_eq!(read::<Value>(text, Budget::of(text)), Ok(expected));
    }

    /// Duplicate members, also with escapes in their names, at any depth.
    #[test]
    fn duplicate_members_are_rejected_with_their_path() {
        for (text, path) in [
            (r#"{"a":1,"a":1}"#, ""),
            (r#"{"a":1,"\u0061":2}"#, ""),
            (r#"{"\u0061":1,"b":2,"a":2}"#, ""),
            (r#"{"x":{"a":1,"a":2}}"#, "x"),
            (r#"{"x":[{},{"b":0,"a":1,"a":2}]}"#, "x[1]"),
            (r#"{"x":{"y":[0,[{"a":{"q":1},"a":2}]]}}"#, "x.y[1][0]"),
        ] {
            let expected = JsonError::Duplicate { path: path.to_owned(), name: "a".to_owned() };

            assert_eq!(checked(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn duplicates_are_found_among_any_number_of_names() {
        for count in [2, COMPARED_NAMES, COMPARED_NAMES + 1, 1_000] {
            let members: Vec<String> = (0..count).map(|index| format!(r#""n{index}":{{"n0":0,"n1":[]}}"#)).collect();
            let unique = format!("{{{}}}", members.join(","));
            assert_eq!(checked(&unique), Ok(()), "{count}");
            for repeated in [0, count / 2, count - 1] {
                let twice = format!(r#"{{{},"\u006e{repeated}":0}}"#, members.join(","));
                assert!(matches!(checked(&twice), Err(JsonError::Duplicate { .. })), "{count}: {repeated}");
            }
        }
    }

    /// The key that makes serde_json parse a string as JSON text.
    #[test]
    fn reserved_name_of_serde_json_is_rejected() {
        for text in [
            r#"{"$serde_json::private::RawValue":"[1]"}"#,
            r#"{"a":[{"\u0024serde_json::private::RawValue":"[1]"}]}"#,
            r#"{"$serde_json::private::Ra\u0077Value":"[1]"}"#,
        ] {
            assert_eq!(checked(text), Err(JsonError::InvalidName), "{text}");
        }
        assert_eq!(checked(r#"["$serde_json::private::RawValue"]"#), Ok(()));
    }

    /// Text whose value takes many times its memory.
    #[test]
    fn values_above_their_budget_are_rejected() {
        const BYTES: usize = 1_000_000;
        let repeat = |part: &str| part.repeat(BYTES / part.len());
        for (text, expected) in [
            (format!("[{}0]", repeat("0,")), JsonError::TooLarge { budget: 0 }),
            (format!("[{}0]", repeat("{},")), JsonError::TooLarge { budget: 0 }),
            (format!("[{}0]", repeat(r#"{"":0},"#)), JsonError::TooLarge { budget: 0 }),
            (format!("[{}0]", repeat("[[]],")), JsonError::TooLarge { budget: 0 }),
            (format!(r#"["{}"]"#, repeat("\u{7f}")), JsonError::TooLarge { budget: 0 }),
            (repeat("["), JsonError::TooDeep),
            (repeat(r#"{"":"#), JsonError::TooDeep),
            (format!(r#"{{"{}":0}}"#, repeat("a")), JsonError::InvalidName),
        ] {
            let found = match checked(&text) {
                Err(JsonError::TooLarge { .. }) => Err(JsonError::TooLarge { budget: 0 }),
                found => found,
            };

            assert_eq!(found, Err(expected), "{}", &text[..20]);
        }
    }

    #[test]
    fn large_harmless_values_pass() {
        let rows: Vec<Value> = (0..1_000)
            .map(|row| json!({ "id": row, "name": "Ada Lovelace", "city": "London", "active": true, "score": 0.5 }))
            .collect();
        let numbers: Vec<f64> = (0..10_000).map(|index| f64::from(index) / 7.0).collect();
        for value in [json!(rows), json!(numbers), json!("x".repeat(5_000_000)), json!("ä".repeat(1_500_000))] {
            assert_eq!(checked(&value.to_string()), Ok(()));
        }
    }

    #[test]
    fn values_parsed_together_share_a_budget() {
        let text = format!("[{}0]", "0,".repeat(9));
        let mut budget = Budget::memory(2 * (11 * VALUE_COST + ARRAY_COST));

        for _ in 0..2 {
            assert_eq!(read_within::<Vec<u8>>(&text, &mut budget), Ok(vec![0; 10]));
        }

        let expected = JsonError::TooLarge { budget: 2 * (11 * VALUE_COST + ARRAY_COST) };
        assert_eq!(read_within::<u8>("0", &mut budget), Err(expected));
    }

    #[test]
    fn invalid_json_is_malformed() {
        for text in [
            "",
            "\"",
            "\"\\",
            "}",
            "]]]",
            "{\"a",
            "{\"a\":",
            ",,,",
            ":",
            "{\"\\u00\":1,\"\\u00\":2}",
            "[}",
            "{]\"",
            "é\"é\\",
        ] {
            let _ = checked(text);
            assert!(matches!(read::<Value>(text, Budget::of(text)), Err(JsonError::Malformed(_))), "{text}");
        }
    }
}
