//! A schema document: resolution of references, and the alternatives of a subschema.

use std::ptr;

use serde_json::Value;

use super::types::{self, Types};

/// Maximum number of references and combinators that apply to one value.
const MAX_IN_PLACE: usize = 16;
/// Maximum number of alternatives of one subschema.
const MAX_ALTERNATIVES: usize = 200;

/// Keywords without an effect on validity.
pub(super) const ANNOTATIONS: [&str; 13] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "$schema",
    "$defs",
    "definitions",
    "$id",
    "example",
];

/// Whether a keyword has no effect on validity: an annotation, or an extension.
pub(super) fn is_annotation(keyword: &str) -> bool {
    keyword.starts_with("x-") || ANNOTATIONS.contains(&keyword)
}

/// One schema of a contract.
#[derive(Debug, Clone, Copy)]
pub(super) struct Document<'a> {
    pub(super) root: &'a Value,
    /// Whether all references can be resolved from the root: no subschema has a base URI of its own.
    has_one_base: bool,
    /// Whether keywords beside `$ref` are ignored, as in draft 7 and before.
    ignores_siblings: bool,
}

/// Alternative of a subschema: a schema that is neither a lone reference nor a union, for values of some types.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alternative<'a> {
    pub(super) schema: &'a Value,
    pub(super) types: Types,
    /// The value of `enum` that this alternative stands for, if the alternative was split by values.
    pub(super) only: Option<&'a Value>,
}

/// Conjunct of a schema. A value is valid if it is valid for all conjuncts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    Base(&'a Value),
    Schema(&'a Value),
    Union { alternatives: &'a [Value], is_exclusive: bool },
}

/// Why the alternatives of a schema cannot be determined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unclear {
    Reference,
    Complexity,
    Overlap,
}

impl Unclear {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Reference => "it has a reference that cannot be resolved",
            Self::Complexity => "it has too many alternatives or references",
            Self::Overlap => "the alternatives of its `oneOf` may overlap",
        }
    }
}

impl<'a> Document<'a> {
    pub(super) fn new(root: &'a Value) -> Self {
        let schema = root.get("$schema").and_then(Value::as_str).unwrap_or_default();
        let has_one_base = root.as_object().is_none_or(|members| members.values().all(|own| !has_base(own)));
        Self { root, has_one_base, ignores_siblings: schema.contains("/draft-0") }
    }

