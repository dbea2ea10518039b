//! Types, `enum` and `const`, and numbers of JSON Schema.

use std::cmp::Ordering;

use serde_json::{Number, Value};

/// Set of the types of JSON values. Integers and fractions are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    pub(super) const INTEGER: Self = Self(1);
    const FRACTION: Self = Self(2);
    pub(super) const NUMBER: Self = Self(3);
    pub(super) const STRING: Self = Self(4);
    pub(super) const BOOLEAN: Self = Self(8);
    pub(super) const NULL: Self = Self(16);
    pub(super) const ARRAY: Self = Self(32);
    pub(super) const OBJECT: Self = Self(64);
    pub(super) const ALL: Self = Self(127);
    pub(super) const NONE: Self = Self(0);
    /// The type names of JSON Schema, except `integer`.
    pub(super) const EACH: [Self; 6] =
        [Self::STRING, Self::NUMBER, Self::BOOLEAN, Self::OBJECT, Self::ARRAY, Self::NULL];

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "integer" => Self::INTEGER,
            "number" => Self::NUMBER,
            "string" => Self::STRING,
            "boolean" => Self::BOOLEAN,
            "null" => Self::NULL,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            _ => return None,
        })
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn is_disjoint(self, other: Self) -> bool {
        self.and(other).0 == 0
    }

    pub(super) const fn is_within(self, other: Self) -> bool {
        self.and(other).0 == self.0
    }

    /// The names of the types, for a message.
    pub(super) fn describe(self) -> String {
        if self == Self::ALL {
            return "any type".to_owned();
        }
        let mut names: Vec<&str> = Vec::new();
        if self.and(Self::NUMBER) == Self::INTEGER {
            names.push("integer");
        }
        for (own, name) in Self::EACH.into_iter().zip(["string", "number", "boolean", "object", "array", "null"]) {
            if own.is_within(self) {
                names.push(name);
            }
        }
        match names.is_empty() {
            true => "no type".to_owned(),
            false => names.join(" or "),
        }
    }
}

/// Returns the types that `type`, `enum` and `const` of a schema accept. An unknown `type` accepts all.
pub(super) fn of(schema: &Value) -> Types {
    let Value::Object(members) = schema else {
        return if *schema == Value::Bool(false) { Types::NONE } else { Types::ALL };
    };
    let declared = match members.get("type") {
        Some(Value::String(name)) => Types::named(name).unwrap_or(Types::ALL),
        Some(Value::Array(names)) => {
            let named = |name: &Value| name.as_str().and_then(Types::named).unwrap_or(Types::ALL);
            names.iter().map(named).fold(Types::NONE, Types::or)
        }
        _ => Types::ALL,
    };
    match choices(schema) {
        Some(choices) => declared.and(choices.into_iter().map(of_value).fold(Types::NONE, Types::or)),
        None => declared,
    }
}

/// Whether `type` is a type or a list of types.
pub(super) fn is_type(value: &Value) -> bool {
    match value {
        Value::String(name) => Types::named(name).is_some(),
        Value::Array(names) => names.iter().all(|name| name.as_str().is_some_and(|name| Types::named(name).is_some())),
        _ => false,
    }
}

pub(super) fn of_value(value: &Value) -> Types {
    match value {
        Value::Null => Types::NULL,
        Value::Bool(_) => Types::BOOLEAN,
        Value::String(_) => Types::STRING,
        Value::Array(_) => Types::ARRAY,
        Value::Object(_) => Types::OBJECT,
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(own) if own.fract() == 0.0 => Types::INTEGER,
            _ => Types::FRACTION,
        },
        Value::Number(_) => Types::INTEGER,
    }
}

/// The values of `enum` or `const`.
pub(super) fn choices(schema: &Value) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(only), _) => Some(vec![only]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

/// Whether a list contains a value. `1` equals `1.0`.
pub(super) fn contains(values: &[&Value], value: &Value) -> bool {
    values.iter().any(|own| match (own, value) {
        (Value::Number(one), Value::Number(other)) => compare(one, other) == Some(Ordering::Equal),
        _ => *own == value,
    })
}

pub(super) fn requires(schema: &Value, name: &str) -> bool {
    schema["required"].as_array().is_some_and(|required| required.iter().any(|own| own == name))
}

/// Compares two numbers. `None` if an integer and a float are too close for the precision of a float.
pub(super) fn compare(one: &Number, other: &Number) -> Option<Ordering> {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => Some(one.cmp(&other)),
        _ => {
            let order = one.as_f64()?.partial_cmp(&other.as_f64()?)?;
            let is_exact = |number: &Number| number.as_i128().is_none_or(|own| own.unsigned_abs() <= 1 << 53);
            (order.is_ne() || (is_exact(one) && is_exact(other))).then_some(order)
        }
    }
}
