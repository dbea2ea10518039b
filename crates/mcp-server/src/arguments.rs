//! Arguments: parsing and validation of JSON text, and error messages.
//!
//! The messages are for a model, which can repair its call if they name the argument, the expected and the actual
//! value.

pub(crate) mod base64;
pub(crate) mod cursor;
pub(crate) mod derives;
pub(crate) mod raw;
pub(crate) mod string_args;

use std::borrow::Cow;

use garde::Validate;
use mcp_protocol::{
    JsonObject,
    json::{self, Budget, JsonError, shortened},
    lookup::{NameTest, Step, step},
};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, value::RawValue};

use crate::schema::{self, with_whole_numbers};
use derives::{DerivesDeserialize, DerivesJsonSchema, DerivesValidate};

/// The arguments of a handler: a struct that derives `Deserialize`, `JsonSchema` and `Validate`, and owns its fields.
///
/// Clients and model APIs accept only a subset of JSON Schema. A tool's schemas are rewritten into it when the tool
/// is created. The types of arguments, and of results in [`Json`](struct@crate::Json), become:
///
/// | Type | JSON Schema |
/// | --- | --- |
/// | integers, floats | `integer` or `number` with `minimum` and `maximum`, no `format` |
/// | `Option<T>` | `anyOf` of `T` with its bounds, and `null`; an optional argument may be omitted too |
/// | enum without data | `enum`; the doc comments of its variants go into the `description` |
/// | enum with data | `oneOf`, or `anyOf` if it is untagged |
/// | struct | its properties, written out where it is used |
/// | `HashMap<String, T>` | `object` with `additionalProperties` |
/// | tuple | `array` with `prefixItems`, and `items` for clients without support for `prefixItems` |
/// | `serde_json::Value` | `{}` |
/// | [`Base64<MAX>`](crate::Base64) | `string` with `contentEncoding` and `maxLength` |
/// | [`Cursor<T>`](crate::Cursor) | `string` with `maxLength` |
/// | times, UUIDs, URLs, addresses | `string`, with a `format` of JSON Schema 2020-12 if there is one |
///
/// `Validate` requires a rule for each field. Where the type is sufficient (enums, booleans, numbers without bounds,
/// `Base64`, `Cursor`), put `#[garde(allow_unvalidated)]` on the struct: fields without a rule are then accepted
/// unvalidated. Still, give every string and list a bound.
///
/// A number without a fractional part (`5.0`, `1e3`) is an integer, as in JSON Schema: models, and languages with a single number
/// type, send such numbers. A field of type `serde_json::Value` keeps the client's notation.
///
/// Integers beyond 2^53 - 1 in either direction lose digits in clients that read numbers as floating point, JavaScript among
/// them, in arguments and in results. Identifiers of that size, such as snowflake ids, must be strings.
///
/// Limits of arguments:
///
/// - An enum with data must be the type of a field. As the arguments themselves, or flattened into them, it is a
///   union at the root of the schema, for which model APIs reject the whole request: creating the tool panics.
/// - Names of properties must be 1 to 64 of `A-Z a-z 0-9 _ - .`: otherwise creating the tool panics.
/// - A recursive type becomes a `$ref`, which some clients do not support. Prefer a list with ids.
/// - Patterns must also be valid in ECMAScript: no `(?i)`. `mcp_testing::assert_contract` checks that.
#[diagnostic::on_unimplemented(
    message = "a handler's arguments are a struct with `#[derive(Deserialize, JsonSchema, Validate)]`, which `{Self}` is not",
    label = "its second parameter is a `{Self}`",
    note = "the derives are those of serde, schemars and garde; a handler without arguments takes `NoArguments`"
)]
pub trait Arguments: DerivesDeserialize + DerivesJsonSchema + DerivesValidate + Send + 'static {}

impl<T: DerivesDeserialize + DerivesJsonSchema + DerivesValidate + Send + 'static> Arguments for T {}

/// Maximum length of a caller's value in an error message, in characters.
const SHOWN_CHARS: usize = 80;
/// Maximum number of violations in an error message, enough to repair a call.
pub(crate) const SHOWN_VIOLATIONS: usize = 10;

