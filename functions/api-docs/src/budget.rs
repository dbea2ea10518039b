//! The budget of one document: what reading it, and keeping it, may take.

use std::{cell::Cell, sync::Weak};

/// Levels of arrays and objects in a document. Many parsers refuse 128, and an answer has some around what it shows.
pub(crate) const MAX_DEPTH: usize = 100;
/// Values in a document: a call may have to pass over all members of an object.
pub(crate) const MAX_VALUES: usize = 4_000_000;
/// Bytes of what lists show of operations and schemas (ids, paths, tags, summaries): a call may look at all of them.
pub(crate) const MAX_LISTED_BYTES: usize = 32 * 1024 * 1024;
/// Words of operations and schemas, each counted once for each of them: a search may look at all of them.
pub(crate) const MAX_WORDS: usize = 2_000_000;
/// Bytes of the references that are followed while a document is loaded, and [`STEP`] for each.
pub(crate) const MAX_REFERENCE_BYTES: usize = 32 * 1024 * 1024;
/// Three times the largest document that is known of (GitHub's, 13 MB).
const MAX_TEXT_BYTES: usize = 40 * 1024 * 1024;
/// What following a reference counts besides its length.
const STEP: usize = 64;
/// The text of a document, its escaped strings and the buffers of both while they grow: for each of its bytes.
const TEXT: usize = 4;
/// What a word takes in an index besides its letters.
const WORD_BYTES: usize = 256;
/// A node of the `BTreeMap` in an object: room for 11 members, of which at least 5 are used once there are several nodes.
const NODE_BYTES: usize = 640;
/// The same with what is above it.
const FURTHER_NODE_BYTES: usize = 768;
const NODE_MEMBERS: usize = 5;

/// The memory of one document: while it is read, and when it is kept.
///
/// Two documents are in memory while a newer one is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    bytes: usize,
}

impl Budget {
    /// The budget of a function with this much memory: three eighths of it for each of two documents, the rest for the
    /// program and its answers.
    pub const fn of_function(mib: usize) -> Self {
        Self { bytes: mib.saturating_mul(1024 * 1024) / 8 * 3 }
    }

    /// The bytes of memory that a document may take.
    pub const fn bytes(self) -> usize {
        self.bytes
    }

    /// The longest text that is fetched. It and its buffer are in memory besides the document that is kept.
    pub(crate) fn max_text(self) -> usize {
        (self.bytes / 8).min(MAX_TEXT_BYTES)
    }
}

/// Why a document is not read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Spent {
    #[error("it takes more than {} MiB of memory: raise the function's MemorySize, or make the document smaller", .0 / 1024 / 1024)]
    Memory(usize),
    #[error("it is nested more than {MAX_DEPTH} levels deep: use `$ref`")]
    Depth,
    #[error("it has more than {MAX_VALUES} values: make the document smaller")]
    Values,
    #[error(
        "what lists show of its operations and schemas is more than {} MiB: shorten names and paths",
        MAX_LISTED_BYTES / 1024 / 1024
    )]
    Listed,
    #[error("its operations and schemas have more than {MAX_WORDS} words to search: shorten descriptions")]
    Words,
    #[error("too many references of paths and parameters have to be followed: put fewer in a chain")]
    References,
    #[error("reading it took too long, and was stopped: raise the function's MemorySize, or make the document smaller")]
    Stopped,
}

/// What is left of a budget. All that is built of a document is charged here before memory is taken for it.
#[derive(Debug)]
pub(crate) struct Meter {
    budget: Budget,
    /// Who wants the document: when nothing holds it any more, reading stops.
    wanted: Weak<()>,
    left: Cell<usize>,
    values: Cell<usize>,
    listed: Cell<usize>,
    words: Cell<usize>,
    references: Cell<usize>,
    spent: Cell<Option<Spent>>,
}

