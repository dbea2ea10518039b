//! Who makes a request.

use std::collections::BTreeSet;

use mcp_protocol::JsonObject;
use serde_json::Value;

/// An authenticated caller. All of it is verified when it is made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Principal {
    /// Who vouches for the caller: the issuer's URL.
    pub issuer: String,
    /// The caller's name at the issuer; only the pair with `issuer` is unique.
    pub subject: String,
    /// The caller's e-mail address, as the issuer says it. Many issuers let people write any address there: see
    /// [`verified_email`](Self::verified_email).
    pub email: Option<String>,
    /// Whether the issuer says that it has verified the address.
    pub email_verified: bool,
    /// A name for people.
    pub name: Option<String>,
    /// What the caller was granted, in the server's own words (`events:write`).
    pub scopes: BTreeSet<String>,
    /// The client that acts for the caller.
    pub client_id: Option<String>,
    /// The caller's organisation.
    pub tenant: Option<String>,
    /// Groups that the caller is in.
    pub groups: Vec<String>,
    /// Roles that the caller has.
    pub roles: Vec<String>,
    /// Everything that the issuer says, by its own names.
    pub claims: JsonObject,
}

impl Principal {
    /// A caller of whom nothing else is known.
    pub fn new(issuer: impl Into<String>, subject: impl Into<String>) -> Self {
        Self { issuer: issuer.into(), subject: subject.into(), ..Self::default() }
    }

    /// With scopes.
    #[must_use]
    pub fn with_scopes<T: Into<String>>(mut self, scopes: impl IntoIterator<Item = T>) -> Self {
        self.scopes.extend(scopes.into_iter().map(Into::into));
        self
    }

    /// The e-mail address if the issuer has verified it: the only one that identifies a person.
    pub fn verified_email(&self) -> Option<&str> {
        self.email.as_deref().filter(|_| self.email_verified)
    }

    /// Whether this is the caller's e-mail address, and the issuer has verified it. Upper and lower case of ASCII are the
    /// same.
    pub fn has_verified_email(&self, address: &str) -> bool {
        self.verified_email().is_some_and(|own| own.eq_ignore_ascii_case(address))
    }

    /// Whether a claim has this value, or is a list that holds it; `email` has it only if the issuer has verified it.
    pub(crate) fn has_claim(&self, name: &str, value: &Value) -> bool {
        match self.claims.get(name) {
            _ if name == "email" => value.as_str().is_some_and(|address| self.has_verified_email(address)),
            Some(Value::Array(list)) => list.contains(value),
            Some(own) => own == value,
            None => false,
        }
    }
}
