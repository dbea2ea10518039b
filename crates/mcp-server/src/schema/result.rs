//! Validation of a structured result against the output schema of its tool, before a client would reject the result.
//!
//! Serialization can violate the schema: `NaN` becomes `null`, a value may exceed its bounds, and a hand-written
//! `Serialize` may differ from the schema. Types, bounds, lengths, choices and members are validated; formats,
//! patterns and rules between members are not.

mod nodes;

use std::{cmp::Ordering, fmt};

use mcp_protocol::json;
use serde_json::{Number, Value};

use self::nodes::{Additional, JsonType, Node, Property, nodes_of};
use super::text::{JsonString, TextCursor};

/// Work limit: the alternatives of nested unions are tried one after the other, each over the same text. A result
/// that takes more work, plus [`WORK_PER_BYTE`] for each of its bytes, is sent unvalidated. The unit is one byte that
/// is read.
const BASE_WORK: usize = 1_000_000;
const WORK_PER_BYTE: usize = 32;
/// Work of a value besides its bytes.
const WORK_PER_VALUE: usize = 8;
/// Maximum depth of schemas within schemas: a schema may refer to itself without descending into the value.
const MAX_DEPTH: u32 = 500;

/// Validates the results of one tool. A trait object behind a constructor function, so that a function whose tools
/// have no output schema does not link the validation.
pub(crate) trait ResultValidator: Send + Sync {
    /// Validates the JSON text of a result.
    ///
    /// # Errors
    ///
    /// The first violation.
    fn check(&self, result: &str) -> Result<(), Violation>;
}

/// Creates the validation of an output schema.
pub(crate) type NewResultValidator = fn(&Value) -> Box<dyn ResultValidator>;

/// Compiles an output schema.
pub(crate) fn result_validator(schema: &Value) -> Box<dyn ResultValidator> {
    Box::new(CompiledSchema::new(schema))
}

/// An output schema, ready to check results.
#[derive(Debug)]
struct CompiledSchema {
    nodes: Vec<Node>,
}

/// The path and kind of a violation. It contains no value, since it is logged.
#[derive(Debug)]
pub(crate) struct Violation {
    /// Path from the innermost to the outermost part.
    path: Vec<String>,
    what: ViolationKind,
}

#[derive(Debug)]
enum ViolationKind {
    WrongType {
        is: JsonType,
        expected: u8,
    },
    Bound(&'static str),
    Missing(String),
    Unknown,
    /// The work limit was exceeded.
    WorkExceeded,
}

impl Violation {
    /// Creates the violation of a tool with an output schema that returned no structured content.
    pub(crate) fn missing_result() -> Self {
        Self::new(ViolationKind::Missing("structuredContent".to_owned()))
    }

    fn new(what: ViolationKind) -> Self {
        Self { path: Vec::new(), what }
    }

    /// Of the violations of two alternatives, returns the deeper one: of the alternative that was probably meant.
    fn or(mut self, other: Self) -> Self {
        let is_kind = |own: &Self| own.path.is_empty() && matches!(own.what, ViolationKind::WrongType { .. });
        match (is_kind(&self), is_kind(&other)) {
            (true, true) => {
                if let (ViolationKind::WrongType { expected, .. }, ViolationKind::WrongType { expected: more, .. }) =
                    (&mut self.what, &other.what)
                {
                    *expected |= more;
                }
                self
            }
            (true, false) => other,
            (false, true) => self,
            (false, false) => {
                if other.path.len() > self.path.len() {
                    other
                } else {
                    self
                }
            }
        }
    }

