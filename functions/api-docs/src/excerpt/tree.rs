//! The tree of an excerpt: as much of a value, its references resolved, as there is room for.

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
    references::{Kind, REFERENCE, References, reference_of},
};
use crate::document::{Beside, MAX_CHAIN, MAX_NAME_BYTES};

/// Many parsers refuse 128 levels, and an answer has some around this.
const MAX_DEPTH: usize = 64;
/// Of members that are looked at in vain, in all: a large object that does not fit may be referred to from everywhere.
const MAX_BYTES_IN_VAIN: usize = 32 * MAX_BYTES;
/// Members beside a reference; one with more, or with a name that is too long to look up, stays as it is.
const MAX_BESIDE: usize = 64;
/// A longer text is cut where it stands among others.
const LONG_TEXT_CHARS: usize = 4000;
/// What a value was referred to by, in place of which it stands.
const ORIGIN: &str = "x-ref";
/// What stands for a value that was left out: where it is.
const CUT: &str = "x-cut";

/// What an excerpt lacks.
#[derive(Default)]
pub(super) struct LeftOut {
    /// References to what they are in.
    cycles: usize,
    /// References for which there was no room.
    references: usize,
    /// Values for which there was no room.
    values: usize,
    /// Where to go on with the members of the root, and how many there are.
    rest: Option<(usize, usize)>,
    /// A member of the root whose name alone is too long.
    too_long: Option<usize>,
    /// How many members the root has, if all of them were skipped.
    beyond: Option<usize>,
}

impl LeftOut {
    pub(super) fn note(&self) -> Option<String> {
        let mut notes = Vec::new();
        if let Some((next, all)) = self.rest {
            notes.push(format!("this is not all of it: go on with `skip` {next} (of {all})"));
        }
        if let Some(at) = self.too_long {
            notes.push(format!("the name of member {at} is too long to show"));
        }
        if let Some(all) = self.beyond {
            notes.push(beyond(all));
        }
        if self.references > 0 {
            notes.push(format!(
                "{} references were left as `$ref` for length: read them with read_schema, or by `pointer`",
                self.references
            ));
        }
        if self.values > 0 {
            notes.push(format!("{} values were cut for length: read them by the `pointer` in `{CUT}`", self.values));
        }
        if self.cycles > 0 {
            notes.push(format!("{} references lead back to what they are in, and stay `$ref`", self.cycles));
        }
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

/// Grows from its root, level by level, while there is room: what is near the root matters more.
pub(super) struct Tree<'a> {
    references: References<'a>,
    nodes: Vec<Node<'a>>,
    /// Bytes that may still be used. For each node that waits, what would stand in its place is paid already.
    left: usize,
    /// Bytes of members that were looked at, and did not fit.
    in_vain: usize,
    pub(super) left_out: LeftOut,
}

struct Node<'a> {
    shape: Shape<'a>,
    parent: Option<usize>,
    depth: usize,
    /// Where it is; of a value that is shown as it is, empty.
    pointer: String,
    /// The references that led here from the parent, and what they lead to.
    references: Vec<(&'a str, &'a Value)>,
    kind: Kind,
    /// What was paid for it.
    paid: usize,
}

