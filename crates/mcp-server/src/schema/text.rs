//! A cursor over JSON text, which reads values without building them.

use std::borrow::Cow;

use mcp_protocol::json;

/// A position in valid JSON text. Invalid text results in wrong values, and always terminates.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextCursor<'a> {
    text: &'a str,
    pub(super) at: usize,
}

/// A string, without its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonString<'a> {
    raw: &'a str,
    has_escapes: bool,
}

impl<'a> JsonString<'a> {
    /// Unescapes the string; borrowed if it has no escapes.
    pub(super) fn unescaped(self) -> Cow<'a, str> {
        match self.has_escapes {
            false => Cow::Borrowed(self.raw),
            true => Cow::Owned(json::borrow(&format!("\"{}\"", self.raw)).unwrap_or_default()),
        }
    }
}

impl<'a> TextCursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Returns the first byte of the next token, which identifies its kind; `None` at the end of the text.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.as_bytes().get(self.at) {
            if !byte.is_ascii_whitespace() {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Enters an array or an object.
    pub(super) fn enter(&mut self) {
        self.peek();
        self.at += 1;
    }

    /// Moves to the next element or member; leaves the array or object if there is none.
    pub(super) fn has_next(&mut self) -> bool {
        if self.peek() == Some(b',') {
            self.at += 1;
        }
        match self.peek() {
            None => false,
            Some(b']' | b'}') => {
                self.at += 1;
                false
            }
            Some(_) => true,
        }
    }

    /// Reads a member's name, and moves to its value.
    pub(super) fn name(&mut self) -> JsonString<'a> {
        let name = self.string();
        self.peek();
        self.at += 1;
        name
    }

    pub(super) fn string(&mut self) -> JsonString<'a> {
        self.peek();
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let (mut end, mut has_escapes) = (start, false);
        while let Some(byte) = bytes.get(end) {
            match byte {
                b'"' => break,
                b'\\' => {
                    has_escapes = true;
                    end += 2;
                }
                _ => end += 1,
            }
        }
        self.at = end + 1;
        JsonString { raw: self.text.get(start..end).unwrap_or_default(), has_escapes }
    }

    /// Reads a number, `true`, `false` or `null`.
    pub(super) fn literal(&mut self) -> &'a str {
        self.peek();
        let start = self.at;
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        // At least one byte, so that each loop makes progress.
        self.at += length.max(1);
        self.text.get(start..start + length).unwrap_or_default()
    }

    /// Skips a value of any kind.
    pub(super) fn skip(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => _ = self.string(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                b',' | b':' => {
                    self.at += 1;
                    continue;
                }
                _ => _ = self.literal(),
            }
            if depth == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_skipped_as_a_whole() {
        for value in ["1", "-2.5e+3", r#""a\"}\\""#, "null", "[]", r#"[1,{"a":[2,"]"]},3]"#, r#"{ "a" : { } }"#] {
            let text = format!(" {value} , \"next\"]");
            let mut cursor = TextCursor::new(&text);

            cursor.skip();

            assert!(cursor.has_next(), "{value}");
            assert_eq!(cursor.string().unescaped(), "next", "{value}");
            assert!(!cursor.has_next(), "{value}");
        }
    }

    #[test]
    fn invalid_json_terminates() {
        for text in ["", "\"", "\"\\", "}", "]]]", "{\"a", "{\"a\":", ",,,", ":", "é", "{]\"", "\"é\\"] {
            let mut cursor = TextCursor::new(text);

            (0..20).for_each(|_| cursor.skip());
            cursor.literal();
            cursor.name();

            assert!(!cursor.has_next(), "{text}");
        }
    }
}
