//! Memory budget of one document, during parsing and afterwards.

use std::{cell::Cell, sync::Weak};

/// Maximum nesting of arrays and objects in a document. Many parsers reject 128 levels, and a response adds some levels
/// around an excerpt.
pub(crate) const MAX_DEPTH: usize = 100;
/// Maximum number of values in a document: a call may iterate over all members of an object.
pub(crate) const MAX_VALUES: usize = 4_000_000;
/// Maximum total size of the texts in lists of operations and schemas (ids, paths, tags, summaries), in bytes: a call
/// may read all of them.
pub(crate) const MAX_LISTED_BYTES: usize = 32 * 1024 * 1024;
/// Maximum number of words in the index, each counted once per operation or schema: a search may read all of them.
pub(crate) const MAX_WORDS: usize = 2_000_000;
/// Maximum total size of the references that are followed while a document is loaded, in bytes, plus [`STEP`] for each.
pub(crate) const MAX_REFERENCE_BYTES: usize = 32 * 1024 * 1024;
/// Maximum size of a document: three times the largest known document (GitHub's, 13 MB).
const MAX_TEXT_BYTES: usize = 40 * 1024 * 1024;
/// Fixed cost of following a reference, in addition to its length.
const STEP: usize = 64;
/// Memory per byte of a document's text: the text, its escaped strings, and the growing buffers of both.
const TEXT: usize = 4;
/// Memory of an indexed word, without its characters.
const WORD_BYTES: usize = 256;
/// Memory of a `BTreeMap` node of an object: it holds 11 members, at least 5 if there are several nodes.
const NODE_BYTES: usize = 640;
/// Memory of a further `BTreeMap` node with its parents.
const FURTHER_NODE_BYTES: usize = 768;
const NODE_MEMBERS: usize = 5;

/// Memory budget of one document, during parsing and afterwards.
///
/// Two documents are in memory while a newer one is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    bytes: usize,
}

impl Budget {
    /// Creates the budget of a function with `mib` MiB of memory: three eighths for each of two documents, the rest for
    /// the program and its responses.
    pub const fn of_function(mib: usize) -> Self {
        Self { bytes: mib.saturating_mul(1024 * 1024) / 8 * 3 }
    }

    /// Returns the maximum memory of a document, in bytes.
    pub const fn bytes(self) -> usize {
        self.bytes
    }

    /// Returns the maximum size of a fetched text, in bytes. The text and its buffer are in memory in addition to the
    /// current document.
    pub(crate) fn max_text(self) -> usize {
        (self.bytes / 8).min(MAX_TEXT_BYTES)
    }
}

/// Limit that a document exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitExceeded {
    #[error("the document takes more than {} MiB of memory: raise the function's MemorySize, or make the document smaller", .0 / 1024 / 1024)]
    Memory(usize),
    #[error("the document is nested more than {MAX_DEPTH} levels deep: use `$ref`")]
    Depth,
    #[error("the document has more than {MAX_VALUES} values: make the document smaller")]
    Values,
    #[error(
        "the names, paths and summaries of operations and schemas exceed {} MiB: shorten names and paths",
        MAX_LISTED_BYTES / 1024 / 1024
    )]
    Listed,
    #[error("the operations and schemas have more than {MAX_WORDS} words to search: shorten descriptions")]
    Words,
    #[error("too many references of paths and parameters: shorten the chains")]
    References,
    #[error(
        "parsing the document was cancelled at the deadline: raise the function's MemorySize, or make the document smaller"
    )]
    Cancelled,
}

/// Remaining budget. Every allocation for a document is charged before it is made.
#[derive(Debug)]
pub(crate) struct Meter {
    budget: Budget,
    /// Reference to the requester's token: parsing is cancelled when the last strong reference is dropped.
    requester: Weak<()>,
    left: Cell<usize>,
    values: Cell<usize>,
    listed: Cell<usize>,
    words: Cell<usize>,
    references: Cell<usize>,
    exceeded: Cell<Option<LimitExceeded>>,
}

