//! The description of a tool: its parameters with their types, choices, bounds and defaults.

use serde_json::Value;

use crate::arguments::schema::{kind, part, property, required, signature};

/// Maximum depth of nested members, since a schema may refer to itself.
const MAX_DEPTH: usize = 4;
/// Maximum number of parameters, members included.
const MAX_PARAMETERS: usize = 300;
/// Keywords of a schema that bound a value, and how they are shown.
const BOUNDS: [(&str, &str); 12] = [
    ("minimum", "at least"),
    ("exclusiveMinimum", "more than"),
    ("maximum", "at most"),
    ("exclusiveMaximum", "less than"),
    ("multipleOf", "a multiple of"),
    ("minLength", "characters: at least"),
    ("maxLength", "characters: at most"),
    ("minItems", "items: at least"),
    ("maxItems", "items: at most"),
    ("pattern", "pattern"),
    ("format", "format"),
    ("default", "default"),
];

/// A tool, its description and its parameters.
pub(crate) fn tool(tool: &Value) -> String {
    let schema = &tool["inputSchema"];
    let mut lines = vec![format!("{}({})", tool["name"].as_str().unwrap_or_default(), signature(schema))];
    add_text(&mut lines, "    ", &tool["description"]);
    let mut parameters = Parameters { root: schema, lines, left: MAX_PARAMETERS };
    parameters.add_members("", schema, 1);
    parameters.lines.join("\n")
}

struct Parameters<'a> {
    root: &'a Value,
    lines: Vec<String>,
    left: usize,
}

impl Parameters<'_> {
    fn add_members(&mut self, path: &str, schema: &Value, depth: usize) {
        let required = required(self.root, schema);
        let members = part(self.root, schema, "properties").and_then(Value::as_object);
        for name in members.into_iter().flat_map(|members| members.keys()) {
            let Some(own) = property(self.root, schema, name) else { continue };
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            if self.left == 0 {
                self.lines.push("  …".to_owned());
                return;
            }
            self.add(&format!("{path}{name}"), own, required.contains(&name.as_str()), depth);
        }
    }

    fn add(&mut self, path: &str, schema: &Value, is_required: bool, depth: usize) {
        let mut line = format!("  {path}: {}", kind(self.root, schema));
        if is_required {
            line.push_str(", required");
        }
        for (keyword, text) in BOUNDS {
            if let Some(bound) = part(self.root, schema, keyword) {
                let bound =
                    bound.as_str().filter(|_| keyword != "default").map_or_else(|| bound.to_string(), str::to_owned);
                line.push_str(&format!(", {text} {bound}"));
            }
        }
        self.lines.push(line.replace('\n', " "));
        if let Some(description) = part(self.root, schema, "description") {
            add_text(&mut self.lines, "      ", description);
        }
        if depth == MAX_DEPTH {
            return;
        }
        self.add_members(&format!("{path}."), schema, depth + 1);
        if let Some(items) = part(self.root, schema, "items") {
            self.add_members(&format!("{path}.0."), items, depth + 1);
        }
    }
}

fn add_text(lines: &mut Vec<String>, indent: &str, text: &Value) {
    let text = text.as_str().unwrap_or_default().trim();
    lines.extend(text.lines().map(|line| format!("{indent}{}", line.trim()).trim_end().to_owned()));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tool_is_shown_with_its_parameters() {
        let described = tool(&json!({
            "name": "draw", "description": "Draws.\n\n  On paper.",
            "inputSchema": {
                "required": ["point"],
                "properties": {
                    "colour": { "enum": ["red", "blue"], "default": "red", "description": "Of the line" },
                    "lines": { "type": "array", "maxItems": 5, "items": { "$ref": "#/$defs/P" } },
                    "point": { "$ref": "#/$defs/P" },
                    "tags": { "type": "array", "items": { "type": "string" } },
                },
                "$defs": { "P": { "type": "object", "description": "A point", "required": ["x"], "properties": {
                    "x": { "type": "number", "minimum": 0, "exclusiveMaximum": 9.5 },
                    "name": { "type": "string", "minLength": 1, "maxLength": 40, "pattern": "^a\nb$" },
                } } },
            },
        }));

        let expected = "\
draw(colour?: \"red\"|\"blue\", lines?: object[], point: object, tags?: string[])
    Draws.

    On paper.
  colour: \"red\"|\"blue\", default \"red\"
      Of the line
  lines: object[], items: at most 5
  lines.0.name: string, characters: at least 1, characters: at most 40, pattern ^a b$
  lines.0.x: number, required, at least 0, less than 9.5
  point: object, required
      A point
  point.name: string, characters: at least 1, characters: at most 40, pattern ^a b$
  point.x: number, required, at least 0, less than 9.5
  tags: string[]";
        assert_eq!(described, expected);
    }

    /// A schema of a server may refer to itself, in as many ways as it likes.
    #[test]
    fn what_is_shown_has_an_end() {
        let own = json!({ "$ref": "#" });
        let members: serde_json::Map<String, Value> = (0..40).map(|index| (format!("p{index}"), own.clone())).collect();

        let described = tool(&json!({ "name": "t", "inputSchema": { "type": "object", "properties": members } }));

        assert!(described.lines().count() <= MAX_PARAMETERS + 1 && described.ends_with('…'), "{described}");
        assert!(described.contains("p0.p0.p0.p0: ") && !described.contains("p0.p0.p0.p0.p0: "));
        assert_eq!(tool(&json!({})), "()");
    }
}
