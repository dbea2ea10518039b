//! Comparison of annotations: descriptions, defaults and `x-mcp-header`.

use std::collections::BTreeMap;

use mcp_protocol::json::shortened;
use serde_json::Value;

use super::Side;
use crate::change::{Change, Class};

/// Annotation that makes clients repeat a parameter in a header.
const MIRRORED: &str = "x-mcp-header";
/// Maximum number of subschemas whose annotations are compared.
const MAX_PLACES: usize = 10_000;

/// Compares the annotations of the subschemas that both schemas have.
pub(super) fn compare(old: &Value, new: &Value, side: Side, at: &str) -> Vec<Change> {
    let (mut olds, mut news) = (BTreeMap::new(), BTreeMap::new());
    collect(old, String::new(), &mut olds);
    collect(new, String::new(), &mut news);
    let mut changes = Vec::new();
    for (path, old) in &olds {
        let Some(new) = news.get(path) else { continue };
        let at = format!("{at}{path}");
        let differs = |keyword: &str| old.get(keyword) != new.get(keyword);
        let of = |own: &Value, keyword: &str| own.get(keyword).map_or("none".to_owned(), shortened);
        let from_to = |keyword: &str| format!("`{keyword}`: {} → {}", of(old, keyword), of(new, keyword));
        if side == Side::Input && differs(MIRRORED) {
            // A server rejects a request without the header.
            let (class, kind) = match new.get(MIRRORED) {
                Some(_) => (Class::Breaking, "header-added"),
                None => (Class::Compatible, "header-removed"),
            };
            let change = Change::new(class, &at, kind, from_to(MIRRORED));
            changes.push(if old.get(MIRRORED).is_some() { change.one_way() } else { change });
        }
        if differs("default") {
            changes.push(Change::new(Class::Compatible, &at, "default-changed", from_to("default")));
        }
        for keyword in ["title", "description", "examples", "deprecated", "readOnly", "writeOnly", "$comment"] {
            if differs(keyword) {
                changes.push(Change::new(Class::Wording, &at, "schema-text", from_to(keyword)));
            }
        }
        let extensions = old.as_object().into_iter().chain(new.as_object()).flat_map(|own| own.keys());
        let mut extensions: Vec<&String> = extensions.filter(|own| own.starts_with("x-") && *own != MIRRORED).collect();
        extensions.sort();
        extensions.dedup();
        for keyword in extensions.into_iter().filter(|keyword| differs(keyword)) {
            changes.push(Change::new(Class::Wording, &at, "schema-extension", from_to(keyword)));
        }
    }
    changes
}

/// Collects the subschemas by their paths, without following references.
fn collect<'a>(schema: &'a Value, path: String, found: &mut BTreeMap<String, &'a Value>) {
    let Value::Object(members) = schema else { return };
    if found.len() >= MAX_PLACES {
        return;
    }
    for (keyword, value) in members {
        match (keyword.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(map)) => {
                let parent = if keyword == "properties" { String::new() } else { format!(".{keyword}") };
                map.iter().for_each(|(name, own)| collect(own, format!("{path}{parent}.{name}"), found));
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(list)) => {
                let parent = if keyword == "prefixItems" { "" } else { "|" };
                list.iter()
                    .enumerate()
                    .for_each(|(position, own)| collect(own, format!("{path}{parent}[{position}]"), found));
            }
            ("items", own) => collect(own, format!("{path}[]"), found),
            ("additionalProperties", own) => collect(own, format!("{path}.*"), found),
            _ => {}
        }
    }
    found.insert(path, schema);
}
