//! Comparison of the keywords of two schemas: types, choices, bounds, items and members.

use std::{cmp::Ordering, collections::BTreeSet};

use mcp_protocol::json::shortened;
use serde_json::{Number, Value};

use super::{
    document::{Alternative, is_annotation, is_combinator},
    subset::{ANYTHING, Old, Subset, unknown, violation},
    types::{self, Types},
    violation::{Declaration, Member, Violation, What},
};

/// Keywords that do not depend on other keywords: equal values have the same meaning.
const SELF_CONTAINED: [&str; 9] = [
    "pattern",
    "format",
    "contentEncoding",
    "contentMediaType",
    "uniqueItems",
    "multipleOf",
    "dependentRequired",
    "not",
    "propertyNames",
];
/// Keywords that depend on each other only: they have the same meaning if all their values are equal.
const GROUPS: [&[&str]; 2] = [&["contains", "minContains", "maxContains"], &["if", "then", "else"]];
/// Keywords whose meaning depends on further keywords.
const NEVER_COMPARED: [&str; 11] = [
    "patternProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "additionalItems",
    "dependencies",
    "dependentSchemas",
    "$dynamicRef",
    "$recursiveRef",
    "$anchor",
    "$dynamicAnchor",
    "$recursiveAnchor",
];
/// Keywords that are compared here.
const COMPARED: [&str; 18] = [
    "type",
    "enum",
    "const",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "items",
    "prefixItems",
    "properties",
    "required",
    "additionalProperties",
];

fn is_well_formed(keyword: &str, value: &Value) -> bool {
    match keyword {
        "type" => types::is_type(value),
        "enum" | "prefixItems" => value.is_array(),
        "required" => value.as_array().is_some_and(|names| names.iter().all(Value::is_string)),
        "properties" => value.is_object(),
        "items" | "additionalProperties" => value.is_object() || value.is_boolean(),
        // Bounds are validated where they are compared.
        _ => true,
    }
}

/// Maximum number of pairs of `enum` values that are compared.
const MAX_PAIRS: usize = 1_000_000;

fn is_of(keyword: &str, types: Types) -> bool {
    let own = match keyword {
        "multipleOf" => Types::NUMBER,
        "pattern" | "format" | "contentEncoding" | "contentMediaType" => Types::STRING,
        "uniqueItems" => Types::ARRAY,
        "dependentRequired" | "propertyNames" => Types::OBJECT,
        _ => Types::ALL,
    };
    !own.is_disjoint(types)
}

impl<'a> Subset<'a> {
    pub(super) fn check_base(&mut self, narrow: Alternative<'a>, wide: &'a Value, path: &str) -> Vec<Violation> {
        let mut found = self.unsupported(narrow, wide, path);
        found.extend(check_values(narrow, wide, path));
        if !narrow.types.is_disjoint(Types::NUMBER) {
            found.extend(check_numbers(narrow, wide, path));
        }
        for (own, least, most) in [
            (Types::STRING, "minLength", "maxLength"),
            (Types::ARRAY, "minItems", "maxItems"),
            (Types::OBJECT, "minProperties", "maxProperties"),
        ] {
            if !narrow.types.is_disjoint(own) {
                found.extend(check_sizes(narrow, wide, least, most, path));
            }
        }
        if !narrow.types.is_disjoint(Types::ARRAY) {
            found.extend(self.check_items(narrow.schema, wide, path));
        }
        if !narrow.types.is_disjoint(Types::OBJECT) {
            found.extend(self.check_members(narrow.schema, wide, path));
        }
        found
    }

    /// Keywords of the wide schema whose values must be those of the narrow one, and keywords that are not known.
    fn unsupported(&mut self, narrow: Alternative<'a>, wide: &'a Value, path: &str) -> Vec<Violation> {
        let mut found = Vec::new();
        for (keyword, value) in wide.as_object().into_iter().flatten() {
            let own = narrow.schema.get(keyword);
            if is_annotation(keyword) || is_combinator(keyword) {
                continue;
            }
            if COMPARED.contains(&keyword.as_str()) {
                if !is_well_formed(keyword, value) {
                    found.push(unknown(path, &format!("its `{keyword}` is {}", shortened(value))));
                }
                continue;
            }
            if let Some(group) = GROUPS.iter().find(|group| group.contains(&keyword.as_str())) {
                if !group.iter().all(|own| self.is_same(&narrow.schema[own], &wide[own])) {
                    found.push(unknown(path, &format!("it has the keyword `{keyword}`")));
                }
            } else if SELF_CONTAINED.contains(&keyword.as_str()) {
                let is_met = !is_of(keyword, narrow.types)
                    || *value == Value::Bool(false) && keyword == "uniqueItems"
                    || own == Some(value) && self.is_same(value, value)
                    || keyword == "multipleOf" && is_multiple(narrow, value);
                if !is_met {
                    let shown = own.map_or("none".to_owned(), shortened);
                    found.push(violation(path, What::Keyword(keyword.clone()), shown, shortened(value)));
                }
            } else if NEVER_COMPARED.contains(&keyword.as_str()) || own != Some(value) {
                found.push(unknown(path, &format!("it has the keyword `{}`", shortened(keyword))));
            }
        }
        if wide.get("const").is_some() && wide.get("enum").is_some() {
            found.push(unknown(path, "it has both `const` and `enum`"));
        }
        found
    }

