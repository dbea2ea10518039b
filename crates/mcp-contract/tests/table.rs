//! Tests of the table of changes in docs/contracts.md: for each row, a pair of contracts with this one change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod rows;

use std::{collections::BTreeSet, fs};

use mcp_contract::{Class, compare};
use rows::{Row, contract, rows};

#[test]
fn each_change_has_the_class_of_the_table() {
    let mut faults = Vec::new();
    for Row { change, kind, class, is_one_way, old, new } in rows() {
        let changes = compare(&contract(&old), &contract(&new));

        let found: Vec<_> = changes.iter().map(|own| (own.kind, own.class, !own.is_reversible)).collect();
        if found != [(kind, class, is_one_way)] || changes[0].detail.is_empty() || changes[0].name().contains(' ') {
            let shown: Vec<String> = changes.iter().map(ToString::to_string).collect();
            faults.push(format!("{change}: {found:?}, {shown:#?}"));
        }
    }

    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn equal_contracts_have_no_changes() {
    for row in rows() {
        for own in [&row.old, &row.new] {
            assert_eq!(compare(&contract(own), &contract(own)), [], "{}", row.change);
        }
    }
}

#[test]
fn the_documentation_has_the_table() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/contracts.md")).unwrap();
    let rows = rows();
    let expected: Vec<String> = rows
        .iter()
        .map(|row| {
            let class = match (row.class, row.is_one_way) {
                (Class::Compatible, true) => "compatible, one-way".to_owned(),
                (class, _) => class.to_string(),
            };
            format!("| {} | `{}` | {class} |", row.change, row.kind)
        })
        .collect();

    let (first, last) = (page.find(&expected[0]).unwrap_or(0), expected.last().unwrap());
    let length = page[first..].find(last.as_str()).map_or(0, |end| end + last.len());
    let documented = &page[first..first + length];

    assert!(expected.len() >= 40, "{} rows", expected.len());
    assert!(documented == expected.join("\n"), "docs/contracts.md needs the table:\n{}", expected.join("\n"));
    let names: BTreeSet<&str> = rows.iter().map(|row| row.change).collect();
    assert_eq!(names.len(), rows.len(), "two rows of one name");
}
