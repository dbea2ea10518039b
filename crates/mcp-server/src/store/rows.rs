//! Rows and counters, and the interface of what stores them.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::BoxError;

/// Maximum size of a stored value: 1 MiB, which every database here stores in a column.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// Maximum lifetime of a row, and of a window: 90 days.
pub const MAX_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Maximum ceiling of a counter, and maximum amount of an increment.
pub const MAX_COUNT: u64 = 1 << 40;
/// Maximum number of rows of one [`due`](Store::due), [`delete_subject`](Store::delete_subject) or [`purge`](Store::purge).
pub const MAX_LIMIT: usize = 500;

/// A clock for tests. A store without one uses its own: that of the process, or of the database.
pub type StoreClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The future of a store's operation.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Rows and counters that outlive a request, shared by all execution environments of a server.
///
/// This is the interface of implementations, which see keyed digests and sealed bytes only. Requests use
/// [`SealedStore`](super::SealedStore).
///
/// - **Atomicity**: each operation is atomic, and durable before it returns. Of concurrent calls of
///   [`put_if_absent`](Self::put_if_absent) with one key, exactly one stores its value. The same holds for concurrent calls of
///   [`compare_and_set`](Self::compare_and_set) with one version.
/// - **Time**: lifetimes are durations, because clocks of environments differ. Expiry is determined by the store's clock only.
/// - **Expiry**: an expired row reads as absent at once. It is deleted later, by a bounded deletion after a write or by
///   [`purge`](Self::purge).
/// - **Deadline**: an operation ends after ten seconds. Drop its future to end it earlier; a write that is dropped may have
///   been executed.
///
/// # Errors
///
/// Every operation fails with [`StoreError::OutOfRange`] for an argument beyond its bound, before a request to the store, and
/// with [`StoreError::Unavailable`] if the store cannot be reached. A write fails with [`StoreError::OutcomeUnknown`] if the
/// connection is lost before the store confirms the write.
pub trait Store: Send + Sync {
    /// Stores a row if its key is absent. Returns its version, or `None` if the key is present.
    fn put_if_absent<'a>(&'a self, key: RowKey, tag: RowTag, content: Content<'a>) -> StoreFuture<'a, Option<Version>>;

    /// Returns the value of a row; `None` if it is absent.
    fn get(&self, key: RowKey) -> StoreFuture<'_, Option<StoredValue>>;

    /// Replaces value, lifetime and due time of a row that has this version. Returns the new version, or `None` if the row has
    /// another version or is absent.
    fn compare_and_set<'a>(
        &'a self,
        key: RowKey,
        version: Version,
        content: Content<'a>,
    ) -> StoreFuture<'a, Option<Version>>;

    /// Adds the amount to a counter, up to its ceiling. The window begins with the first increment. After the window the counter is
    /// absent, and the next increment begins another window. Counters and rows have separate keys.
    fn increment(&self, key: RowKey, tag: RowTag, increment: Increment) -> StoreFuture<'_, Granted>;

    /// Deletes the row and the counter of a key, if they are present.
    fn delete(&self, key: RowKey) -> StoreFuture<'_, ()>;

    /// Returns rows of a kind whose due time is at most `within` from now, earliest first. `within` is at most
    /// [`MAX_LIFETIME`], `limit` from 1 to [`MAX_LIMIT`]. The rows stay due: claim each by [`compare_and_set`](Self::compare_and_set).
    fn due(&self, kind: Kind, within: Duration, limit: usize) -> StoreFuture<'_, Vec<DueRow>>;

    /// Deletes up to `limit` rows of a subject, and as many counters. `limit` is from 1 to [`MAX_LIMIT`]. It ends also while the
    /// subject writes: repeat it while something is left, a limited number of times.
    fn delete_subject(&self, subject: SubjectKey, limit: usize) -> StoreFuture<'_, SubjectDeletion>;

    /// Deletes up to `limit` expired rows, and as many counters. Returns their number. `limit` is from 1 to [`MAX_LIMIT`].
    fn purge(&self, limit: usize) -> StoreFuture<'_, u64>;
}

macro_rules! digest {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Creates a key from the bytes of a digest.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Returns the digest.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Returns the digest as text: 43 characters of URL-safe Base64.
            pub fn encode(&self) -> String {
                BASE64_URL_SAFE_NO_PAD.encode(self.0)
            }

            /// Parses what [`encode`](Self::encode) returns; `None` for other text.
            pub fn decode(text: &str) -> Option<Self> {
                BASE64_URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:02x}{:02x}{:02x}{:02x}..)"), self.0[0], self.0[1], self.0[2], self.0[3])
            }
        }
    };
}

digest! {
    /// The key of a row: a keyed digest of kind, caller and id.
    RowKey
}
digest! {
    /// A keyed digest of a subject: of its issuer and its identifier.
    SubjectKey
}

/// The version of a row. It is random, so that no two writes have the same version, even if a row is deleted and stored again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version([u8; 16]);

impl Version {
    /// Creates a random version, for a write.
    ///
    /// # Errors
    ///
    /// When the system has no random numbers.
    pub fn random() -> Result<Self, StoreError> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| StoreError::Other("could not get random numbers".into()))?;
        Ok(Self(bytes))
    }

    /// Creates a version from its stored bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The kind of a row, such as `task`. It is stored as plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(&'static str);

impl Kind {
    /// Creates a kind, for a constant.
    ///
    /// # Panics
    ///
    /// Panics unless the name has 1 to 32 lowercase ASCII letters and hyphens.
    pub const fn new(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= 32, "a kind has 1 to 32 characters");
        let mut at = 0;
        while at < bytes.len() {
            assert!(
                bytes[at].is_ascii_lowercase() || bytes[at] == b'-',
                "a kind has lowercase letters and hyphens only"
            );
            at += 1;
        }
        Self(name)
    }

    /// Returns the name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// Attributes of a row that do not change while it exists.