enum Shape<'a> {
    Waiting(&'a Value),
    Done(Value),
    Object(Vec<(Cow<'a, str>, usize)>),
    Array(Vec<usize>),
}

impl<'a> Tree<'a> {
    pub(super) fn new(references: References<'a>) -> Self {
        Self { references, nodes: Vec::new(), left: MAX_BYTES, in_vain: 0, left_out: LeftOut::default() }
    }

    pub(super) fn grow(&mut self, value: &'a Value, beside: &'a Beside<'_>, start: Start<'_>, kind: Kind) {
        let shape = Shape::Waiting(value);
        let pointer = start.pointer.to_owned();
        self.nodes.push(Node { shape, parent: None, depth: 0, pointer, references: vec![], kind, paid: 0 });
        let nearer = beside.iter().map(|(name, value)| (*name, &**value)).collect();
        let mut queue = VecDeque::from(self.grow_node(0, nearer, start.skip));
        while let Some(index) = queue.pop_front() {
            queue.extend(self.grow_node(index, BTreeMap::new(), 0));
        }
    }

    /// Gives a node its members, and those that are nearer; returns those that wait for theirs.
    fn grow_node(&mut self, index: usize, mut nearer: BTreeMap<&'a str, &'a Value>, skip: usize) -> Vec<usize> {
        let Shape::Waiting(written) = self.nodes[index].shape else { return Vec::new() };
        let mut value = written;
        if self.nodes[index].kind.may_refer() {
            while let Some((reference, members)) = reference_of(value).zip(value.as_object()) {
                let followed = self.nodes[index].references.len();
                if followed == MAX_CHAIN || !may_stand_beside(members) || self.references.left == 0 {
                    self.left_out.references += 1;
                    break;
                }
                // One that leads out of the document, or nowhere, stays as it is.
                let Some(target) = self.references.follow(reference) else { break };
                if self.is_within(index, target) {
                    self.left_out.cycles += 1;
                    self.nodes[index].shape = Shape::Done(json!({ REFERENCE: reference }));
                    return Vec::new();
                }
                self.nodes[index].references.push((reference, target));
                for (name, member) in members.iter().filter(|(name, _)| *name != REFERENCE) {
                    nearer.entry(name).or_insert(member);
                }
                value = target;
            }
        }
        let room = self.left + self.nodes[index].paid;
        // The least that members can take: `1,` and `"":1,`.
        let (members, least, all) = match value {
            Value::Object(own) => {
                let all = own.len() + nearer.keys().filter(|name| !own.contains_key(**name)).count();
                (Members::of_object(own, nearer), 5 * own.len(), all)
            }
            Value::Array(items) => (Members::of_array(items), 2 * items.len(), items.len()),
            scalar => {
                self.nodes[index].shape = Shape::Done(scalar.clone());
                return Vec::new();
            }
        };
        let is_hopeless = least > room || self.in_vain > MAX_BYTES_IN_VAIN || self.nodes[index].depth >= MAX_DEPTH;
        if index != 0 && is_hopeless {
            self.cut(index, written);
            return Vec::new();
        }
        let origin = self.nodes[index].references.first().map(|(origin, _)| *origin).filter(|_| value.is_object());
        let mut cost = 2 + origin.map_or(0, |origin| size_of(origin) + ORIGIN.len() + 4);
        let (mut children, mut has_room) = (Vec::new(), true);
        for (name, member) in members.skip(skip) {
            // Before anything is made of it, or done with it.
            if name.len() > room {
                has_room = false;
                self.in_vain += cost;
                break;
            }
            let parent = &self.nodes[index];
            let place = || format!("{}/{}", parent.pointer, name.replace('~', "~0").replace('/', "~1"));
            let (shape, pointer, paid) = sprout(member, place);
            let with_it = cost + paid + if value.is_array() { 1 } else { size_of(&*name) + 2 };
            if with_it > room {
                has_room = false;
                self.in_vain += with_it;
                break;
            }
            cost = with_it;
            let kind = parent.kind.of_member(&name, member, value);
            let depth = parent.depth + 1;
            children.push((name, Node { shape, parent: Some(index), depth, pointer, references: vec![], kind, paid }));
        }
        if !has_room {
            if index != 0 {
                self.cut(index, written);
                return Vec::new();
            }
            // What is too long by itself is passed over, or there would be no end of trying.
            let is_too_long = children.is_empty();
            self.left_out.too_long = is_too_long.then_some(skip);
            let next = skip + children.len() + usize::from(is_too_long);
            self.left_out.rest = Some((next, all)).filter(|(next, all)| next < all);
        } else if skip > 0 && children.is_empty() {
            self.left_out.beyond = Some(all);
        }
        self.left = room.saturating_sub(cost);
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
                self.left_out.values += 1;
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
                kind: Kind::Data,
                paid: 0,
            };
            names.push((ORIGIN.into(), self.nodes.len()));
            self.nodes.push(node);
        }
        self.nodes[index].shape = match is_array {
            true => Shape::Array(names.into_iter().map(|(_, child)| child).collect()),
            false => Shape::Object(names),
        };
        (first..self.nodes.len()).filter(|child| matches!(self.nodes[*child].shape, Shape::Waiting(_))).collect()
    }

    /// Leaves a node out: what stands in its place is paid.
    fn cut(&mut self, index: usize, written: &Value) {
        let stand_in = match reference_of(written).filter(|_| !self.nodes[index].references.is_empty()) {
            Some(reference) => {
                self.left_out.references += 1;
                json!({ REFERENCE: reference })
            }
            None => {
                self.left_out.values += 1;
                json!({ CUT: self.nodes[index].pointer })
            }
        };
        self.nodes[index].shape = Shape::Done(stand_in);
    }

    /// Whether a node is in what a reference leads to.
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
            Shape::Waiting(_) => Value::Null,
            Shape::Done(value) => value.clone(),
            Shape::Object(members) => {
                members.iter().map(|(name, child)| (name.to_string(), self.value(*child))).collect::<Map<_, _>>().into()
            }
            Shape::Array(items) => items.iter().map(|child| self.value(*child)).collect(),
        }
    }
}

