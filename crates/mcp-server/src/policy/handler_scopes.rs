//! Scopes that a handler needs beyond those of its item.

use super::{Authorization, Policy, requirement::is_scope};
use crate::{CallError, Principal};

impl Policy {
    /// Returns the authorization error of a caller who lacks the scopes that a handler has `requested`, in addition to those that its
    /// item has `required`.
    ///
    /// # Errors
    ///
    /// When no token would help: a fault of the handler or the deployment.
    pub(crate) fn scope_error(
        &self,
        required: &[String],
        requested: Vec<String>,
        caller: Option<&Principal>,
    ) -> Result<CallError, String> {
        let names = requested.join(" ");
        if requested.is_empty() || !requested.iter().all(|scope| is_scope(scope)) {
            return Err(format!("a handler needs invalid scopes, `{names}`: use visible ASCII characters"));
        }
        let Authorization::Required(enforcement) = &self.authorization else {
            return Err(format!(
                "a handler needs the scopes `{names}`, but callers are not authenticated: configure an issuer"
            ));
        };
        let is_granted = |caller: &Principal| requested.iter().all(|scope| self.is_granted(caller, scope));
        if caller.is_some_and(is_granted) {
            return Err(format!("a handler needs the scopes `{names}`, which the caller has: check `has_scope` first"));
        }
        let mut scopes = required.to_vec();
        scopes.extend(requested.into_iter().filter(|scope| !required.contains(scope)));
        Ok(enforcement.authorization_error(&scopes, caller))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Enforcement, ScopeNames, policy::requirement::Requirement};

    fn policy(authorization: Authorization) -> Policy {
        let hierarchy = [("admin".to_owned(), vec!["a".to_owned()])];
        Policy::new(authorization, Requirement::default(), &hierarchy, [])
    }

    fn scope_error(
        authorization: Authorization,
        requested: &[&str],
        caller: Option<Principal>,
    ) -> Result<CallError, String> {
        let requested = requested.iter().map(|scope| (*scope).to_owned()).collect();
        policy(authorization).scope_error(&["r".to_owned()], requested, caller.as_ref())
    }

    fn ada(scopes: &[&str]) -> Option<Principal> {
        Some(
            Principal::new("https://issuer.example", "ada").with_scopes(scopes.iter().map(|scope| (*scope).to_owned())),
        )
    }

    #[test]
    fn an_authorization_error_names_all_scopes_of_the_request() {
        let required = || Authorization::Required(Enforcement::default());

        let insufficient = scope_error(required(), &["a", "r"], ada(&["r"]));
        let anonymous = scope_error(required(), &["a"], None);

        assert!(matches!(insufficient, Ok(CallError::InsufficientScope { scopes }) if scopes == ["r", "a"]));
        assert!(matches!(anonymous, Ok(CallError::Unauthenticated { scopes }) if scopes == ["r", "a"]));
    }

    #[test]
    fn a_caller_who_cannot_request_scopes_gets_no_challenge() {
        let scope_names = ScopeNames::Granted { instead: vec!["openid".to_owned()] };
        let granted = Authorization::Required(Enforcement { scope_names, ..Enforcement::default() });

        assert!(matches!(scope_error(granted, &["a"], ada(&[])), Ok(CallError::Forbidden)));
    }

    #[test]
    fn scopes_that_no_token_could_grant_are_a_fault() {
        let required = || Authorization::Required(Enforcement::default());
        for (authorization, requested, caller, expected) in [
            (Authorization::Unconfigured, &["a"][..], None, "configure an issuer"),
            (Authorization::DangerouslyOff, &["a"], ada(&[]), "configure an issuer"),
            (required(), &["a"], ada(&["a"]), "which the caller has"),
            (required(), &["a"], ada(&["admin"]), "which the caller has"),
            (required(), &[], ada(&[]), "visible ASCII"),
            (required(), &["a\" error=\"x"], ada(&[]), "visible ASCII"),
        ] {
            let fault = scope_error(authorization, requested, caller).unwrap_err();

            assert!(fault.contains(expected), "{fault}");
        }
    }
}
