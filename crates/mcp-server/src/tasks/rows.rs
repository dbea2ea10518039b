//! Rows of tasks in the store.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::record::TaskRecord;
use crate::{
    Principal,
    store::{Content, DueRow, Kind, RowKey, SealedStore, StoreError, StoreId, Version},
};

const TASK: Kind = Kind::new("task");

/// Length of a task id: 128 bits in Base64.
const ID_LENGTH: usize = 22;
/// Maximum number of repetitions of a write that meets another one.
const MAX_CONFLICTS: usize = 20;

/// Maximum size of a task with all that its handler and its client add. The rest of the row is for what runs write: counts, times, a
/// status message.
const MAX_CONTENT_BYTES: usize = SealedStore::MAX_VALUE_BYTES - 16 * 1024;

/// What a write changes in the row of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Values of the handler, questions or answers, up to [`MAX_CONTENT_BYTES`].
    Content,
    /// What a task of this size still has space for: counts, times, a status message, or its end.
    State,
}

/// A task and the version of its row.
pub(crate) struct HeldTask {
    pub(crate) record: TaskRecord,
    pub(crate) version: Version,
}

/// Creates an id.
pub(crate) fn new_id() -> Result<String, StoreError> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(Version::random()?.as_bytes()))
}

fn task_id<'a>(caller: Option<&'a Principal>, id: &'a str) -> StoreId<'a> {
    StoreId { kind: TASK, caller, id: id.as_bytes() }
}

/// Returns the key by which a task is woken. It reveals neither the caller nor the id.
pub(crate) fn row_key(store: &SealedStore, caller: Option<&Principal>, id: &str) -> RowKey {
    store.row_key(&task_id(caller, id))
}

/// Stores a new task.
pub(crate) async fn insert(
    store: &SealedStore,
    record: &TaskRecord,
    caller: Option<&Principal>,
    now: u64,
) -> Result<(), StoreError> {
    let value = serialize(record, Change::Content)?;
    let content = Content { value: &value, expires_in: record.lifetime(now), due_in: record.due_in(now) };
    match store.put_if_absent(&task_id(caller, &record.id), content).await? {
        Some(_) => Ok(()),
        None => Err(StoreError::Other("two tasks have the same id".into())),
    }
}

/// Returns the task of a caller; `None` if it is absent, has expired, or belongs to another caller.
pub(crate) async fn find(
    store: &SealedStore,
    caller: Option<&Principal>,
    id: &str,
) -> Result<Option<HeldTask>, StoreError> {
    if id.len() != ID_LENGTH {
        return Ok(None);
    }
    by_key(store, row_key(store, caller, id)).await
}

/// Returns the task of a row. A row that its caller cannot find reads as absent: it has the key of another index key, and would run
/// although its caller can neither see nor cancel it.
pub(crate) async fn by_key(store: &SealedStore, key: RowKey) -> Result<Option<HeldTask>, StoreError> {
    let Some(stored) = store.get_row(TASK, key).await? else {
        return Ok(None);
    };
    // Unbounded JSON: a value of this server, sealed, at most 1 MiB.
    // The text of the error could repeat a value.
    let record: TaskRecord = serde_json::from_slice(&stored.value).map_err(|_| StoreError::Unreadable)?;
    let is_found = row_key(store, record.caller().as_deref(), &record.id) == key;
    Ok(is_found.then_some(HeldTask { record, version: stored.version }))
}

/// Replaces the row of a task that has this version. Returns the new version, or `None` if another write came first.
pub(crate) async fn replace(
    store: &SealedStore,
    key: RowKey,
    held: &HeldTask,
    change: Change,
    now: u64,
) -> Result<Option<Version>, StoreError> {
    let value = serialize(&held.record, change)?;
    let content = Content { value: &value, expires_in: held.record.lifetime(now), due_in: held.record.due_in(now) };
    store.compare_and_set_row(TASK, key, held.version, content).await
}

/// Claims a task that is due, so that one environment wakes it. Returns `false` if another one was first.
pub(crate) async fn claim(store: &SealedStore, key: RowKey, mut held: HeldTask, now: u64) -> Result<bool, StoreError> {
    held.record.claim(now);
    Ok(replace(store, key, &held, Change::State, now).await?.is_some())
}

/// Reads a task and changes it, again after each conflict. `change` returns whether to write. Returns `None` if the task is absent.
/// `kind` is the kind of change.
pub(crate) async fn change<T>(
    store: &SealedStore,
    key: RowKey,
    kind: Change,
    now: u64,
    mut change: impl FnMut(&mut TaskRecord) -> (bool, T),
) -> Result<Option<(TaskRecord, T)>, StoreError> {
    for _ in 0..MAX_CONFLICTS {
        let Some(mut held) = by_key(store, key).await? else {
            return Ok(None);
        };
        let (is_changed, value) = change(&mut held.record);
        if !is_changed || replace(store, key, &held, kind, now).await?.is_some() {
            return Ok(Some((held.record, value)));
        }
    }
    Err(StoreError::Unavailable("the row of a task changed again and again".into()))
}

fn serialize(record: &TaskRecord, change: Change) -> Result<Vec<u8>, StoreError> {
    let value = serde_json::to_vec(record).map_err(|error| StoreError::Other(error.into()))?;
    match value.len() {
        bytes if change == Change::Content && bytes > MAX_CONTENT_BYTES => {
            Err(StoreError::TooLarge { bytes, maximum: MAX_CONTENT_BYTES })
        }
        _ => Ok(value),
    }
}

/// Returns tasks that are due, of all callers, the earliest first.
pub(crate) async fn due(store: &SealedStore, limit: usize) -> Result<Vec<DueRow>, StoreError> {
    store.due(TASK, Duration::ZERO, limit).await
}
