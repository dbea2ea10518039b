//! Cursors of tools with paginated results.

use std::{borrow::Cow, fmt, marker::PhantomData};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mcp_protocol::json::{self, Budget};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Visitor},
    ser::Error as _,
};
use serde_json::value::RawValue;

/// A position in a list, for tools with paginated results: a result has the cursor of the next page, which the client sends
/// back in the arguments.
///
/// `T` is a small struct, such as the last row's sort key. Clients see opaque text: URL-safe Base64 without padding. It is
/// neither encrypted nor signed: put no secrets in it, and validate it like any other argument, since a caller may send another
/// position. An invalid cursor is rejected with an error that asks to start without a cursor. So are cursors of an earlier version of
/// the function after the fields of `T` have changed.
///
/// ```
/// # use mcp_server as mcp_lambda;
/// use garde::Validate;
/// use mcp_lambda::{Cursor, HandlerError, Json, ToolContext};
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Place {
///     after: usize,
/// }
///
/// #[derive(Deserialize, JsonSchema, Validate)]
/// #[garde(allow_unvalidated)]
/// struct SearchArgs {
///     /// `next_cursor` of the previous page. Omit it for the first page.
///     cursor: Option<Cursor<Place>>,
/// }
///
/// #[derive(Serialize, JsonSchema)]
/// struct Page {
///     words: Vec<&'static str>,
///     /// Where the next page begins; `null` on the last page.
///     next_cursor: Option<Cursor<Place>>,
/// }
///
/// const PAGE_SIZE: usize = 2;
/// const WORDS: [&str; 5] = ["a", "b", "c", "d", "e"];
///
/// async fn search(_: ToolContext<()>, args: SearchArgs) -> Result<Json<Page>, HandlerError> {
///     let after = args.cursor.map_or(0, |Cursor(place)| place.after.min(WORDS.len()));
///     let mut words: Vec<_> = WORDS[after..].iter().copied().take(PAGE_SIZE + 1).collect();
///     let next_cursor = Cursor::next_page(&mut words, PAGE_SIZE, |_| Place { after: after + PAGE_SIZE });
///     Ok(Json(Page { words, next_cursor }))
/// }
/// # let _ = mcp_server::Tool::new("search", search);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor<T>(
    /// The position in the list.
    pub T,
);

impl<T> Cursor<T> {
    /// Returns the cursor of the next page. Query one item more than the page size: if `items` has it, it is removed, and the cursor
    /// has the position of the last remaining item. Otherwise this is the last page, and the result is `None`.
    ///
    /// ```
    /// # use mcp_server as mcp_lambda;
    /// use mcp_lambda::Cursor;
    ///
    /// const PAGE_SIZE: usize = 2;
    ///
    /// let mut ids = vec![7, 5, 4];
    /// assert_eq!(Cursor::next_page(&mut ids, PAGE_SIZE, |id| *id), Some(Cursor(5)));
    /// assert_eq!(ids, [7, 5]);
    /// assert_eq!(Cursor::next_page(&mut ids, PAGE_SIZE, |id| *id), None);
    /// ```
    pub fn next_page<I>(items: &mut Vec<I>, page_size: usize, place: impl FnOnce(&I) -> T) -> Option<Self> {
        if items.len() <= page_size {
            return None;
        }
        items.truncate(page_size);
        items.last().map(place).map(Self)
    }
}

/// Maximum length of a cursor in characters.
const MAX_CHARS: usize = 2048;
/// Maximum nesting of a cursor's JSON, including the outer list.
const MAX_DEPTH: usize = 8;
/// The version of the encoding: a list of this number and the position.
const VERSION: u8 = 1;

const MALFORMED: &str = "the cursor is invalid: start without a cursor";