    fn below(mut self, step: impl FnOnce() -> String) -> Self {
        self.path.push(step());
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: String = self.path.iter().rev().map(String::as_str).collect();
        let path = match path.strip_prefix('.') {
            Some(path) => path,
            None if path.is_empty() => "the result",
            None => &path,
        };
        write!(f, "the result does not match the output schema of its tool: `{path}` ")?;
        match &self.what {
            ViolationKind::WrongType { is, expected } => {
                let kinds = JsonType::ALL.iter().filter(|(kind, _)| expected & kind.bit() != 0);
                let names: Vec<&str> = kinds.map(|(_, name)| *name).collect();
                write!(f, "is of type {}, expected {}", is.name(), names.join(" or "))?;
                let is_number = expected & (JsonType::Number.bit() | JsonType::Integer.bit()) != 0;
                if *is == JsonType::Null && is_number { f.write_str(" (NaN and infinity become null)") } else { Ok(()) }
            }
            ViolationKind::Bound(keyword) => write!(f, "violates `{keyword}`"),
            ViolationKind::Missing(name) => write!(f, "lacks the required member `{name}`"),
            ViolationKind::Unknown => f.write_str("has a member that the schema does not allow"),
            ViolationKind::WorkExceeded => f.write_str("could not be validated"),
        }
    }
}

impl std::error::Error for Violation {}

impl CompiledSchema {
    fn new(schema: &Value) -> Self {
        Self { nodes: nodes_of(schema) }
    }
}

impl ResultValidator for CompiledSchema {
    fn check(&self, result: &str) -> Result<(), Violation> {
        let work = BASE_WORK.saturating_add(WORK_PER_BYTE.saturating_mul(result.len()));
        let mut checking = Validation { nodes: &self.nodes, work, depth: 0 };
        match checking.value(0, &mut TextCursor::new(result)) {
            Err(Violation { what: ViolationKind::WorkExceeded, .. }) => Ok(()),
            result => result,
        }
    }
}

struct Validation<'c> {
    nodes: &'c [Node],
    /// The remaining work, in units of [`BASE_WORK`].
    work: usize,
    depth: u32,
}

impl Validation<'_> {
    /// Validates the value at the cursor, and moves past it.
    fn value(&mut self, index: usize, cursor: &mut TextCursor<'_>) -> Result<(), Violation> {
        self.take(WORK_PER_VALUE)?;
        self.depth += 1;
        let result = match self.depth > MAX_DEPTH {
            true => Err(Violation::new(ViolationKind::WorkExceeded)),
            false => self.value_of(index, cursor),
        };
        self.depth -= 1;
        result
    }

    fn take(&mut self, work: usize) -> Result<(), Violation> {
        self.work = self.work.checked_sub(work).ok_or_else(|| Violation::new(ViolationKind::WorkExceeded))?;
        Ok(())
    }

    /// Reads at the cursor, at the cost of one unit for each byte.
    fn read<'t, T>(
        &mut self,
        cursor: &mut TextCursor<'t>,
        read: impl FnOnce(&mut TextCursor<'t>) -> T,
    ) -> Result<T, Violation> {
        let start = cursor.at;
        let value = read(cursor);
        self.take(cursor.at.saturating_sub(start))?;
        Ok(value)
    }

    fn value_of(&mut self, index: usize, cursor: &mut TextCursor<'_>) -> Result<(), Violation> {
        let node = &self.nodes[index];
        if node.is_never {
            return Err(Violation::new(ViolationKind::Unknown));
        }
        for own in &node.all {
            self.value(*own, &mut { *cursor })?;
        }
        for alternatives in &node.any {
            self.one_of(alternatives, *cursor)?;
        }
        match cursor.peek() {
            Some(b'{') => {
                of_kind(node, JsonType::Object)?;
                self.object(node, cursor)
            }
            Some(b'[') => {
                of_kind(node, JsonType::Array)?;
                self.array(node, cursor)
            }
            Some(b'"') => {
                of_kind(node, JsonType::String)?;
                string(node, self.read(cursor, TextCursor::string)?)
            }
            _ => scalar(node, self.read(cursor, TextCursor::literal)?),
        }
    }

    fn one_of(&mut self, alternatives: &[usize], cursor: TextCursor<'_>) -> Result<(), Violation> {
        let mut nearest: Option<Violation> = None;
        for own in alternatives {
            match self.value(*own, &mut { cursor }) {
                Ok(()) => return Ok(()),
                Err(exceeded @ Violation { what: ViolationKind::WorkExceeded, .. }) => return Err(exceeded),
                Err(violation) => {
                    nearest = Some(match nearest {
                        Some(own) => own.or(violation),
                        None => violation,
                    });
                }
            }
        }
        nearest.map_or(Ok(()), Err)
    }

    fn object(&mut self, node: &Node, cursor: &mut TextCursor<'_>) -> Result<(), Violation> {
        let start = *cursor;
        let (mut count, mut required) = (0, 0);
        cursor.enter();
        while cursor.has_next() {
            count += 1;
            let name = self.read(cursor, TextCursor::name)?.unescaped();
            match node.properties.binary_search_by(|own| own.name.as_str().cmp(&name)) {
                Ok(place) => {
                    let property = &node.properties[place];
                    required += usize::from(property.is_required);
                    match property.node {
                        Some(own) => {
                            self.value(own, cursor).map_err(|own| own.below(|| format!(".{}", property.name)))?;
                        }
                        None => self.read(cursor, TextCursor::skip)?,
                    }
                }
                // Names in a map are data, which is not logged.
                Err(_) => match node.additional {
                    Additional::Any => self.read(cursor, TextCursor::skip)?,
                    Additional::Of(own) => self.value(own, cursor).map_err(|own| own.below(|| ".*".to_owned()))?,
                    Additional::None => return Err(Violation::new(ViolationKind::Unknown)),
                },
            }
        }
        if required < node.required {
            // The object is read again to find the missing member.
            self.take(cursor.at.saturating_sub(start.at))?;
            return Err(Violation::new(ViolationKind::Missing(missing(node, start))));
        }
        between(count, node.min_properties, node.max_properties, ["minProperties", "maxProperties"])
    }

    fn array(&mut self, node: &Node, cursor: &mut TextCursor<'_>) -> Result<(), Violation> {
        let mut count = 0;
        cursor.enter();
        while cursor.has_next() {
            let position = usize::try_from(count).ok();
            match position.and_then(|position| node.prefix.get(position)).or(node.items.as_ref()) {
                Some(own) => self.value(*own, cursor).map_err(|own| own.below(|| format!("[{count}]")))?,
                None => self.read(cursor, TextCursor::skip)?,
            }
            count += 1;
        }
        between(count, node.min_items, node.max_items, ["minItems", "maxItems"])
    }
}

