//! The check of a person on refresh: whether the identity provider still signs the person in.

use std::{fmt, time::SystemTime};

use mcp_server::{Principal, store::StoreError};

use super::{ATTEMPTS, GrantError, Grants, INVALID_TOKEN, row};

/// A check of a person that one request makes for a grant, at most once an hour. Other requests of that grant do not wait for it.
///
/// The refresh token of the identity provider may be valid once: no other request uses it until its successor is stored.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DueCheck {
    subject: String,
    grant: String,
    refresh_token: String,
}

impl DueCheck {
    pub(super) fn new(subject: &str, grant: &str, refresh_token: String) -> Self {
        Self { subject: subject.to_owned(), grant: grant.to_owned(), refresh_token }
    }

    /// The person: a subject of this server.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// Returns the refresh token of the identity provider.
    pub(crate) fn refresh_token(&self) -> &str {
        &self.refresh_token
    }
}

impl Grants {
    /// Stores the next refresh token of the identity provider, if there is one, and drops scopes that are not `permitted` any more.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidGrant`](crate::ErrorCode::InvalidGrant) when the grant was revoked meanwhile, or has no scope left and is revoked;
    /// when the store fails.
    pub(crate) async fn pass_check(
        &self,
        issuer: &str,
        check: &DueCheck,
        next: Option<&str>,
        permitted: Option<&[String]>,
        now: SystemTime,
    ) -> Result<(), GrantError> {
        let owner = Principal::new(issuer, &check.subject);
        let id = row(&owner, &check.grant);
        for _ in 0..ATTEMPTS {
            let Some((mut grant, version)) = self.read(&id).await? else { return Err(INVALID_TOKEN.into()) };
            if let (Some(upstream), Some(next)) = (&mut grant.upstream, next) {
                next.clone_into(&mut upstream.refresh_token);
            }
            if let Some(permitted) = permitted
                && !grant.scopes.is_empty()
            {
                grant.scopes.retain(|scope| permitted.contains(scope));
                if grant.scopes.is_empty() {
                    return Err(self.fail_check(issuer, check).await);
                }
            }
            if self.replace(&id, version, &grant, now).await? {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("the grant changes too often".into()).into())
    }

    /// Revokes the grant of a person whom the identity provider no longer signs in. Returns the error for the client.
    pub(crate) async fn fail_check(&self, issuer: &str, check: &DueCheck) -> GrantError {
        match self.end_checked(issuer, check).await {
            Ok(()) => INVALID_TOKEN.into(),
            Err(error) => error,
        }
    }

    async fn end_checked(&self, issuer: &str, check: &DueCheck) -> Result<(), GrantError> {
        let owner = Principal::new(issuer, &check.subject);
        let id = row(&owner, &check.grant);
        match self.read(&id).await? {
            Some((grant, _)) => self.end(&owner, &id, &grant).await,
            None => Ok(()),
        }
    }
}

impl fmt::Debug for DueCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DueCheck(..)")
    }
}
