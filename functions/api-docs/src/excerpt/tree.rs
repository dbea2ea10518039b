//! Tree of an excerpt: the part of a value, with references resolved, that fits the size limit.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque, btree_map},
    io,
    iter::{self, Peekable},
    ptr, slice,
};

use serde::Serialize;
use serde_json::{Map, Value, json, map};

use super::{
    MAX_BYTES, Start, beyond,
    references::{MemberKind, REFERENCE, References, reference_of},
};
use crate::document::{Inherited, MAX_CHAIN, MAX_NAME_BYTES};

/// Maximum nesting depth. Many parsers reject 128 levels, and a result adds some levels around an excerpt.
const MAX_DEPTH: usize = 64;
/// Maximum total size of visited members that do not fit: a large object may be referenced many times.
const MAX_WASTED_BYTES: usize = 32 * MAX_BYTES;
/// Maximum number of siblings of a reference. References with more siblings, or with long sibling names, are not
/// resolved.
const MAX_SIBLINGS: usize = 64;
/// Maximum length of a nested text; longer texts are truncated.
const LONG_TEXT_CHARS: usize = 4000;
/// Member with the reference that was replaced by its target.
const ORIGIN: &str = "x-ref";
/// Member that replaces an omitted value, with its pointer.
const CUT: &str = "x-cut";

/// Omitted parts of an excerpt.
#[derive(Default)]
pub(super) struct Truncation {
    /// Number of cyclic references.
    cycles: usize,
    /// Number of references that were not resolved.
    references: usize,
    /// Number of values that were cut.
    values: usize,
    /// Next `skip` value for the members of the root, and their total.
    rest: Option<(usize, usize)>,
    /// Index of a member of the root whose name alone is too long.
    too_long: Option<usize>,
    /// Number of members of the root, if all were skipped.
    beyond: Option<usize>,
}

impl Truncation {
    pub(super) fn note(&self) -> Option<String> {
        let mut notes = Vec::new();
        if let Some((next, all)) = self.rest {
            notes.push(format!("the excerpt is incomplete: continue with `skip` {next} (of {all})"));
        }
        if let Some(at) = self.too_long {
            notes.push(format!("the name of member {at} is too long to show"));
        }
        if let Some(all) = self.beyond {
            notes.push(beyond(all));
        }
        if self.references > 0 {
            notes.push(format!(
                "{} references were not resolved for length: read them with read_schema, or by `pointer`",
                self.references
            ));
        }
        if self.values > 0 {
            notes.push(format!("{} values were cut for length: read them by the `pointer` in `{CUT}`", self.values));
        }
        if self.cycles > 0 {
            notes.push(format!("{} references are cycles and remain `$ref`", self.cycles));
        }
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

/// Tree that is expanded breadth-first within the size limit, since values near the root matter more.
pub(super) struct Tree<'a> {
    references: References<'a>,
    nodes: Vec<Node<'a>>,
    /// Remaining bytes. The placeholder of each pending node is already charged.
    left: usize,
    /// Total size of visited members that did not fit.
    wasted: usize,
    pub(super) truncation: Truncation,
}

struct Node<'a> {
    shape: Shape<'a>,
    parent: Option<usize>,
    depth: usize,
    /// JSON pointer of the node; empty for a value that is complete.
    pointer: String,
    /// References from the parent to this node, with their targets.
    references: Vec<(&'a str, &'a Value)>,
    kind: MemberKind,
    /// Bytes charged for the node.
    charged: usize,
}

