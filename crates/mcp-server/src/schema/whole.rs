//! Integers in floating-point notation: `5.0` and `1e3` are integers in JSON Schema, and models and languages with a single number
//! type send them, but serde rejects them.

use std::{borrow::Cow, ptr};

use serde_json::Value;

use super::text::TextCursor;

/// Rewrites numbers without a fraction to digits where the schema has an integer. Numbers beyond 64 bits and other numbers are kept.
/// A text that would take more than [`MAX_VISITS`] is returned unchanged.
///
/// If a schema has alternatives, a number is rewritten if one of them has an integer there. Its value does not change for the others.
pub(crate) fn with_whole_numbers<'a>(text: &'a str, schema: &Value) -> Cow<'a, str> {
    let mut rewriter = Rewriter::new(text, schema);
    rewriter.run();
    match rewriter.copied {
        0 => Cow::Borrowed(text),
        _ if rewriter.visits == 0 => Cow::Borrowed(text),
        copied => Cow::Owned(rewriter.written + text.get(copied..).unwrap_or_default()),
    }
}

/// Maximum number of schemas that are visited for one text: each name is looked up in each alternative.
const MAX_VISITS: usize = 1_000_000;

/// Schemas with their references and alternatives, deduplicated.
#[derive(Clone, Default)]
struct Schemas<'s> {
    all: Vec<&'s Value>,
    /// Whether one of them is an integer.
    has_integer: bool,
}

struct Rewriter<'a, 's> {
    text: &'a str,
    /// The whole schema, for its references.
    schema: &'s Value,
    cursor: TextCursor<'a>,
    /// The rewritten text up to `copied`.
    written: String,
    copied: usize,
    /// Remaining visits of schemas.
    visits: usize,
}

impl<'a, 's> Rewriter<'a, 's> {
    fn new(text: &'a str, schema: &'s Value) -> Self {
        Self { text, schema, cursor: TextCursor::new(text), written: String::new(), copied: 0, visits: MAX_VISITS }
    }

    fn run(&mut self) {
        let own = self.expanded(&[self.schema]);
        self.value(&own);
    }

    fn value(&mut self, schemas: &Schemas<'s>) {
        if schemas.all.is_empty() || self.visits == 0 {
            return self.cursor.skip();
        }
        match self.cursor.peek() {
            Some(b'{') => {
                let mut last = PreviousSchemas::default();
                self.cursor.enter();
                while self.cursor.has_next() {
                    let name = self.cursor.name().unescaped();
                    self.visit(schemas.all.len());
                    let members = schemas.all.iter().flat_map(|schema| member(schema, &name)).collect();
                    last.expand(members, self);
                    self.value(&last.expanded);
                }
            }
            Some(b'[') => {
                let mut last = PreviousSchemas::default();
                self.cursor.enter();
                let mut index = 0;
                while self.cursor.has_next() {
                    self.visit(schemas.all.len());
                    let elements = schemas.all.iter().filter_map(|schema| element(schema, index)).collect();
                    last.expand(elements, self);
                    self.value(&last.expanded);
                    index += 1;
                }
            }
            Some(b'-' | b'0'..=b'9') => {
                let start = self.cursor.at;
                let number = self.cursor.literal();
                if schemas.has_integer
                    && let Some(whole) = whole(number)
                {
                    self.written.push_str(self.text.get(self.copied..start).unwrap_or_default());
                    self.written.push_str(&whole);
                    self.copied = self.cursor.at;
                }
            }
            _ => self.cursor.skip(),
        }
    }

    fn visit(&mut self, count: usize) {
        self.visits = self.visits.saturating_sub(count);
    }

    fn expanded(&mut self, schemas: &[&'s Value]) -> Schemas<'s> {
        let mut all: Vec<&Value> = Vec::new();
        let mut open = schemas.to_vec();
        while let Some(schema) = open.pop().filter(|_| self.visits > 0) {
            self.visit(1 + all.len() / 8);
            if !schema.is_object() || all.iter().any(|own| ptr::eq(*own, schema)) {
                continue;
            }
            all.push(schema);
            let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
            open.extend(pointer.and_then(|pointer| self.schema.pointer(pointer)));
            let lists = ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|keyword| schema.get(keyword)?.as_array());
            open.extend(lists.flatten());
            open.extend(["then", "else"].into_iter().filter_map(|keyword| schema.get(keyword)));
        }
        let has_integer = all.iter().any(|schema| is_integer(schema));
        Schemas { all, has_integer }
    }
}

/// The expanded schemas of the previous element or member, which the next usually shares.
#[derive(Default)]
struct PreviousSchemas<'s> {
    own: Vec<&'s Value>,
    expanded: Schemas<'s>,
}