impl Meter {
    pub(crate) fn new(budget: Budget, wanted: &Weak<()>) -> Self {
        Self {
            budget,
            wanted: Weak::clone(wanted),
            left: Cell::new(budget.bytes),
            values: Cell::new(MAX_VALUES),
            listed: Cell::new(MAX_LISTED_BYTES),
            words: Cell::new(MAX_WORDS),
            references: Cell::new(MAX_REFERENCE_BYTES),
            spent: Cell::new(None),
        }
    }

    /// Why nothing was given, the last time.
    pub(crate) fn spent(&self) -> Option<Spent> {
        self.spent.get()
    }

    /// Values that may still come.
    pub(crate) fn values(&self) -> usize {
        self.values.get()
    }

    /// Bytes that may still be taken.
    pub(crate) fn left(&self) -> usize {
        self.left.get()
    }

    /// Charges so many bytes of memory.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), Spent> {
        self.count(&self.left, bytes, Spent::Memory(self.budget.bytes))
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.left.set(self.left.get() + bytes);
    }

    /// Charges the text of a document.
    pub(crate) fn take_text(&self, text: &str) -> Result<(), Spent> {
        self.take(text.len().saturating_mul(TEXT))
    }

    /// Charges what is kept of a string.
    pub(crate) fn take_string(&self, text: &str) -> Result<(), Spent> {
        self.take(allocation(text.len()))
    }

    /// Counts a value at this depth of the document.
    pub(crate) fn take_values(&self, values: usize, depth: usize) -> Result<(), Spent> {
        if depth > MAX_DEPTH {
            return self.refuse(Spent::Depth);
        }
        self.count(&self.values, values, Spent::Values)
    }

    /// Charges a member, besides its name and value, of an object that has so many.
    pub(crate) fn take_member(&self, members: usize) -> Result<(), Spent> {
        match members {
            0 => self.take(allocation(NODE_BYTES)),
            _ if members.is_multiple_of(NODE_MEMBERS) => self.take(allocation(FURTHER_NODE_BYTES)),
            _ => self.take(0),
        }
    }

    /// Appends an item. The old and the new memory of an array that grows are both taken for a moment.
    pub(crate) fn push<T>(&self, items: &mut Vec<T>, item: T) -> Result<(), Spent> {
        let capacity = items.capacity();
        if items.len() == capacity {
            let grown = (capacity * 2).max(1);
            self.take(allocation(grown * size_of::<T>()))?;
            items.reserve_exact(grown - capacity);
            self.give_back(allocation(capacity * size_of::<T>()));
        }
        items.push(item);
        Ok(())
    }

    /// Charges a text that lists show.
    pub(crate) fn take_listed(&self, text: &str) -> Result<(), Spent> {
        self.count(&self.listed, text.len() + STEP, Spent::Listed)?;
        self.take(allocation(text.len()) + STEP)
    }

    /// Counts a word of an operation or a schema, and charges it if it is a new one.
    pub(crate) fn take_word(&self, new: Option<&str>) -> Result<(), Spent> {
        if let Some(word) = new {
            self.take(allocation(word.len()) + WORD_BYTES)?;
        }
        self.count(&self.words, 1, Spent::Words)
    }

    /// Counts a reference that is followed.
    pub(crate) fn take_reference(&self, reference: &str) -> Result<(), Spent> {
        self.take(0)?;
        self.count(&self.references, reference.len() + STEP, Spent::References)
    }

    fn count(&self, left: &Cell<usize>, amount: usize, otherwise: Spent) -> Result<(), Spent> {
        if self.wanted.strong_count() == 0 {
            return self.refuse(Spent::Stopped);
        }
        match left.get().checked_sub(amount) {
            Some(rest) => {
                left.set(rest);
                Ok(())
            }
            None => self.refuse(otherwise),
        }
    }

    pub(crate) fn refuse<T>(&self, spent: Spent) -> Result<T, Spent> {
        self.spent.set(Some(spent));
        Err(spent)
    }
}

/// What an allocator takes for so many bytes.
fn allocation(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}
