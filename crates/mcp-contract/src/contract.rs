//! Contracts, and the parser of contract files and lock files.

use std::collections::BTreeSet;

use mcp_protocol::{
    JsonObject,
    json::{self, Budget, JsonError},
};
use serde_json::Value;

/// Maximum size of a contract in bytes.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Memory budget of a parsed contract.
pub(crate) const BUDGET: Budget = Budget::memory(64 * 1024 * 1024);

/// Lists of a contract, and the member that identifies an item.
pub(crate) const LISTS: [(&str, &str); 4] =
    [("tools", "name"), ("prompts", "name"), ("resources", "uri"), ("resourceTemplates", "uriTemplate")];

/// A server's contract with its clients: capabilities, instructions, and the lists of tools, prompts, resources and
/// resource templates.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    members: JsonObject,
}

/// Error of [`Contract::parse`] and [`Contract::new`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// The text has more than [`MAX_BYTES`].
    #[error("the contract has {0} bytes: at most {MAX_BYTES} are allowed")]
    TooLong(usize),
    /// The text is not JSON, or exceeds its memory budget.
    #[error("could not parse the contract: {0}")]
    Json(#[from] JsonError),
    /// The JSON is not a contract.
    #[error("this is not a contract: {0}")]
    Shape(String),
}

impl Contract {
    /// Parses a contract file, or the contract in a lock file.
    ///
    /// # Errors
    ///
    /// Returns an error if the text exceeds [`MAX_BYTES`] or its memory budget, or is not a contract.
    pub fn parse(text: &str) -> Result<Self, ContractError> {
        if text.len() > MAX_BYTES {
            return Err(ContractError::TooLong(text.len()));
        }
        let mut members: JsonObject = json::read(text, BUDGET)?;
        if let Some(Value::Object(contract)) = members.remove("contract") {
            check_lock(&members)?;
            members = contract;
        }
        Self::new(members)
    }

    /// Creates a contract from the members `tools`, `prompts`, `resources`, `resourceTemplates`, `capabilities`,
    /// `instructions` and `caching`. A missing list counts as empty.
    ///
    /// # Errors
    ///
    /// Returns an error if a list is not an array of objects with names, or has two items with the same name.
    pub fn new(members: JsonObject) -> Result<Self, ContractError> {
        let mut listed = 0;
        for (list, key) in LISTS {
            let items = match members.get(list) {
                None => continue,
                Some(Value::Array(items)) => items,
                Some(_) => return Err(ContractError::Shape(format!("`{list}` is not an array"))),
            };
            let mut names = BTreeSet::new();
            for item in items {
                listed += 1;
                let Some(name) = item.get(key).and_then(Value::as_str) else {
                    return Err(ContractError::Shape(format!("an item of `{list}` has no `{key}`")));
                };
                if !names.insert(name) {
                    let name = json::shortened(name);
                    return Err(ContractError::Shape(format!("`{list}` has two items with the {key} `{name}`")));
                }
            }
        }
        if listed == 0 && !members.contains_key("capabilities") {
            return Err(ContractError::Shape("it has no `capabilities` and lists nothing".to_owned()));
        }
        Ok(Self { members })
    }

    pub(crate) fn get(&self, member: &str) -> &Value {
        self.members.get(member).unwrap_or(&Value::Null)
    }

    pub(crate) fn items(&self, list: &str) -> &[Value] {
        self.get(list).as_array().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn members(&self) -> &JsonObject {
        &self.members
    }
}

/// Checks the members of a lock file beside its contract: one that was edited by hand may have others.
fn check_lock(members: &JsonObject) -> Result<(), ContractError> {
    if let Some(other) = members.keys().find(|name| *name != "accepted") {
        let other = json::shortened(other);
        return Err(ContractError::Shape(format!("it has `{other}` beside `contract`")));
    }
    let accepted = members.get("accepted").map(|own| own.as_array().map(|own| own.iter().all(Value::is_string)));
    match accepted {
        None | Some(Some(true)) => Ok(()),
        Some(Some(false) | None) => Err(ContractError::Shape("`accepted` is not a list of texts".to_owned())),
    }
}
