//! Counts of callers in a fixed amount of memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Entries with the same index, among which a key is looked up.
const WAYS: usize = 8;
const SETS: usize = 512;

/// A digest of a caller and a limit.
pub(super) type Key = [u64; 2];

/// A table of 4096 counts in 128 KiB, which are allocated at the first use.
///
/// A new key replaces an entry whose window is over. If there is none, it replaces the one of its set that was used least. A flood of
/// keys thus evicts counts of callers that made few requests, which begin again. No caller is limited for requests of another.
#[derive(Default)]
pub(super) struct Table(Mutex<Vec<Entry>>);

#[derive(Clone, Copy, Default)]
struct Entry {
    key: Key,
    /// End of the window, in milliseconds since 1970.
    ends_at: u64,
    /// Requests that this process may serve: the limit, or what it has leased. 0 if the store has no more.
    granted: u32,
    used: u32,
}

/// The time of a request and the length of a window, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) now: u64,
    pub(super) window: u64,
}

/// What is left of a lease.
#[cfg(feature = "store")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    /// One request was taken.
    Taken,
    /// Nothing: another block must be leased.
    Empty,
    /// Nothing until this time, because the store has no more.
    Exhausted(u64),
}

impl Table {
    /// Counts some requests, all or none.
    ///
    /// # Errors
    ///
    /// The end of the window, when the limit does not permit them.
    pub(super) fn count(&self, key: Key, at: At, limit: u32, requests: u32) -> Result<(), u64> {
        let mut entries = self.lock();
        let entry = slot(&mut entries, key, at);
        if !entry.is_live(at) {
            *entry = Entry { key, ends_at: at.now + at.window, granted: limit, used: 0 };
        }
        match entry.granted - entry.used >= requests {
            true => {
                entry.used += requests;
                Ok(())
            }
            false => Err(entry.ends_at),
        }
    }

    /// Takes one request of a lease.
    #[cfg(feature = "store")]
    pub(super) fn take(&self, key: Key, at: At) -> Lease {
        let mut entries = self.lock();
        let entry = slot(&mut entries, key, at);
        match entry.key == key && entry.is_live(at) {
            true if entry.used < entry.granted => {
                entry.used += 1;
                Lease::Taken
            }
            true if entry.granted == 0 => Lease::Exhausted(entry.ends_at),
            _ => Lease::Empty,
        }
    }

    /// Adds a block of which one request is used; of 0 requests if the store has no more.
    #[cfg(feature = "store")]
    pub(super) fn add(&self, key: Key, at: At, granted: u32, ends_at: u64) {
        let mut entries = self.lock();
        let entry = slot(&mut entries, key, at);
        let is_same = entry.key == key && entry.is_live(at);
        match (is_same, granted) {
            // A concurrent request has leased a block in the meantime.
            (true, 0) if entry.used < entry.granted => {}
            (true, 1..) => {
                entry.granted = entry.granted.saturating_add(granted);
                entry.used = entry.used.saturating_add(1);
                entry.ends_at = entry.ends_at.min(ends_at);
            }
            (true, 0) | (false, _) => *entry = Entry { key, ends_at, granted, used: granted.min(1) },
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.is_empty() {
            *entries = vec![Entry::default(); WAYS * SETS];
        }
        entries
    }

    /// Size of all entries in bytes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.lock().capacity() * size_of::<Entry>()
    }
}

impl Entry {
    /// Reports whether the window lasts. An end that is too far away was computed before the clock was set back.
    fn is_live(&self, at: At) -> bool {
        at.now < self.ends_at && self.ends_at - at.now <= at.window.saturating_mul(2)
    }
}

/// Returns the entry of a key, or the one of its set that a new entry replaces. The latter is reset.
fn slot(entries: &mut [Entry], key: Key, at: At) -> &mut Entry {
    // The digest is keyed: callers cannot choose a set.
    let set = usize::try_from(key[0] % SETS as u64).unwrap_or_default();
    let set = &mut entries[set * WAYS..(set + 1) * WAYS];
    if let Some(own) = set.iter().position(|entry| entry.key == key) {
        return &mut set[own];
    }
    // Windows of other limits may be longer than this one: their entries are kept until their own end.
    let rank = |entry: &Entry| if at.now < entry.ends_at { (true, entry.used) } else { (false, 0) };
    let mut least = 0;
    for index in 1..WAYS {
        if rank(&set[index]) < rank(&set[least]) {
            least = index;
        }
    }
    set[least] = Entry::default();
    &mut set[least]
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}
