//! Callers that are known, without an identity provider.

use mcp_server::{Invocation, Principal};

/// Takes the word of whoever says who they are. For tests of what depends on the caller, not of how callers are known.
///
/// ```
/// use mcp_testing::TestAuthenticator;
///
/// let authenticator = TestAuthenticator::new("https://issuer.example");
///
/// let invocation = authenticator.as_caller("ada");
///
/// assert_eq!(invocation.principal.unwrap().subject, "ada");
/// ```
#[derive(Debug, Clone)]
pub struct TestAuthenticator {
    issuer: String,
}

impl TestAuthenticator {
    /// Vouches for callers in the name of an issuer.
    pub fn new(issuer: &str) -> Self {
        Self { issuer: issuer.to_owned() }
    }

    /// An invocation by a caller, for [`exchange_via`](crate::exchange_via).
    pub fn as_caller(&self, subject: &str) -> Invocation {
        let principal = Principal { issuer: self.issuer.clone(), subject: subject.to_owned(), email: None };
        Invocation { principal: Some(principal), ..Invocation::default() }
    }
}