    fn check_items(&mut self, narrow: &'a Value, wide: &'a Value, path: &str) -> Vec<Violation> {
        let mut found = Vec::new();
        let prefix = |schema: &'a Value| schema.as_array().map_or(&[][..], Vec::as_slice);
        let (narrows, wides) = (prefix(&narrow["prefixItems"]), wide.get("prefixItems").map_or(&[][..], prefix));
        // An array is the prefix of draft 7. It is treated as unknown.
        let rest = match narrow.get("items") {
            Some(own) if !own.is_array() => own,
            _ => &ANYTHING,
        };
        let wide_rest = wide.get("items").unwrap_or(&ANYTHING);
        for position in 0..narrows.len().max(wides.len()) {
            let (one, other) = (narrows.get(position).unwrap_or(rest), wides.get(position).unwrap_or(wide_rest));
            found.extend(self.child(one, other, &format!("{path}[{position}]")));
        }
        if *wide_rest != ANYTHING {
            found.extend(self.child(rest, wide_rest, &format!("{path}[]")));
        }
        found
    }

    fn check_members(&mut self, narrow: &'a Value, wide: &'a Value, path: &str) -> Vec<Violation> {
        let mut found = Vec::new();
        let (properties, wide_properties) =
            (narrow["properties"].as_object(), wide.get("properties").and_then(Value::as_object));
        // Members whose name matches a pattern are not additional members.
        let additional = match narrow.get("additionalProperties") {
            Some(own) if narrow.get("patternProperties").is_none() => own,
            _ => &ANYTHING,
        };
        let wide_additional = wide.get("additionalProperties").unwrap_or(&ANYTHING);
        let required: BTreeSet<&str> = wide.get("required").into_iter().flat_map(names).collect();
        let provided: BTreeSet<&str> = narrow.get("required").into_iter().flat_map(names).collect();
        let mut all: BTreeSet<&str> = required.clone();
        all.extend(properties.into_iter().flatten().map(|(name, _)| name.as_str()));
        all.extend(wide_properties.into_iter().flatten().map(|(name, _)| name.as_str()));
        for name in all {
            let at = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let one = properties.and_then(|properties| properties.get(name));
            let other = wide_properties.and_then(|properties| properties.get(name));
            let is_missing = required.contains(name) && !provided.contains(name);
            if let (Some(one), Some(other)) = (one, other) {
                found.extend(self.child(one, other, &at));
                if is_missing {
                    found.push(violation(&at, What::Required, "optional", "required"));
                }
                continue;
            }
            let is_removed = match self.keeps {
                Some(Old::Narrow) => one.is_some(),
                Some(Old::Wide) => other.is_some(),
                None => false,
            };
            let is_accepted = self.child(one.unwrap_or(additional), other.unwrap_or(wide_additional), &at).is_empty();
            if is_removed || is_missing || !is_accepted {
                let narrow = declaration(one, provided.contains(name));
                let wide = declaration(other, required.contains(name));
                found.push(violation(&at, What::Member(Member { narrow, wide, is_removed }), "", ""));
            }
        }
        if *wide_additional != ANYTHING && *additional != Value::Bool(false) {
            match (wide_additional, additional) {
                (Value::Bool(false), _) => found.push(violation(path, What::Open, "allowed", "not allowed")),
                (_, Value::Bool(true)) => found.push(violation(path, What::Open, "of any type", "of one type")),
                _ => found.extend(self.child(additional, wide_additional, &format!("{path}.*"))),
            }
        }
        found
    }
}

fn declaration(schema: Option<&Value>, is_required: bool) -> Declaration {
    match (schema, is_required) {
        (_, true) => Declaration::Required,
        (Some(_), false) => Declaration::Optional,
        (None, false) => Declaration::None,
    }
}

fn names(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Returns the values of `enum` or `const`, or the value that the alternative stands for.
fn values<'a>(narrow: Alternative<'a>) -> Option<Vec<&'a Value>> {
    narrow.only.map(|only| vec![only]).or_else(|| types::choices(narrow.schema))
}

fn check_values(narrow: Alternative<'_>, wide: &Value, path: &str) -> Option<Violation> {
    let accepted = types::of(wide);
    let Some(choices) = types::choices(wide) else {
        let is_within = narrow.types.is_within(accepted);
        return (!is_within).then(|| violation(path, What::Type, narrow.types.describe(), accepted.describe()));
    };
    let own = values(narrow).or_else(|| match narrow.types {
        Types::BOOLEAN => Some(vec![&Value::Bool(true), &Value::Bool(false)]),
        Types::NULL => Some(vec![&Value::Null]),
        _ => None,
    });
    let shown = |values: &[&Value]| {
        let shown: Vec<String> = values.iter().take(20).map(|value| format!("`{}`", shortened(*value))).collect();
        shortened(&shown.join(", "))
    };
    let Some(own) = own else {
        return Some(violation(path, What::Choices, "any value", shown(&choices)));
    };
    if own.len().saturating_mul(choices.len()) > MAX_PAIRS {
        return Some(unknown(path, "it has too many choices"));
    }
    let is_rejected = |value: &&Value| {
        let own = types::of_value(value);
        own.is_within(narrow.types) && !(own.is_within(accepted) && types::contains(&choices, value))
    };
    own.iter().any(is_rejected).then(|| violation(path, What::Choices, shown(&own), shown(&choices)))
}

