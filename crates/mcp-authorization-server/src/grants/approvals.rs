//! Approvals: the requests of a client that a person has approved, so that the consent page is not shown again.
//!
//! A person has one row for each client. Each revocation of a grant deletes the row of its client, whichever request was approved.

use std::time::SystemTime;

use mcp_server::{
    Principal,
    json::{self, Budget},
    store::{Content, Kind, StoreError, StoreId, StoredValue, Version},
};
use serde::{Deserialize, Serialize};

use super::{ATTEMPTS, GrantError, Grants};
use crate::{AuthorizationRequest, clock::unix_seconds, cookies::approval_key};

const APPROVAL: Kind = Kind::new("approval");
/// Maximum number of approved requests of a client. With one more, the oldest is dropped.
const MAX_APPROVED: usize = 25;

/// An approved request.
#[derive(Debug, Serialize, Deserialize)]
struct Approved {
    /// Digest of client, redirect URI, resource and scopes.
    key: String,
    /// In seconds since 1970.
    at: u64,
}

impl Grants {
    /// Remembers that a person has approved a request, for as long as an unused grant is valid.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub(crate) async fn approve(
        &self,
        issuer: &str,
        subject: &str,
        request: &AuthorizationRequest,
        now: SystemTime,
    ) -> Result<(), GrantError> {
        let person = Principal::new(issuer, subject);
        let id = approvals_of(&person, &request.client_id);
        let own = approval_key(request);
        for _ in 0..ATTEMPTS {
            let (mut approved, version) = self.approved(&id).await?;
            approved.retain(|other| other.key != own);
            approved.push(Approved { key: own.clone(), at: unix_seconds(now) });
            let excess = approved.len().saturating_sub(MAX_APPROVED);
            approved.drain(..excess);
            let value = serde_json::to_vec(&approved).map_err(|_| GrantError::Seal)?;
            let content = Content { value: &value, expires_in: self.lifetimes.idle, due_in: None };
            let stored = match version {
                Some(version) => self.store.compare_and_set(&id, version, content).await?,
                None => self.store.put_if_absent(&id, content).await?,
            };
            if stored.is_some() {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("the approvals of a client change too often".into()).into())
    }

    /// Whether a person has approved a request, and nothing was revoked since.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub(crate) async fn has_approved(
        &self,
        issuer: &str,
        subject: &str,
        request: &AuthorizationRequest,
        now: SystemTime,
    ) -> Result<bool, GrantError> {
        let person = Principal::new(issuer, subject);
        let (approved, _) = self.approved(&approvals_of(&person, &request.client_id)).await?;
        let key = approval_key(request);
        let Some(own) = approved.iter().find(|own| own.key == key) else { return Ok(false) };
        let age = unix_seconds(now).saturating_sub(own.at);
        Ok(age < self.lifetimes.idle.as_secs() && !self.is_revoked(own.at).await?)
    }

    /// Deletes all approvals of a client by a person: the consent page is shown again.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub(super) async fn withdraw(&self, person: &Principal, client_id: &str) -> Result<(), GrantError> {
        Ok(self.store.delete(&approvals_of(person, client_id)).await?)
    }

    async fn approved(&self, id: &StoreId<'_>) -> Result<(Vec<Approved>, Option<Version>), GrantError> {
        let Some(StoredValue { value, version }) = self.store.get(id).await? else { return Ok((Vec::new(), None)) };
        let approved = json::read_bytes(&value, Budget::memory(1024 * 1024));
        let approved = approved.map_err(|_| StoreError::Other("the approvals of a client are malformed".into()))?;
        Ok((approved, Some(version)))
    }
}

fn approvals_of<'a>(person: &'a Principal, client_id: &'a str) -> StoreId<'a> {
    StoreId { kind: APPROVAL, caller: Some(person), id: client_id.as_bytes() }
}
