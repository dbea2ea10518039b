//! Comparison of two schemas.
//!
//! For arguments, the new schema must accept all values that the old schema accepts. For results, the old schema must accept
//! all values that the new schema accepts. Violations in this direction are breaking. Violations in the other direction are
//! compatible changes: they affect only clients with the new lists whose requests reach the old version.

mod annotations;
mod base;
mod document;
mod subset;
mod types;
mod violation;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::change::{Change, Class};
use document::Document;
use subset::{NO_ALTERNATIVE, Old, Subset};
use violation::{Declaration, Member, Violation, What};

/// Number of steps of the comparison of one pair of schemas.
const FUEL: usize = 200_000;
/// Supported dialects, in addition to the default without `$schema`.
const DIALECTS: [&str; 2] =
    ["https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2020-12/schema#"];

/// Whether a schema describes arguments or results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Arguments of a tool, sent by clients.
    Input,
    /// Structured results, sent by servers.
    Output,
}

/// Compares two schemas at a location such as `tools.log_event.input`.
pub(crate) fn compare(old: &Value, new: &Value, side: Side, at: &str) -> Vec<Change> {
    if old == new {
        return Vec::new();
    }
    if dialect(old) != dialect(new) {
        return vec![Change::new(Class::Breaking, at, "not-comparable", "`$schema` differs")];
    }
    let forward = violations(old, new, side, true);
    let backward = violations(old, new, side, false);
    let mut changes = merge(side, at, &forward, &backward);
    changes.extend(annotations::compare(old, new, side, at));
    if changes.is_empty() {
        changes.push(Change::new(Class::Compatible, at, "rewritten", "another schema that accepts the same values"));
    }
    changes
}

fn dialect(schema: &Value) -> Option<&str> {
    schema.get("$schema").and_then(Value::as_str).filter(|own| !DIALECTS.contains(own))
}

fn violations(old: &Value, new: &Value, side: Side, is_forward: bool) -> Vec<Violation> {
    let is_old_narrow = (side == Side::Input) == is_forward;
    let (narrow, wide) = if is_old_narrow { (old, new) } else { (new, old) };
    let keeps = match (is_forward, is_old_narrow) {
        (false, _) => None,
        (true, true) => Some(Old::Narrow),
        (true, false) => Some(Old::Wide),
    };
    let mut fuel = FUEL;
    let mut subset = Subset {
        narrow: Document::new(narrow),
        wide: Document::new(wide),
        keeps,
        fuel: &mut fuel,
        depth: 0,
        active: Vec::new(),
        same_definitions: has_local_references(old)
            && has_local_references(new)
            && ["$defs", "definitions"].iter().all(|own| old.get(own) == new.get(own)),
    };
    subset.child(narrow, wide, "")
}

/// Whether all references are to definitions of the same document.
fn has_local_references(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members.iter().all(|(keyword, value)| match (keyword.as_str(), value) {
            ("$ref", Value::String(target)) => target.starts_with("#/$defs/") || target.starts_with("#/definitions/"),
            ("$dynamicRef" | "$recursiveRef" | "$id", Value::String(_)) => false,
            (_, value) => has_local_references(value),
        }),
        Value::Array(items) => items.iter().all(has_local_references),
        _ => true,
    }
}

/// Merges the violations of both directions at one location into one change.
fn merge(side: Side, at: &str, forward: &[Violation], backward: &[Violation]) -> Vec<Change> {
    let mut places: BTreeMap<(&str, u8, &str), [Option<&Violation>; 2]> = BTreeMap::new();
    for (direction, violations) in [forward, backward].into_iter().enumerate() {
        for own in violations {
            let (topic, name) = topic(&own.what);
            let place = places.entry((&own.path, topic, name)).or_default();
            // The removal of a member covers its other violations.
            if place[direction].is_none() || is_removal(&own.what) {
                place[direction] = Some(own);
            }
        }
    }
    places
        .into_iter()
        .filter_map(|((path, ..), [forward, backward])| change(side, at, path, forward, backward))
        .collect()
}

fn is_removal(what: &What) -> bool {
    matches!(what, What::Member(member) if member.is_removed)
}

/// Returns the topic of a violation. Violations of one topic at one location are one change.
fn topic(what: &What) -> (u8, &str) {
    match what {
        What::Type | What::Null | What::Alternative => (0, ""),
        What::Choices => (1, ""),
        What::Bound(keyword) => (2, keyword),
        What::Keyword(keyword) => (3, keyword),
        What::Required | What::Member(_) => (4, ""),
        What::Open => (5, ""),
        What::Unknown => (6, ""),
    }
}

