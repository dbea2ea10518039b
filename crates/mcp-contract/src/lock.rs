//! The lock file of a function: the contract that its clients may hold, and the breaking changes that were accepted.

use std::collections::BTreeSet;

use mcp_protocol::{
    JsonObject,
    json::{self, JsonError},
};
use serde_json::{Value, json};

use crate::{Change, Class, Contract, ContractError, compare, contract::BUDGET};

/// The lock file of a function, `contract.lock.json`.
///
/// The member `contract` is the contract that was accepted last. The member `accepted` lists all breaking changes that were
/// accepted by name, oldest first, so that the diff of the file shows them to a reviewer.
#[derive(Debug, Clone, PartialEq)]
pub struct Lock {
    contract: Contract,
    accepted: Vec<String>,
}

/// Error of [`Lock::update`] and [`Lock::parse`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// There are breaking changes that `accept` does not name.
    #[error("{} breaking changes are not accepted", .0.len())]
    Breaking(Vec<Change>),
    /// `accept` has names that no breaking change has.
    #[error("no breaking change has the name {}", .0.join(", "))]
    Unused(Vec<String>),
    /// The text is not a lock file.
    #[error("could not read the lock file")]
    Contract(#[from] ContractError),
    /// The text is not JSON, or too large.
    #[error("could not parse the lock file")]
    Json(#[from] JsonError),
}

impl Lock {
    /// Creates the first lock of a function.
    pub fn new(contract: Contract) -> Self {
        Self { contract, accepted: Vec::new() }
    }

    /// Parses a lock file.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not a lock file, or exceeds the limits of [`Contract::parse`].
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let contract = Contract::parse(text)?;
        let members: JsonObject = json::read(text, BUDGET)?;
        let accepted = members.get("accepted").and_then(Value::as_array).into_iter().flatten();
        let accepted = accepted.filter_map(Value::as_str).map(ToOwned::to_owned).collect();
        Ok(Self { contract, accepted })
    }

    /// Returns the contract that clients may hold.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Returns the accepted breaking changes, oldest first: name, two spaces, old and new value.
    pub fn accepted(&self) -> &[String] {
        &self.accepted
    }

    /// Replaces the contract. `accept` lists the names of the breaking changes to accept ([`Change::name`]). Returns all
    /// changes, also compatible ones.
    ///
    /// # Errors
    ///
    /// Returns the breaking changes that `accept` does not name, or the names in `accept` that no breaking change has. The
    /// lock is unchanged after an error.
    pub fn update(&mut self, contract: Contract, accept: &[&str]) -> Result<Vec<Change>, LockError> {
        let changes = compare(&self.contract, &contract);
        let (accepted, refused): (Vec<_>, Vec<_>) =
            breaking(&changes).partition(|own| accept.contains(&own.name().as_str()));
        if !refused.is_empty() {
            return Err(LockError::Breaking(refused.into_iter().cloned().collect()));
        }
        let names: BTreeSet<String> = accepted.iter().map(|own| own.name()).collect();
        let unused: Vec<String> =
            accept.iter().filter(|own| !names.contains(**own)).map(|own| (*own).to_owned()).collect();
        if !unused.is_empty() {
            return Err(LockError::Unused(unused));
        }
        self.accepted.extend(accepted.into_iter().map(|own| format!("{}  {}", own.name(), own.detail)));
        self.contract = contract;
        Ok(changes)
    }

    /// Returns the breaking changes since an earlier version of this file that no new line of `accepted` names. There are none unless
    /// the file was edited by hand, or a merge has lost lines.
    pub fn unaccepted_since(&self, earlier: &Self) -> Vec<Change> {
        let mut known: Vec<&String> = earlier.accepted.iter().collect();
        // A line accepts one change: it may be there again for a later one.
        let is_new =
            |line: &&String| known.iter().position(|own| own == line).map(|at| known.swap_remove(at)).is_none();
        let names: BTreeSet<&str> =
            self.accepted.iter().filter(is_new).filter_map(|line| line.split_whitespace().next()).collect();
        let mut changes = compare(&earlier.contract, &self.contract);
        changes.retain(|own| own.class == Class::Breaking && !names.contains(own.name().as_str()));
        changes
    }

    /// Serializes the lock file.
    pub fn to_text(&self) -> String {
        format!("{:#}\n", json!({ "accepted": self.accepted, "contract": self.contract.members() }))
    }
}

