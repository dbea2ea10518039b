//! Resolution of references, and their distinction from data.

use serde_json::Value;

use crate::document::{Document, Inherited, MAX_CHAIN, SECURITY_SCHEMES};

pub(super) const REFERENCE: &str = "$ref";

/// Maps: members whose member names are chosen by the author and are not keywords. `examples` and `links` are handled
/// separately.
const MAPS: [&str; 22] = [
    "$defs",
    "callbacks",
    "content",
    "definitions",
    "dependentSchemas",
    "encoding",
    "headers",
    "mapping",
    "parameters",
    "pathItems",
    "paths",
    "patternProperties",
    "properties",
    "requestBodies",
    "responses",
    "schemas",
    "scopes",
    "securitySchemes",
    "variables",
    "webhooks",
    "x-webhooks",
    SECURITY_SCHEMES,
];
/// Children with data, which has no references.
const DATA: [&str; 4] = ["const", "default", "enum", "example"];

#[cfg(test)]
thread_local! {
    /// Number of followed references.
    pub(super) static FOLLOWED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Resolver of references, with a limit per excerpt.
pub(super) struct References<'a> {
    pub(super) document: &'a Document,
    pub(super) left: usize,
}

impl<'a> References<'a> {
    /// Resolves a reference; `None` for an external or invalid reference, or beyond the limit.
    pub(super) fn follow(&mut self, reference: &str) -> Option<&'a Value> {
        self.left = self.left.checked_sub(1)?;
        #[cfg(test)]
        FOLLOWED.set(FOLLOWED.get() + 1);
        self.document.target(reference)
    }

    /// Resolves a JSON pointer to a value and its kind.
    pub(super) fn walk(
        &mut self,
        from: (&'a Value, MemberKind),
        inherited: &'a Inherited<'_>,
        pointer: &str,
    ) -> Option<(&'a Value, MemberKind)> {
        let (mut value, mut kind) = from;
        if pointer.is_empty() {
            return Some(from);
        }
        for (number, part) in pointer.strip_prefix('/')?.split('/').enumerate() {
            let key = part.replace("~1", "/").replace("~0", "~");
            let inherited = inherited.get(&*key).filter(|_| number == 0).map(|value| &**value);
            let next = |value: &'a Value| match value {
                Value::Object(members) => members.get(&key),
                Value::Array(items) => items.get(key.parse::<usize>().ok()?),
                _ => None,
            };
            // A chain of references may be a cycle.
            let mut chain = 0;
            let found = loop {
                if let Some(found) = inherited.or_else(|| next(value)) {
                    break found;
                }
                let reference = reference_of(value).filter(|_| kind.may_refer() && chain < MAX_CHAIN)?;
                chain += 1;
                value = self.follow(reference)?;
            };
            kind = kind.of_member(&key, found, value);
            value = found;
        }
        Some((value, kind))
    }
}

/// Meaning of the member names of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberKind {
    /// Names are keywords.
    Keywords,
    /// Names are chosen by the author.
    Names,
    /// Map of Example Objects.
    Examples,
    /// Map of Link Objects.
    Links,
    /// An Example Object, whose value is data.
    Example,
    /// A Link Object, whose parameters and body are data.
    Link,
    /// The value is data.
    Data,
}

impl MemberKind {
    pub(super) fn of_member(self, key: &str, member: &Value, parent: &Value) -> Self {
        match (self, key) {
            (Self::Data, _) => Self::Data,
            (Self::Examples, _) => Self::Example,
            (Self::Links, _) => Self::Link,
            (Self::Names, _) => Self::Keywords,
            _ if parent.is_array() => Self::Keywords,
            (Self::Example, "value") | (Self::Link, "parameters" | "requestBody") => Self::Data,
            // `examples` of a schema is a list of data; that of a parameter is a map of objects.
            (_, "examples") if member.is_array() => Self::Data,
            (_, key) if DATA.contains(&key) => Self::Data,
            (_, "examples") if member.is_object() => Self::Examples,
            (_, "links") if member.is_object() => Self::Links,
            (_, key) if MAPS.contains(&key) && member.is_object() => Self::Names,
            _ => Self::Keywords,
        }
    }

    /// Returns whether a member `$ref` is a reference.
    pub(super) fn may_refer(self) -> bool {
        matches!(self, Self::Keywords | Self::Example | Self::Link)
    }
}

pub(super) fn reference_of(value: &Value) -> Option<&str> {
    value.get(REFERENCE)?.as_str()
}
