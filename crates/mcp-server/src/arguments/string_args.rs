//! Arguments in strings: those of prompts, and variables of URI templates.

use std::{collections::BTreeMap, fmt};

use mcp_protocol::json;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, MapAccess, Visitor, value},
    forward_to_deserialize_any,
};
use serde_json::{Number, Value};

use crate::schema::primitive_type;

/// Strings by name, with a bound on their number.
pub(crate) struct Strings(pub(crate) BTreeMap<String, String>);

const MAX_STRINGS: usize = 256;

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringsVisitor;

        impl<'de> Visitor<'de> for StringsVisitor {
            type Value = Strings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Strings, A::Error> {
                let mut strings = BTreeMap::new();
                while let Some((name, text)) = members.next_entry()? {
                    if strings.len() == MAX_STRINGS {
                        return Err(A::Error::custom(format_args!("more than {MAX_STRINGS} members")));
                    }
                    strings.insert(name, text);
                }
                Ok(Strings(strings))
            }
        }

        deserializer.deserialize_map(StringsVisitor)
    }
}

/// Converts strings to JSON by their schema: to numbers and booleans where it has those types.
pub(crate) fn as_json(strings: BTreeMap<String, String>, schema: &Value) -> String {
    let members = strings.into_iter().filter_map(|(name, text)| {
        let property = &schema["properties"][&name];
        let kind = primitive_type(property);
        // An empty field is a missing argument, unless its type is text.
        let is_missing =
            text.is_empty() && !is_required(schema, &name) && (kind != Some("string") || options(property).is_some());
        if is_missing && schema["properties"].get(&name).is_some() {
            return None;
        }
        let value = match kind {
            Some("integer" | "number") => json::borrow::<Number>(text.trim()).ok().map(Value::Number),
            Some("boolean") => text.trim().parse().ok().map(Value::Bool),
            _ => None,
        };
        Some((name, value.unwrap_or(Value::String(text))))
    });
    Value::Object(members.collect()).to_string()
}

/// Returns the choices of a property with their titles, if it has choices.
pub(crate) fn options(property: &Value) -> Option<Vec<(String, Option<String>)>> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    if let Some(values) = property.get("enum").and_then(Value::as_array) {
        let texts = values.iter().filter(|value| !value.is_null());
        return texts.map(|value| Some((value.as_str()?.to_owned(), None))).collect();
    }
    if let Some(value) = text(property, "const") {
        return Some(vec![(value, text(property, "title").or_else(|| text(property, "description")))]);
    }
    let alternatives = property.get("oneOf").or_else(|| property.get("anyOf"))?.as_array()?;
    let alternatives = alternatives.iter().filter(|alternative| primitive_type(alternative) != Some("null"));
    let found: Option<Vec<_>> = alternatives.map(options).collect();
    Some(found?.concat())
}

/// Returns the names of a struct's fields in the order of declaration, which a schema does not keep; empty for other types.
pub(crate) fn field_order<T: DeserializeOwned>() -> &'static [&'static str] {
    /// A deserializer that records the fields that a type requests, and then fails.
    struct Probe<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Probe<'_> {
        type Error = value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, value::Error> {
            Err(value::Error::custom("only the names of fields are recorded"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, value::Error> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut fields: &'static [&'static str] = &[];
    // It always fails after the fields were recorded.
    let _ = T::deserialize(Probe(&mut fields));
    fields
}

/// Returns the properties of an object schema in the order of the type's fields; others are last.
pub(crate) fn properties_of<'a>(schema: &'a Value, order: &[&str]) -> Vec<(&'a str, &'a Value)> {
    let mut properties: Vec<(&str, &Value)> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, property)| (name.as_str(), property))
        .collect();
    properties.sort_by_key(|(name, _)| order.iter().position(|field| field == name).unwrap_or(usize::MAX));
    properties
}

/// Returns a property whose type cannot be parsed from text.
pub(crate) fn not_from_string<'a>(properties: &[(&'a str, &Value)]) -> Option<&'a str> {
    let is_readable = |property: &Value| {
        let is_simple = matches!(primitive_type(property), Some("string" | "integer" | "number" | "boolean"));
        is_simple || options(property).is_some()
    };
    properties.iter().find(|(_, property)| !is_readable(property)).map(|(name, _)| *name)
}

/// Reports whether an object schema requires a property.
pub(crate) fn is_required(schema: &Value, name: &str) -> bool {
    schema.get("required").and_then(Value::as_array).is_some_and(|required| required.iter().any(|own| own == name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strings_are_converted_to_the_types_of_the_schema() {
        let schema = json!({ "properties": {
            "count": { "type": ["integer", "null"] },
            "share": { "type": "number" },
            "loud": { "type": "boolean" },
            "name": { "type": "string" },
        } });
        let strings = [("count", "5"), ("share", "0.5"), ("loud", "true"), ("name", "5"), ("other", "true")];
        let strings = strings.map(|(name, text)| (name.to_owned(), text.to_owned()));

        let json: Value = serde_json::from_str(&as_json(BTreeMap::from(strings), &schema)).unwrap();

        assert_eq!(json, json!({ "count": 5, "share": 0.5, "loud": true, "name": "5", "other": "true" }));
    }

    #[test]
    fn text_that_is_not_a_number_stays_a_string_for_the_error_message() {
        let schema = json!({ "properties": { "count": { "type": "integer" } } });
        let strings = BTreeMap::from([("count".to_owned(), "many".to_owned())]);

        assert_eq!(as_json(strings, &schema), r#"{"count":"many"}"#);
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only the names of its fields matter")]
    struct Fields {
        second: String,
        #[serde(rename = "renamed")]
        first: Option<u8>,
    }

    #[test]
    fn fields_come_in_the_order_of_their_declaration() {
        assert_eq!(field_order::<Fields>(), ["second", "renamed"]);
        assert!(field_order::<Value>().is_empty());
    }
}