fn breaking(changes: &[Change]) -> impl Iterator<Item = &Change> {
    changes.iter().filter(|own| own.class == Class::Breaking)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract(limit: u64) -> Contract {
        let schema = json!({ "properties": { "limit": { "type": "integer", "maximum": limit } } });
        Contract::parse(&json!({ "tools": [{ "name": "list", "inputSchema": schema }] }).to_string()).unwrap()
    }

    #[test]
    fn breaking_changes_are_accepted_by_name() {
        let mut lock = Lock::new(contract(9));
        let name = "tools.list.input.limit:bound-narrowed";

        let refused = lock.update(contract(5), &[]);
        let misspelt = lock.update(contract(5), &[name, "tools.list.input"]);
        let unchanged = lock.clone();
        let accepted = lock.update(contract(5), &[name]).unwrap();
        let again = lock.update(contract(4), &[]);
        let read = Lock::parse(&lock.to_text()).unwrap();

        assert!(matches!(refused, Err(LockError::Breaking(changes)) if changes[0].name() == name));
        assert!(matches!(misspelt, Err(LockError::Unused(names)) if names == ["tools.list.input"]));
        assert_eq!(*unchanged.contract(), contract(9));
        assert_eq!(accepted.len(), 1);
        assert!(matches!(again, Err(LockError::Breaking(_))), "an earlier name does not accept a later change");
        assert_eq!((&read, read.accepted()), (&lock, &[format!("{name}  `maximum`: 9 → 5")][..]));
    }

    #[test]
    fn a_lock_file_that_was_edited_is_an_error() {
        let text = Lock::new(contract(9)).to_text();
        assert!(Lock::parse(&text).is_ok());
        for (accepted, expected) in [
            (r#""accepted": [],,"#, "key must be a string at line 1 column 18"),
            (r#""accepted": {},"#, "this is not a contract: `accepted` is not a list of texts"),
            (r#""accepted": [3],"#, "this is not a contract: `accepted` is not a list of texts"),
            (r#""accepted": [], "note": "x","#, "this is not a contract: it has `note` beside `contract`"),
            (r#""accepted": [], "accepted": [],"#, "duplicate field `accepted`"),
        ] {
            let text =
                text.split_whitespace().collect::<Vec<_>>().join(" ").replacen(r#""accepted": [],"#, accepted, 1);

            let error = Contract::parse(&text).unwrap_err().to_string();

            assert!(error.contains(expected) && Lock::parse(&text).is_err(), "{accepted}: {error}");
        }
    }

    #[test]
    fn a_breaking_change_that_was_written_by_hand_is_found() {
        let earlier = Lock::new(contract(9));
        let narrowed = |from: u64, to: u64| format!("tools.list.input.limit:bound-narrowed  `maximum`: {from} → {to}");
        let lock = |limit, accepted: &[String]| Lock { contract: contract(limit), accepted: accepted.to_vec() };
        let mut accepted = earlier.clone();
        for limit in [7, 5] {
            accepted.update(contract(limit), &["tools.list.input.limit:bound-narrowed"]).unwrap();
        }

        let found = lock(5, &[]).unaccepted_since(&earlier);
        let by_an_old_line = lock(3, accepted.accepted()).unaccepted_since(&accepted);

        assert_eq!(found.iter().map(|own| own.detail.as_str()).collect::<Vec<_>>(), ["`maximum`: 9 → 5"]);
        assert_eq!(by_an_old_line.len(), 1, "an earlier line does not accept a later change");
        assert_eq!(accepted.unaccepted_since(&earlier), []);
        assert_eq!(lock(12, &[]).unaccepted_since(&earlier), [], "a compatible change");
        // A line that is there again accepts again: narrowed, widened, and narrowed.
        let again = lock(5, &[narrowed(9, 5), narrowed(9, 5)]);
        assert_eq!(again.unaccepted_since(&lock(9, &[narrowed(9, 5)])), []);
    }

    #[test]
    fn compatible_changes_need_no_name() {
        let mut lock = Lock::new(contract(5));

        let changes = lock.update(contract(9), &[]).unwrap();

        assert_eq!((changes[0].class, lock.accepted().len()), (Class::Compatible, 0));
        assert_eq!(*lock.contract(), contract(9));
    }
}