impl<T: Serialize> Serialize for Cursor<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json = serde_json::to_string(&(VERSION, &self.0)).map_err(S::Error::custom)?;
        let text = BASE64_URL_SAFE_NO_PAD.encode(json);
        match text.len() {
            0..=MAX_CHARS => serializer.serialize_str(&text),
            length => Err(S::Error::custom(format_args!(
                "the cursor has {length} characters, more than the maximum of {MAX_CHARS}: use a smaller position type"
            ))),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Cursor<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CursorVisitor<T>(PhantomData<T>);

        impl<T: DeserializeOwned> Visitor<'_> for CursorVisitor<T> {
            type Value = Cursor<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a cursor as a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Cursor<T>, E> {
                read(text).map(Cursor).ok_or_else(|| E::custom(MALFORMED))
            }
        }

        deserializer.deserialize_str(CursorVisitor(PhantomData))
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    if text.len() > MAX_CHARS {
        return None;
    }
    let json = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    json::check(&json, Budget::of(&json)).ok()?;
    if depth(&json) > MAX_DEPTH {
        return None;
    }
    let (version, place): (u8, Box<RawValue>) = json::borrow(&json).ok()?;
    // Unbounded JSON: checked above.
    (version == VERSION).then(|| serde_json::from_str(place.get()).ok())?
}

/// Returns an upper bound of the nesting of JSON text: brackets in strings also count.
fn depth(json: &str) -> usize {
    let mut open: usize = 0;
    let depths = json.bytes().map(|byte| {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open
    });
    depths.max().unwrap_or(0)
}

impl<T> JsonSchema for Cursor<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Cursor".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": MAX_CHARS })
    }
}

#[cfg(test)]
mod tests {
    use garde::Validate;
    use serde_json::{Value, json};

    use super::*;
    use crate::{arguments, schema};

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    struct Place {
        after: String,
        id: i64,
    }

    #[derive(Debug, Deserialize, JsonSchema, Validate)]
    #[garde(allow_unvalidated)]
    struct Args {
        #[serde(default)]
        cursor: Option<Cursor<Place>>,
    }

    fn parse(cursor: &Value) -> Result<Option<Place>, String> {
        let arguments: Box<RawValue> = serde_json::value::to_raw_value(&json!({ "cursor": cursor })).unwrap();
        let schema =
            schema::tool_input_schema(schema::input_schema_of::<Args>(), schema::SchemaOrigin::Derived).unwrap();
        arguments::parse::<Args>(Some(&arguments), &schema).map(|args| args.cursor.map(|Cursor(place)| place))
    }

    fn encoded(json: &str) -> Value {
        json!(BASE64_URL_SAFE_NO_PAD.encode(json))
    }

    #[test]
    fn a_cursor_round_trips() {
        let place = Place { after: "größer ]]] \" {".to_owned(), id: -7 };
        let text = serde_json::to_value(Cursor(place.clone())).unwrap();

        let characters = text.as_str().unwrap().chars();
        assert!(characters.clone().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)), "{text}");
        assert_eq!(parse(&text).unwrap(), Some(place));
        assert_eq!(parse(&Value::Null).unwrap(), None);
    }

    #[test]
    fn an_invalid_cursor_is_rejected_with_the_fix() {
        let deep = format!(r#"[1,{}{{"after":"","id":1}}{}]"#, "[".repeat(90), "]".repeat(90));
        let long = format!(r#"[1,{{"after":"{}","id":1}}]"#, "a".repeat(2000));
        for cursor in [
            json!(""),
            json!("page 2"),
            json!("W1+/"),
            encoded(r#"{"after":"a","id":1}"#),
            encoded(r#"[2,{"after":"a","id":1}]"#),
            encoded(r#"[1,{"after":"a"}]"#),
            encoded(r#"[1,{"after":"a","id":"1"}]"#),
            encoded(r#"[1,{"after":"a","after":"b","id":1}]"#),
            encoded(&deep),
            encoded(&long),
            json!(BASE64_URL_SAFE_NO_PAD.encode([0xff, 0xfe])),
        ] {
            let error = parse(&cursor).unwrap_err();

            assert!(error.starts_with("invalid arguments: `cursor`: the cursor is invalid: start without"), "{error}");
        }
        assert!(parse(&json!(7)).unwrap_err().contains("a cursor as a string"));
    }

    #[test]
    fn a_too_long_cursor_is_not_serialized() {
        let place = Place { after: "a".repeat(2000), id: 1 };

        assert!(serde_json::to_string(&Cursor(place)).unwrap_err().to_string().contains("use a smaller position type"));
    }
}