/// Returns the arguments as JSON text; missing arguments and `null` are an empty object.
///
/// # Errors
///
/// When the arguments are not an object. serde would also deserialize a struct from an array, but the schema does not
/// allow it.
pub(crate) fn as_object(raw: Option<&RawValue>) -> Result<&str, String> {
    let text = raw.map_or("{}", RawValue::get);
    match text.as_bytes().first() {
        Some(b'{') => Ok(text),
        Some(b'n') => Ok("{}"),
        Some(b'[') => Err("the arguments must be a JSON object, not an array".to_owned()),
        _ => Err(format!("the arguments must be a JSON object, not `{}`", shorten(text))),
    }
}

/// Parses arguments and validates the bounds of their type.
///
/// # Errors
///
/// The message for the model, with the expected arguments of `input_schema`.
pub(crate) fn parse<A>(raw: Option<&RawValue>, input_schema: &Value) -> Result<A, String>
where
    A: DeserializeOwned + Validate<Context = ()>,
{
    let text = as_object(raw)?;
    check(text).map_err(|error| format!("{error}. Expected: {}", schema::summary(input_schema)))?;
    parse_checked(text, input_schema)
}

/// As [`parse`], for JSON text of an object that was checked before or serialized by this crate.
pub(crate) fn parse_checked<A>(text: &str, input_schema: &Value) -> Result<A, String>
where
    A: DeserializeOwned + Validate<Context = ()>,
{
    // Unbounded JSON: checked by the caller.
    let arguments: A = match serde_json::from_str(text) {
        Ok(arguments) => arguments,
        Err(_) => {
            let text = with_whole_numbers(text, input_schema);
            // Unbounded JSON: not longer than the checked text; the error is formatted once, for a model.
            serde_json::from_str(&text).map_err(|_| explain_shape::<A>(&text, input_schema))?
        }
    };
    arguments.validate().map_err(|report| explain_bounds(&report, text))?;
    Ok(arguments)
}

/// As [`parse_checked`], without conversion of numbers: `5.0` is not an integer.
pub(crate) fn parse_exact<A>(text: &str) -> Option<A>
where
    A: DeserializeOwned + Validate<Context = ()>,
{
    // Unbounded JSON: serialized by this crate.
    serde_json::from_str::<A>(text).ok().filter(|arguments| arguments.validate().is_ok())
}

/// Parses arguments as an object of JSON values. Whole numbers are converted to integers where the schema has
/// integers, since `5.0` is an integer in JSON Schema.
///
/// # Errors
///
/// The message for the model.
pub(crate) fn parse_object(raw: Option<&RawValue>, input_schema: &Value) -> Result<JsonObject, String> {
    let text = as_object(raw)?;
    check(text)?;
    let text = with_whole_numbers(text, input_schema);
    // Unbounded JSON: checked above.
    json::borrow(&text).map_err(|error| invalid(&error))
}

/// Checks the memory that parsing would take, and duplicate members.
///
/// # Errors
///
/// The message for the model.
pub(crate) fn check(text: &str) -> Result<(), String> {
    json::check(text, Budget::of(text)).map_err(|error| invalid(&error))
}

fn invalid(error: &JsonError) -> String {
    format!("invalid arguments: {}", without_position(&error.to_string()))
}

/// Parses the arguments again, with a slower parser that reports the path of the invalid argument.
fn explain_shape<A: DeserializeOwned>(text: &str, input_schema: &Value) -> String {
    // Unbounded JSON: checked by the caller.
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let reason = match serde_path_to_error::deserialize::<_, A>(&mut deserializer) {
        Ok(_) => "unexpected text after the object".to_owned(),
        Err(error) => {
            let path = error.path().to_string();
            let inner = shortened(error.inner());
            let reason = with_readable_types(without_position(&inner));
            // The path "." is the object itself; messages about a field already name it.
            if path == "." || reason.contains(&format!("field `{path}`")) {
                reason.into_owned()
            } else {
                format!("`{path}`: {reason}")
            }
        }
    };
    format!("invalid arguments: {reason}. Expected: {}", schema::summary(input_schema))
}

/// Replaces Rust's integer type in serde's message about a number with a fraction.
fn with_readable_types(reason: &str) -> Cow<'_, str> {
    const INTEGERS: [&str; 12] =
        ["i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize"];
    match reason.rsplit_once(", expected ") {
        Some((given, kind)) if given.contains("floating point") && INTEGERS.contains(&kind) => {
            Cow::Owned(format!("{given}, expected a whole number ({kind})"))
        }
        _ => Cow::Borrowed(reason),
    }
}

