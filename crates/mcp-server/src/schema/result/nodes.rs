//! A compiled schema: nodes that refer to each other by index, for validation without map lookups.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

/// A kind of JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JsonType {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl JsonType {
    pub(super) const ALL: [(Self, &'static str); 7] = [
        (Self::Null, "null"),
        (Self::Boolean, "boolean"),
        (Self::Integer, "integer"),
        (Self::Number, "number"),
        (Self::String, "string"),
        (Self::Array, "array"),
        (Self::Object, "object"),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, own)| *own == name).map(|(kind, _)| kind)
    }

    pub(super) fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    pub(super) fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The keywords of a schema.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Allowed [`JsonType`]s, as bits; any if 0.
    pub(super) kinds: u8,
    pub(super) minimum: Option<Number>,
    pub(super) maximum: Option<Number>,
    pub(super) exclusive_minimum: Option<Number>,
    pub(super) exclusive_maximum: Option<Number>,
    pub(super) min_length: Option<u64>,
    pub(super) max_length: Option<u64>,
    pub(super) min_items: Option<u64>,
    pub(super) max_items: Option<u64>,
    pub(super) min_properties: Option<u64>,
    pub(super) max_properties: Option<u64>,
    pub(super) choices: Option<Vec<Value>>,
    /// Sorted by name.
    pub(super) properties: Vec<Property>,
    pub(super) required: usize,
    pub(super) additional: Additional,
    pub(super) prefix: Vec<usize>,
    pub(super) items: Option<usize>,
    /// All of these must match.
    pub(super) all: Vec<usize>,
    /// Of each list, one must match.
    pub(super) any: Vec<Vec<usize>>,
    pub(super) is_never: bool,
}

#[derive(Debug)]
pub(super) struct Property {
    pub(super) name: String,
    /// `None` for a required property without a schema.
    pub(super) node: Option<usize>,
    pub(super) is_required: bool,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) enum Additional {
    #[default]
    Any,
    Of(usize),
    None,
}

/// Returns the nodes of a schema and its subschemas. The first is the schema itself.
pub(super) fn nodes_of(schema: &Value) -> Vec<Node> {
    let mut compiling = SchemaCompiler { root: schema, nodes: Vec::new(), by_pointer: BTreeMap::new() };
    compiling.by_pointer.insert(String::new(), 0);
    compiling.add(schema);
    compiling.nodes
}

struct SchemaCompiler<'s> {
    root: &'s Value,
    nodes: Vec<Node>,
    /// Nodes of references.
    by_pointer: BTreeMap<String, usize>,
}

impl<'s> SchemaCompiler<'s> {
    fn add(&mut self, schema: &'s Value) -> usize {
        let index = self.nodes.len();
        self.nodes.push(Node::default());
        self.nodes[index] = self.node(schema);
        index
    }

    fn refer(&mut self, pointer: &str) -> Option<usize> {
        if let Some(known) = self.by_pointer.get(pointer) {
            return Some(*known);
        }
        let schema = self.root.pointer(pointer)?;
        // Registered before it is compiled, since it may refer to itself.
        self.by_pointer.insert(pointer.to_owned(), self.nodes.len());
        Some(self.add(schema))
    }

    fn node(&mut self, schema: &'s Value) -> Node {
        let number = |keyword: &str| schema.get(keyword).and_then(Value::as_number).cloned();
        let count = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
        let list = |keyword: &str| schema.get(keyword).and_then(Value::as_array).into_iter().flatten();
        let mut node = Node {
            kinds: kinds(schema.get("type")),
            minimum: number("minimum"),
            maximum: number("maximum"),
            exclusive_minimum: number("exclusiveMinimum"),
            exclusive_maximum: number("exclusiveMaximum"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            choices: match (schema.get("enum"), schema.get("const")) {
                (Some(Value::Array(choices)), _) => Some(choices.clone()),
                (_, Some(only)) => Some(vec![only.clone()]),
                _ => None,
            },
            is_never: *schema == Value::Bool(false) || schema.get("not") == Some(&Value::Object(Map::new())),
            ..Node::default()
        };
        let mut properties: BTreeMap<&str, Property> = BTreeMap::new();
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let described = Property { name: name.clone(), node: Some(self.add(property)), is_required: false };
            properties.insert(name, described);
        }
        for name in list("required").filter_map(Value::as_str) {
            let undescribed = || Property { name: name.to_owned(), node: None, is_required: false };
            properties.entry(name).or_insert_with(undescribed).is_required = true;
        }
        node.required = properties.values().filter(|property| property.is_required).count();
        node.properties = properties.into_values().collect();
        node.additional = match schema.get("additionalProperties") {
            // A name may match a pattern, which is not evaluated.
            _ if schema.get("patternProperties").is_some() => Additional::Any,
            None | Some(Value::Bool(true)) => Additional::Any,
            Some(Value::Bool(false)) => Additional::None,
            Some(others) => Additional::Of(self.add(others)),
        };
        node.prefix = list("prefixItems").map(|item| self.add(item)).collect();
        node.items = schema.get("items").map(|items| self.add(items));
        node.all = list("allOf").map(|own| self.add(own)).collect();
        let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        node.all.extend(pointer.and_then(|pointer| self.refer(pointer)));
        for keyword in ["anyOf", "oneOf"] {
            if schema.get(keyword).is_some() {
                node.any.push(list(keyword).map(|own| self.add(own)).collect());
            }
        }
        node
    }
}

fn kinds(names: Option<&Value>) -> u8 {
    let names: &[Value] = match names {
        Some(Value::Array(names)) => names,
        Some(name) => std::slice::from_ref(name),
        None => &[],
    };
    names.iter().filter_map(|name| JsonType::named(name.as_str()?)).fold(0, |kinds, kind| kinds | kind.bit())
}
