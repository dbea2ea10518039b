//! Places for live tasks: a caller has a number of them, and each live task has one.
//!
//! A place is a row with the key of its task. It is freed when the task ends, or when a call that took it before its first step ends in
//! its request. A place that was not freed, because the store failed at that moment, is free for a later call: its task has ended, or was
//! never stored. A call that finds no other place looks at a few places only, so that rejected calls cost little.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use super::{clock::millis, rows};
use crate::{
    Principal, error_chain,
    policy::network::Network,
    store::{Content, Kind, RowKey, SealedStore, StoreError, StoreId, Version},
};

const SLOT: Kind = Kind::new("task-slot");
/// Digests of addresses, which choose places. No row has this kind.
const ADDRESS: Kind = Kind::new("task-address");

/// Maximum number of live tasks of one person with all clients, and of places that a call tries.
pub(crate) const MAX_LIVE: u16 = 20;
/// Maximum number of live tasks of all anonymous callers together.
const MAX_LIVE_ANONYMOUS: u16 = 400;
/// Maximum number of live tasks of the anonymous callers of one site.
const MAX_LIVE_SITE: usize = 10;
/// Time in which a task is stored after its place was taken.
const STORED_WITHIN: Duration = Duration::from_secs(60);
/// Maximum number of taken places whose tasks a call reads, each of up to 1 MiB.
const MAX_READ: usize = 2;

/// A place that was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) number: u16,
    version: Version,
}

/// What takes a place.
#[derive(Clone, Copy)]
pub(crate) struct Claimant {
    pub(crate) task: RowKey,
    pub(crate) address: Option<IpAddr>,
    pub(crate) lifetime: Duration,
    pub(crate) now: u64,
    /// When the task is stored at the latest, if it becomes one.
    pub(crate) stored_by: u64,
}

/// Takes a place for a task. `None` if all are taken.
pub(crate) async fn take(
    store: &SealedStore,
    caller: Option<&Principal>,
    claimant: Claimant,
) -> Result<Option<Slot>, StoreError> {
    let Claimant { task, address, lifetime, now, stored_by } = claimant;
    let person = caller.map(Principal::person);
    let caller = person.as_ref();
    let mut slots = match caller {
        Some(_) => (0..MAX_LIVE).collect(),
        None => anonymous_slots(store, address),
    };
    // Concurrent calls begin at different places.
    let [high, low, ..] = *Version::random()?.as_bytes();
    let first = usize::from(u16::from_be_bytes([high, low])) % slots.len();
    slots.rotate_left(first);
    slots.truncate(MAX_LIVE.into());
    let value = [task.as_bytes().as_slice(), &stored_by.to_be_bytes()].concat();
    let content = Content { value: &value, expires_in: lifetime, due_in: None };
    for &number in &slots {
        if let Some(version) = store.put_if_absent(&slot_id(caller, &number.to_be_bytes()), content).await? {
            return Ok(Some(Slot { number, version }));
        }
    }
    for number in slots.into_iter().take(MAX_READ) {
        let bytes = number.to_be_bytes();
        let id = slot_id(caller, &bytes);
        let Some(taken) = store.get(&id).await? else { continue };
        if is_free(store, &taken.value, now).await?
            && let Some(version) = store.compare_and_set(&id, taken.version, content).await?
        {
            return Ok(Some(Slot { number, version }));
        }
    }
    Ok(None)
}

