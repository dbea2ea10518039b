//! Access rules and their enforcement.
//!
//! An item (a tool, a prompt, a resource, a template) declares the requirements on its callers. [`Policy::permit`] is
//! checked wherever an item is reached, before the author's code runs.

mod handler_scopes;
#[cfg(any(feature = "limits", all(feature = "interactive", feature = "store")))]
pub(crate) mod network;
pub(crate) mod principal;
#[cfg(feature = "pseudonyms")]
pub(crate) mod pseudonym;
pub(crate) mod requirement;

use std::collections::{BTreeMap, BTreeSet};

use self::{principal::Principal, requirement::Requirement};
use crate::{Caching, CallError};

/// Authentication of callers and enforcement of access rules, which a deployment configures.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Authorization {
    /// No authentication is configured: every caller may use every item. A server with access rules does not start.
    #[default]
    Unconfigured,
    /// No authentication, and access rules are not enforced: every caller may use every item.
    DangerouslyOff,
    /// Each request has a principal or is anonymous, and access rules are enforced.
    Required(Enforcement),
}

/// Enforcement of access rules.
#[derive(Debug, Clone, Default)]
pub struct Enforcement {
    /// Anonymous callers are rejected, even for public items.
    pub denies_anonymous: bool,
    /// Names of scopes for clients of the issuer.
    pub scope_names: ScopeNames,
    /// Names of scopes for callers of other issuers, by issuer.
    pub by_issuer: BTreeMap<String, ScopeNames>,
}

impl Enforcement {
    /// Returns the error of a caller who lacks one of these scopes.
    fn authorization_error(&self, scopes: &[String], caller: Option<&Principal>) -> CallError {
        let Some(caller) = caller else {
            return CallError::Unauthenticated { scopes: self.scope_names.of(scopes) };
        };
        match self.by_issuer.get(&caller.issuer).unwrap_or(&self.scope_names) {
            names @ ScopeNames::Requested { .. } => CallError::InsufficientScope { scopes: names.of(scopes) },
            // The client could not request any scope.
            ScopeNames::Granted { .. } | ScopeNames::None => CallError::Forbidden,
        }
    }
}

/// The issuer's names for the scopes of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeNames {
    /// Clients request scopes by name, with this prefix.
    Requested {
        /// Such as `https://mcp.example.com/`; usually empty.
        prefix: String,
    },
    /// Scopes are granted by configuration: clients request these instead of an item's.
    Granted {
        /// Such as `openid` and `email`.
        instead: Vec<String>,
    },
    /// Callers are not authenticated by tokens: there is no scope to request.
    None,
}

impl Default for ScopeNames {
    fn default() -> Self {
        Self::Requested { prefix: String::new() }
    }
}

impl ScopeNames {
    /// Returns the names that a client must request to get these scopes.
    pub(crate) fn of<'a>(&self, scopes: impl IntoIterator<Item = &'a String>) -> Vec<String> {
        match self {
            Self::Requested { prefix } => scopes.into_iter().map(|scope| format!("{prefix}{scope}")).collect(),
            Self::Granted { instead } => instead.clone(),
            Self::None => Vec::new(),
        }
    }
}

/// The access rules of one server.
#[derive(Debug)]
pub(crate) struct Policy {
    authorization: Authorization,
    /// Requirement on every caller, except for public items.
    server_requirement: Requirement,
    /// Whether discovery and the lists are public.
    is_open: bool,
    /// For each scope, the scopes that include it.
    included_in: BTreeMap<String, BTreeSet<String>>,
    /// All scopes of access rules, in the order of registration.
    scopes: Vec<String>,
}

