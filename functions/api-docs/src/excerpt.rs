//! A part of a document with its references resolved, as much of it as an answer should have.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque, btree_map},
    io,
    iter::{self, Peekable},
    ptr, slice,
};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json, map};

use crate::document::{Beside, Document, MAX_CHAIN, MAX_NAME_BYTES, SECURITY_SCHEMES, pointer_in};

/// Of an excerpt, as JSON. An answer has it twice, once for those who read only text: far below Lambda's 6 MB, and about
/// what a model can read at once.
const MAX_BYTES: usize = 48 * 1024;
/// Many parsers refuse 128 levels, and an answer has some around this.
const MAX_DEPTH: usize = 64;
/// Of members that are looked at in vain, in all: a large object that does not fit may be referred to from everywhere.
const MAX_BYTES_IN_VAIN: usize = 32 * MAX_BYTES;
/// References that are followed for one answer, in all; those after them stay as they are.
const MAX_REFERENCES: usize = 10_000;
/// Members beside a reference; one with more, or with a name that is too long to look up, stays as it is.
const MAX_BESIDE: usize = 64;
/// A longer text is cut where it stands among others.
const LONG_TEXT_CHARS: usize = 4000;
const REFERENCE: &str = "$ref";
/// What a value was referred to by, in place of which it stands.
const ORIGIN: &str = "x-ref";
/// What stands for a value that was left out: where it is.
const CUT: &str = "x-cut";

/// Members whose own members are named by the author, so that none of them is a keyword; `examples` and `links` besides.
const MAPS: [&str; 22] = [
    "$defs",
    "callbacks",
    "content",
    "definitions",
    "dependentSchemas",
    "encoding",
    "headers",
    "mapping",
    "parameters",
    "pathItems",
    "paths",
    "patternProperties",
    "properties",
    "requestBodies",
    "responses",
    "schemas",
    "scopes",
    "securitySchemes",
    "variables",
    "webhooks",
    "x-webhooks",
    SECURITY_SCHEMES,
];
/// Members that hold data, in which nothing is a reference.
const DATA: [&str; 4] = ["const", "default", "enum", "example"];

/// A part of the document.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Excerpt {
    /// As the document has it, with references resolved: what stands for one has it as `x-ref`.
    pub(crate) definition: Value,
    /// What is missing, and how to read it; absent if it is all there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// Where an excerpt begins.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Start<'a> {
    /// A JSON pointer (RFC 6901), which goes on through references.
    pub(crate) pointer: &'a str,
    /// Members, items or characters to leave out at the beginning.
    pub(crate) skip: usize,
}

/// The excerpt of a value, and what it has besides, from a place in it; `None` if there is no such place.
pub(crate) fn excerpt(document: &Document, value: &Value, beside: &Beside<'_>, start: Start<'_>) -> Option<Excerpt> {
    excerpt_of(document, (value, Kind::Keywords), beside, start)
}

/// The excerpt of what a reference within the document leads to.
pub(crate) fn excerpt_at(document: &Document, reference: &str, start: Start<'_>) -> Option<Excerpt> {
    let pointer = pointer_in(reference)?;
    let none = Beside::new();
    let mut references = References { document, left: MAX_REFERENCES };
    let target = references.walk((document.root(), Kind::Keywords), &none, &pointer)?;
    excerpt_of(document, target, &none, start)
}

fn excerpt_of(document: &Document, from: (&Value, Kind), beside: &Beside<'_>, start: Start<'_>) -> Option<Excerpt> {
    let mut references = References { document, left: MAX_REFERENCES };
    let (value, kind) = references.walk(from, beside, start.pointer)?;
    if let Value::String(text) = value {
        return Some(excerpt_of_text(text, start.skip));
    }
    let mut tree = Tree { references, nodes: Vec::new(), left: MAX_BYTES, in_vain: 0, left_out: LeftOut::default() };
    let none = Beside::new();
    tree.grow(value, if start.pointer.is_empty() { beside } else { &none }, start, kind);
    Some(Excerpt { definition: tree.value(0), note: tree.left_out.note() })
}

