//! What a caller needs for an item, and the setters by which an author says so.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What a caller needs for an item, or for a whole server.
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
        assert!(!self.is_public, "what is public requires no scope");
        if !self.scopes.contains(&scope) {
            self.scopes.push(scope);
        }
    }

    #[track_caller]
    pub(crate) fn add_claim(&mut self, name: String, value: Value) {
        assert!(!self.is_public, "what is public requires no claim");
        self.claims.push((name, value));
    }

    #[track_caller]
    pub(crate) fn make_public(&mut self) {
        assert!(self.scopes.is_empty() && self.claims.is_empty(), "what requires something is not public");
        self.is_public = true;
    }

    /// Whether everyone who has what this requires has what the other requires.
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

    /// Together with what the server requires of everyone.
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

/// The setters by which an item, or a server, says what its callers need.
macro_rules! requirement_setters {
    () => {
        /// Callers need this scope, in the server's own words (`events:write`); of several, all. Where the policy holds,
        /// a caller without it is refused before anything else happens.
        ///
        /// # Panics
        ///
        /// When it has characters that no scope may have (RFC 6749, section 3.3), or the item is public.
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

        /// Callers need a claim of this value, or one that is a list with this value in it. No client can ask for a
        /// claim, so that a caller without it is refused for good.
        ///
        /// A rule about `email` is met only by an address that the issuer says it has verified (`email_verified`), in
        /// upper or lower case.
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
/// The setter by which an item opens itself.
macro_rules! public_setter {
    () => {
        /// Everyone may use it, also without a token. Discovery and the lists are then open too; everything else stays
        /// closed.
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
