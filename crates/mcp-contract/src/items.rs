//! Comparison of contracts, item by item.

use std::collections::{BTreeMap, BTreeSet};

use mcp_protocol::json::shortened;
use serde_json::Value;

use crate::{
    change::{Change, Class},
    contract::{Contract, LISTS},
    schema::{self, Side},
};

/// Maximum number of changes that are reported.
const MAX_CHANGES: usize = 10_000;
/// Hints of a tool: name, default value, and the value on which clients rely.
const HINTS: [(&str, bool, bool); 4] = [
    ("readOnlyHint", false, true),
    ("destructiveHint", true, false),
    ("idempotentHint", false, true),
    ("openWorldHint", true, false),
];

/// Compares two contracts. The changes are sorted by class, breaking ones first, and location.
pub fn compare(old: &Contract, new: &Contract) -> Vec<Change> {
    let mut changes = Vec::new();
    for (list, key) in LISTS {
        compare_list(old.items(list), new.items(list), list, key, &mut changes);
    }
    compare_capabilities(old.get("capabilities"), new.get("capabilities"), "capabilities", &mut changes);
    if old.get("instructions") != new.get("instructions") {
        changes.push(Change::new(Class::Wording, "instructions", "text", "the instructions differ"));
    }
    // Only hints that both contracts have are compared: `mcpl` does not read resources, and so has no hints of them.
    if let (Value::Object(olds), Value::Object(news)) = (old.get("caching"), new.get("caching")) {
        for (name, own) in olds {
            if let Some(other) = news.get(name).filter(|other| *other != own) {
                let detail = format!("{} → {}", shortened(own), shortened(other));
                changes.push(Change::new(Class::Compatible, &format!("caching.{name}"), "caching", detail));
            }
        }
    }
    let known: Vec<&str> =
        LISTS.iter().map(|(list, _)| *list).chain(["capabilities", "instructions", "caching"]).collect();
    let others: BTreeSet<&String> = old.members().keys().chain(new.members().keys()).collect();
    for name in others.into_iter().filter(|name| !known.contains(&name.as_str())) {
        if old.get(name) != new.get(name) {
            changes.push(unknown(name, name));
        }
    }
    changes.sort_by(|one, other| (one.class, &one.at, one.kind).cmp(&(other.class, &other.at, other.kind)));
    if changes.len() > MAX_CHANGES {
        changes.truncate(MAX_CHANGES);
        let detail = format!("there are more than {MAX_CHANGES} changes");
        changes.insert(0, Change::new(Class::Breaking, "contract", "not-comparable", detail));
    }
    changes
}

fn unknown(at: &str, name: &str) -> Change {
    Change::new(
        Class::Breaking,
        at,
        "not-comparable",
        format!("`{}` differs, whose meaning is not known", shortened(name)),
    )
}

fn compare_list(olds: &[Value], news: &[Value], list: &str, key: &str, changes: &mut Vec<Change>) {
    let by_name = |items: &'_ [Value]| -> BTreeMap<String, usize> {
        let name = |own: &Value| own[key].as_str().unwrap_or_default().to_owned();
        items.iter().enumerate().map(|(position, own)| (name(own), position)).collect()
    };
    let (old_names, new_names) = (by_name(olds), by_name(news));
    for (name, position) in &old_names {
        if changes.len() > MAX_CHANGES {
            return;
        }
        let at = format!("{list}.{name}");
        match new_names.get(name) {
            Some(new) => compare_item(&olds[*position], &news[*new], list, &at, changes),
            None => changes.push(Change::new(Class::Breaking, &at, "item-removed", "it is not listed any more")),
        }
    }
    for name in new_names.keys().filter(|name| !old_names.contains_key(*name)).take(MAX_CHANGES + 1) {
        changes.push(
            Change::new(Class::Compatible, &format!("{list}.{name}"), "item-added", "it is listed now").one_way(),
        );
    }
}

