//! Revocation of all grants, and of all rows of a person.

use std::time::SystemTime;

use mcp_server::store::{Content, Kind, StoreError, StoreId, StoredValue};

use super::{ATTEMPTS, GrantError, Grants};
use crate::clock::unix_seconds;

const REVOCATION: Kind = Kind::new("grant-revocation");
/// Id of the only row of the kind [`REVOCATION`].
const ALL: StoreId<'static> = StoreId { kind: REVOCATION, caller: None, id: b"all" };
/// Maximum number of rows that are deleted at once, and how often.
const DELETED_AT_ONCE: usize = mcp_server::store::MAX_LIMIT;
const DELETIONS: usize = 20;

impl Grants {
    /// Revokes all grants and approvals that exist at the time `now`. Access tokens stay valid until they expire.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn revoke_all(&self, now: SystemTime) -> Result<(), GrantError> {
        for _ in 0..ATTEMPTS {
            let stored = self.store.get(&ALL).await?;
            // The clock of another environment may be ahead: what it has revoked stays revoked.
            let revoked = stored.as_ref().and_then(revocation_time).unwrap_or_default().max(unix_seconds(now));
            let value = revoked.to_be_bytes();
            // No row of a grant lives longer than this without being written, and a revoked grant is not written.
            let content = Content { value: &value, expires_in: mcp_server::store::MAX_LIFETIME, due_in: None };
            let written = match stored {
                Some(own) => self.store.compare_and_set(&ALL, own.version, content).await?,
                None => self.store.put_if_absent(&ALL, content).await?,
            };
            if written.is_some() {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("the time of revocation changes too often".into()).into())
    }

    /// Deletes all rows of a person: grants, their list, and approvals. Returns their number.
    ///
    /// # Errors
    ///
    /// When the store fails, or the person still has rows after 10,000 were deleted: repeat it then.
    pub async fn delete_person(&self, issuer: &str, subject: &str) -> Result<u64, GrantError> {
        let mut deleted = 0;
        for _ in 0..DELETIONS {
            let done = self.store.delete_subject(issuer, subject, DELETED_AT_ONCE).await?;
            deleted += done.deleted;
            if done.left == 0 {
                return Ok(deleted);
            }
        }
        Err(StoreError::Unavailable("rows of the person are left: delete them again".into()).into())
    }

    /// Whether all grants and approvals of this time, in seconds since 1970, were revoked.
    pub(super) async fn is_revoked(&self, created: u64) -> Result<bool, GrantError> {
        Ok(self.revoked_until().await?.is_some_and(|until| created <= until))
    }

    /// Returns the time of the latest revocation of all grants, in seconds since 1970; `None` if there was none.
    pub(super) async fn revoked_until(&self) -> Result<Option<u64>, GrantError> {
        Ok(self.store.get(&ALL).await?.as_ref().and_then(revocation_time))
    }
}

/// Returns the time in the row, in seconds since 1970.
fn revocation_time(row: &StoredValue) -> Option<u64> {
    Some(u64::from_be_bytes(row.value.as_slice().try_into().ok()?))
}
