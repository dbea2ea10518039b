//! JSON text: indented, with numbers, unknown members and the order of members unchanged.
//!
//! The text has been read within bounds before ([`received`](crate::received)).

use std::fmt;

use mcp_protocol::json;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The members of an object in their order.
#[derive(Debug)]
pub(crate) struct Members<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

/// The members of an object; none of anything else.
pub(crate) fn members(text: &str) -> Vec<(String, &RawValue)> {
    json::borrow::<Members<'_>>(text).map(|own| own.0).unwrap_or_default()
}

/// A member of an object, if it is there.
pub(crate) fn member<'a>(object: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    mcp_protocol::lookup(object, &[name.to_owned()]).ok().flatten()
}

/// The items of an array; `None` if it is none.
pub(crate) fn items(text: &str) -> Option<Vec<&RawValue>> {
    json::borrow(text).ok()
}

/// JSON with one value a line, indented. Strings are written as characters wherever they can be.
pub(crate) fn indented(text: &str) -> String {
    let (mut out, mut depth) = (String::with_capacity(text.len()), 0_usize);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    let mut rest = text.trim_start();
    while let Some(own) = rest.chars().next() {
        let mut length = own.len_utf8();
        match own {
            '"' => {
                length = string_length(rest);
                out.push_str(&in_characters(&rest[..length]));
            }
            '{' | '[' => {
                out.push(own);
                let inner = rest[1..].trim_start();
                if inner.starts_with(['}', ']']) {
                    out.push_str(&inner[..1]);
                    length = rest.len() - inner.len() + 1;
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(own);
            }
            ',' => {
                out.push(own);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ if own.is_whitespace() => {}
            _ => out.push(own),
        }
        rest = &rest[length..];
    }
    out
}

/// The length of the string that a text begins with, its quotes included.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// A string without escapes that it does not need. One of half a surrogate pair has no characters, and stays.
fn in_characters(string: &str) -> String {
    let read = string.contains('\\').then(|| json::borrow::<String>(string).ok()).flatten();
    read.and_then(|own| serde_json::to_string(&own).ok()).unwrap_or_else(|| string.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// c03
    #[test]
    fn numbers_and_the_order_of_members_stay() {
        let text =
            r#"{"z":123456789012345678901, "a":[1.10,1e400,-0],"e":{ },"l":[ ],"s":"a\u00e9\ud800\"\\:,[{","n":null}"#;

        assert_eq!(
            indented(text),
            "{\n  \"z\": 123456789012345678901,\n  \"a\": [\n    1.10,\n    1e400,\n    -0\n  ],\n  \"e\": {},\n  \"l\": [],\n  \
             \"s\": \"a\\u00e9\\ud800\\\"\\\\:,[{\",\n  \"n\": null\n}"
        );
        assert_eq!(indented(r#" "\u00e9\u001b" "#), "\"é\\u001b\"");
        assert_eq!(indented("12"), "12");
        let names: Vec<String> = members(text).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["z", "a", "e", "l", "s", "n"]);
        assert_eq!(items("[1.10, {}]").unwrap().iter().map(|own| own.get()).collect::<Vec<_>>(), ["1.10", "{}"]);
        assert!(members("[]").is_empty() && items("{}").is_none());
    }

    #[test]
    fn it_means_the_same_and_what_is_no_json_ends() {
        for text in [r#"{"a":[{"b":"c\n\t\u0000"},[[],[{}]],true,false,null,1.5]}"#, "[]", "{}", "\"\"", r#"["\\"]"#] {
            let (before, after): (Value, Value) =
                (serde_json::from_str(text).unwrap(), serde_json::from_str(&indented(text)).unwrap());
            assert_eq!(before, after);
        }
        for text in ["", "}", "]]", "\"", "\"\\", "{\"a", "é:", "[", "{]"] {
            indented(text);
        }
    }
}