impl Meter {
    pub(crate) fn new(budget: Budget, requester: &Weak<()>) -> Self {
        Self {
            budget,
            requester: Weak::clone(requester),
            left: Cell::new(budget.bytes),
            values: Cell::new(MAX_VALUES),
            listed: Cell::new(MAX_LISTED_BYTES),
            words: Cell::new(MAX_WORDS),
            references: Cell::new(MAX_REFERENCE_BYTES),
            exceeded: Cell::new(None),
        }
    }

    /// Returns the limit that was exceeded last.
    pub(crate) fn exceeded(&self) -> Option<LimitExceeded> {
        self.exceeded.get()
    }

    /// Returns the remaining number of values.
    pub(crate) fn values(&self) -> usize {
        self.values.get()
    }

    /// Returns the remaining number of bytes.
    pub(crate) fn left(&self) -> usize {
        self.left.get()
    }

    /// Charges `bytes` of memory.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), LimitExceeded> {
        self.count(&self.left, bytes, LimitExceeded::Memory(self.budget.bytes))
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.left.set(self.left.get() + bytes);
    }

    /// Charges the text of a document.
    pub(crate) fn take_text(&self, text: &str) -> Result<(), LimitExceeded> {
        self.take(text.len().saturating_mul(TEXT))
    }

    /// Charges the allocation of a string.
    pub(crate) fn take_string(&self, text: &str) -> Result<(), LimitExceeded> {
        self.take(allocation(text.len()))
    }

    /// Counts values at a depth of the document.
    pub(crate) fn take_values(&self, values: usize, depth: usize) -> Result<(), LimitExceeded> {
        if depth > MAX_DEPTH {
            return self.fail(LimitExceeded::Depth);
        }
        self.count(&self.values, values, LimitExceeded::Values)
    }

    /// Charges the next member of an object with `members` members, without its name and value.
    pub(crate) fn take_member(&self, members: usize) -> Result<(), LimitExceeded> {
        match members {
            0 => self.take(allocation(NODE_BYTES)),
            _ if members.is_multiple_of(NODE_MEMBERS) => self.take(allocation(FURTHER_NODE_BYTES)),
            _ => self.take(0),
        }
    }

    /// Appends an item. During growth, the old and the new allocation are charged together.
    pub(crate) fn push<T>(&self, items: &mut Vec<T>, item: T) -> Result<(), LimitExceeded> {
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

    /// Charges a text of a list.
    pub(crate) fn take_listed(&self, text: &str) -> Result<(), LimitExceeded> {
        self.count(&self.listed, text.len() + STEP, LimitExceeded::Listed)?;
        self.take(allocation(text.len()) + STEP)
    }

    /// Counts a word of an operation or a schema, and charges a new word.
    pub(crate) fn take_word(&self, new: Option<&str>) -> Result<(), LimitExceeded> {
        if let Some(word) = new {
            self.take(allocation(word.len()) + WORD_BYTES)?;
        }
        self.count(&self.words, 1, LimitExceeded::Words)
    }

    /// Counts a followed reference.
    pub(crate) fn take_reference(&self, reference: &str) -> Result<(), LimitExceeded> {
        self.take(0)?;
        self.count(&self.references, reference.len() + STEP, LimitExceeded::References)
    }

    fn count(&self, left: &Cell<usize>, amount: usize, otherwise: LimitExceeded) -> Result<(), LimitExceeded> {
        if self.requester.strong_count() == 0 {
            return self.fail(LimitExceeded::Cancelled);
        }
        match left.get().checked_sub(amount) {
            Some(rest) => {
                left.set(rest);
                Ok(())
            }
            None => self.fail(otherwise),
        }
    }

    pub(crate) fn fail<T>(&self, exceeded: LimitExceeded) -> Result<T, LimitExceeded> {
        self.exceeded.set(Some(exceeded));
        Err(exceeded)
    }
}

/// Returns the memory that an allocator uses for `bytes` bytes.
fn allocation(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}
