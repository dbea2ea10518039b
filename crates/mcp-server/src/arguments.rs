//! Arguments, from JSON text to the handler's type, and in plain words what is wrong with them if they do not fit.
//!
//! The texts go to a model, which can repair its call if it learns which argument is wrong, what is expected and what
//! it gave.

use garde::Validate;
use mcp_protocol::{
    JsonObject,
    json::{self, Budget, JsonError, shortened},
    lookup::{NameTest, Step, step},
};
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, value::RawValue};

use crate::schema;

/// What a handler takes: a struct that derives `Deserialize`, `JsonSchema` and `Validate`, and owns what it holds.
///
/// Clients and model APIs accept only a part of JSON Schema, so that a tool's schemas are rewritten into it when the tool is
/// made. The types of arguments, and of results in [`Json`](crate::Json), become:
///
/// | Type | JSON Schema |
/// | --- | --- |
/// | integers, floats | `integer` or `number` with `minimum` and `maximum`, no `format` |
/// | `Option<T>` | `anyOf` of `T` with its bounds, and `null`; an optional argument may be left out, too |
/// | enum without data | `enum`; the doc comments of its variants go into the `description` |
/// | enum with data | `oneOf`, or `anyOf` if it is untagged |
/// | struct | its properties, written out where it is used |
/// | `HashMap<String, T>` | `object` with `additionalProperties` |
/// | tuple | `array` with `prefixItems`, and `items` for clients that do not know it |
/// | `serde_json::Value` | `{}` |
/// | times, UUIDs, URLs, addresses | `string`, with a `format` of JSON Schema 2020-12 if there is one |
///
/// Limits of arguments:
///
/// - An enum with data must be in a field of its own. As the arguments themselves, or flattened into them, it is a union at
///   the root of the schema, for which model APIs reject the whole request: making the tool panics.
/// - Names of properties are 1 to 64 of `A-Z a-z 0-9 _ - .`: making the tool panics otherwise.
/// - A type that contains itself becomes a `$ref`, which some clients cannot read. Prefer a list with ids.
/// - Patterns must be regular expressions of ECMAScript, too: no `(?i)`. `mcp_testing::assert_contract` checks that.
#[diagnostic::on_unimplemented(
    message = "a handler's arguments are a struct with `#[derive(Deserialize, JsonSchema, Validate)]`, which `{Self}` is not",
    label = "its second parameter is a `{Self}`",
    note = "the derives are those of serde, schemars and garde; a handler without arguments takes `NoArguments`"
)]
pub trait Arguments: DeserializeOwned + JsonSchema + Validate<Context = ()> + Send + 'static {}

// Otherwise one of the three is named, and the other two in the next errors.
#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + JsonSchema + Validate<Context = ()> + Send + 'static> Arguments for T {}

/// A value from the caller is shown up to this many characters.
const SHOWN_CHARS: usize = 80;
/// The first mistakes are enough to repair a call.
pub(crate) const SHOWN_VIOLATIONS: usize = 10;

/// The arguments as JSON text: an absent object is an empty one.
///
/// # Errors
///
/// When they are anything but an object. A struct could be read from an array too, but no schema says so.
pub(crate) fn as_object(raw: Option<&RawValue>) -> Result<&str, String> {
    let text = raw.map_or("{}", RawValue::get);
    match text.as_bytes().first() {
        Some(b'{') => Ok(text),
        Some(b'[') => Err("the arguments must be a JSON object, not an array".to_owned()),
        _ => Err(format!("the arguments must be a JSON object, not `{}`", shorten(text))),
    }
}

/// Reads arguments and checks the bounds that their type declares.
///
/// # Errors
///
/// What is wrong, for the model. `input_schema` tells it what is expected.
pub(crate) fn parse<A>(raw: Option<&RawValue>, input_schema: &Value) -> Result<A, String>
where
    A: DeserializeOwned + Validate<Context = ()>,
{
    let text = as_object(raw)?;
    check(text).map_err(|error| format!("{error}. Expected: {}", schema::summary(input_schema)))?;
    parse_checked(text, input_schema)
}

/// The same for the text of an object that was checked, or written here.
pub(crate) fn parse_checked<A>(text: &str, input_schema: &Value) -> Result<A, String>
where
    A: DeserializeOwned + Validate<Context = ()>,
{
    // Unbounded JSON: checked above; the error is written once, in words for a model.
    let arguments: A = serde_json::from_str(text).map_err(|_| explain_shape::<A>(text, input_schema))?;
    arguments.validate().map_err(|report| explain_bounds(&report, text))?;
    Ok(arguments)
}

/// Reads arguments as an object of JSON values.
///
/// # Errors
///
/// What is wrong, for the model.
pub(crate) fn parse_object(raw: Option<&RawValue>) -> Result<JsonObject, String> {
    let text = as_object(raw)?;
    json::read(text, Budget::of(text)).map_err(|error| invalid(&error))
}

/// Checks that arguments may be read: what they may cost in memory, and that no member is there twice.
///
/// # Errors
///
/// What is wrong, for the model.
pub(crate) fn check(text: &str) -> Result<(), String> {
    json::check(text, Budget::of(text)).map_err(|error| invalid(&error))
}

fn invalid(error: &JsonError) -> String {
    format!("invalid arguments: {}", without_position(&error.to_string()))
}

