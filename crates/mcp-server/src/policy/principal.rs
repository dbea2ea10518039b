//! The authenticated caller of a request.

use std::collections::BTreeSet;

use mcp_protocol::JsonObject;
use serde_json::Value;

/// An authenticated caller. All fields are verified when it is created.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Principal {
    /// The issuer's URL.
    pub issuer: String,
    /// The caller's subject at the issuer; unique only together with `issuer`.
    pub subject: String,
    /// The caller's e-mail address, from the issuer. Many issuers let users set any address: see
    /// [`verified_email`](Self::verified_email).
    pub email: Option<String>,
    /// Whether the issuer has verified the address, as it claims.
    pub email_verified: bool,
    /// The display name.
    pub name: Option<String>,
    /// Granted scopes, in the server's own names (`events:write`).
    pub scopes: BTreeSet<String>,
    /// The client that acts for the caller.
    pub client_id: Option<String>,
    /// The caller's organisation.
    pub tenant: Option<String>,
    /// Groups that the caller is in.
    pub groups: Vec<String>,
    /// Roles that the caller has.
    pub roles: Vec<String>,
    /// All claims of the issuer.
    pub claims: JsonObject,
}

impl Principal {
    /// Creates a caller with issuer and subject only.
    pub fn new(issuer: impl Into<String>, subject: impl Into<String>) -> Self {
        Self { issuer: issuer.into(), subject: subject.into(), ..Self::default() }
    }

    /// Returns the same subject without its client and claims: for limits, since a person can register any number of clients.
    #[cfg(all(feature = "interactive", feature = "store"))]
    pub(crate) fn person(&self) -> Self {
        Self::new(self.issuer.clone(), self.subject.clone())
    }

    /// Adds scopes.
    #[must_use]
    pub fn with_scopes<T: Into<String>>(mut self, scopes: impl IntoIterator<Item = T>) -> Self {
        self.scopes.extend(scopes.into_iter().map(Into::into));
        self
    }

    /// Returns the e-mail address if the issuer has verified it. Only a verified address identifies a person.
    pub fn verified_email(&self) -> Option<&str> {
        self.email.as_deref().filter(|_| self.email_verified)
    }

    /// Reports whether this is the caller's verified e-mail address, ignoring the case of ASCII letters.
    pub fn has_verified_email(&self, address: &str) -> bool {
        self.verified_email().is_some_and(|own| own.eq_ignore_ascii_case(address))
    }

    /// Reports whether a claim has this value, or is a list that contains it; `email` only if the issuer has verified it.
    pub(crate) fn has_claim(&self, name: &str, value: &Value) -> bool {
        match self.claims.get(name) {
            _ if name == "email" => value.as_str().is_some_and(|address| self.has_verified_email(address)),
            Some(Value::Array(list)) => list.contains(value),
            Some(own) => own == value,
            None => false,
        }
    }
}
