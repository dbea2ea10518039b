//! Scopes that a handler needs beyond those of its item.

use super::{Authorization, Policy, requirement::is_scope};
use crate::{CallError, Principal};

impl Policy {
    /// Returns the authorization error of a caller who lacks scopes that a handler `wanted`, for an item that `required`
    /// others.
    ///
    /// # Errors
    ///
    /// When no token would help: a mistake in the handler or the deployment.
    pub(crate) fn refusal(
        &self,
        required: &[String],
        wanted: Vec<String>,
        caller: Option<&Principal>,
    ) -> Result<CallError, String> {
        let names = wanted.join(" ");
        if wanted.is_empty() || !wanted.iter().all(|scope| is_scope(scope)) {
            return Err(format!("a handler needs invalid scopes, `{names}`: use visible ASCII characters"));
        }
        let Authorization::Required(enforcement) = &self.authorization else {
            return Err(format!(
                "a handler needs the scopes `{names}`, but callers are not authenticated: configure an issuer"
            ));
        };
        let is_granted = |caller: &Principal| wanted.iter().all(|scope| self.is_granted(caller, scope));
        if caller.is_some_and(is_granted) {
            return Err(format!("a handler needs the scopes `{names}`, which the caller has: check `has_scope` first"));
        }
        let mut scopes = required.to_vec();
        scopes.extend(wanted.into_iter().filter(|scope| !required.contains(scope)));
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

    fn refusal(authorization: Authorization, wanted: &[&str], caller: Option<Principal>) -> Result<CallError, String> {
        let wanted = wanted.iter().map(|scope| (*scope).to_owned()).collect();
        policy(authorization).refusal(&["r".to_owned()], wanted, caller.as_ref())
    }

    fn ada(scopes: &[&str]) -> Option<Principal> {
        Some(
            Principal::new("https://issuer.example", "ada").with_scopes(scopes.iter().map(|scope| (*scope).to_owned())),
        )
    }

    #[test]
    fn an_authorization_error_names_all_scopes_of_the_request() {
        let required = || Authorization::Required(Enforcement::default());

        let insufficient = refusal(required(), &["a", "r"], ada(&["r"]));
        let anonymous = refusal(required(), &["a"], None);

        assert!(matches!(insufficient, Ok(CallError::InsufficientScope { scopes }) if scopes == ["r", "a"]));
        assert!(matches!(anonymous, Ok(CallError::Unauthenticated { scopes }) if scopes == ["r", "a"]));
    }

    #[test]
    fn a_caller_who_cannot_request_scopes_gets_no_challenge() {
        let scope_names = ScopeNames::Granted { instead: vec!["openid".to_owned()] };
        let granted = Authorization::Required(Enforcement { scope_names, ..Enforcement::default() });

        assert!(matches!(refusal(granted, &["a"], ada(&[])), Ok(CallError::Forbidden)));
    }

    #[test]
    fn scopes_that_no_token_could_grant_are_a_fault() {
        let required = || Authorization::Required(Enforcement::default());
        for (authorization, wanted, caller, says) in [
            (Authorization::Unconfigured, &["a"][..], None, "configure an issuer"),
            (Authorization::DangerouslyOff, &["a"], ada(&[]), "configure an issuer"),
            (required(), &["a"], ada(&["a"]), "which the caller has"),
            (required(), &["a"], ada(&["admin"]), "which the caller has"),
            (required(), &[], ada(&[]), "visible ASCII"),
            (required(), &["a\" error=\"x"], ada(&[]), "visible ASCII"),
        ] {
            let fault = refusal(authorization, wanted, caller).unwrap_err();

            assert!(fault.contains(says), "{fault}");
        }
    }
}
