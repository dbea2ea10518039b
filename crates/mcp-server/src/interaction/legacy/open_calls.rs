//! The calls of a caller that wait for answers: one row for each caller, which bounds open questions and notes cancellations.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{
    timed_store::TimedStore,
    tokens::{Id, seconds},
};
use crate::{
    Principal,
    policy::network::Network,
    store::{Content, Kind, SealedStore, StoreError, StoreId},
};

/// Maximum number of open questions of a caller. Anonymous callers are [`GROUPS`] callers.
pub(super) const MAX_OPEN_QUESTIONS: usize = 20;
/// Groups of anonymous callers, by site. Their number bounds the open questions of all anonymous callers together. One site
/// can fill its own group alone, and cannot find out which others are in it.
const GROUPS: u16 = 4096;
/// Attempts to change a row that other environments change too.
const MAX_ATTEMPTS: u32 = 30;

const KIND: Kind = Kind::new("question-calls");
/// Only for digests of sites: no row has it.
const NETWORK: Kind = Kind::new("question-network");

/// Returns the group of an anonymous caller, by a keyed digest of its site.
pub(super) fn group_of(store: &SealedStore, address: Option<IpAddr>) -> u16 {
    let network = Network::of(address);
    let digest = store.row_key(&StoreId { kind: NETWORK, caller: None, id: network.site() });
    let [high, low, ..] = *digest.as_bytes();
    u16::from_be_bytes([high, low]) % GROUPS
}

/// The open calls of a caller.
pub(super) struct OpenCalls<'a> {
    store: &'a TimedStore,
    /// The caller with all clients.
    person: Option<Principal>,
    id: [u8; 2],
}

#[derive(Serialize, Deserialize)]
struct OpenCall {
    #[serde(rename = "c")]
    call: Id,
    #[serde(rename = "q")]
    questions: usize,
    /// Seconds since 1970.
    #[serde(rename = "e")]
    expires: u64,
    #[serde(rename = "x", default)]
    is_cancelled: bool,
}

/// Whether the questions of a call were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    Open,
    /// The caller has too many open questions.
    TooMany,
    /// The call is cancelled, or another call of this id is open.
    Taken,
}

/// Whether a change of the row is written.
enum Change {
    Write,
    Keep,
}

impl<'a> OpenCalls<'a> {
    pub(super) fn new(store: &'a TimedStore, caller: Option<&Principal>, group: u16) -> Self {
        let group = if caller.is_some() { 0 } else { group };
        Self { store, person: caller.map(Principal::person), id: group.to_be_bytes() }
    }

    fn row(&self) -> StoreId<'_> {
        StoreId { kind: KIND, caller: self.person.as_ref(), id: &self.id }
    }

    /// Adds the questions of a call; of a call that asks again, in place of those of its last round. A cancelled call counts until its
    /// questions expire, since they can be answered until then.
    pub(super) async fn add(
        &self,
        call: Id,
        is_first: bool,
        questions: usize,
        expires: u64,
        now: SystemTime,
    ) -> Result<Added, StoreError> {
        let mut added = Added::Taken;
        self.change(now, |calls| {
            let is_taken = calls.iter().any(|own| own.call == call && (is_first || own.is_cancelled));
            let others: usize = calls.iter().filter(|own| own.call != call).map(|own| own.questions).sum();
            added = match (is_taken, others + questions <= MAX_OPEN_QUESTIONS) {
                (true, _) => Added::Taken,
                (false, false) => Added::TooMany,
                (false, true) => Added::Open,
            };
            if added != Added::Open {
                return Change::Keep;
            }
            calls.retain(|own| own.call != call);
            calls.push(OpenCall { call, questions, expires, is_cancelled: false });
            Change::Write
        })
        .await?;
        Ok(added)
    }

    /// Removes a call that has ended.
    pub(super) async fn remove(&self, call: Id, now: SystemTime) -> Result<(), StoreError> {
        self.change(now, |calls| {
            let before = calls.len();
            calls.retain(|own| own.call != call);
            if calls.len() < before { Change::Write } else { Change::Keep }
        })
        .await
    }

    /// Marks an open call as cancelled. Nothing is written for other calls.
    pub(super) async fn cancel(&self, call: Id, now: SystemTime) -> Result<(), StoreError> {
        self.change(now, |calls| match calls.iter_mut().find(|own| own.call == call && !own.is_cancelled) {
            Some(own) => {
                own.is_cancelled = true;
                Change::Write
            }
            None => Change::Keep,
        })
        .await
    }

    pub(super) async fn is_cancelled(&self, call: Id) -> Result<bool, StoreError> {
        let stored = self.store.get(&self.row()).await?;
        let calls = read(stored.as_ref().map(|stored| stored.value.as_slice()));
        Ok(calls.iter().any(|own| own.call == call && own.is_cancelled))
    }

    async fn change(
        &self,
        now: SystemTime,
        mut change: impl FnMut(&mut Vec<OpenCall>) -> Change,
    ) -> Result<(), StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            let row = self.row();
            let stored = self.store.get(&row).await?;
            let mut calls = read(stored.as_ref().map(|stored| stored.value.as_slice()));
            calls.retain(|own| own.expires > seconds(now));
            if let Change::Keep = change(&mut calls) {
                return Ok(());
            }
            let lifetime = calls.iter().map(|own| own.expires.saturating_sub(seconds(now))).max().unwrap_or(0);
            let value = serde_json::to_vec(&calls).map_err(|error| StoreError::Other(error.into()))?;
            let expires_in = Duration::from_secs(lifetime + 60);
            let content = Content { value: &value, expires_in, due_in: None };
            let written = match stored {
                Some(stored) => self.store.compare_and_set(&row, stored.version, content).await?,
                None => self.store.put_if_absent(&row, content).await?,
            };
            if written.is_some() {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("too many environments change the open calls of one caller".into()))
    }
}

/// Parses a row; one of another version of the function counts as empty.
fn read(value: Option<&[u8]>) -> Vec<OpenCall> {
    // Unbounded JSON: sealed by this server, and bounded by the number of questions.
    value.and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default()
}