/// A bound and whether the value itself is excluded.
#[derive(Clone, Copy)]
struct Bound<'a> {
    value: &'a Number,
    excludes: bool,
}

/// Returns the stricter of the inclusive and the exclusive bound. `None` without a bound; an error for a bound that is not a
/// number.
fn bound<'a>(schema: &'a Value, keywords: [&str; 2], stricter: Ordering) -> Result<Option<Bound<'a>>, ()> {
    let read = |keyword: &str, excludes| match schema.get(keyword) {
        None => Ok(None),
        Some(Value::Number(value)) => Ok(Some(Bound { value, excludes })),
        Some(_) => Err(()),
    };
    Ok(match (read(keywords[0], false)?, read(keywords[1], true)?) {
        (Some(one), Some(other)) => match types::compare(other.value, one.value).ok_or(())? {
            Ordering::Equal => Some(other),
            order if order == stricter => Some(other),
            _ => Some(one),
        },
        (one, other) => one.or(other),
    })
}

fn check_numbers(narrow: Alternative<'_>, wide: &Value, path: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    for (keywords, stricter) in
        [(["minimum", "exclusiveMinimum"], Ordering::Greater), (["maximum", "exclusiveMaximum"], Ordering::Less)]
    {
        let Ok(limit) = bound(wide, keywords, stricter) else {
            found.push(unknown(path, &format!("its `{}` or `{}` is not clear", keywords[0], keywords[1])));
            continue;
        };
        let Some(limit) = limit else { continue };
        let is_met = |own: Bound<'_>| match types::compare(own.value, limit.value) {
            Some(Ordering::Equal) => own.excludes || !limit.excludes,
            order => order == Some(stricter),
        };
        let own = bound(narrow.schema, keywords, stricter).ok().flatten();
        let is_within = match values(narrow) {
            Some(values) => values.iter().all(|value| match value {
                Value::Number(value) => is_met(Bound { value, excludes: false }),
                _ => true,
            }),
            None => own.is_some_and(is_met),
        };
        if !is_within {
            let shown = |own: Option<Bound<'_>>| match own {
                Some(own) if own.excludes => format!("{} (exclusive)", own.value),
                Some(own) => own.value.to_string(),
                None => "none".to_owned(),
            };
            found.push(violation(path, What::Bound(keyword(keywords[0])), shown(own), shown(Some(limit))));
        }
    }
    found
}

fn keyword(name: &str) -> &'static str {
    COMPARED.into_iter().find(|own| *own == name).unwrap_or_default()
}

fn check_sizes(narrow: Alternative<'_>, wide: &Value, least: &str, most: &str, path: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    let size = |value: &Value| match value {
        Value::String(text) if least == "minLength" => Some(text.chars().count() as u64),
        Value::Array(items) if least == "minItems" => Some(items.len() as u64),
        Value::Object(members) if least == "minProperties" => Some(members.len() as u64),
        _ => None,
    };
    for (name, is_least) in [(least, true), (most, false)] {
        let Some(limit) = wide.get(name) else { continue };
        let Some(limit) = limit.as_u64() else {
            found.push(unknown(path, &format!("its `{name}` is {limit}")));
            continue;
        };
        let own = narrow.schema.get(name).and_then(Value::as_u64);
        let is_met = |own: u64| if is_least { own >= limit } else { own <= limit };
        let is_within = match values(narrow) {
            Some(values) => values.iter().filter_map(|value| size(value)).all(is_met),
            None => own.is_some_and(is_met) || (is_least && limit == 0),
        };
        if !is_within {
            let shown = own.map_or("none".to_owned(), |own| own.to_string());
            found.push(violation(path, What::Bound(keyword(name)), shown, limit.to_string()));
        }
    }
    found
}

/// Whether the numbers of the narrow schema are multiples of a number. Only integers are considered.
fn is_multiple(narrow: Alternative<'_>, of: &Value) -> bool {
    let Some(of) = of.as_u64().filter(|of| *of != 0) else { return false };
    let divides = |value: &Value| value.as_i64().is_some_and(|own| own.unsigned_abs() % of == 0);
    let is_whole = narrow.types.and(Types::NUMBER) == Types::INTEGER;
    match values(narrow) {
        Some(values) => values.iter().filter(|value| value.is_number()).all(|value| divides(value)),
        None => narrow.schema.get("multipleOf").is_some_and(divides) || (of == 1 && is_whole),
    }
}
