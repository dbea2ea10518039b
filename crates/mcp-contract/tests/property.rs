//! The definition of "compatible": calls that are valid under the old schema are accepted under the new one, and results
//! of the new version are valid under the old schema, with all their members.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod generated;

use std::collections::BTreeMap;

use generated::{Random, mutated, root, value_of};
use jsonschema::Validator;
use mcp_contract::{Change, Class, Contract, compare};
use serde_json::{Value, json};

/// Number of values for each pair of schemas.
const VALUES: usize = 1000;

/// Number of pairs of schemas that are classified as compatible.
const PAIRS: usize = 100;

fn validator(schema: &Value) -> Validator {
    jsonschema::options().should_validate_formats(true).build(schema).unwrap()
}

fn changes(member: &str, old: &Value, new: &Value) -> Vec<Change> {
    let contract = |schema: &Value| {
        let tool = match member {
            "inputSchema" => json!({ "name": "t", "inputSchema": schema }),
            _ => json!({ "name": "t", "inputSchema": {}, member: schema }),
        };
        Contract::parse(&json!({ "tools": [tool] }).to_string()).unwrap()
    };
    compare(&contract(old), &contract(new))
}

/// Returns values that are valid under a schema: `VALUES` of them, or as many as are found.
fn valid_values(random: &mut Random, schema: &Value) -> impl Iterator<Item = Value> {
    let is_valid = validator(schema);
    let values = (0..VALUES * 20).map(|_| value_of(random, schema, schema, 6));
    values.filter(move |value| is_valid.is_valid(value)).take(VALUES)
}

/// Compares pairs of schemas until enough are classified as compatible. Returns the number of changes of each kind.
fn compatible_pairs(
    member: &str,
    pairs: usize,
    seed: u64,
    narrow_is_old: bool,
) -> BTreeMap<(Class, &'static str), usize> {
    let mut random = Random::new(seed);
    let (mut compatible, mut kinds) = (0, BTreeMap::new());
    for attempt in 0.. {
        assert!(attempt < 100 * pairs, "only {compatible} pairs are compatible");
        let old = root(&mut random);
        let new = mutated(&mut random, &old);
        let changes = changes(member, &old, &new);
        assert_eq!(changes.is_empty(), old == new, "{old} {new}");
        changes.iter().for_each(|own| *kinds.entry((own.class, own.kind)).or_default() += 1);
        if changes.is_empty() || changes.iter().any(|own| own.class == Class::Breaking) {
            continue;
        }
        let (narrow, wide) = if narrow_is_old { (&old, &new) } else { (&new, &old) };
        let accepts = validator(wide);
        let mut count = 0;
        for value in valid_values(&mut random, narrow) {
            assert!(accepts.is_valid(&value), "{value} is valid under {narrow}, but not under {wide}: {changes:#?}");
            count += 1;
        }
        compatible += usize::from(count == VALUES);
        if compatible == pairs {
            break;
        }
    }
    kinds
}

#[test]
fn valid_calls_stay_valid_after_a_compatible_change() {
    let kinds = compatible_pairs("inputSchema", PAIRS, 1, true);

    // The generator makes changes of all classes and of most kinds.
    assert!(kinds.len() >= 20, "{kinds:#?}");
}

#[test]
fn results_after_a_compatible_change_are_valid_under_the_old_schema() {
    let kinds = compatible_pairs("outputSchema", PAIRS, 2, false);

    assert!(kinds.len() >= 20, "{kinds:#?}");
}

/// Completes the tests above, which a comparison that classifies everything as breaking would pass. Most breaking changes must
/// have a value that shows them.
#[test]
fn most_breaking_changes_have_a_counterexample() {
    let mut random = Random::new(3);
    let (mut breaking, mut refuted) = (0, 0);
    while breaking < 100 {
        let old = root(&mut random);
        let new = mutated(&mut random, &old);
        let changes = changes("inputSchema", &old, &new);
        // A removed parameter is breaking even if the new schema ignores it.
        if !changes.iter().any(|own| own.class == Class::Breaking && own.kind != "member-removed") {
            continue;
        }
        breaking += 1;
        let accepts = validator(&new);
        refuted += usize::from(valid_values(&mut random, &old).any(|value| !accepts.is_valid(&value)));
    }
    assert!(refuted * 10 >= breaking * 7, "{refuted} of {breaking} breaking changes have a counterexample");
}
