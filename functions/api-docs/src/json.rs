//! JSON parser with a budget. Duplicate members are rejected, since parsers could see different values.

use std::{cell::Cell, fmt};

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::{
    budget::{LimitExceeded, Meter},
    document::truncate,
};

/// Error of a text that cannot be parsed.
#[derive(Debug)]
pub(crate) struct ParseFailure {
    pub(crate) error: serde_json::Error,
    /// Whether a first member was parsed: the text is not YAML.
    pub(crate) has_begun: bool,
}

/// Parses JSON.
///
/// # Errors
///
/// Returns an error if the text is not JSON, has duplicate members, or exceeds the budget (see [`Meter::exceeded`]).
pub(crate) fn read(text: &str, meter: &Meter) -> Result<Value, ParseFailure> {
    let has_begun = Cell::new(false);
    // Unbounded JSON: this parser has its own budget with a deadline, shared with YAML.
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = ValueVisitor { meter, depth: 0, has_begun: &has_begun }.deserialize(&mut deserializer);
    value
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| ParseFailure { error, has_begun: has_begun.get() })
}

#[derive(Clone, Copy)]
struct ValueVisitor<'a> {
    meter: &'a Meter,
    depth: usize,
    has_begun: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for ValueVisitor<'_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.meter.take_values(1, self.depth).map_err(custom)?;
        deserializer.deserialize_any(self)
    }
}

/// Implemented here, since the visitor of `serde_json` gives some member names a special meaning.
impl<'de> Visitor<'de> for ValueVisitor<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.meter.take_string(text).map_err(custom)?;
        Ok(text.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = Self { depth: self.depth + 1, ..self };
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            self.meter.push(&mut array, item).map_err(custom)?;
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = Self { depth: self.depth + 1, ..self };
        let mut object = Map::new();
        while let Some(name) = members.next_key_seed(NameVisitor { meter: self.meter })? {
            self.has_begun.set(true);
            self.meter.take_member(object.len()).map_err(custom)?;
            if object.contains_key(&name) {
                return Err(de::Error::custom(format_args!("duplicate member {:?}", truncate(&name))));
            }
            object.insert(name, members.next_value_seed(inner)?);
        }
        Ok(object.into())
    }
}

/// Seed of a member name.
struct NameVisitor<'a> {
    meter: &'a Meter,
}

impl<'de> DeserializeSeed<'de> for NameVisitor<'_> {
    type Value = String;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameVisitor<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<String, E> {
        self.meter.take_string(name).map_err(custom)?;
        Ok(name.to_owned())
    }
}

/// Ends parsing; the meter has the reason.
fn custom<E: de::Error>(exceeded: LimitExceeded) -> E {
    E::custom(exceeded)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::budget::Budget;

    fn read(text: &str) -> Result<Value, String> {
        let requester = Arc::new(());
        super::read(text, &Meter::new(Budget::of_function(512), &Arc::downgrade(&requester)))
            .map_err(|failure| failure.error.to_string())
    }

    #[test]
    fn json_is_parsed_unchanged() {
        let text = r#"{"a":[1,-2,0.5,"x",null,true,{"a":{}}],"b":"\u00e9","":[],"big":18446744073709551615}"#;

        assert_eq!(read(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        for text in ["{} {}", "[1,]", "{\"a\":1e999}", "\"\\x\"", "nul"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn duplicate_members_are_errors_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"x":[{"a":1,"a":2}]}"#] {
            let error = read(text).unwrap_err();

            assert!(error.contains(r#"duplicate member "a" at line 1"#), "{error}");
        }
    }

    #[test]
    fn duplicate_member_names_are_truncated() {
        let name = "x".repeat(10_000);

        let error = read(&format!(r#"{{"{name}":1,"{name}":2}}"#)).unwrap_err();

        assert!(error.contains("duplicate member") && error.len() < 300, "{}", error.len());
    }

    #[test]
    fn no_member_name_is_special() {
        for name in ["$serde_json::private::RawValue", "$serde_json::private::Number"] {
            let text = json!({ name: "{\"a\":1}" }).to_string();

            assert_eq!(read(&text).unwrap()[name], "{\"a\":1}");
        }
    }
}
