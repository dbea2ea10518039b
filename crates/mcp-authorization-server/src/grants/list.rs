//! The grants of a person: a list of their ids, because the store cannot search.

use std::time::SystemTime;

use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mcp_server::{
    Principal,
    json::{self, Budget},
    store::{Content, Kind, MAX_LIFETIME, StoreError, StoreId, StoredValue, Version},
};
use serde::{Deserialize, Serialize};

use super::{ATTEMPTS, GrantError, Grants, Phase, row};
use crate::{AuthorizationRequest, ClientSummary, clock::unix_seconds};

const LIST: Kind = Kind::new("grant-list");
/// Maximum number of grants of a person. With one more, an entry whose grant has ended is removed, or else the oldest grant is revoked.
pub(super) const MAX_GRANTS: usize = 100;

/// A grant, as its person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedGrant {
    /// Names the grant in a form: a digest of its id, which is not shown.
    pub(crate) handle: String,
    pub(crate) request: AuthorizationRequest,
    pub(crate) client: ClientSummary,
    pub(crate) scopes: Vec<String>,
    /// In seconds since 1970.
    pub(crate) created: u64,
}

/// Which grants of a person are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection<'a> {
    /// The grant with this handle.
    One(&'a str),
    All,
}

/// An entry of the list. The list may have grants that have ended.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    grant: String,
    /// In seconds since 1970.
    at: u64,
}

impl Selection<'_> {
    fn contains(self, grant: &str) -> bool {
        match self {
            Self::One(own) => own == handle(grant),
            Self::All => true,
        }
    }
}

impl Grants {
    /// Writes a grant to the list of its person, and extends the lifetime of the list.
    pub(super) async fn enlist(&self, owner: &Principal, grant: &str, now: SystemTime) -> Result<(), GrantError> {
        for _ in 0..ATTEMPTS {
            let (mut entries, version) = self.entries(owner).await?;
            if entries.iter().all(|own| own.grant != grant) {
                entries.push(Entry { grant: grant.to_owned(), at: unix_seconds(now) });
            }
            entries.sort_by_key(|own| own.at);
            let mut dropped = Vec::new();
            while entries.len() > MAX_GRANTS {
                let at = self.first_ended(owner, &entries).await?.unwrap_or_default();
                dropped.push(entries.remove(at));
            }
            if !self.put_entries(owner, &entries, version).await? {
                continue;
            }
            for own in dropped {
                self.store.delete(&row(owner, &own.grant)).await?;
            }
            return Ok(());
        }
        Err(StoreError::Unavailable("the list of grants changes too often".into()).into())
    }

    /// Returns the index of the first entry whose grant has ended; `None` if all can be refreshed.
    async fn first_ended(&self, owner: &Principal, entries: &[Entry]) -> Result<Option<usize>, GrantError> {
        let revoked = self.revoked_until().await?;
        for (index, entry) in entries.iter().enumerate() {
            let stored = self.read(&row(owner, &entry.grant)).await?;
            if stored.is_none_or(|(grant, _)| revoked.is_some_and(|until| grant.created <= until)) {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Returns the grants of a person that can be refreshed, oldest first.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub(crate) async fn list(&self, issuer: &str, subject: &str) -> Result<Vec<ListedGrant>, GrantError> {
        let owner = Principal::new(issuer, subject);
        let revoked = self.revoked_until().await?;
        let mut listed = Vec::new();
        for entry in self.entries(&owner).await?.0 {
            let Some((grant, _)) = self.read(&row(&owner, &entry.grant)).await? else { continue };
            if grant.phase == Phase::Code || revoked.is_some_and(|until| grant.created <= until) {
                continue;
            }
            let handle = handle(&entry.grant);
            let (request, client, scopes, created) = (grant.request, grant.client, grant.scopes, grant.created);
            listed.push(ListedGrant { handle, request, client, scopes, created });
        }
        Ok(listed)
    }

    /// Revokes grants of a person.
    ///
    /// # Errors
    ///
    /// When the store fails. Some grants may have been revoked.
    pub(crate) async fn revoke_listed(
        &self,
        issuer: &str,
        subject: &str,
        selection: Selection<'_>,
    ) -> Result<(), GrantError> {
        let owner = Principal::new(issuer, subject);
        let (entries, version) = self.entries(&owner).await?;
        let (revoked, kept): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| selection.contains(&entry.grant));
        for entry in &revoked {
            let id = row(&owner, &entry.grant);
            if let Some((grant, _)) = self.read(&id).await? {
                self.end(&owner, &id, &grant).await?;
            }
        }
        if !revoked.is_empty() {
            // If another request has changed the list, the ended grants stay in it and are not shown.
            self.put_entries(&owner, &kept, version).await?;
        }
        Ok(())
    }

    async fn entries(&self, owner: &Principal) -> Result<(Vec<Entry>, Option<Version>), GrantError> {
        let Some(StoredValue { value, version }) = self.store.get(&list_of(owner)).await? else {
            return Ok((Vec::new(), None));
        };
        let entries = json::read_bytes(&value, Budget::memory(1024 * 1024));
        let entries = entries.map_err(|_| StoreError::Other("the list of grants is malformed".into()))?;
        Ok((entries, Some(version)))
    }

    /// Stores the list. Returns `false` if another request has changed it.
    async fn put_entries(
        &self,
        owner: &Principal,
        entries: &[Entry],
        version: Option<Version>,
    ) -> Result<bool, GrantError> {
        let value = serde_json::to_vec(entries).map_err(|_| GrantError::Seal)?;
        let content = Content { value: &value, expires_in: MAX_LIFETIME, due_in: None };
        let id = list_of(owner);
        let stored = match version {
            Some(version) => self.store.compare_and_set(&id, version, content).await?,
            None => self.store.put_if_absent(&id, content).await?,
        };
        Ok(stored.is_some())
    }
}

fn list_of(owner: &Principal) -> StoreId<'_> {
    StoreId { kind: LIST, caller: Some(owner), id: b"list" }
}

fn handle(grant: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, grant.as_bytes()).as_ref()[..16])
}
