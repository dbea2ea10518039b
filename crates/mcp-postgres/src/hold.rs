//! At most one connection for each call. A second one could cause a deadlock: it would wait for the first, which is in use
//! until the call ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::DatabaseError;

/// The databases to which a call holds a connection, by their address in memory.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<Vec<usize>>);

impl Holds {
    fn lock(&self) -> MutexGuard<'_, Vec<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permit of a call for a connection to one database, until it is dropped.
pub(crate) struct Hold {
    holds: Arc<Holds>,
    database: usize,
}

impl Hold {
    pub(crate) fn take(holds: Arc<Holds>, database: usize) -> Result<Self, DatabaseError> {
        {
            let mut held = holds.lock();
            if held.contains(&database) {
                return Err(DatabaseError::AlreadyHeld);
            }
            held.push(database);
        }
        Ok(Self { holds, database })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.lock().retain(|held| *held != self.database);
    }
}