fn excerpt_of_text(text: &str, skip: usize) -> Excerpt {
    // Six bytes are the most that a character becomes in JSON, for each of its own.
    let shown: String = text.chars().skip(skip).take(MAX_BYTES / 6).collect();
    let (end, all) = (skip + shown.chars().count(), text.chars().count());
    let note = match () {
        () if end < all => Some(format!("This is not all of the text: go on with `skip` {end} (of {all} characters).")),
        () if skip > 0 && skip >= all => Some(beyond(all)),
        () => None,
    };
    Excerpt { definition: shown.into(), note }
}

fn beyond(all: usize) -> String {
    format!("there is nothing left after `skip`: there are {all} in all")
}

#[cfg(test)]
thread_local! {
    /// References that were followed.
    static FOLLOWED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Follows references, as many as one answer may.
struct References<'a> {
    document: &'a Document,
    left: usize,
}

impl<'a> References<'a> {
    /// What a value's reference leads to; `None` for one that leads out of the document, or nowhere.
    fn follow(&mut self, reference: &str) -> Option<&'a Value> {
        self.left = self.left.checked_sub(1)?;
        #[cfg(test)]
        FOLLOWED.set(FOLLOWED.get() + 1);
        self.document.target(reference)
    }

    /// Follows a pointer; says also what kind of value it leads to.
    fn walk(&mut self, from: (&'a Value, Kind), beside: &'a Beside<'_>, pointer: &str) -> Option<(&'a Value, Kind)> {
        let (mut value, mut kind) = from;
        if pointer.is_empty() {
            return Some(from);
        }
        for (number, part) in pointer.strip_prefix('/')?.split('/').enumerate() {
            let key = part.replace("~1", "/").replace("~0", "~");
            let beside = beside.get(&*key).filter(|_| number == 0).map(|value| &**value);
            let next = |value: &'a Value| match value {
                Value::Object(members) => members.get(&key),
                Value::Array(items) => items.get(key.parse::<usize>().ok()?),
                _ => None,
            };
            // A chain of references may go round.
            let mut chain = 0;
            let found = loop {
                if let Some(found) = beside.or_else(|| next(value)) {
                    break found;
                }
                let reference = reference_of(value).filter(|_| kind.may_refer() && chain < MAX_CHAIN)?;
                chain += 1;
                value = self.follow(reference)?;
            };
            kind = kind.of_member(&key, found, value);
            value = found;
        }
        Some((value, kind))
    }
}

/// What the names of a value's members mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Most of them are keywords.
    Keywords,
    /// They are the author's own.
    Names,
    /// The same, of Example Objects.
    Examples,
    /// The same, of Link Objects.
    Links,
    /// An Example Object, whose value is data.
    Example,
    /// A Link Object, which has data to send.
    Link,
    /// Nothing: it is data.
    Data,
}

impl Kind {
    fn of_member(self, key: &str, member: &Value, parent: &Value) -> Self {
        match (self, key) {
            (Self::Data, _) => Self::Data,
            (Self::Examples, _) => Self::Example,
            (Self::Links, _) => Self::Link,
            (Self::Names, _) => Self::Keywords,
            _ if parent.is_array() => Self::Keywords,
            (Self::Example, "value") | (Self::Link, "parameters" | "requestBody") => Self::Data,
            // A schema's is a list of data; that of a parameter is a map of objects.
            (_, "examples") if member.is_array() => Self::Data,
            (_, key) if DATA.contains(&key) => Self::Data,
            (_, "examples") if member.is_object() => Self::Examples,
            (_, "links") if member.is_object() => Self::Links,
            (_, key) if MAPS.contains(&key) && member.is_object() => Self::Names,
            _ => Self::Keywords,
        }
    }

