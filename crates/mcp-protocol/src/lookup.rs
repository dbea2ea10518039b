//! Lookup of one value in JSON text without parsing the rest, since arguments can be megabytes long.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// One step of a path into a JSON value.
#[derive(Debug, Clone, Copy)]
pub enum Step<'s> {
    /// The object member whose name passes a test.
    Member(&'s dyn NameTest),
    /// The array element at an index.
    Index(usize),
}

/// Test of a member's name.
pub trait NameTest: fmt::Debug {
    /// Returns whether the name passes the test.
    fn fits(&self, name: &str) -> bool;
}

impl NameTest for &str {
    fn fits(&self, name: &str) -> bool {
        name == *self
    }
}

/// Returns the value at a path of property names; `None` if there is none.
///
/// # Errors
///
/// Returns an error if the text is not valid JSON up to the value, or if a name on the path is a duplicate: parsers
/// could see different values.
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

/// Returns the member's name as written (empty for an index) and its value, after one step; `None` if there is none.
///
/// # Errors
///
/// The errors of [`lookup`].
pub fn step<'a>(json: &'a RawValue, step: Step<'_>) -> Result<Option<(Cow<'a, str>, &'a RawValue)>, serde_json::Error> {
    let fits = match step {
        Step::Member(_) => json.get().starts_with('{'),
        Step::Index(_) => json.get().starts_with('['),
    };
    if !fits {
        return Ok(None);
    }
    // Unbounded JSON: borrows one member.
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
                return Err(M::Error::custom(format_args!("duplicate member `{name}`")));
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
    fn values_are_found_among_other_members() {
        let json = r#"{"x":1e400,"y":"\ud800","a":{"z":[[[]]],"\u0062":"found"}}"#;

        assert_eq!(find(json, &["a", "b"]).unwrap().as_deref(), Some(r#""found""#));
        assert_eq!(find(json, &["a", "c"]).unwrap(), None);
        assert_eq!(find(json, &["x", "b"]).unwrap(), None);
        assert_eq!(find("[1]", &["a"]).unwrap(), None);
    }

    #[test]
    fn duplicate_names_are_errors() {
        assert!(find(r#"{"a":1,"b":2,"a":3}"#, &["a"]).is_err());
        assert!(find(r#"{"a":1,"b":2,"b":3}"#, &["a"]).is_ok());
    }
}