enum Shape<'a> {
    Pending(&'a Value),
    Done(Value),
    Object(Vec<(Cow<'a, str>, usize)>),
    Array(Vec<usize>),
}

impl<'a> Tree<'a> {
    pub(super) fn new(references: References<'a>) -> Self {
        Self { references, nodes: Vec::new(), left: MAX_BYTES, wasted: 0, truncation: Truncation::default() }
    }

    pub(super) fn grow(&mut self, value: &'a Value, inherited: &'a Inherited<'_>, start: Start<'_>, kind: MemberKind) {
        let shape = Shape::Pending(value);
        let pointer = start.pointer.to_owned();
        self.nodes.push(Node { shape, parent: None, depth: 0, pointer, references: vec![], kind, charged: 0 });
        let overrides = inherited.iter().map(|(name, value)| (*name, &**value)).collect();
        let mut queue = VecDeque::from(self.grow_node(0, overrides, start.skip));
        while let Some(index) = queue.pop_front() {
            queue.extend(self.grow_node(index, BTreeMap::new(), 0));
        }
    }

    /// Expands a node with its members and the overriding members; returns the pending children.
    fn grow_node(&mut self, index: usize, mut overrides: BTreeMap<&'a str, &'a Value>, skip: usize) -> Vec<usize> {
        let Shape::Pending(written) = self.nodes[index].shape else { return Vec::new() };
        let mut value = written;
        if self.nodes[index].kind.may_refer() {
            while let Some((reference, members)) = reference_of(value).zip(value.as_object()) {
                let followed = self.nodes[index].references.len();
                if followed == MAX_CHAIN || !has_short_siblings(members) || self.references.left == 0 {
                    self.truncation.references += 1;
                    break;
                }
                // An external or invalid reference is not resolved.
                let Some(target) = self.references.follow(reference) else { break };
                if self.is_within(index, target) {
                    self.truncation.cycles += 1;
                    self.nodes[index].shape = Shape::Done(json!({ REFERENCE: reference }));
                    return Vec::new();
                }
                self.nodes[index].references.push((reference, target));
                for (name, member) in members.iter().filter(|(name, _)| *name != REFERENCE) {
                    overrides.entry(name).or_insert(member);
                }
                value = target;
            }
        }
        let available = self.left + self.nodes[index].charged;
        // Minimum size of members: `1,` and `"":1,`.
        let (members, min_size, all) = match value {
            Value::Object(own) => {
                let all = own.len() + overrides.keys().filter(|name| !own.contains_key(**name)).count();
                (Children::of_object(own, overrides), 5 * own.len(), all)
            }
            Value::Array(items) => (Children::of_array(items), 2 * items.len(), items.len()),
            scalar => {
                self.nodes[index].shape = Shape::Done(scalar.clone());
                return Vec::new();
            }
        };
        let cannot_fit = min_size > available || self.wasted > MAX_WASTED_BYTES || self.nodes[index].depth >= MAX_DEPTH;
        if index != 0 && cannot_fit {
            self.cut(index, written);
            return Vec::new();
        }
        let origin = self.nodes[index].references.first().map(|(origin, _)| *origin).filter(|_| value.is_object());
        let mut cost = 2 + origin.map_or(0, |origin| size_of(origin) + ORIGIN.len() + 4);
        let (mut children, mut has_room) = (Vec::new(), true);
        for (name, member) in members.skip(skip) {
            // Checked before anything is allocated.
            if name.len() > available {
                has_room = false;
                self.wasted += cost;
                break;
            }
            let parent = &self.nodes[index];
            let place = || format!("{}/{}", parent.pointer, name.replace('~', "~0").replace('/', "~1"));
            let (shape, pointer, charged) = new_node(member, place);
            let cost_with_member = cost + charged + if value.is_array() { 1 } else { size_of(&*name) + 2 };
            if cost_with_member > available {
                has_room = false;
                self.wasted += cost_with_member;
                break;
            }
            cost = cost_with_member;
            let kind = parent.kind.of_member(&name, member, value);
            let depth = parent.depth + 1;
            children
                .push((name, Node { shape, parent: Some(index), depth, pointer, references: vec![], kind, charged }));
        }
        if !has_room {
            if index != 0 {
                self.cut(index, written);
                return Vec::new();
            }
            // A member that is too long is skipped, otherwise continuing would never end.
            let is_too_long = children.is_empty();
            self.truncation.too_long = is_too_long.then_some(skip);
            let next = skip + children.len() + usize::from(is_too_long);
            self.truncation.rest = Some((next, all)).filter(|(next, all)| next < all);
        } else if skip > 0 && children.is_empty() {
            self.truncation.beyond = Some(all);
        }
        self.left = available.saturating_sub(cost);
        self.adopt(index, value.is_array(), origin, children)
    }

    fn adopt(
        &mut self,
        index: usize,
        is_array: bool,
        origin: Option<&'a str>,
        children: Vec<(Cow<'a, str>, Node<'a>)>,
    ) -> Vec<usize> {
        let first = self.nodes.len();
        let mut names = Vec::new();
        for (name, child) in children {
            if matches!(child.shape, Shape::Done(_)) && !child.pointer.is_empty() {
                self.truncation.values += 1;
            }
            names.push((name, self.nodes.len()));
            self.nodes.push(child);
        }
        if let Some(origin) = origin {
            let node = Node {
                shape: Shape::Done(origin.into()),
                parent: Some(index),
                depth: 0,
                pointer: String::new(),
                references: vec![],
                kind: MemberKind::Data,
                charged: 0,
            };
            names.push((ORIGIN.into(), self.nodes.len()));
            self.nodes.push(node);
        }
        self.nodes[index].shape = match is_array {
            true => Shape::Array(names.into_iter().map(|(_, child)| child).collect()),
            false => Shape::Object(names),
        };
        (first..self.nodes.len()).filter(|child| matches!(self.nodes[*child].shape, Shape::Pending(_))).collect()
    }

    /// Replaces a node by its placeholder, which is already charged.
    fn cut(&mut self, index: usize, written: &Value) {
        let placeholder = match reference_of(written).filter(|_| !self.nodes[index].references.is_empty()) {
            Some(reference) => {
                self.truncation.references += 1;
                json!({ REFERENCE: reference })
            }
            None => {
                self.truncation.values += 1;
                json!({ CUT: self.nodes[index].pointer })
            }
        };
        self.nodes[index].shape = Shape::Done(placeholder);
    }

    /// Returns whether a node is inside the target of a reference.
    fn is_within(&self, index: usize, target: &Value) -> bool {
        let mut node = Some(index);
        while let Some(index) = node {
            if self.nodes[index].references.iter().any(|(_, own)| ptr::eq(*own, target)) {
                return true;
            }
            node = self.nodes[index].parent;
        }
        false
    }

    pub(super) fn value(&self, index: usize) -> Value {
        match &self.nodes[index].shape {
            Shape::Pending(_) => Value::Null,
            Shape::Done(value) => value.clone(),
            Shape::Object(members) => {
                members.iter().map(|(name, child)| (name.to_string(), self.value(*child))).collect::<Map<_, _>>().into()
            }
            Shape::Array(items) => items.iter().map(|child| self.value(*child)).collect(),
        }
    }
}

/// Lazy iterator over the members of an array or object: there may be millions, of which few fit.
enum Children<'a> {
    Array(iter::Enumerate<slice::Iter<'a, Value>>),
    /// Children of the object and overriding members: siblings of a reference take precedence over its target (OpenAPI
    /// 3.1, "Reference Object").
    Object {
        overrides: Peekable<btree_map::IntoIter<&'a str, &'a Value>>,
        own: Peekable<map::Iter<'a>>,
    },
}

impl<'a> Children<'a> {
    fn of_array(items: &'a [Value]) -> Self {
        Self::Array(items.iter().enumerate())
    }

    fn of_object(own: &'a Map<String, Value>, overrides: BTreeMap<&'a str, &'a Value>) -> Self {
        Self::Object { overrides: overrides.into_iter().peekable(), own: own.iter().peekable() }
    }
}

#[cfg(test)]
thread_local! {
    /// Number of visited members.
    pub(super) static VISITED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl<'a> Iterator for Children<'a> {
    type Item = (Cow<'a, str>, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        #[cfg(test)]
        VISITED.set(VISITED.get() + 1);
        let (overrides, own) = match self {
            Self::Array(items) => return items.next().map(|(number, item)| (number.to_string().into(), item)),
            Self::Object { overrides, own } => (overrides, own),
        };
        let before = overrides.next_if(|(name, _)| own.peek().is_none_or(|(own, _)| *name <= own.as_str()));
        match before {
            Some((name, value)) => {
                own.next_if(|(own, _)| *own == name);
                Some((name.into(), value))
            }
            None => own.next().map(|(name, value)| (name.into(), value)),
        }
    }
}

/// Creates the node of a member: its shape, its pointer if it can be shown, and the size of its placeholder.
fn new_node<'a>(member: &'a Value, place: impl FnOnce() -> String) -> (Shape<'a>, String, usize) {
    match member {
        Value::Object(_) | Value::Array(_) => {
            let pointer = place();
            let reference = reference_of(member).map_or(0, |reference| size_of(reference) + REFERENCE.len() + 5);
            let size = reference.max(size_of(&*pointer) + CUT.len() + 5);
            (Shape::Pending(member), pointer, size)
        }
        Value::String(text) => {
            let (shown, pointer) = match text.char_indices().nth(LONG_TEXT_CHARS) {
                Some((end, _)) => {
                    let pointer = place();
                    (format!("{}{}", &text[..end], marker(&pointer)), pointer)
                }
                None => (text.clone(), String::new()),
            };
            let size = size_of(&*shown);
            (Shape::Done(shown.into()), pointer, size)
        }
        scalar => (Shape::Done(scalar.clone()), String::new(), size_of(scalar)),
    }
}

fn marker(pointer: &str) -> String {
    format!("… ({CUT}: {pointer})")
}

fn has_short_siblings(members: &Map<String, Value>) -> bool {
    members.len() <= MAX_SIBLINGS && members.keys().all(|name| name.len() <= MAX_NAME_BYTES)
}

/// Returns the size of a value as JSON, without storing the JSON.
pub(crate) fn size_of<T: Serialize + ?Sized>(value: &T) -> usize {
    let mut size = Size(0);
    // Serializing a JSON value cannot fail.
    serde_json::to_writer(&mut size, value).map_or(0, |()| size.0)
}

struct Size(usize);

impl io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