impl Policy {
    /// Creates the policy of a server that requires `server_requirement` of every caller. Adds it to the requirements of `items`.
    pub(crate) fn new<'a>(
        authorization: Authorization,
        server_requirement: Requirement,
        scope_hierarchy: &[(String, Vec<String>)],
        items: impl IntoIterator<Item = &'a mut Requirement>,
    ) -> Self {
        let denies_anonymous = matches!(&authorization, Authorization::Required(own) if own.denies_anonymous);
        let mut is_open = false;
        let mut scopes = server_requirement.scopes.clone();
        for requirement in items {
            is_open |= requirement.is_public && !denies_anonymous;
            requirement.and(&server_requirement);
            let new: Vec<_> = requirement.scopes.iter().filter(|scope| !scopes.contains(scope)).cloned().collect();
            scopes.extend(new);
        }
        Self { authorization, server_requirement, is_open, included_in: included_in(scope_hierarchy), scopes }
    }

    /// Reports whether every caller who meets `one` also meets `other`.
    pub(crate) fn is_as_strong(&self, one: &Requirement, other: &Requirement) -> bool {
        one.is_as_strong_as(other, &self.included_in)
    }

    /// Checks whether a caller meets a requirement.
    ///
    /// # Errors
    ///
    /// When the caller does not.
    pub(crate) fn permit(&self, requirement: &Requirement, caller: Option<&Principal>) -> Result<(), CallError> {
        let Authorization::Required(enforcement) = &self.authorization else {
            return Ok(());
        };
        let Some(caller) = caller else {
            return match requirement.is_public && !enforcement.denies_anonymous {
                true => Ok(()),
                false => Err(enforcement.authorization_error(&requirement.scopes, None)),
            };
        };
        if !requirement.scopes.iter().all(|scope| self.is_granted(caller, scope)) {
            return Err(enforcement.authorization_error(&requirement.scopes, Some(caller)));
        }
        match requirement.claims.iter().all(|(name, value)| caller.has_claim(name, value)) {
            true => Ok(()),
            false => Err(CallError::Forbidden),
        }
    }

    /// Returns the requirement on every caller, except for public items.
    pub(crate) fn server_requirement(&self) -> &Requirement {
        &self.server_requirement
    }

    /// Checks whether a caller may use discovery and the lists.
    ///
    /// # Errors
    ///
    /// When the caller may not.
    pub(crate) fn permit_discovery(&self, caller: Option<&Principal>) -> Result<(), CallError> {
        if self.is_open { Ok(()) } else { self.permit(&self.server_requirement, caller) }
    }

    /// Reports whether a caller has a scope, or one that includes it. If access rules are not enforced, every caller has all scopes.
    pub(crate) fn has_scope(&self, caller: Option<&Principal>, scope: &str) -> bool {
        match (&self.authorization, caller) {
            (Authorization::DangerouslyOff, _) => true,
            (_, Some(caller)) => self.is_granted(caller, scope),
            (Authorization::Unconfigured | Authorization::Required(_), None) => false,
        }
    }

    fn is_granted(&self, caller: &Principal, scope: &str) -> bool {
        let has = |scope: &str| caller.scopes.contains(scope);
        has(scope) || self.included_in.get(scope).is_some_and(|broader| broader.iter().any(|scope| has(scope)))
    }

    /// Returns the scopes that clients may request from the issuer.
    pub(crate) fn scopes_supported(&self) -> Vec<String> {
        match &self.authorization {
            Authorization::Required(enforcement) => enforcement.scope_names.of(&self.scopes),
            Authorization::Unconfigured | Authorization::DangerouslyOff => Vec::new(),
        }
    }

    /// Makes caching private for responses that require authentication.
    pub(crate) fn narrow(&self, caching: Caching, requirement: &Requirement) -> Caching {
        match self.permit(requirement, None) {
            Ok(()) => caching,
            Err(_) => Caching::private(caching.ttl),
        }
    }

    /// As [`narrow`](Self::narrow), for discovery and lists.
    pub(crate) fn narrow_list(&self, caching: Caching) -> Caching {
        if self.is_open { caching } else { self.narrow(caching, &self.server_requirement) }
    }

    /// Returns the requirement in the issuer's names; `None` where callers have no scopes.
    pub(crate) fn access(&self, requirement: &Requirement) -> Option<Access> {
        let enforcement = match &self.authorization {
            Authorization::Required(enforcement) if enforcement.scope_names != ScopeNames::None => enforcement,
            _ => return None,
        };
        Some(match self.permit(requirement, None) {
            Ok(()) => Access::Public,
            Err(_) => Access::Scopes(enforcement.scope_names.of(&requirement.scopes)),
        })
    }
}

/// The requirement of an item on its callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Public: anonymous callers may use it.
    Public,
    /// Authentication, with these scopes, as clients must request them from the issuer.
    Scopes(Vec<String>),
}

/// Returns, for each scope, the scopes that include it, directly or transitively.
fn included_in(hierarchy: &[(String, Vec<String>)]) -> BTreeMap<String, BTreeSet<String>> {
    let mut included_in: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (broad, narrow) in hierarchy {
        for scope in narrow {
            included_in.entry(scope.clone()).or_default().insert(broad.clone());
        }
    }
    loop {
        let before: usize = included_in.values().map(BTreeSet::len).sum();
        let snapshot = included_in.clone();
        for broader in included_in.values_mut() {
            let through: Vec<_> = broader.iter().filter_map(|scope| snapshot.get(scope)).flatten().cloned().collect();
            broader.extend(through);
        }
        if included_in.values().map(BTreeSet::len).sum::<usize>() == before {
            return included_in;
        }
    }
}

#[cfg(test)]
mod tests {
    use mcp_protocol::JsonObject;
    use serde_json::json;

    use super::*;

    fn policy(authorization: Authorization) -> Policy {
        Policy::new(authorization, Requirement::default(), &[], [])
    }