#[derive(Debug, Clone, Copy)]
pub struct RowTag {
    /// The row's kind.
    pub kind: Kind,
    /// The subject that owns the row; `None` for an anonymous caller.
    pub subject: Option<SubjectKey>,
}

/// Value, lifetime and due time of a row, for a write.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    /// The value: at most [`MAX_VALUE_BYTES`].
    pub value: &'a [u8],
    /// Lifetime from now: more than zero, at most [`MAX_LIFETIME`].
    pub expires_in: Duration,
    /// Time from now at which the row becomes [due](Store::due): at most [`MAX_LIFETIME`]. `None`: never.
    pub due_in: Option<Duration>,
}

impl Content<'_> {
    /// Checks the bounds. Every implementation calls it first.
    ///
    /// # Errors
    ///
    /// When the value is too large, or a time is out of range.
    pub fn validate(&self) -> Result<(), StoreError> {
        if self.value.len() > MAX_VALUE_BYTES {
            return Err(StoreError::TooLarge { bytes: self.value.len(), maximum: MAX_VALUE_BYTES });
        }
        validate_lifetime(self.expires_in, "a lifetime must be from 1 microsecond to 90 days")?;
        match self.due_in {
            Some(due_in) => validate_within(due_in),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, expires_in, due_in } = self;
        let mut debug = f.debug_struct("Content");
        debug.field("bytes", &value.len()).field("expires_in", expires_in).field("due_in", due_in).finish()
    }
}

/// An increment of a counter.
#[derive(Debug, Clone, Copy)]
pub struct Increment {
    /// The amount to add: from 1 to [`MAX_COUNT`].
    pub amount: u64,
    /// The maximum total in a window: from 1 to [`MAX_COUNT`].
    pub ceiling: u64,
    /// Length of a window: more than zero, at most [`MAX_LIFETIME`].
    pub window: Duration,
}

impl Increment {
    /// Checks the bounds. Every implementation calls it first.
    ///
    /// # Errors
    ///
    /// When a number or the window is out of range.
    pub fn validate(&self) -> Result<(), StoreError> {
        if [self.amount, self.ceiling].iter().any(|count| !(1..=MAX_COUNT).contains(count)) {
            return Err(StoreError::OutOfRange("amount and ceiling of a counter must be from 1 to 2^40"));
        }
        validate_lifetime(self.window, "a window must be from 1 microsecond to 90 days")
    }
}

/// The result of an increment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The part of the amount that was added: 0 at the ceiling.
    pub granted: u64,
    /// The total in this window.
    pub total: u64,
    /// Time until the window ends.
    pub ends_in: Duration,
}

/// The value of a row.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// The value.
    pub value: Vec<u8>,
    /// The version, for [`Store::compare_and_set`].
    pub version: Version,
}

impl fmt::Debug for StoredValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredValue").field("bytes", &self.value.len()).field("version", &self.version).finish()
    }
}

/// What a [`Store::delete_subject`] has deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubjectDeletion {
    /// Number of rows and counters that were deleted.
    pub deleted: u64,
    /// Number of rows and counters that the subject has afterwards: each counted up to [`MAX_LIMIT`].
    pub left: u64,
}

/// A row that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueRow {
    /// The row's key.
    pub key: RowKey,
    /// The row's version.
    pub version: Version,
}

/// Why an operation of a store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The value is too large.
    #[error("the value has {bytes} bytes, more than the maximum of {maximum}")]
    TooLarge {
        /// Size of the value in bytes.
        bytes: usize,
        /// The maximum in bytes.
        maximum: usize,
    },
    /// An argument is out of range; the text names the range.
    #[error("{0}")]
    OutOfRange(&'static str),
    /// The memory store has reached its capacity. Rows that have not expired are never evicted.
    #[error("the store is full")]
    Full,
    /// The store cannot be reached at the moment. Nothing was written.
    #[error("the store is not available")]
    Unavailable(#[source] BoxError),
    /// The connection was lost before the store confirmed a write, which may have been executed.
    #[error("the store did not confirm the write: it may have been executed")]
    OutcomeUnknown(#[source] BoxError),
    /// The value was sealed with a key that is not configured here.
    #[error("the value is sealed with an unknown key")]
    UnknownKey,
    /// The value was changed, or copied from another row.
    #[error("the value does not open: it was changed or belongs to another row")]
    Unreadable,
    /// Any other error: an internal fault.
    #[error("the store rejected the operation")]
    Other(#[source] BoxError),
}

fn validate_lifetime(lifetime: Duration, message: &'static str) -> Result<(), StoreError> {
    let is_valid = lifetime >= Duration::from_micros(1) && lifetime <= MAX_LIFETIME;
    if is_valid { Ok(()) } else { Err(StoreError::OutOfRange(message)) }
}

/// Checks the limit of [`Store::due`], [`Store::delete_subject`] and [`Store::purge`], for implementations.
///
/// # Errors
///
/// When it is 0 or more than [`MAX_LIMIT`].
pub fn validate_limit(limit: usize) -> Result<(), StoreError> {
    match limit {
        1..=MAX_LIMIT => Ok(()),
        _ => Err(StoreError::OutOfRange("a limit must be from 1 to 500")),
    }
}

/// Checks how far [`Store::due`] looks ahead, for implementations.
///
/// # Errors
///
/// When it is more than [`MAX_LIFETIME`].
pub fn validate_within(within: Duration) -> Result<(), StoreError> {
    if within > MAX_LIFETIME {
        return Err(StoreError::OutOfRange("a due time must be at most 90 days ahead"));
    }
    Ok(())
}
