//! One value out of JSON text, without building the rest: arguments may be megabytes of anything.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// A step into a value.
#[derive(Debug, Clone, Copy)]
pub enum Step<'s> {
    /// Into an object, by a test of the member's name.
    Member(&'s dyn NameTest),
    /// Into an array.
    Index(usize),
}

/// Which name is meant.
pub trait NameTest: fmt::Debug {
    /// Whether this one is.
    fn fits(&self, name: &str) -> bool;
}

impl NameTest for &str {
    fn fits(&self, name: &str) -> bool {
        name == *self
    }
}

/// The value at a path of property names; `None` if there is none.
///
/// # Errors
///
/// When the text cannot be read that far, or a name on the path occurs twice, so that readers could differ.
pub fn lookup<'a>(json: &'a RawValue, path: &[String]) -> Result<Option<&'a RawValue>, serde_json::Error> {
    let mut value = json;
    for name in path {
        match step(value, Step::Member(&name.as_str()))? {
            Some((_, inner)) => value = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(value))
}

/// One step: the member's own spelling (empty for an index), and its value.
///
/// # Errors
///
/// As [`lookup`].
pub fn step<'a>(json: &'a RawValue, step: Step<'_>) -> Result<Option<(Cow<'a, str>, &'a RawValue)>, serde_json::Error> {
    let fits = match step {
        Step::Member(_) => json.get().starts_with('{'),
        Step::Index(_) => json.get().starts_with('['),
    };
    if !fits {
        return Ok(None);
    }
    // Unbounded JSON: one member is found, and borrowed.
    StepSeed(step).deserialize(&mut serde_json::Deserializer::from_str(json.get()))
}

struct StepSeed<'s>(Step<'s>);

impl<'de> DeserializeSeed<'de> for StepSeed<'_> {
    type Value = Option<(Cow<'de, str>, &'de RawValue)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StepSeed<'_> {
    type Value = Option<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let Step::Member(test) = self.0 else { return Err(M::Error::custom("expected an array")) };
        let mut found: Self::Value = None;
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            if !test.fits(&name) {
                members.next_value::<IgnoredAny>()?;
            } else if found.is_some() {
                return Err(M::Error::custom(format_args!("`{name}` occurs twice")));
            } else {
                found = Some((name, members.next_value()?));
            }
        }
        Ok(found)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<Self::Value, S::Error> {
        let Step::Index(index) = self.0 else { return Err(S::Error::custom("expected an object")) };
        for _ in 0..index {
            if elements.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = elements.next_element()?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found.map(|value| (Cow::Borrowed(""), value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(json: &str, path: &[&str]) -> Result<Option<String>, serde_json::Error> {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        let path: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
        lookup(raw, &path).map(|found| found.map(|value| value.get().to_owned()))
    }

    #[test]
    fn a_value_is_found_whatever_stands_beside_it() {
        let json = r#"{"x":1e400,"y":"\ud800","a":{"z":[[[]]],"\u0062":"found"}}"#;

        assert_eq!(find(json, &["a", "b"]).unwrap().as_deref(), Some(r#""found""#));
        assert_eq!(find(json, &["a", "c"]).unwrap(), None);
        assert_eq!(find(json, &["x", "b"]).unwrap(), None);
        assert_eq!(find("[1]", &["a"]).unwrap(), None);
    }

    #[test]
    fn a_name_that_occurs_twice_is_an_error() {
        assert!(find(r#"{"a":1,"b":2,"a":3}"#, &["a"]).is_err());
        assert!(find(r#"{"a":1,"b":2,"b":3}"#, &["a"]).is_ok());
    }
}