/// Reports whether a place that is taken has no live task. A new one is not looked at.
async fn is_free(store: &SealedStore, value: &[u8], now: u64) -> Result<bool, StoreError> {
    let Some((task, stored_by)) = parse(value) else { return Ok(true) };
    if now.saturating_sub(stored_by) <= millis(STORED_WITHIN) {
        return Ok(false);
    }
    match rows::by_key(store, task).await {
        Ok(held) => Ok(held.is_none_or(|held| held.record.end.is_some())),
        Err(StoreError::UnknownKey | StoreError::Unreadable) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives back a place without a task. A failure is not one of the call: the place is free a minute after the call ended.
pub(crate) async fn release(store: &SealedStore, caller: Option<&Principal>, slot: Slot) {
    let (person, number) = (caller.map(Principal::person), slot.number.to_be_bytes());
    if let Err(error) = store.delete_version(&slot_id(person.as_ref(), &number), slot.version).await {
        tracing::warn!(error = error_chain(&error), "the place of a call that became no task was not freed");
    }
}

/// Frees the place of a task that has ended. A failure is not one of the task: the place is free once it is needed.
pub(crate) async fn free(store: &SealedStore, caller: Option<&Principal>, slot: u16, task: RowKey) {
    let (person, number) = (caller.map(Principal::person), slot.to_be_bytes());
    let id = slot_id(person.as_ref(), &number);
    let freed = async {
        match store.get(&id).await? {
            Some(taken) if parse(&taken.value).is_some_and(|(own, _)| own == task) => {
                store.delete_version(&id, taken.version).await.map(drop)
            }
            _ => Ok(()),
        }
    };
    if let Err(error) = freed.await {
        tracing::warn!(error = error_chain(&error), "the place of a task that has ended was not freed");
    }
}

/// Returns the places that an anonymous caller may take: those of its site, of which other sites share a few, or all if its address
/// is not known. So a few sites cannot take the places of all.
fn anonymous_slots(store: &SealedStore, address: Option<IpAddr>) -> Vec<u16> {
    let network = Network::of(address);
    if network == Network::Unknown {
        return (0..MAX_LIVE_ANONYMOUS).collect();
    }
    let mut slots = BTreeSet::new();
    for round in 0..=u8::MAX {
        let id = [network.site(), &[round]].concat();
        let digest = store.row_key(&StoreId { kind: ADDRESS, caller: None, id: &id });
        for bytes in digest.as_bytes().as_chunks::<2>().0 {
            slots.insert(u16::from_be_bytes(*bytes) % MAX_LIVE_ANONYMOUS);
            if slots.len() == MAX_LIVE_SITE {
                return slots.into_iter().collect();
            }
        }
    }
    slots.into_iter().collect()
}

fn parse(value: &[u8]) -> Option<(RowKey, u64)> {
    let (task, stored_by) = value.split_first_chunk::<32>()?;
    Some((RowKey::from_bytes(*task), u64::from_be_bytes(stored_by.try_into().ok()?)))
}

fn slot_id<'a>(caller: Option<&'a Principal>, slot: &'a [u8; 2]) -> StoreId<'a> {
    StoreId { kind: SLOT, caller, id: slot }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{MemoryStore, StoreKeys};

    #[test]
    fn a_site_has_a_small_part_of_the_places_of_anonymous_callers() {
        let keys = StoreKeys::new("server", &[1; 32], &[[2; 32]]).unwrap();
        let store = SealedStore::new(Arc::new(MemoryStore::new()), keys);
        let slots = |address: &str| anonymous_slots(&store, Some(address.parse().unwrap()));
        let own = slots("192.0.2.7");

        assert_eq!(own.len(), 10);
        assert!(own.iter().all(|slot| *slot < 400));
        assert_eq!(slots("::ffff:192.0.2.7"), own);
        assert_eq!(slots("2001:db8:1:2::1"), slots("2001:db8:1:ffff:ffff::"), "one connection has many networks");
        assert_ne!(slots("2001:db8:1:2::1"), slots("2001:db8:2:2::1"));
        for number in 0..=255 {
            let other = slots(&format!("198.51.100.{number}"));
            assert_eq!(other.len(), 10);
            assert!(other.iter().any(|slot| !own.contains(slot)), "{number}");
        }
        assert_eq!(anonymous_slots(&store, None).len(), 400);
    }

    #[test]
    fn twenty_sites_leave_places_for_every_other_one() {
        let keys = StoreKeys::new("server", &[1; 32], &[[2; 32]]).unwrap();
        let store = SealedStore::new(Arc::new(MemoryStore::new()), keys);
        let slots = |address: String| anonymous_slots(&store, Some(address.parse().unwrap()));
        let taken: BTreeSet<u16> = (0..20).flat_map(|number| slots(format!("198.51.100.{number}"))).collect();

        for number in 0..=255 {
            let own = slots(format!("192.0.2.{number}"));
            assert!(own.iter().any(|slot| !taken.contains(slot)), "{number}");
        }
    }
}