fn compare_item(old: &Value, new: &Value, list: &str, at: &str, changes: &mut Vec<Change>) {
    if old == new {
        return;
    }
    let before = changes.len();
    let members: BTreeSet<&String> =
        old.as_object().into_iter().chain(new.as_object()).flat_map(|own| own.keys()).collect();
    for member in members {
        let (one, other) = (&old[member.as_str()], &new[member.as_str()]);
        if one == other {
            continue;
        }
        let from_to = || format!("`{member}`: {} → {}", shortened(one), shortened(other));
        match (list, member.as_str()) {
            (_, "title" | "description" | "icons") => {
                changes.push(Change::new(Class::Wording, at, "text", from_to()));
            }
            ("tools", "inputSchema") => {
                changes.extend(schema::compare(one, other, Side::Input, &format!("{at}.input")));
            }
            ("tools", "outputSchema") => compare_output(one, other, &format!("{at}.output"), changes),
            ("tools", "annotations") => compare_hints(one, other, at, changes),
            ("prompts", "arguments") => compare_arguments(one, other, at, changes),
            (_, "_meta") => compare_meta(one, other, at, changes),
            ("resources" | "resourceTemplates", "mimeType") => {
                changes.push(Change::new(Class::Breaking, at, "media-type-changed", from_to()));
            }
            // Clients read a resource by its URI, not by its name.
            ("resources" | "resourceTemplates", "name" | "size" | "annotations") => {
                changes.push(Change::new(Class::Compatible, at, "resource-details", from_to()));
            }
            _ => changes.push(unknown(at, member)),
        }
    }
    if changes.len() == before {
        changes.push(Change::new(Class::Compatible, at, "rewritten", "another form of the same"));
    }
}

fn compare_output(old: &Value, new: &Value, at: &str, changes: &mut Vec<Change>) {
    match (old, new) {
        (Value::Null, _) => {
            // Clients with the new list expect structured content, which results of the old version do not have.
            changes.push(
                Change::new(Class::Compatible, at, "output-added", "results have structured content now").one_way(),
            );
        }
        (_, Value::Null) => {
            changes.push(Change::new(
                Class::Breaking,
                at,
                "output-removed",
                "results have no structured content any more",
            ));
        }
        _ => changes.extend(schema::compare(old, new, Side::Output, at)),
    }
}

/// Compares hints. Clients rely on them: they ask the user before a call of a tool that writes, and retry an idempotent one.
fn compare_hints(old: &Value, new: &Value, at: &str, changes: &mut Vec<Change>) {
    let at = format!("{at}.annotations");
    for (hint, default, promise) in HINTS {
        let value = |own: &Value| own[hint].as_bool().unwrap_or(default);
        let (before, after) = (value(old), value(new));
        if before == after {
            continue;
        }
        let (class, kind) = match after == promise {
            true => (Class::Compatible, "hint-strengthened"),
            false => (Class::Breaking, "hint-weakened"),
        };
        let change = Change::new(class, &format!("{at}.{hint}"), kind, format!("{before} → {after}"));
        changes.push(if after == promise { change.one_way() } else { change });
    }
    if old["title"] != new["title"] {
        changes.push(Change::new(Class::Wording, &at, "text", "the title differs"));
    }
    let others: BTreeSet<&String> =
        old.as_object().into_iter().chain(new.as_object()).flat_map(|own| own.keys()).collect();
    for name in others {
        if name != "title" && !HINTS.iter().any(|(hint, ..)| hint == name) && old[name.as_str()] != new[name.as_str()] {
            changes.push(unknown(&at, name));
        }
    }
}

fn compare_arguments(old: &Value, new: &Value, at: &str, changes: &mut Vec<Change>) {
    let by_name = |own: &Value| -> BTreeMap<String, (bool, Value)> {
        let argument = |own: &Value| {
            let text = Value::Array(vec![own["title"].clone(), own["description"].clone()]);
            (own["name"].as_str().unwrap_or_default().to_owned(), (own["required"] == true, text))
        };
        own.as_array().into_iter().flatten().map(argument).collect()
    };
    let (olds, news) = (by_name(old), by_name(new));
    for (name, (is_required, text)) in &olds {
        let at = format!("{at}.{name}");
        let Some((requires, new_text)) = news.get(name) else {
            changes.push(Change::new(
                Class::Breaking,
                &at,
                "argument-removed",
                "the argument is not declared any more",
            ));
            continue;
        };
        match (is_required, requires) {
            (false, true) => {
                changes.push(Change::new(Class::Breaking, &at, "argument-required", "the argument is required now"));
            }
            (true, false) => {
                changes.push(
                    Change::new(Class::Compatible, &at, "argument-optional", "the argument is optional now").one_way(),
                );
            }
            _ => {}
        }
        if text != new_text {
            changes.push(Change::new(Class::Wording, &at, "text", "title or description differ"));
        }
    }
    for (name, (is_required, _)) in news.iter().filter(|(name, _)| !olds.contains_key(*name)) {
        let at = format!("{at}.{name}");
        changes.push(match is_required {
            true => Change::new(Class::Breaking, &at, "required-argument-added", "a new argument, which is required"),
            false => Change::new(Class::Compatible, &at, "argument-added", "a new argument").one_way(),
        });
    }
}

