//! Requirements on callers, and their setters.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The requirement of an item, or of a whole server, on its callers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Requirement {
    pub(crate) is_public: bool,
    pub(crate) scopes: Vec<String>,
    pub(crate) claims: Vec<(String, Value)>,
}

impl Requirement {
    pub(crate) fn is_some(&self) -> bool {
        *self != Self::default()
    }

    #[track_caller]
    pub(crate) fn add_scope(&mut self, scope: String) {
        assert!(is_scope(&scope), "scope `{scope}`: use visible ASCII characters but no `\"` and no `\\`");
        assert!(!self.is_public, "a public item must not require a scope");
        if !self.scopes.contains(&scope) {
            self.scopes.push(scope);
        }
    }

    #[track_caller]
    pub(crate) fn add_claim(&mut self, name: String, value: Value) {
        assert!(!self.is_public, "a public item must not require a claim");
        self.claims.push((name, value));
    }

    #[track_caller]
    pub(crate) fn make_public(&mut self) {
        assert!(
            self.scopes.is_empty() && self.claims.is_empty(),
            "an item that requires a scope or a claim cannot be public"
        );
        self.is_public = true;
    }

    /// Reports whether every caller who meets this requirement also meets the other.
    pub(crate) fn is_as_strong_as(&self, other: &Self, included_in: &BTreeMap<String, BTreeSet<String>>) -> bool {
        let implies = |scope: &String| {
            let broader = included_in.get(scope);
            self.scopes.iter().any(|own| own == scope || broader.is_some_and(|broader| broader.contains(own)))
        };
        other.is_public
            || (!self.is_public
                && other.scopes.iter().all(implies)
                && other.claims.iter().all(|claim| self.claims.contains(claim)))
    }

    /// Adds the server's requirement on every caller.
    pub(crate) fn and(&mut self, server: &Self) {
        if !self.is_public {
            let own = std::mem::replace(self, server.clone());
            for scope in own.scopes {
                self.add_scope(scope);
            }
            self.claims.extend(own.claims);
        }
    }
}

/// RFC 6749, section 3.3.
pub(super) fn is_scope(scope: &str) -> bool {
    !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

/// Setters of the requirement of an item or a server.
macro_rules! requirement_setters {
    () => {
        /// Requires a scope of callers, in the server's own names (`events:write`); of several, all. Where access rules are
        /// enforced, a caller without it is rejected before the handler runs.
        ///
        /// # Panics
        ///
        /// When the scope has invalid characters (RFC 6749, section 3.3), or the item is public.
        ///
        /// ```
        /// # use mcp_server::{HandlerError, NoArguments, Tool, ToolContext};
        /// async fn purge(_: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
        ///     Ok("Nothing is left.")
        /// }
        ///
        /// let tool = Tool::new("purge", purge).require_scope("events:purge").require_claim("department", "security");
        /// # assert_eq!(tool.name(), "purge");
        /// ```
        #[must_use]
        #[track_caller]
        pub fn require_scope(mut self, scope: impl Into<String>) -> Self {
            self.requirement.add_scope(scope.into());
            self
        }

        /// Requires a claim of callers: this value, or a list that contains it. No client can request a claim, so that a
        /// caller without it is rejected without a challenge.
        ///
        /// A rule about `email` matches only an address that the issuer has verified (`email_verified`), ignoring case.
        ///
        /// # Panics
        ///
        /// When the item is public.
        #[must_use]
        #[track_caller]
        pub fn require_claim(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
            self.requirement.add_claim(name.into(), value.into());
            self
        }
    };
}
/// The setter of public access.
macro_rules! public_setter {
    () => {
        /// Makes the item public: anonymous callers may use it. Discovery and the lists are then public too; other items are not.
        ///
        /// # Panics
        ///
        /// When it requires a scope or a claim.
        #[must_use]
        #[track_caller]
        pub fn public(mut self) -> Self {
            self.requirement.make_public();
            self
        }
    };
}
pub(crate) use {public_setter, requirement_setters};