    /// Whether its `$ref` is a reference.
    fn may_refer(self) -> bool {
        matches!(self, Self::Keywords | Self::Example | Self::Link)
    }
}

fn reference_of(value: &Value) -> Option<&str> {
    value.get(REFERENCE)?.as_str()
}

/// What an excerpt lacks.
#[derive(Default)]
struct LeftOut {
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
    fn note(&self) -> Option<String> {
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
struct Tree<'a> {
    references: References<'a>,
    nodes: Vec<Node<'a>>,
    /// Bytes that may still be used. For each node that waits, what would stand in its place is paid already.
    left: usize,
    /// Bytes of members that were looked at, and did not fit.
    in_vain: usize,
    left_out: LeftOut,
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
    fn grow(&mut self, value: &'a Value, beside: &'a Beside<'_>, start: Start<'_>, kind: Kind) {
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

    fn value(&self, index: usize) -> Value {
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
    static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    fn parse(document: &str) -> Document {
        Document::parse(document.as_bytes(), Budget::of_function(4096)).unwrap()
    }

    /// Schemas by name, and the excerpt of one of them.
    fn of(schemas: Value, name: &str, pointer: &str, skip: usize) -> (Value, String) {
        let document = json!({ "openapi": "3.1.0", "components": { "schemas": schemas } }).to_string();
        let document = parse(&document);
        let start = Start { pointer, skip };
        let excerpt = excerpt(&document, document.schema(name).unwrap(), &Beside::new(), start).unwrap();
        (excerpt.definition, excerpt.note.unwrap_or_default())
    }

    fn reference(name: &str) -> Value {
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    #[test]
    fn references_are_resolved_and_what_stands_beside_one_stays() {
        let schemas = json!({
            "A": { "properties": { "b": { "$ref": "#/components/schemas/B", "description": "nearer" } } },
            "B": { "$ref": "#/components/schemas/C", "title": "B" },
            "C": { "type": "string", "title": "C", "description": "farther" },
        });

        let (a, note) = of(schemas, "A", "", 0);

        let b = json!({ "type": "string", "title": "B", "description": "nearer", "x-ref": "#/components/schemas/B" });
        assert_eq!((a, note.as_str()), (json!({ "properties": { "b": b } }), ""));
    }

    #[test]
    fn cycles_are_cut_where_they_close() {
        let schemas = json!({
            "Loop": reference("Loop"),
            "Node": { "properties": { "next": reference("Node"), "twice": [reference("Leaf"), reference("Leaf")] } },
            "Leaf": { "type": "null" },
        });

        let (node, note) = of(schemas.clone(), "Node", "", 0);
        let (own, _) = of(schemas, "Loop", "", 0);

        // The schema itself is not reached by a reference, and stands there once more.
        assert_eq!(node["properties"]["next"]["properties"]["next"], reference("Node"));
        assert_eq!(node["properties"]["twice"][1]["type"], "null");
        assert!(note.contains("1 references lead back"), "{note}");
        assert_eq!(own, reference("Loop"));
    }

    #[test]
    fn data_and_names_are_not_references() {
        let schema = json!({
            "enum": [{ "$ref": "#/components/schemas/A" }],
            "example": { "$ref": "#/components/schemas/A" },
            "examples": [{ "$ref": "#/components/schemas/A" }],
            "properties": { "$ref": { "type": "string" }, "default": reference("B"), "const": { "const": reference("B") } },
            "items": { "$ref": "https://example.com/schema.json" },
            "not": { "$ref": "#/components/schemas/Missing" },
        });

        let (read, note) = of(json!({ "A": schema.clone(), "B": { "type": "null" } }), "A", "", 0);

        let mut expected = schema;
        expected["properties"]["default"] = json!({ "type": "null", "x-ref": "#/components/schemas/B" });
        assert_eq!((read, note.as_str()), (expected, ""));
    }

    #[test]
    fn the_data_of_examples_and_links_is_not_a_reference() {
        let data = json!({ "$ref": "#/components/schemas/B", "note": "data" });
        let parameter = json!({
            "examples": {
                "one": { "value": data },
                "two": { "$ref": "#/components/schemas/Shared" },
                "value": { "value": [data], "summary": "a name like a keyword" },
            },
            "links": { "next": { "parameters": { "id": data }, "requestBody": data, "server": reference("B") } },
            "properties": { "examples": { "properties": { "value": reference("B") } } },
        });
        let schemas = json!({ "A": parameter, "B": { "type": "null" }, "Shared": { "value": data } });

        let (read, note) = of(schemas.clone(), "A", "", 0);
        let (part, _) = of(schemas, "A", "/examples/two/value", 0);

        let resolved = json!({ "type": "null", "x-ref": "#/components/schemas/B" });
        let mut expected = parameter;
        expected["examples"]["two"] = json!({ "value": data, "x-ref": "#/components/schemas/Shared" });
        expected["links"]["next"]["server"] = resolved.clone();
        expected["properties"]["examples"]["properties"]["value"] = resolved;
        assert_eq!((read, note.as_str()), (expected, ""));
        assert_eq!(part, data);
    }

    #[test]
    fn an_excerpt_has_a_size_and_says_how_to_read_on() {
        // Each of 60 schemas refers to all.
        let properties: Map<_, _> =
            (0..60).map(|number| (format!("p{number}"), reference(&format!("S{number}")))).collect();
        let schemas: Map<_, _> = (0..60)
            .map(|number| (format!("S{number}"), json!({ "description": "\"quoted\" ", "properties": properties })))
            .collect();

        let (read, note) = of(schemas.into(), "S0", "", 0);

        let size = read.to_string().len();
        assert!((MAX_BYTES / 2..=MAX_BYTES).contains(&size), "{size}");
        assert!(note.contains("left as `$ref` for length"), "{note}");
        // What is near is there.
        assert!(read["properties"]["p59"]["x-ref"].is_string());
    }

    #[test]
    fn what_has_no_room_is_not_looked_at() {
        let references = |count: usize, name: &str| {
            let properties: Map<_, _> = (0..count).map(|number| (format!("p{number}"), reference(name))).collect();
            json!({ "properties": properties })
        };
        let members: Map<_, _> = (0..1_000_000).map(|number| (format!("p{number}"), 1.into())).collect();
        let schemas = json!({
            "Long": { "enum": vec![1; 1_000_000] },
            "Wide": members,
            "Beside": { "$ref": "#/components/schemas/Wide", "type": "object" },
            // There is almost room for it.
            "Near": vec![10; 15_000],
            "Z": references(600, "Long"),
            "Y": references(600, "Beside"),
            "X": references(600, "Near"),
        });
        let document = json!({ "openapi": "3.1.0", "components": { "schemas": schemas } }).to_string();
        let document = parse(&document);

        for name in ["Z", "Y", "X", "Long", "Wide", "Beside"] {
            LOOKED_AT.set(0);
            let schema = document.schema(name).unwrap();
            let read = excerpt(&document, schema, &Beside::new(), Start::default()).unwrap();

            // Those of the root are counted, once.
            assert!(LOOKED_AT.get() < 2_000_000, "{name}: {}", LOOKED_AT.get());
            assert!(read.definition.to_string().len() <= MAX_BYTES, "{name}");
            assert!(read.note.is_some_and(|note| note.contains("for length") || note.contains("(of 100000")), "{name}");
        }
    }

    /// 8.4
    #[test]
    fn a_chain_of_schemas_is_followed_for_so_many_steps() {
        let mut schemas: Map<_, _> =
            (0..2000).map(|number| (format!("S{number}"), reference(&format!("S{}", number + 1)))).collect();
        schemas.insert("S2000".to_owned(), json!({ "type": "null" }));
        let starts: Map<_, _> = (0..1000).map(|number| (format!("p{number}"), reference("S0"))).collect();
        schemas.insert("All".to_owned(), json!({ "properties": starts }));
        let schemas = Value::from(schemas);

        FOLLOWED.set(0);
        let (near, _) = of(schemas.clone(), &format!("S{}", 2000 - MAX_CHAIN), "", 0);
        let (far, _) = of(schemas.clone(), "S0", "", 0);
        assert!(FOLLOWED.get() <= 2 * MAX_CHAIN, "{}", FOLLOWED.get());
        assert_eq!(near["type"], "null");
        assert_eq!((&far["$ref"], far.get("type")), (&json!("#/components/schemas/S33"), None));

        FOLLOWED.set(0);
        let (all, _) = of(schemas, "All", "", 0);
        assert!(FOLLOWED.get() <= MAX_REFERENCES, "{}", FOLLOWED.get());
        assert!(all.to_string().len() <= MAX_BYTES);
    }

    #[test]
    fn what_was_cut_is_read_by_its_pointer() {
        let values: Vec<_> = (0..4000).map(|number| json!({ "const": format!("value {number}") })).collect();
        let schemas =
            json!({ "A": { "description": "é".repeat(20_000), "properties": { "a/b": { "oneOf": values } } } });

        let (whole, note) = of(schemas.clone(), "A", "", 0);
        assert!(whole.to_string().len() <= MAX_BYTES);
        assert_eq!(whole["properties"]["a/b"]["oneOf"], json!({ "x-cut": "/properties/a~1b/oneOf" }));
        assert!(whole["description"].as_str().unwrap().ends_with("(x-cut: /description)"));
        assert!(note.contains("2 values were cut"), "{note}");

        let mut read = Vec::new();
        loop {
            let (part, note) = of(schemas.clone(), "A", "/properties/a~1b/oneOf", read.len());
            assert!(part.to_string().len() <= MAX_BYTES);
            read.extend(part.as_array().unwrap().clone());
            if note.is_empty() {
                break;
            }
            assert!(note.contains(&format!("`skip` {}", read.len())), "{note}");
        }
        assert_eq!(read, values);

        let (text, note) = of(schemas, "A", "/description", 15_000);
        assert_eq!((text.as_str().unwrap().chars().count(), note.as_str()), (5_000, ""));
    }

    #[test]
    fn what_is_skipped_comes_to_an_end() {
        let schemas = json!({ "A": { "a": 1, "b".repeat(MAX_BYTES): 2, "c": 3, "t": "text" } });

        let (first, note) = of(schemas.clone(), "A", "", 0);
        assert_eq!(first, json!({ "a": 1 }));
        assert!(note.contains("`skip` 1 (of 4)"), "{note}");
        let (none, note) = of(schemas.clone(), "A", "", 1);
        assert_eq!(none, json!({}));
        assert!(note.contains("member 1 is too long") && note.contains("`skip` 2 (of 4)"), "{note}");
        assert_eq!(of(schemas.clone(), "A", "", 2), (json!({ "c": 3, "t": "text" }), String::new()));
        for (pointer, skip, all) in [("", 4, "4 in all"), ("", 9, "4 in all"), ("/t", 4, "4 in all")] {
            let (_, note) = of(schemas.clone(), "A", pointer, skip);
            assert!(note.contains(all), "{note}");
        }
    }

    #[test]
    fn what_is_nested_without_end_is_cut_before_parsers_refuse_it() {
        let schemas: Map<_, _> = (0..500)
            .map(|number| (format!("S{number}"), json!({ "items": reference(&format!("S{}", number + 1)) })))
            .collect();

        let (read, note) = of(schemas.into(), "S0", "", 0);

        assert!(serde_json::from_str::<Value>(&read.to_string()).is_ok());
        assert!(note.contains("1 references were left"), "{note}");
    }
}