/// Removes line and column, which a model cannot use.
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

/// Resolves a path such as `filters[2].name`. It consists of names of Rust fields; serde's `rename_all` may rename
/// them in the arguments, so that names are compared by letters and digits. Returns the path in the arguments'
/// spelling.
fn find<'a>(arguments: &'a RawValue, path: &str) -> Option<(String, &'a RawValue)> {
    let mut name = String::new();
    let mut value = arguments;
    for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
        if let Some(index) = part.strip_suffix(']') {
            let number = index.parse().ok()?;
            value = step(value, Step::Index(number)).ok()??.1;
            name.push_str(&format!("[{index}]"));
        } else {
            let (spelled, member) = step(value, Step::Member(&AlphanumericName(part))).ok()??;
            value = member;
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(&spelled);
        }
    }
    Some((name, value))
}

/// Compares names by their letters and digits, ignoring case.
#[derive(Debug)]
struct AlphanumericName<'a>(&'a str);

impl NameTest for AlphanumericName<'_> {
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
    use std::collections::BTreeMap;

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

    fn error_of(arguments: &str) -> String {
        let raw: &RawValue = serde_json::from_str(arguments).unwrap();
        parse::<Args>(Some(raw), &schema::input_schema_of::<Args>()).unwrap_err()
    }

    #[test]
    fn an_error_names_the_argument_the_expected_and_the_actual_value() {
        for (arguments, name, expected) in [
            (r#"{}"#, "`eventName`", "missing"),
            (r#"{"eventName":"a","x":1}"#, "`x`", "unknown field"),
            (r#"{"eventName":5}"#, "`eventName`", "integer `5`, expected a string"),
            (r#"{"eventName":"a","limit":"9"}"#, "`limit`", "string \"9\", expected u8"),
            (r#"{"eventName":"a","eventName":"b"}"#, "`eventName`", "duplicate field"),
            (r#"{"eventName":"\ud800"}"#, "`eventName`", "hex escape"),
            (r#"{"eventName":"a","limit":1e400}"#, "`limit`", "number out of range"),
            (r#"{"eventName":"a","filters":[{"tag":1}]}"#, "`filters[0].tag`", "expected a string"),
        ] {
            let error = error_of(arguments);

            assert!(error.contains(name) && error.contains(expected), "{arguments}: {error}");
            assert!(error.contains("Expected: `eventName` (string, required), `filters` (array, optional)"), "{error}");
            assert!(!error.contains(" at line "), "{error}");
        }
    }

    #[test]
    fn a_violation_names_the_argument_the_bound_and_the_actual_value() {
        assert_eq!(
            error_of(r#"{"eventName":"größer","limit":101,"filters":[{"tag":"a"},{"tag":"four"}]}"#),
            "invalid arguments: `eventName`: length is greater than 5; given: \"größer\" (6 characters); \
             `filters[1].tag`: length is greater than 3; given: \"four\" (4 characters); \
             `limit`: greater than 100; given: 101"
        );
    }

    #[test]
    fn arguments_that_are_not_an_object_are_rejected() {
        assert_eq!(error_of(r#"["name"]"#), "the arguments must be a JSON object, not an array");
        assert_eq!(error_of("5"), "the arguments must be a JSON object, not `5`");
    }

    fn parsed<A: DeserializeOwned + JsonSchema + Validate<Context = ()>>(arguments: &str) -> Result<A, String> {
        let raw: &RawValue = serde_json::from_str(arguments).unwrap();
        parse(
            Some(raw),
            &schema::tool_input_schema(schema::input_schema_of::<A>(), schema::SchemaOrigin::Derived).unwrap(),
        )
    }

    #[derive(Debug, PartialEq, Deserialize, JsonSchema, Validate)]
    #[garde(allow_unvalidated)]
    struct Numbers {
        small: u8,
        #[serde(default)]
        large: i64,
        #[serde(default)]
        perhaps: Option<u32>,
        #[serde(default)]
        sizes: Vec<i16>,
        #[serde(default)]
        pair: Option<(f64, u64)>,
        #[serde(default)]
        by_name: BTreeMap<String, usize>,
        #[serde(default)]
        shape: Option<Shape>,
        #[serde(default)]
        either: Option<Either>,
        #[serde(flatten)]
        page: Page,
        #[serde(default)]
        share: f64,
        #[serde(default)]
        free: Value,
        #[serde(default)]
        nested: Option<Box<Numbers>>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
    struct Page {
        #[serde(default)]
        skip: u32,
    }

    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    #[serde(tag = "type", rename_all = "lowercase")]
    enum Shape {
        Circle { radius: u32 },
        Square { radius: f64 },
    }

    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    #[serde(untagged)]
    enum Either {
        Id(u64),
        Name(String),
    }

    /// Numbers from models, and from languages with a single number type.
    #[test]
    fn a_number_without_a_fraction_is_an_integer_in_any_notation_and_depth() {
        let numbers: Numbers = parsed(
            r#"{"small":5.0,"large":-9007199254740993.0,"perhaps":1e3,"sizes":[2.50e1,-3.0,4],"pair":[0.1,2.0],
            "by_name":{"a":1E1},"shape":{"type":"circle","radius":7.0},"either":8.0,"skip":9.0,"share":0.3,
            "free":[1.0,{"small":1e2}],"nested":{"small":1.0,"shape":{"radius":2.0,"type":"square"},"skip":0.0}}"#,
        )
        .unwrap();

        let nested = Numbers { small: 1, shape: Some(Shape::Square { radius: 2.0 }), ..empty() };
        let expected = Numbers {
            small: 5,
            large: -9_007_199_254_740_993,
            perhaps: Some(1000),
            sizes: vec![25, -3, 4],
            pair: Some((0.1, 2)),
            by_name: BTreeMap::from([("a".to_owned(), 10)]),
            shape: Some(Shape::Circle { radius: 7 }),
            either: Some(Either::Id(8)),
            page: Page { skip: 9 },
            share: 0.3,
            free: serde_json::json!([1.0, { "small": 100.0 }]),
            nested: Some(Box::new(nested)),
        };
        assert_eq!(numbers, expected);
        assert!(numbers.free[0].is_f64() && numbers.free[1]["small"].is_f64(), "in the client's notation");
    }

    fn empty() -> Numbers {
        parsed(r#"{"small":0}"#).unwrap()
    }

    #[test]
    fn a_number_with_a_fraction_is_not_an_integer() {
        for (arguments, expected) in [
            (r#"{"small":1.5}"#, "`small`: invalid type: floating point `1.5`, expected a whole number (u8)"),
            (r#"{"small":300.0}"#, "`small`: invalid value: integer `300`, expected u8"),
            (r#"{"small":-1.0}"#, "`small`: invalid value: integer `-1`, expected u8"),
            (r#"{"small":1e300}"#, "expected a whole number (u8)"),
            (r#"{"small":1e999999999}"#, "number out of range"),
            (
                r#"{"small":1,"sizes":[1.0,2.5]}"#,
                "`sizes[1]`: invalid type: floating point `2.5`, expected a whole number",
            ),
            (r#"{"small":1,"skip":0.1}"#, "expected a whole number (u32)"),
            (r#"{"small":"5.0"}"#, "string \"5.0\", expected u8"),
        ] {
            let error = parsed::<Numbers>(arguments).unwrap_err();

            assert!(error.contains(expected), "{arguments}: {error}");
        }
    }

    #[test]
    fn null_means_no_arguments() {
        #[derive(Debug, Deserialize, JsonSchema, Validate)]
        struct Optional {
            #[garde(skip)]
            name: Option<String>,
        }

        assert!(parsed::<Optional>("null").unwrap().name.is_none());
        assert!(parse::<Optional>(None, &Value::Null).is_ok());
        assert!(parsed::<Args>("null").unwrap_err().contains("missing field `eventName`"));
    }

    #[test]
    fn a_long_value_is_truncated() {
        let long = "ä".repeat(1_000_000);

        assert!(error_of(&format!(r#"{{"eventName":"{long}"}}"#)).len() < 400);
        assert!(error_of(&format!(r#"{{"eventName":"a","limit":"{long}"}}"#)).len() < 1200);
    }
}
