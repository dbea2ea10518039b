//! Subset check: whether a wide schema accepts every value that a narrow schema accepts, with the violations if it does not.

use std::ptr;

use mcp_protocol::json::shortened;
use serde_json::Value;

use super::{
    document::{Alternative, Document, Part, Unclear, is_annotation},
    types::{self, Types},
    violation::{Violation, What},
};

/// Maximum nesting of schemas and references.
const MAX_DEPTH: usize = 200;
/// Maximum number of alternatives and choices that are compared with a union.
const MAX_PIECES: usize = 1000;
/// Maximum number of violations of one comparison.
const MAX_VIOLATIONS: usize = 1000;

/// Description of the missing counterpart of an alternative.
pub(super) const NO_ALTERNATIVE: &str = "none";

/// The schema of an undeclared member.
pub(super) static ANYTHING: Value = Value::Bool(true);

/// Comparison of a narrow with a wide schema.
#[derive(Debug)]
pub(super) struct Subset<'a> {
    pub(super) narrow: Document<'a>,
    pub(super) wide: Document<'a>,
    /// Which of the two schemas is the old one. Set if the new schema must declare all members of the old one.
    pub(super) keeps: Option<Old>,
    /// Number of remaining steps, which bounds the time.
    pub(super) fuel: &'a mut usize,
    pub(super) depth: usize,
    /// The pairs of subschemas whose comparison is in progress. In a recursive schema a pair occurs again and is then assumed
    /// to be a subset (coinduction).
    pub(super) active: Vec<(*const Value, *const Value)>,
    /// Whether equal subschemas have the same meaning in both: `false` if definitions differ.
    pub(super) same_definitions: bool,
}

/// Which of the two schemas is the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Old {
    Narrow,
    Wide,
}

impl<'a> Subset<'a> {
    /// Compares two schemas for values of one member.
    pub(super) fn child(&mut self, narrow: &'a Value, wide: &'a Value, path: &str) -> Vec<Violation> {
        let pair = (ptr::from_ref(narrow), ptr::from_ref(wide));
        if self.active.contains(&pair) {
            return Vec::new();
        }
        self.active.push(pair);
        let violations = self.check(narrow, wide, path);
        self.active.pop();
        violations
    }

    fn check(&mut self, narrow: &'a Value, wide: &'a Value, path: &str) -> Vec<Violation> {
        if *self.fuel == 0 || self.depth >= MAX_DEPTH {
            return vec![unknown(path, Unclear::Complexity.as_str())];
        }
        *self.fuel -= 1;
        if self.is_same(narrow, wide) || *narrow == Value::Bool(false) {
            return Vec::new();
        }
        self.depth += 1;
        let mut violations = self.check_alternatives(narrow, wide, path);
        self.depth -= 1;
        violations.truncate(MAX_VIOLATIONS);
        violations
    }

    /// Whether both schemas are equal, except for annotations, and equal subschemas have the same meaning.
    pub(super) fn is_same(&mut self, narrow: &Value, wide: &Value) -> bool {
        // One step for each value of the schemas.
        is_equal(narrow, wide, self.fuel) && (self.same_definitions || !refers(narrow))
    }

    fn check_alternatives(&mut self, narrow: &'a Value, wide: &'a Value, path: &str) -> Vec<Violation> {
        let wides = match self.wide.alternatives(wide, true) {
            Ok(wides) => wides,
            Err(unclear) => return vec![unknown(path, unclear.as_str())],
        };
        let narrows = match self.narrow.alternatives(narrow, false) {
            Ok(narrows) => narrows,
            Err(unclear) => return vec![unknown(path, unclear.as_str())],
        };
        let narrows: Vec<_> =
            if wides.len() > 1 { narrows.into_iter().flat_map(split).take(MAX_PIECES + 1).collect() } else { narrows };
        if narrows.len() > MAX_PIECES {
            return vec![unknown(path, Unclear::Complexity.as_str())];
        }
        if let ([one], [other]) = (&narrows[..], &wides[..]) {
            return self.check_conjuncts(*one, other.schema, path);
        }
        let mut violations = Vec::new();
        let mut has_counterpart = vec![false; wides.len()];
        for one in &narrows {
            let (mut closest, mut is_another) = (None::<Vec<Violation>>, false);
            for (position, other) in wides.iter().enumerate() {
                if one.types.is_disjoint(other.types) {
                    continue;
                }
                if self.wide.exclude(one.schema, other.schema) {
                    is_another = true;
                    continue;
                }
                let found = self.check_conjuncts(*one, other.schema, path);
                if found.is_empty() {
                    has_counterpart[position] = true;
                    closest = Some(found);
                    break;
                }
                if closest.as_ref().is_none_or(|closest| found.len() < closest.len()) {
                    closest = Some(found);
                }
            }
            let all = || wides.iter().fold(Types::NONE, |all, other| all.or(other.types)).describe();
            violations.extend(closest.unwrap_or_else(|| {
                let names = declared(one.schema);
                if is_another && !names.is_empty() {
                    return vec![violation(path, What::Alternative, object_with(&names), NO_ALTERNATIVE)];
                }
                let what = if one.types == Types::NULL { What::Null } else { What::Type };
                vec![violation(path, what, one.types.describe(), all())]
            }));
        }
        // Clients may rely on the members of an old alternative, which no result has any more.
        if self.keeps == Some(Old::Wide) && violations.is_empty() {
            for (other, has_counterpart) in wides.iter().zip(has_counterpart) {
                if !has_counterpart && !declared(other.schema).is_empty() {
                    let shown = object_with(&declared(other.schema));
                    violations.push(violation(path, What::Alternative, NO_ALTERNATIVE, shown));
                }
            }
        }
        violations
    }

