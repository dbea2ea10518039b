//! [`Lease`]: at most one run of a task has it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    Principal,
    store::{Content, Kind, SealedStore, StoreError, StoreId, Version},
};

const LEASE: Kind = Kind::new("task-lease");

/// Lifetime of a lease, by the clock of the store.
const LEASE_TIME: Duration = Duration::from_secs(30);
/// Time between two renewals.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// Time without a renewal after which a run stops, by the clock of this process: before the lease ends in the store.
const GIVE_UP_AFTER: Duration = Duration::from_secs(20);

/// The lease of a task that this run has taken.
pub(crate) struct Lease {
    store: SealedStore,
    caller: Option<Arc<Principal>>,
    task: String,
    /// The value of the row: no other run has the same.
    owner: [u8; 16],
    held: Mutex<Held>,
}

#[derive(Clone, Copy)]
struct Held {
    version: Version,
    /// A time before the store wrote the lease.
    renewed: Instant,
}

impl Lease {
    /// Takes the lease of a task. `None` if another run has it.
    pub(crate) async fn take(
        store: &SealedStore,
        caller: Option<Arc<Principal>>,
        task: String,
    ) -> Result<Option<Self>, StoreError> {
        let (owner, renewed) = (*Version::random()?.as_bytes(), Instant::now());
        let taken = store.put_if_absent(&lease_id(caller.as_deref(), &task), content(&owner)).await?;
        Ok(taken.map(|version| {
            let held = Mutex::new(Held { version, renewed });
            Self { store: store.clone(), caller, task, owner, held }
        }))
    }

    /// Renews the lease until it is lost: another run has it, the task was cancelled, or the store was away for too long.
    pub(crate) async fn keep(&self) {
        while let Ok(true) = timeout_at(self.held().renewed + GIVE_UP_AFTER, self.renew()).await {}
    }

    /// Renews the lease once, as soon as the store can. Returns `false` if it is lost.
    async fn renew(&self) -> bool {
        loop {
            sleep(RENEW_EVERY).await;
            let renewed = Instant::now();
            match self.extend().await {
                Ok(Some(version)) => {
                    *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Held { version, renewed };
                    return true;
                }
                Ok(None) => return false,
                Err(_) => {}
            }
        }
    }

    async fn extend(&self) -> Result<Option<Version>, StoreError> {
        let id = lease_id(self.caller.as_deref(), &self.task);
        if let Some(version) = self.store.compare_and_set(&id, self.held().version, content(&self.owner)).await? {
            return Ok(Some(version));
        }
        // A renewal that the store did not confirm may have been executed.
        match self.current().await? {
            Some(version) => self.store.compare_and_set(&id, version, content(&self.owner)).await,
            None => Ok(None),
        }
    }

    /// Ends the lease, unless it is another run's by now.
    pub(crate) async fn end(&self) -> Result<(), StoreError> {
        let id = lease_id(self.caller.as_deref(), &self.task);
        if !self.store.delete_version(&id, self.held().version).await?
            && let Some(version) = self.current().await?
        {
            self.store.delete_version(&id, version).await?;
        }
        Ok(())
    }

    /// Returns the version of the row, if it is that of this run.
    async fn current(&self) -> Result<Option<Version>, StoreError> {
        let stored = self.store.get(&lease_id(self.caller.as_deref(), &self.task)).await?;
        Ok(stored.filter(|stored| stored.value == self.owner).map(|stored| stored.version))
    }

    fn held(&self) -> Held {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports whether a run has the lease of a task.
pub(crate) async fn is_leased(store: &SealedStore, caller: Option<&Principal>, task: &str) -> Result<bool, StoreError> {
    Ok(store.get(&lease_id(caller, task)).await?.is_some())
}

/// Ends the lease of any run of a task that was cancelled, so that the run stops.
pub(crate) async fn revoke(store: &SealedStore, caller: Option<&Principal>, task: &str) -> Result<(), StoreError> {
    store.delete(&lease_id(caller, task)).await
}

fn lease_id<'a>(caller: Option<&'a Principal>, task: &'a str) -> StoreId<'a> {
    StoreId { kind: LEASE, caller, id: task.as_bytes() }
}

fn content(owner: &[u8; 16]) -> Content<'_> {
    Content { value: owner, expires_in: LEASE_TIME, due_in: None }
}