impl<'s> PreviousSchemas<'s> {
    fn expand(&mut self, own: Vec<&'s Value>, rewriter: &mut Rewriter<'_, 's>) {
        let is_same = own.len() == self.own.len() && own.iter().zip(&self.own).all(|(own, last)| ptr::eq(*own, *last));
        if !is_same {
            self.expanded = rewriter.expanded(&own);
            self.own = own;
        }
    }
}

fn member<'s>(schema: &'s Value, name: &str) -> impl Iterator<Item = &'s Value> {
    let own = schema.get("properties").and_then(|properties| properties.get(name));
    let others = own.is_none().then(|| {
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        let any_name = ["additionalProperties", "unevaluatedProperties"].into_iter();
        patterns.into_iter().flat_map(|map| map.values()).chain(any_name.filter_map(|keyword| schema.get(keyword)))
    });
    own.into_iter().chain(others.into_iter().flatten())
}

fn element(schema: &Value, index: usize) -> Option<&Value> {
    let items = schema.get("items");
    let prefix = schema.get("prefixItems").or(items.filter(|items| items.is_array()));
    prefix.and_then(|prefix| prefix.get(index)).or(items).or_else(|| schema.get("additionalItems"))
}

fn is_integer(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::String(kind)) => kind == "integer",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "integer"),
        _ => false,
    }
}