fn change(
    side: Side,
    at: &str,
    path: &str,
    forward: Option<&Violation>,
    backward: Option<&Violation>,
) -> Option<Change> {
    let violation = forward.or(backward)?;
    let is_old_narrow = (side == Side::Input) == forward.is_some();
    let (before, after) = match is_old_narrow {
        true => (&violation.narrow, &violation.wide),
        false => (&violation.wide, &violation.narrow),
    };
    let extent = match (forward.is_some() && backward.is_some(), is_old_narrow) {
        (true, _) => Extent::Both,
        (false, true) => Extent::Less,
        (false, false) => Extent::More,
    };
    let (kind, detail) = match &violation.what {
        What::Member(member) => {
            let (old, new) = if is_old_narrow { (member.narrow, member.wide) } else { (member.wide, member.narrow) };
            describe_member(side, forward.is_some(), old, new)
        }
        what => describe(side, what, extent, before, after),
    };
    let (kind, detail) = match (&violation.what, forward) {
        // The new schema accepts all old values.
        (What::Unknown, None) => {
            ("rewritten", "another schema, which may accept more values or promise less".to_owned())
        }
        _ => (kind, detail),
    };
    let class = if forward.is_some() { Class::Breaking } else { Class::Compatible };
    let path = if path.is_empty() || path.starts_with('[') { path.to_owned() } else { format!(".{path}") };
    let change = Change::new(class, &format!("{at}{path}"), kind, detail);
    // Servers are assumed to send no undeclared members, also where the schema allows them.
    let is_by_chance = |what: &What| {
        side == Side::Output
            && match what {
                What::Member(member) => Member::is_by_chance(*member),
                What::Open => true,
                _ => false,
            }
    };
    Some(match backward {
        Some(backward) if !is_by_chance(&backward.what) => change.one_way(),
        _ => change,
    })
}

fn describe(side: Side, what: &What, extent: Extent, before: &str, after: &str) -> (&'static str, String) {
    let from_to = format!("{before} → {after}");
    match what {
        What::Type => (extent.of("type-narrowed", "type-widened", "type-changed"), from_to),
        What::Null => (extent.of("null-removed", "null-added", "type-changed"), from_to),
        What::Choices => (extent.of("choice-removed", "choice-added", "choices-changed"), from_to),
        What::Bound(keyword) => {
            (extent.of("bound-narrowed", "bound-widened", "bound-changed"), format!("`{keyword}`: {from_to}"))
        }
        What::Keyword(keyword) => (
            extent.of("constraint-added", "constraint-removed", "constraint-changed"),
            format!("`{keyword}`: {from_to}"),
        ),
        What::Required => {
            let noun = noun(side);
            let kind = if after == "required" { "member-required" } else { "member-optional" };
            (kind, format!("the {noun} was {before} and is {after}"))
        }
        What::Open => {
            (extent.of("object-closed", "object-opened", "object-changed"), format!("other members: {from_to}"))
        }
        What::Alternative => match before == NO_ALTERNATIVE {
            true => ("alternative-added", format!("{after} is accepted, too")),
            false => ("alternative-removed", format!("{before} is no alternative any more")),
        },
        What::Unknown | What::Member(_) => ("not-comparable", format!("the schemas cannot be compared: {before}")),
    }
}

fn describe_member(side: Side, is_breaking: bool, old: Declaration, new: Declaration) -> (&'static str, String) {
    let noun = noun(side);
    match (old, new, side) {
        (_, Declaration::None, _) => ("member-removed", format!("the {noun} is not declared any more")),
        (Declaration::None, Declaration::Required, Side::Input) => (
            "required-member-added",
            format!("a required {noun}, which calls of clients with the old list do not have"),
        ),
        (Declaration::None, _, Side::Input) if is_breaking => (
            "member-added-to-open-object",
            format!("a new {noun} in an object that accepted any value for it: `deny_unknown_fields` closes an object"),
        ),
        (Declaration::None, _, Side::Output) if is_breaking => {
            ("member-added-to-closed-object", format!("a new {noun} in an object that had no others"))
        }
        (Declaration::None, ..) => ("member-added", format!("a new {noun}")),
        (_, Declaration::Required, _) => ("member-required", format!("the {noun} is required")),
        _ => ("member-optional", format!("the {noun} is optional")),
    }
}

const fn noun(side: Side) -> &'static str {
    match side {
        Side::Input => "parameter",
        Side::Output => "member",
    }
}

/// Whether the new schema accepts fewer values than the old one, more, or others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Less,
    More,
    Both,
}

impl Extent {
    const fn of(self, less: &'static str, more: &'static str, both: &'static str) -> &'static str {
        match self {
            Self::Less => less,
            Self::More => more,
            Self::Both => both,
        }
    }
}
