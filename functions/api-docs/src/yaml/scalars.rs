//! Conversion of YAML scalars to JSON values.

use granit_parser::{ScalarStyle, Tag};
use serde_json::{Number, Value};

use crate::budget::{LimitExceeded, Meter};

/// Converts a scalar by the core schema of YAML 1.2.
pub(super) fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, meter: &Meter) -> Result<Value, LimitExceeded> {
    let tag = tag.and_then(Tag::core_suffix);
    if tag == Some("str") || tag.is_none() && style != ScalarStyle::Plain {
        meter.take_string(text)?;
        return Ok(text.into());
    }
    meter.take(0)?;
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(true.into()),
        "false" | "False" | "FALSE" => return Ok(false.into()),
        _ => {}
    }
    if let Some(number) = number(text) {
        return Ok(number);
    }
    meter.take_string(text)?;
    Ok(text.into())
}

/// Parses a number; returns null for a number that JSON does not support.
fn number(text: &str) -> Option<Value> {
    let (is_negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if matches!(digits, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(Value::Null);
    }
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        _ => (10, digits),
    };
    let begins = |digits: &str| digits.starts_with(|first: char| first.is_ascii_hexdigit() || first == '.');
    // A text with leading zeros, such as a postal code.
    let is_text =
        radix == 10 && digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|own| own.is_ascii_digit());
    if !begins(digits) || is_text {
        return None;
    }
    if let Ok(integer) = u64::from_str_radix(digits, radix) {
        return match is_negative {
            false => Some(integer.into()),
            true => Some(0i64.checked_sub_unsigned(integer).map_or_else(|| float(-(integer as f64)), Into::into)),
        };
    }
    if radix != 10 || !digits.bytes().all(|own| own.is_ascii_digit() || b".eE+-".contains(&own)) {
        return None;
    }
    let parsed: f64 = digits.parse().ok().filter(|parsed: &f64| parsed.is_finite())?;
    Some(float(if is_negative { -parsed } else { parsed }))
}

fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::yaml::tests::read;

    #[test]
    fn scalars_follow_the_core_schema() {
        for (text, expected) in [
            ("0x1F", json!(31)),
            ("-0o17", json!(-15)),
            ("+12", json!(12)),
            ("007", json!("007")),
            ("-9223372036854775808", json!(i64::MIN)),
            ("18446744073709551615", json!(u64::MAX)),
            ("1e3", json!(1000.0)),
            (".5", json!(0.5)),
            ("-.5", json!(-0.5)),
            ("1.", json!(1.0)),
            ("--1", json!("--1")),
            ("+-1", json!("+-1")),
            ("1_000", json!("1_000")),
            ("0x", json!("0x")),
            ("0xZ", json!("0xZ")),
            ("infinity", json!("infinity")),
            ("nan", json!("nan")),
            (".nan", json!(null)),
            ("2024-01-01", json!("2024-01-01")),
            ("1.2.3", json!("1.2.3")),
            ("é", json!("é")),
            ("0é", json!("0é")),
            ("yes", json!("yes")),
            ("True", json!(true)),
            ("'1'", json!("1")),
            ("\"a\\nb\"", json!("a\nb")),
            ("|\n a\n b\n", json!("a\nb\n")),
            ("!!str 1", json!("1")),
            ("!!int '1'", json!(1)),
            ("!own 'x'", json!("x")),
        ] {
            assert_eq!(read(&format!("a: {text}")).unwrap()["a"], expected, "{text}");
        }
    }
}