/// Returns the digits of a 64-bit integer in floating-point notation, in time independent of the exponent.
fn whole(number: &str) -> Option<String> {
    let (sign, magnitude) = match number.strip_prefix('-') {
        Some(magnitude) => ("-", magnitude),
        None => ("", number),
    };
    let (mantissa, exponent) = match magnitude.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None if magnitude.contains('.') => (magnitude, 0),
        None => return None,
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let length = |digits: &str| i64::try_from(digits.len()).ok();
    // The number of digits before the decimal point, after the exponent is applied.
    let before_point = length(integer)? + i64::from(exponent);
    let mut value: u64 = 0;
    for (index, digit) in (0_i64..).zip(integer.bytes().chain(fraction.bytes())) {
        if index < before_point {
            value = value.checked_mul(10)?.checked_add(u64::from(digit.checked_sub(b'0')?))?;
        } else if digit != b'0' {
            return None;
        }
    }
    let mut zeros = before_point - length(integer)? - length(fraction)?;
    // At most twenty steps: then the value overflows.
    while value != 0 && zeros > 0 {
        value = value.checked_mul(10)?;
        zeros -= 1;
    }
    let fits = sign.is_empty() || value <= i64::MIN.unsigned_abs();
    fits.then(|| if value == 0 { "0".to_owned() } else { format!("{sign}{value}") })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_number_is_converted_to_digits() {
        for (written, digits) in [
            ("5.0", "5"),
            ("-5.000", "-5"),
            ("1e3", "1000"),
            ("1E+3", "1000"),
            ("2.50e1", "25"),
            ("2500e-2", "25"),
            ("0.0", "0"),
            ("-0.0", "0"),
            ("0e2147483647", "0"),
            ("0.001e3", "1"),
            ("9007199254740993.0", "9007199254740993"),
            ("18446744073709551615.0", "18446744073709551615"),
            ("-9223372036854775808.0", "-9223372036854775808"),
        ] {
            assert_eq!(whole(written).as_deref(), Some(digits), "{written}");
        }
        for written in [
            "5",
            "-5",
            "1.5",
            "25e-1",
            "1e-1",
            "1e20",
            "18446744073709551616.0",
            "-9223372036854775809.0",
            "1e999999999",
            "1e99999999999999999999",
            "5e-999999999",
        ] {
            assert_eq!(whole(written), None, "{written}");
        }
    }

    /// Exponents that would take unbounded time, and digits that would take unbounded memory.
    #[test]
    fn a_hostile_number_takes_bounded_time_and_memory() {
        let zeros = "0".repeat(1_000_000);

        assert_eq!(whole(&format!("{zeros}5.{zeros}")).as_deref(), Some("5"));
        assert_eq!(whole(&format!("0.{zeros}5e1000001")).as_deref(), Some("5"));
        assert_eq!(whole(&format!("5{zeros}.0")), None);
        assert_eq!(whole("5e2147483647"), None);
        assert_eq!(whole("0e2147483647").as_deref(), Some("0"));
        assert_eq!(whole("5e-2147483648"), None);
    }

    #[test]
    fn integers_are_found_by_their_schema_at_every_depth() {
        let node = json!({ "properties": { "size": { "type": "integer" }, "next": { "$ref": "#/$defs/node" } } });
        let schema = json!({
            "$defs": { "node": node },
            "properties": {
                "limit": { "type": "integer" },
                "perhaps": { "anyOf": [{ "type": "integer" }, { "type": "null" }] },
                "listed": { "type": ["integer", "null"] },
                "share": { "type": "number" },
                "free": {},
                "any": true,
                "sizes": { "items": { "type": "integer" } },
                "pair": { "prefixItems": [{ "type": "number" }, { "type": "integer" }], "items": {} },
                "map": { "additionalProperties": { "type": "integer" } },
                "node": { "$ref": "#/$defs/node" },
                "either": { "oneOf": [{ "properties": { "a": { "type": "integer" } } }, { "properties": { "b": {} } }] },
                "both": { "allOf": [{ "type": "integer" }, { "minimum": 0 }] },
            },
        });
        for (before, after) in [
            (r#"{"limit":5.0}"#, r#"{"limit":5}"#),
            (r#"{ "\u006cimit" : 5.0 }"#, r#"{ "\u006cimit" : 5 }"#),
            (r#"{"limit":1.5,"perhaps":1e2,"listed":2.0}"#, r#"{"limit":1.5,"perhaps":100,"listed":2}"#),
            (r#"{"share":5.0,"free":[5.0,{"limit":5.0}],"any":5.0}"#, ""),
            (r#"{"sizes":[1.0,2,3e0,"4.0"]}"#, r#"{"sizes":[1,2,3,"4.0"]}"#),
            (r#"{"pair":[1.0,2.0,3.0]}"#, r#"{"pair":[1.0,2,3.0]}"#),
            (r#"{"map":{"x":1.0,"y":{"z":1.0}}}"#, r#"{"map":{"x":1,"y":{"z":1.0}}}"#),
            (r#"{"node":{"next":{"next":{"size":7.0}}}}"#, r#"{"node":{"next":{"next":{"size":7}}}}"#),
            (r#"{"either":{"a":1.0,"b":1.0},"both":4.0}"#, r#"{"either":{"a":1,"b":1.0},"both":4}"#),
            (r#"{"unknown":5.0,"limit":null,"sizes":{"0":1.0},"node":[1.0]}"#, ""),
        ] {
            let expected = if after.is_empty() { before } else { after };

            assert_eq!(with_whole_numbers(before, &schema), expected);
        }
    }

    /// Many numbers with many alternatives, and names with different schemas.
    #[test]
    fn visits_of_alternatives_are_bounded() {
        let object = |index: usize| json!({ "properties": { format!("p{index}"): { "type": "integer" } } });
        let alternatives: Vec<_> = (0..100).map(object).chain([json!({ "type": "integer" })]).collect();
        let schema = json!({ "properties": { "list": { "items": { "anyOf": alternatives } } } });
        let numbers = |number: &str| format!("{{\"list\":[{}]}}", vec![number; 200_000].join(","));
        let text = numbers("1.0");
        let mut rewriter = Rewriter::new(&text, &schema);
        rewriter.run();
        assert_eq!(with_whole_numbers(&text, &schema), numbers("1"));
        assert!(rewriter.visits > MAX_VISITS / 2, "{}", rewriter.visits);

        let maps: Vec<_> = (0..100).map(|_| json!({ "additionalProperties": { "type": "integer" } })).collect();
        let members: Vec<_> = (0..20_000).map(|index| format!("\"n{index}\":1.0")).collect();
        let text = format!("{{{}}}", members.join(","));
        assert_eq!(with_whole_numbers(&text, &json!({ "anyOf": maps })), text, "above the bound it is not rewritten");
    }

    /// A schema that refers to itself through each keyword.
    #[test]
    fn a_recursive_schema_terminates() {
        let schema = json!({
            "anyOf": [{ "$ref": "#" }, { "$ref": "#/anyOf/0" }, { "type": "integer" }],
            "items": { "$ref": "#" },
            "additionalProperties": { "$ref": "#" },
        });
        let (open, close) = ("[".repeat(50), "]".repeat(50));

        assert_eq!(with_whole_numbers(&format!("{open}5.0{close}"), &schema), format!("{open}5{close}"));
    }
}