/// The members of an array or object, found one by one: there may be a million of them, and room for a few.
enum Members<'a> {
    Array(iter::Enumerate<slice::Iter<'a, Value>>),
    /// Of the object, and those that are nearer than the references that led to it: what is said beside one goes before
    /// (OpenAPI 3.1, "Reference Object").
    Object {
        nearer: Peekable<btree_map::IntoIter<&'a str, &'a Value>>,
        own: Peekable<map::Iter<'a>>,
    },
}

impl<'a> Members<'a> {
    fn of_array(items: &'a [Value]) -> Self {
        Self::Array(items.iter().enumerate())
    }

    fn of_object(own: &'a Map<String, Value>, nearer: BTreeMap<&'a str, &'a Value>) -> Self {
        Self::Object { nearer: nearer.into_iter().peekable(), own: own.iter().peekable() }
    }
}

#[cfg(test)]
thread_local! {
    /// Members that were looked at.
    pub(super) static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        #[cfg(test)]
        LOOKED_AT.set(LOOKED_AT.get() + 1);
        let (nearer, own) = match self {
            Self::Array(items) => return items.next().map(|(number, item)| (number.to_string().into(), item)),
            Self::Object { nearer, own } => (nearer, own),
        };
        let before = nearer.next_if(|(name, _)| own.peek().is_none_or(|(own, _)| *name <= own.as_str()));
        match before {
            Some((name, value)) => {
                own.next_if(|(own, _)| *own == name);
                Some((name.into(), value))
            }
            None => own.next().map(|(name, value)| (name.into(), value)),
        }
    }
}

/// A member, its place if that is or may be shown, and the bytes of what stands for it until it grows.
fn sprout<'a>(member: &'a Value, place: impl FnOnce() -> String) -> (Shape<'a>, String, usize) {
    match member {
        Value::Object(_) | Value::Array(_) => {
            let pointer = place();
            let reference = reference_of(member).map_or(0, |reference| size_of(reference) + REFERENCE.len() + 5);
            let size = reference.max(size_of(&*pointer) + CUT.len() + 5);
            (Shape::Waiting(member), pointer, size)
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

fn may_stand_beside(members: &Map<String, Value>) -> bool {
    members.len() <= MAX_BESIDE && members.keys().all(|name| name.len() <= MAX_NAME_BYTES)
}

/// As JSON, which is not kept.
pub(crate) fn size_of<T: Serialize + ?Sized>(value: &T) -> usize {
    let mut size = Size(0);
    // All that is shown can be written.
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
