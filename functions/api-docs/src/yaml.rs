//! YAML as JSON.

use std::{cell::Cell, fmt};

use serde::de::{self, DeserializeSeed, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What a document may take in memory, whatever its length, and for each of its bytes.
const LEAST_ROOM_BYTES: usize = 16 * 1024 * 1024;
const ROOM_PER_BYTE: usize = 32;
/// What an object takes for so many members, besides their texts: a node of a `BTreeMap`.
const NODE_BYTES: usize = 640;
const NODE_MEMBERS: usize = 6;

/// Reads YAML, each alias as what it stands for: a few lines of them can stand for more than any memory holds.
///
/// # Errors
///
/// When the text is not YAML, or stands for much more than it is long.
pub(crate) fn read(text: &str) -> Result<Value, yaml_serde::Error> {
    let most = LEAST_ROOM_BYTES.saturating_add(text.len().saturating_mul(ROOM_PER_BYTE));
    let room = Room { most, left: &Cell::new(most) };
    room.deserialize(yaml_serde::Deserializer::from_str(text))
}

/// Builds a value of the document; all of them share the bytes that are left.
#[derive(Clone, Copy)]
struct Room<'a> {
    most: usize,
    left: &'a Cell<usize>,
}

impl Room<'_> {
    fn take<E: de::Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.left.get().checked_sub(bytes).ok_or_else(|| {
            let most = self.most / 1024 / 1024;
            E::custom(format_args!("its aliases stand for more than {most} MiB: use fewer, or `$ref` in their place"))
        })?;
        self.left.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Room<'_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.take(size_of::<Value>())?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Room<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON or YAML value")
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

    /// JSON has no such integer.
    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    /// The same.
    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.take(text.len())?;
        Ok(text.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            self.take(name.len() + if object.len().is_multiple_of(NODE_MEMBERS) { NODE_BYTES } else { 0 })?;
            object.insert(name, members.next_value_seed(self)?);
        }
        Ok(object.into())
    }

    /// A value with a tag of the author's own, without the tag.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (IgnoredAny, value) = tagged.variant()?;
        value.newtype_variant_seed(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn aliases_are_what_they_stand_for() {
        let value = read("a: &a { x: 1.5, y: [-1, ~, true] }\nb: *a\n200: .inf\n").unwrap();

        let a = json!({ "x": 1.5, "y": [-1, null, true] });
        assert_eq!(value, json!({ "a": a, "b": a, "200": null }));
    }

    #[test]
    fn what_json_does_not_have_is_near_to_what_was_meant() {
        let value =
            read("big: 1000000000000000000000\nless: -1000000000000000000000\nown: !include a.yaml\nlist: !a [1]")
                .unwrap();

        assert_eq!(value, json!({ "big": 1e21, "less": -1e21, "own": "a.yaml", "list": [1] }));
    }

    #[test]
    fn aliases_that_stand_for_more_than_memory_holds_are_refused() {
        let many = |what: &str, times: usize| vec![what; times].join(",");
        let numbers = format!("a: &a [{}]\nb: [{}]", many("1", 15_000), many("*a", 15_000));
        let objects = format!("a: &a [{}]\nb: [{}]", many("{x: 1}", 5000), many("*a", 5000));
        let texts = format!("a: &a {}\nb: [{}]", "x".repeat(40_000), many("*a", 15_000));
        let names = format!("a: &a {{{}: 1}}\nb: [{}]", "x".repeat(900), many("*a", 60_000));

        for text in [numbers, objects, texts, names] {
            let refusal = read(&text).unwrap_err().to_string();

            assert!(refusal.contains("use fewer"), "{refusal}");
        }
    }

    #[test]
    fn a_document_that_uses_no_alias_is_read_whatever_its_length() {
        let text = format!("a: [{}]", vec!["1"; 2_000_000].join(","));

        assert_eq!(read(&text).unwrap()["a"].as_array().unwrap().len(), 2_000_000);
    }
}