    /// Compares an alternative with a schema whose conjuncts must all accept its values.
    fn check_conjuncts(&mut self, narrow: Alternative<'a>, wide: &'a Value, path: &str) -> Vec<Violation> {
        if *self.fuel == 0 || self.depth >= MAX_DEPTH {
            return vec![unknown(path, Unclear::Complexity.as_str())];
        }
        *self.fuel -= 1;
        let parts = match wide {
            Value::Bool(true) => return Vec::new(),
            Value::Object(_) => match self.wide.parts(wide) {
                Ok(parts) => parts,
                Err(unclear) => return vec![unknown(path, unclear.as_str())],
            },
            _ => return vec![violation(path, What::Type, narrow.types.describe(), "no type")],
        };
        self.depth += 1;
        let mut violations = Vec::new();
        for part in parts {
            violations.extend(match part {
                Part::Schema(schema) => self.check_some(narrow, path, |own, one| match one {
                    Some(one) => own.check(one, schema, path),
                    None => own.check(narrow.schema, schema, path),
                }),
                Part::Union { alternatives, is_exclusive } => {
                    let own = narrow.schema[if is_exclusive { "oneOf" } else { "anyOf" }].as_array();
                    let is_same = own.is_some_and(|own| {
                        own.len() == alternatives.len()
                            && own.iter().zip(alternatives).all(|(own, other)| self.is_same(own, other))
                    });
                    match is_same {
                        true => Vec::new(),
                        false => vec![unknown(path, "it combines a union with other keywords")],
                    }
                }
                Part::Base(members) => self.check_some(narrow, path, |own, one| {
                    let one = one.unwrap_or(narrow.schema);
                    let (types, only) = match ptr::eq(one, narrow.schema) {
                        true => (narrow.types, narrow.only),
                        false => (types::of(one), None),
                    };
                    own.check_base(Alternative { schema: one, types, only }, members, path)
                }),
            });
        }
        self.depth -= 1;
        violations
    }

    /// Compares each conjunct of the narrow schema with the wide schema. It suffices that one of them is a subset.
    fn check_some(
        &mut self,
        narrow: Alternative<'a>,
        path: &str,
        mut check: impl FnMut(&mut Self, Option<&'a Value>) -> Vec<Violation>,
    ) -> Vec<Violation> {
        let parts = self.narrow.certain_parts(narrow.schema);
        let mut closest = check(self, None);
        for part in parts {
            if closest.is_empty() {
                break;
            }
            let Part::Schema(conjunct) = part else { continue };
            let found = match self.narrow.alternatives(conjunct, false) {
                // Reached through references.
                Ok(alternatives) if alternatives.len() == 1 => check(self, Some(alternatives[0].schema)),
                _ => vec![unknown(path, "it combines unions")],
            };
            if found.len() < closest.len() {
                closest = found;
            }
        }
        closest
    }
}

/// Splits an alternative into one for each value of a choice, or for each type.
fn split(alternative: Alternative<'_>) -> Vec<Alternative<'_>> {
    if let Some(values) = types::choices(alternative.schema) {
        let of_value = |value| Alternative { types: types::of_value(value), only: Some(value), ..alternative };
        return values.into_iter().map(of_value).filter(|own| own.types.is_within(alternative.types)).collect();
    }
    let single = Types::EACH.into_iter().map(|each| each.and(alternative.types)).filter(|own| *own != Types::NONE);
    single.map(|types| Alternative { types, ..alternative }).collect()
}

fn object_with(names: &[&str]) -> String {
    shortened(&format!("an object with {}", names.join(", ")))
}

/// Returns the names of the members that a schema declares in its own `properties`.
fn declared(schema: &Value) -> Vec<&str> {
    schema["properties"].as_object().into_iter().flat_map(|own| own.keys().map(String::as_str)).take(20).collect()
}

/// Whether two schemas are equal, except for annotations.
fn is_equal(one: &Value, other: &Value, fuel: &mut usize) -> bool {
    if *fuel == 0 {
        return false;
    }
    *fuel -= 1;
    let (Value::Object(one), Value::Object(other)) = (one, other) else { return one == other };
    let known = |(keyword, _): &(&String, &Value)| !is_annotation(keyword);
    one.iter().filter(known).count() == other.iter().filter(known).count()
        && one.iter().filter(known).all(|(keyword, own)| {
            let Some(others) = other.get(keyword) else { return false };
            match (keyword.as_str(), own, others) {
                ("properties" | "patternProperties", Value::Object(own), Value::Object(others)) => {
                    own.len() == others.len()
                        && own
                            .iter()
                            .all(|(name, own)| others.get(name).is_some_and(|others| is_equal(own, others, fuel)))
                }
                ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(own), Value::Array(others)) => {
                    own.len() == others.len() && own.iter().zip(others).all(|(own, other)| is_equal(own, other, fuel))
                }
                ("items" | "additionalProperties" | "not" | "propertyNames" | "contains", own, others) => {
                    is_equal(own, others, fuel)
                }
                (_, own, others) => own == others,
            }
        })
}

fn refers(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            members.keys().any(|keyword| keyword == "$ref" || keyword == "$dynamicRef") || members.values().any(refers)
        }
        Value::Array(items) => items.iter().any(refers),
        _ => false,
    }
}

pub(super) fn violation(path: &str, what: What, narrow: impl Into<String>, wide: impl Into<String>) -> Violation {
    Violation { path: path.to_owned(), what, narrow: narrow.into(), wide: wide.into() }
}

pub(super) fn unknown(path: &str, why: &str) -> Violation {
    violation(path, What::Unknown, why, why)
}