    fn resolve(self, reference: &str) -> Option<&'a Value> {
        let pointer = reference.strip_prefix('#').filter(|pointer| self.has_one_base && !pointer.contains('%'))?;
        self.root.pointer(pointer)
    }

    /// Returns the conjuncts of a schema that is an object. An unresolved reference is an error.
    pub(super) fn parts(self, schema: &'a Value) -> Result<Vec<Part<'a>>, Unclear> {
        let mut parts = Vec::new();
        let Value::Object(members) = schema else { return Ok(vec![Part::Base(schema)]) };
        for (keyword, value) in members {
            match (keyword.as_str(), value) {
                ("$ref", Value::String(reference)) => {
                    parts.push(Part::Schema(self.resolve(reference).ok_or(Unclear::Reference)?));
                }
                ("allOf", Value::Array(all)) => parts.extend(all.iter().map(Part::Schema)),
                ("anyOf", Value::Array(alternatives)) => {
                    parts.push(Part::Union { alternatives, is_exclusive: false });
                }
                ("oneOf", Value::Array(alternatives)) => parts.push(Part::Union { alternatives, is_exclusive: true }),
                _ => {}
            }
        }
        if parts.len() > MAX_ALTERNATIVES {
            return Err(Unclear::Complexity);
        }
        let has_base = members.keys().any(|keyword| !is_combinator(keyword) && !is_annotation(keyword));
        if has_base || parts.is_empty() {
            parts.push(Part::Base(schema));
        }
        Ok(parts)
    }

    /// Returns the conjuncts, or none if a reference cannot be resolved. A schema without some of its conjuncts accepts more
    /// values, which is safe for the narrow schema only.
    pub(super) fn certain_parts(self, schema: &'a Value) -> Vec<Part<'a>> {
        if self.ignores_siblings
            && let Some(Value::String(reference)) = schema.get("$ref")
        {
            return self.resolve(reference).map(Part::Schema).into_iter().collect();
        }
        self.parts(schema).unwrap_or_default()
    }

    /// Returns the alternatives of a schema, through references and unions. With `is_exact`, the alternatives of a `oneOf`
    /// must exclude each other.
    pub(super) fn alternatives(self, schema: &'a Value, is_exact: bool) -> Result<Vec<Alternative<'a>>, Unclear> {
        let mut found = Vec::new();
        self.flatten(schema, is_exact, 0, &mut found)?;
        Ok(found)
    }

    fn flatten(
        self,
        schema: &'a Value,
        is_exact: bool,
        depth: usize,
        found: &mut Vec<Alternative<'a>>,
    ) -> Result<(), Unclear> {
        if depth > MAX_IN_PLACE || found.len() > MAX_ALTERNATIVES {
            return Err(Unclear::Complexity);
        }
        let parts = if is_exact { self.parts(schema)? } else { self.certain_parts(schema) };
        match parts[..] {
            [Part::Schema(target)] => self.flatten(target, is_exact, depth + 1, found)?,
            [Part::Union { alternatives, is_exclusive }] => {
                if is_exact && is_exclusive && !self.exclude_each_other(alternatives)? {
                    return Err(Unclear::Overlap);
                }
                for alternative in alternatives {
                    self.flatten(alternative, is_exact, depth + 1, found)?;
                }
            }
            _ => found.push(Alternative { schema, types: types::of(schema), only: None }),
        }
        Ok(())
    }

    fn exclude_each_other(self, alternatives: &'a [Value]) -> Result<bool, Unclear> {
        if alternatives.len() > MAX_ALTERNATIVES {
            return Err(Unclear::Complexity);
        }
        let resolved: Vec<&Value> = alternatives.iter().map(|own| self.follow(own)).collect();
        let excludes =
            |(position, one): (usize, &&Value)| resolved[position + 1..].iter().all(|other| self.exclude(one, other));
        Ok(resolved.iter().enumerate().all(excludes))
    }

    /// Follows references until a schema with other keywords.
    fn follow<'s>(self, mut schema: &'s Value) -> &'s Value
    where
        'a: 's,
    {
        for _ in 0..MAX_IN_PLACE {
            match schema.get("$ref").and_then(Value::as_str).and_then(|reference| self.resolve(reference)) {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }

    /// Whether two schemas have no common value. Only types, `enum` and `const`, and those of a common required member are
    /// considered.
    pub(super) fn exclude(self, one: &Value, other: &Value) -> bool {
        if ptr::eq(one, other) {
            return false;
        }
        if types::of(one).is_disjoint(types::of(other)) || have_distinct_choices(one, other) {
            return true;
        }
        let (Some(properties), Some(others)) = (one["properties"].as_object(), other["properties"].as_object()) else {
            return false;
        };
        let is_object = |schema| types::of(schema) == Types::OBJECT;
        is_object(one)
            && is_object(other)
            && properties.iter().any(|(name, own)| {
                types::requires(one, name)
                    && types::requires(other, name)
                    && others.get(name).is_some_and(|other| have_distinct_choices(self.follow(own), self.follow(other)))
            })
    }
}

pub(super) fn is_combinator(keyword: &str) -> bool {
    matches!(keyword, "$ref" | "allOf" | "anyOf" | "oneOf")
}

fn have_distinct_choices(one: &Value, other: &Value) -> bool {
    let (Some(choices), Some(others)) = (types::choices(one), types::choices(other)) else { return false };
    choices.iter().all(|choice| !types::contains(&others, choice))
}

/// Whether a subschema has a base URI of its own (`$id`).
fn has_base(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, own)| {
            matches!(
                (name.as_str(), own),
                ("$id" | "$anchor" | "$dynamicAnchor" | "$recursiveAnchor", Value::String(_))
            ) || has_base(own)
        }),
        Value::Array(items) => items.iter().any(has_base),
        _ => false,
    }
}