    fn required() -> Authorization {
        Authorization::Required(Enforcement::default())
    }

    fn needing(scopes: &[&str]) -> Requirement {
        let mut requirement = Requirement::default();
        scopes.iter().for_each(|scope| requirement.add_scope((*scope).to_owned()));
        requirement
    }

    #[test]
    fn included_scopes_are_granted_transitively() {
        let hierarchy = [("admin", "events:write"), ("events:write", "events:read"), ("a", "b"), ("b", "a")];
        let hierarchy = hierarchy.map(|(broad, narrow)| (broad.to_owned(), vec![narrow.to_owned()]));
        let policy = Policy::new(required(), Requirement::default(), &hierarchy, []);

        for (scope, needed, is_enough) in [
            ("admin", "events:read", true),
            ("events:write", "events:read", true),
            ("events:read", "events:write", false),
            ("events:read", "admin", false),
            ("a", "b", true),
            ("b", "a", true),
            ("ADMIN", "events:read", false),
        ] {
            let caller = Principal::new("i", "s").with_scopes([scope]);

            assert_eq!(policy.permit(&needing(&[needed]), Some(&caller)).is_ok(), is_enough, "{scope} {needed}");
        }
    }

    #[test]
    fn an_authorization_error_names_all_scopes_as_the_issuer_does() {
        let scope_names = ScopeNames::Requested { prefix: "api://app/".to_owned() };
        let policy = policy(Authorization::Required(Enforcement { scope_names, ..Enforcement::default() }));
        let caller = Principal::new("i", "s").with_scopes(["b"]);

        let error = policy.permit(&needing(&["a", "b"]), Some(&caller)).unwrap_err();

        let CallError::InsufficientScope { scopes } = error else { panic!("{error}") };
        assert_eq!(scopes, ["api://app/a", "api://app/b"]);
    }

    #[test]
    fn a_claim_matches_a_value_or_a_list_that_contains_it() {
        let policy = policy(required());
        let mut requirement = Requirement::default();
        requirement.add_claim("role".to_owned(), json!("admin"));
        for (claim, is_enough) in [
            (json!("admin"), true),
            (json!(["user", "admin"]), true),
            (json!("administrator"), false),
            (json!({ "admin": true }), false),
            (json!([["admin"]]), false),
            (json!(null), false),
        ] {
            let claims = JsonObject::from_iter([("role".to_owned(), claim.clone())]);
            let caller = Principal { claims, ..Principal::new("i", "s") };

            assert_eq!(policy.permit(&requirement, Some(&caller)).is_ok(), is_enough, "{claim}");
        }
        assert!(policy.permit(&requirement, Some(&Principal::new("i", "s"))).is_err());
    }

    /// Many issuers let users set any address as `email`.
    #[test]
    fn a_rule_about_email_requires_a_verified_address() {
        let policy = policy(required());
        let mut requirement = Requirement::default();
        requirement.add_claim("email".to_owned(), json!("Ada@example.com"));
        for (email, email_verified, is_enough) in [
            ("ada@example.com", true, true),
            ("Ada@Example.com", true, true),
            ("Ada@example.com", false, false),
            ("eve@example.com", true, false),
        ] {
            let claims = JsonObject::from_iter([("email".to_owned(), json!(email))]);
            let email = Some(email.to_owned());
            let caller = Principal { claims, email, email_verified, ..Principal::new("i", "s") };

            assert_eq!(policy.permit(&requirement, Some(&caller)).is_ok(), is_enough, "{caller:?}");
        }
        let claims = JsonObject::from_iter([("email".to_owned(), json!(["Ada@example.com"]))]);
        let caller = Principal { claims, email_verified: true, ..Principal::new("i", "s") };
        assert!(
            policy.permit(&requirement, Some(&caller)).is_err(),
            "`email_verified` does not apply to one address of a list"
        );
    }

    #[test]
    fn has_scope_follows_the_authorization_mode() {
        let caller = Principal::new("i", "s").with_scopes(["events:read"]);
        for (authorization, known, anonymous) in [
            (Authorization::Unconfigured, true, false),
            (required(), true, false),
            (Authorization::DangerouslyOff, true, true),
        ] {
            let policy = policy(authorization);

            assert_eq!(policy.has_scope(Some(&caller), "events:read"), known);
            assert_eq!(policy.has_scope(None, "events:read"), anonymous);
        }
    }

    #[test]
    #[should_panic(expected = "cannot be public")]
    fn a_public_item_with_a_scope_panics() {
        needing(&["a"]).make_public();
    }

    #[test]
    #[should_panic(expected = "visible ASCII")]
    fn a_scope_with_a_space_panics() {
        needing(&["a b"]);
    }
}