/// Reads them again, slowly, to learn which argument does not fit.
fn explain_shape<A: DeserializeOwned>(text: &str, input_schema: &Value) -> String {
    // Unbounded JSON: checked by the caller.
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let what = match serde_path_to_error::deserialize::<_, A>(&mut deserializer) {
        Ok(_) => "they are followed by something else".to_owned(),
        Err(error) => {
            let path = error.path().to_string();
            let inner = shortened(error.inner());
            let reason = without_position(&inner);
            // A path of "." is the object itself; messages about a field name it already.
            if path == "." || reason.contains(&format!("field `{path}`")) {
                reason.to_owned()
            } else {
                format!("`{path}`: {reason}")
            }
        }
    };
    format!("invalid arguments: {what}. Expected: {}", schema::summary(input_schema))
}

/// Line and column mean nothing to a model.
pub(crate) fn without_position(message: &str) -> &str {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    &message[..end]
}

fn explain_bounds(report: &garde::Report, text: &str) -> String {
    let arguments: Option<&RawValue> = json::borrow(text).ok();
    let violations = report.iter().take(SHOWN_VIOLATIONS).map(|(path, error)| {
        match arguments.and_then(|arguments| find(arguments, &path.to_string())) {
            Some((name, given)) => format!("`{name}`: {error}; given: {}", describe(given)),
            None => format!("`{path}`: {error}"),
        }
    });
    format!("invalid arguments: {}", violations.collect::<Vec<_>>().join("; "))
}

/// Follows a path such as `filters[2].name`. It names the struct's fields; the arguments may be spelled by a serde
/// `rename_all`, so that names are compared by their letters and digits. Returns the path in the arguments' spelling.
fn find<'a>(arguments: &'a RawValue, path: &str) -> Option<(String, &'a RawValue)> {
    let mut name = String::new();
    let mut value = arguments;
    for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
        if let Some(index) = part.strip_suffix(']') {
            let number = index.parse().ok()?;
            value = step(value, Step::Index(number)).ok()??.1;
            name.push_str(&format!("[{index}]"));
        } else {
            let (spelled, member) = step(value, Step::Member(&Letters(part))).ok()??;
            value = member;
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(&spelled);
        }
    }
    Some((name, value))
}

#[derive(Debug)]
struct Letters<'a>(&'a str);

impl NameTest for Letters<'_> {
    fn fits(&self, name: &str) -> bool {
        let letters = |name: &'_ str| -> String {
            name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
        };
        name == self.0 || letters(name) == letters(self.0)
    }
}

fn describe(value: &RawValue) -> String {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => {
            let text: String = json::borrow(text).unwrap_or_default();
            format!("\"{}\" ({} characters)", shorten(&text), text.chars().count())
        }
        Some(b'[') => {
            let items = json::borrow::<Vec<IgnoredAny>>(text).map_or(0, |items| items.len());
            format!("an array of {items} items")
        }
        Some(b'{') => "an object".to_owned(),
        _ => shorten(text),
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, JsonSchema, Validate)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Args {
        #[garde(length(chars, min = 1, max = 5))]
        event_name: String,
        #[serde(default)]
        #[garde(range(min = 1, max = 100))]
        limit: Option<u8>,
        #[serde(default)]
        #[garde(dive)]
        filters: Vec<Filter>,
    }

    #[derive(Debug, Deserialize, JsonSchema, Validate)]
    struct Filter {
        #[garde(length(chars, max = 3))]
        tag: String,
    }

    fn refusal(arguments: &str) -> String {
        let raw: &RawValue = serde_json::from_str(arguments).unwrap();
        parse::<Args>(Some(raw), &schema::input_schema_of::<Args>()).unwrap_err()
    }

    #[test]
    fn a_refusal_names_the_argument_what_is_expected_and_what_was_given() {
        for (arguments, names, says) in [
            (r#"{}"#, "`eventName`", "missing"),
            (r#"{"eventName":"a","x":1}"#, "`x`", "unknown field"),
            (r#"{"eventName":5}"#, "`eventName`", "integer `5`, expected a string"),
            (r#"{"eventName":"a","limit":"9"}"#, "`limit`", "string \"9\", expected u8"),
            (r#"{"eventName":"a","eventName":"b"}"#, "`eventName`", "duplicate field"),
            (r#"{"eventName":"\ud800"}"#, "`eventName`", "hex escape"),
            (r#"{"eventName":"a","limit":1e400}"#, "`limit`", "number out of range"),
            (r#"{"eventName":"a","filters":[{"tag":1}]}"#, "`filters[0].tag`", "expected a string"),
        ] {
            let refusal = refusal(arguments);

            assert!(refusal.contains(names) && refusal.contains(says), "{arguments}: {refusal}");
            assert!(
                refusal.contains("Expected: `eventName` (string, required), `filters` (array, optional)"),
                "{refusal}"
            );
            assert!(!refusal.contains(" at line "), "{refusal}");
        }
    }

    #[test]
    fn a_broken_bound_names_the_argument_the_bound_and_what_was_given() {
        assert_eq!(
            refusal(r#"{"eventName":"größer","limit":101,"filters":[{"tag":"a"},{"tag":"four"}]}"#),
            "invalid arguments: `eventName`: length is greater than 5; given: \"größer\" (6 characters); \
             `filters[1].tag`: length is greater than 3; given: \"four\" (4 characters); \
             `limit`: greater than 100; given: 101"
        );
    }

    #[test]
    fn what_is_no_object_is_refused_even_where_serde_would_take_it() {
        assert_eq!(refusal(r#"["name"]"#), "the arguments must be a JSON object, not an array");
        assert_eq!(refusal("null"), "the arguments must be a JSON object, not `null`");
    }

    #[test]
    fn a_long_value_is_cut() {
        let long = "ä".repeat(1_000_000);

        assert!(refusal(&format!(r#"{{"eventName":"{long}"}}"#)).len() < 400);
        assert!(refusal(&format!(r#"{{"eventName":"a","limit":"{long}"}}"#)).len() < 1200);
    }
}