/// Returns the first missing required member of an object.
fn missing(node: &Node, mut object: TextCursor<'_>) -> String {
    let mut names = Vec::new();
    object.enter();
    while object.has_next() {
        names.push(object.name().unescaped());
        object.skip();
    }
    let lacks = |property: &&Property| property.is_required && !names.iter().any(|name| *name == property.name);
    node.properties.iter().find(lacks).map(|property| property.name.clone()).unwrap_or_default()
}

fn of_kind(node: &Node, kind: JsonType) -> Result<(), Violation> {
    // An integer is also a number.
    let bits = if kind == JsonType::Integer { kind.bit() | JsonType::Number.bit() } else { kind.bit() };
    match node.kinds == 0 || node.kinds & bits != 0 {
        true => Ok(()),
        false => Err(Violation::new(ViolationKind::WrongType { is: kind, expected: node.kinds })),
    }
}

fn between(count: u64, min: Option<u64>, max: Option<u64>, keywords: [&'static str; 2]) -> Result<(), Violation> {
    if min.is_some_and(|min| count < min) {
        return Err(Violation::new(ViolationKind::Bound(keywords[0])));
    }
    if max.is_some_and(|max| count > max) {
        return Err(Violation::new(ViolationKind::Bound(keywords[1])));
    }
    Ok(())
}

fn string(node: &Node, text: JsonString<'_>) -> Result<(), Violation> {
    if node.min_length.is_none() && node.max_length.is_none() && node.choices.is_none() {
        return Ok(());
    }
    let text = text.unescaped();
    if let Some(choices) = &node.choices
        && !choices.iter().any(|choice| choice.as_str() == Some(&text))
    {
        return Err(Violation::new(ViolationKind::Bound("enum")));
    }
    between(text.chars().count() as u64, node.min_length, node.max_length, ["minLength", "maxLength"])
}

fn scalar(node: &Node, literal: &str) -> Result<(), Violation> {
    let kind = match literal.as_bytes().first() {
        Some(b'n') => JsonType::Null,
        Some(b't' | b'f') => JsonType::Boolean,
        _ if !literal.contains(['.', 'e', 'E']) => JsonType::Integer,
        _ if literal.parse::<f64>().is_ok_and(|value| value.fract() == 0.0) => JsonType::Integer,
        _ => JsonType::Number,
    };
    of_kind(node, kind)?;
    if let Some(choices) = &node.choices {
        let value: Value = json::borrow(literal).unwrap_or_default();
        let is_chosen = |choice: &Value| match (choice.as_f64(), value.as_f64()) {
            (Some(choice), Some(value)) => choice == value,
            _ => *choice == value,
        };
        if !choices.iter().any(is_chosen) {
            return Err(Violation::new(ViolationKind::Bound("enum")));
        }
    }
    if !matches!(kind, JsonType::Integer | JsonType::Number) {
        return Ok(());
    }
    for (bound, allowed, keyword) in [
        (&node.minimum, [Ordering::Greater, Ordering::Equal], "minimum"),
        (&node.maximum, [Ordering::Less, Ordering::Equal], "maximum"),
        (&node.exclusive_minimum, [Ordering::Greater; 2], "exclusiveMinimum"),
        (&node.exclusive_maximum, [Ordering::Less; 2], "exclusiveMaximum"),
    ] {
        let order = bound.as_ref().and_then(|bound| compared(literal, bound));
        if order.is_some_and(|order| !allowed.contains(&order)) {
            return Err(Violation::new(ViolationKind::Bound(keyword)));
        }
    }
    Ok(())
}

/// Integers are compared digit by digit: beyond 2^53 two of them can be the same floating-point number.
fn compared(literal: &str, bound: &Number) -> Option<Ordering> {
    match (literal.parse::<i128>(), bound.as_i128()) {
        (Ok(value), Some(bound)) => Some(value.cmp(&bound)),
        _ => literal.parse::<f64>().ok()?.partial_cmp(&bound.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use garde::Validate;
    use schemars::JsonSchema;
    use serde::{Serialize, Serializer};
    use serde_json::json;

    use super::*;
    use crate::schema::{for_clients, output_schema_of};

    fn checked<T: Serialize + JsonSchema>(value: &T) -> Result<(), String> {
        let check = CompiledSchema::new(&for_clients(output_schema_of::<T>()));
        check.check(&serde_json::to_string(value).unwrap()).map_err(|violation| violation.to_string())
    }

    /// Returns the message without the prefix of all violations.
    #[track_caller]
    fn violation<T: Serialize + JsonSchema>(value: &T) -> String {
        let text = checked(value).unwrap_err();
        text.strip_prefix("the result does not match the output schema of its tool: ").unwrap().to_owned()
    }

    #[derive(Serialize, JsonSchema, Validate, Clone)]
    struct Measured {
        #[garde(range(min = -273.15))]
        celsius: f64,
        #[garde(length(chars, min = 1, max = 3))]
        #[serde(skip_serializing_if = "Option::is_none")]
        place: Option<String>,
        #[garde(range(min = 1, max = 9))]
        count: u32,
        #[garde(length(max = 2))]
        samples: Vec<f32>,
        #[garde(skip)]
        kind: Kinds,
        #[garde(skip)]
        shape: Option<Shape>,
        #[garde(skip)]
        by_name: HashMap<String, f64>,
        #[garde(skip)]
        pair: (i64, bool),
        #[garde(skip)]
        free: Value,
        #[garde(skip)]
        next: Option<Box<Measured>>,
    }

    #[derive(Serialize, JsonSchema, Clone)]
    enum Kinds {
        /// By hand.
        Manual,
        #[expect(dead_code, reason = "only in the schema")]
        Automatic,
    }

    #[derive(Serialize, JsonSchema, Clone)]
    #[serde(tag = "type", rename_all = "lowercase")]
    enum Shape {
        Circle { radius: f64 },
        Square { side: f64, name: Option<String> },
    }

    fn measured() -> Measured {
        Measured {
            celsius: 20.5,
            place: Some("größ".chars().take(3).collect()),
            count: 9,
            samples: vec![1.0, 0.1],
            kind: Kinds::Manual,
            shape: Some(Shape::Square { side: 2.0, name: None }),
            by_name: HashMap::from([("a\"b".to_owned(), 1.0)]),
            pair: (i64::MIN, true),
            free: json!({ "anything": [null, 1e300, "x"] }),
            next: None,
        }
    }

    #[test]
    fn a_valid_result_passes() {
        let inner = Measured { celsius: -273.15, place: None, shape: None, samples: Vec::new(), ..measured() };

        assert_eq!(checked(&measured()), Ok(()));
        assert_eq!(checked(&Measured { next: Some(Box::new(inner)), ..measured() }), Ok(()));
        assert_eq!(checked(&(u64::MAX, i64::MIN, u8::MAX, f64::MIN_POSITIVE, '\u{1F600}')), Ok(()));
        assert_eq!(checked(&json!([1, { "a": null }])), Ok(()));
    }

    /// Floats that JSON cannot represent, at every depth.
    #[test]
    fn a_float_serialized_as_null_is_reported_with_its_path() {
        let expected = "is of type null, expected number (NaN and infinity become null)";
        for celsius in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(violation(&Measured { celsius, ..measured() }), format!("`celsius` {expected}"));
        }
        let inner = Measured { samples: vec![0.0, f32::NAN], ..measured() };
        let outer = Measured { next: Some(Box::new(inner)), ..measured() };
        assert_eq!(violation(&outer), format!("`next.samples[1]` {expected}"));
        let shape = Some(Shape::Circle { radius: f64::NAN });
        assert_eq!(violation(&Measured { shape, ..measured() }), format!("`shape.radius` {expected}"));
        assert_eq!(violation(&f64::NAN), format!("`the result` {expected}"));
    }

    /// Names in a map are data, such as addresses of people.
    #[test]
    fn violations_contain_no_data() {
        let by_name = HashMap::from([("ada@example.com".to_owned(), f64::NAN)]);

        let text = violation(&Measured { by_name, ..measured() });

        assert!(text.starts_with("`by_name.*` is of type null"), "{text}");
        let text = violation(&Measured { place: Some("secret".to_owned()), ..measured() });
        assert_eq!(text, "`place` violates `maxLength`");
    }

    #[test]
    fn a_value_outside_its_bounds_is_reported() {
        for (value, expected) in [
            (Measured { celsius: -273.16, ..measured() }, "`celsius` violates `minimum`"),
            (Measured { count: 10, ..measured() }, "`count` violates `maximum`"),
            (Measured { count: 0, ..measured() }, "`count` violates `minimum`"),
            (Measured { place: Some(String::new()), ..measured() }, "`place` violates `minLength`"),
            (Measured { place: Some("\u{1}\"\\\u{1F600}".to_owned()), ..measured() }, "`place` violates `maxLength`"),
            (Measured { samples: vec![0.0; 3], ..measured() }, "`samples` violates `maxItems`"),
        ] {
            assert_eq!(violation(&value), expected);
        }
        assert_eq!(checked(&Measured { place: Some("\u{1}\"\u{1F600}".to_owned()), ..measured() }), Ok(()));
    }

    /// A hand-written `Serialize` that differs from the schema.
    #[test]
    fn a_result_of_another_type_is_reported() {
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "only its schema matters")]
        #[serde(deny_unknown_fields)]
        struct Promised {
            name: String,
            size: Option<u8>,
            kind: Kinds,
        }

        let check = CompiledSchema::new(&for_clients(output_schema_of::<Promised>()));
        let violation = |result: Value| check.check(&result.to_string()).unwrap_err().to_string();
        for (result, expected) in [
            (json!({ "name": 5, "kind": "Manual" }), "`name` is of type integer, expected string"),
            (json!({ "kind": "Manual" }), "`the result` lacks the required member `name`"),
            (json!({ "name": "a", "kind": "Other" }), "`kind` violates `enum`"),
            (json!({ "name": "a", "kind": "Manual", "x": 1 }), "`the result` has a member that the schema does not"),
            (
                json!({ "name": "a", "kind": "Manual", "size": 1.5 }),
                "`size` is of type number, expected null or integer",
            ),
            (json!({ "name": "a", "kind": "Manual", "size": 256 }), "`size` violates `maximum`"),
            (json!("a"), "`the result` is of type string, expected object"),
        ] {
            let text = violation(result);

            assert!(text.contains(expected), "{text}");
        }
        assert!(check.check(r#" { "kind" : "Man\u0075al" , "size" : 5.0 , "name" : "a" } "#).is_ok());
    }

    #[derive(JsonSchema)]
    struct Tree {
        #[expect(dead_code, reason = "only its schema matters")]
        children: Vec<Tree>,
        #[expect(dead_code, reason = "only its schema matters")]
        weight: f64,
    }

    impl Serialize for Tree {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            json!({ "children": [{ "children": [], "weight": 1 }, { "children": [], "weight": null }], "weight": 0 })
                .serialize(serializer)
        }
    }

    #[test]
    fn recursive_types_are_validated_and_infinite_schemas_are_not() {
        let tree = Tree { children: Vec::new(), weight: 0.0 };
        assert!(violation(&tree).starts_with("`children[1].weight` is of type null"), "{}", violation(&tree));
        for schema in [
            json!({ "$ref": "#" }),
            json!({ "anyOf": [{ "$ref": "#" }, { "type": "string" }] }),
            json!({ "allOf": [{ "$ref": "#/$defs/a" }], "$defs": { "a": { "$ref": "#/$defs/a" } } }),
        ] {
            assert!(CompiledSchema::new(&schema).check("5").is_ok(), "{schema}");
        }
    }

    /// Recursive branches that are tried at each level.
    #[test]
    fn validation_of_a_union_with_multiplying_branches_stops() {
        let branch = |kind: &str| json!({ "properties": { "a": { "$ref": "#" }, "z": { "enum": [kind] } } });
        let schema = json!({ "anyOf": [branch("x"), branch("y")] });
        let result = |depth: usize| (0..depth).fold(json!({ "z": "-" }), |inner, _| json!({ "a": inner, "z": "-" }));

        assert!(CompiledSchema::new(&schema).check(&result(3).to_string()).is_err());
        assert!(CompiledSchema::new(&schema).check(&result(60).to_string()).is_ok());
    }

    /// Each branch fails after its text was read, so that each level doubles the reads.
    #[test]
    fn repeated_reads_of_branches_are_bounded() {
        let branch = |name: &str| json!({ "properties": { "child": { "anyOf": [{ "$ref": "#" }, { "type": "null" }] } }, "required": [name] });
        let schema = json!({ "anyOf": [branch("a"), branch("b")] });
        let leaf = json!({ "b": 1, "text": "x".repeat(100_000) });
        let result = (0..14).fold(leaf, |child, _| json!({ "child": child, "b": 1 })).to_string();
        let check = CompiledSchema::new(&schema);
        let mut checking = Validation { nodes: &check.nodes, work: BASE_WORK + WORK_PER_BYTE * result.len(), depth: 0 };

        let checked = checking.value(0, &mut TextCursor::new(&result));

        assert!(matches!(checked, Err(Violation { what: ViolationKind::WorkExceeded, .. })));
        assert!(check.check(&result).is_ok());
    }

    /// Beyond 2^53, where floating-point numbers are not dense.
    #[test]
    fn bounds_of_integers_are_exact() {
        for (schema, fits, does_not) in [
            (json!({ "exclusiveMinimum": 9_007_199_254_740_992_u64 }), "9007199254740993", "9007199254740992"),
            (
                json!({ "exclusiveMaximum": 9_223_372_036_854_775_808_u64 }),
                "9223372036854775807",
                "9223372036854775808",
            ),
            (json!({ "maximum": u64::MAX }), "18446744073709551615", "18446744073709551616"),
            (json!({ "minimum": 0.5 }), "1", "0"),
            (json!({ "maximum": 10 }), "1e1", "10.5"),
        ] {
            let check = CompiledSchema::new(&schema);

            assert!(check.check(fits).is_ok() && check.check(does_not).is_err(), "{schema}");
        }
    }
}