fn compare_meta(old: &Value, new: &Value, at: &str, changes: &mut Vec<Change>) {
    let keys: BTreeSet<&String> =
        old.as_object().into_iter().chain(new.as_object()).flat_map(|own| own.keys()).collect();
    for key in keys {
        let (one, other) = (&old[key.as_str()], &new[key.as_str()]);
        if one == other {
            continue;
        }
        match (key.as_str(), one) {
            ("securitySchemes", _) => changes.extend(compare_access(one, other, at)),
            (_, Value::Null) => {
                let detail = format!("`{}` is new", shortened(key));
                changes.push(Change::new(Class::Compatible, &format!("{at}._meta"), "meta-added", detail));
            }
            _ => changes.push(unknown(&format!("{at}._meta"), key)),
        }
    }
}

/// Returns the alternatives of `securitySchemes`: the scopes of a token, or `None` for access without a token. `None` if a
/// scheme is unknown.
fn admissions(schemes: &Value) -> Option<Vec<Option<BTreeSet<&str>>>> {
    // Without `securitySchemes`, no token is declared as required.
    let Some(schemes) = schemes.as_array() else { return schemes.is_null().then(|| vec![None]) };
    let admission = |scheme: &'_ Value| match scheme["type"].as_str() {
        Some("noauth") => Some(None),
        Some("oauth2") => None,
        _ => None,
    };
    let mut found = Vec::new();
    for scheme in schemes {
        if scheme["type"] == "oauth2" {
            let scopes = scheme["scopes"].as_array().into_iter().flatten();
            found.push(Some(scopes.filter_map(Value::as_str).collect()));
        } else {
            found.push(admission(scheme)?);
        }
    }
    Some(found)
}

fn compare_access(old: &Value, new: &Value, at: &str) -> Option<Change> {
    let at = format!("{at}.scopes");
    let (Some(olds), Some(news)) = (admissions(old), admissions(new)) else {
        return Some(unknown(&at, "securitySchemes"));
    };
    // Whether one of the alternatives admits a caller.
    let admits = |ways: &[Option<BTreeSet<&str>>], caller: &Option<BTreeSet<&str>>| {
        ways.iter().any(|way| match (way, caller) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(needed), Some(had)) => needed.is_subset(had),
        })
    };
    let is_narrowed = olds.iter().any(|caller| !admits(&news, caller));
    let is_widened = news.iter().any(|caller| !admits(&olds, caller));
    let shown = |ways: &[Option<BTreeSet<&str>>]| {
        let shown = ways.iter().map(|way| match way {
            None => "no token".to_owned(),
            Some(scopes) if scopes.is_empty() => "a token".to_owned(),
            Some(scopes) => scopes.iter().copied().collect::<Vec<_>>().join(" "),
        });
        shown.collect::<Vec<_>>().join(" or ")
    };
    let detail = format!("{} → {}", shown(&olds), shown(&news));
    match (is_narrowed, is_widened) {
        (true, _) => Some(Change::new(Class::Breaking, &at, "access-narrowed", detail)),
        (false, true) => Some(Change::new(Class::Compatible, &at, "access-widened", detail).one_way()),
        (false, false) => None,
    }
}

fn compare_capabilities(old: &Value, new: &Value, at: &str, changes: &mut Vec<Change>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Value::Object(olds), Value::Object(news)) => {
            let names: BTreeSet<&String> = olds.keys().chain(news.keys()).collect();
            for name in names {
                compare_capabilities(&old[name.as_str()], &new[name.as_str()], &format!("{at}.{name}"), changes);
            }
        }
        (Value::Null | Value::Bool(false), _) => {
            changes.push(Change::new(Class::Compatible, at, "capability-added", "the capability is new").one_way());
        }
        (_, Value::Null | Value::Bool(false)) => {
            changes.push(Change::new(
                Class::Breaking,
                at,
                "capability-removed",
                "the capability is not declared any more",
            ));
        }
        _ => changes.push(Change::new(Class::Breaking, at, "not-comparable", "the capability differs")),
    }
}
