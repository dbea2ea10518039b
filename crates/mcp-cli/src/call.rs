//! `mcpl tools` and `mcpl call`: what a server offers, and using it by hand.

use std::path::Path;

use anyhow::{Context, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use mcp_protocol::method;
use serde_json::{Map, Value, json};

use crate::{
    files,
    output::{self, BOLD, print, printable, printable_line},
    received,
    session::Session,
};

/// Prints the tools: one a line, with its parameters.
pub(crate) async fn list(session: &mut Session, as_json: bool) -> anyhow::Result<()> {
    let tools = session.tools().await?;
    if as_json {
        print(&output::json(&tools)?);
        return Ok(());
    }
    for tool in &tools {
        let name = tool["name"].as_str().unwrap_or_default();
        let (name, parameters) = (printable_line(name), printable_line(&signature(&tool["inputSchema"])));
        print(&format!("{BOLD}{name}{BOLD:#}({parameters})"));
        if let Some(description) = tool["description"].as_str() {
            print(&format!("    {}", one_paragraph(description)));
        }
    }
    Ok(())
}

/// Calls a tool; whether it succeeded.
pub(crate) async fn call(
    session: &mut Session,
    name: &str,
    words: &[String],
    folder: &Path,
    as_json: bool,
) -> anyhow::Result<bool> {
    let tools = session.tools().await?;
    let Some(tool) = tools.iter().find(|tool| tool["name"] == name) else {
        let names: Vec<&str> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
        bail!("there is no tool `{name}`; there are {}", names.join(", "));
    };
    let arguments = arguments(words, &tool["inputSchema"])?;
    let result = session.request(method::TOOLS_CALL, json!({ "name": name, "arguments": arguments })).await?;
    if result["resultType"] == "input_required" {
        bail!("the tool asks its client something, which this command cannot answer");
    }
    if as_json {
        print(&output::json(&result)?);
    } else {
        for block in result["content"].as_array().into_iter().flatten() {
            print(&shown(block, name, folder)?);
        }
    }
    Ok(result["isError"] != true)
}

/// Words such as `limit=5`, each read by the type that the schema gives its parameter.
fn arguments(words: &[String], schema: &Value) -> anyhow::Result<Map<String, Value>> {
    let mut arguments = Map::new();
    for word in words {
        let (name, text) = word.split_once('=').with_context(|| format!("`{word}` is not written NAME=VALUE"))?;
        let Some(property) = schema["properties"].get(name) else {
            bail!("there is no parameter `{name}`; the tool takes ({})", signature(schema));
        };
        let is_text = types(property).all(|kind| kind == "string" || kind == "null");
        // Unbounded JSON: an argument that the user has typed.
        let value = match serde_json::from_str(text) {
            Ok(value) if !is_text => value,
            // A parameter of no type, or of several, takes text too.
            _ if is_text || types(property).next().is_none() || types(property).any(|kind| kind == "string") => {
                json!(text)
            }
            _ => bail!("`{name}` must be of type {}, not `{text}`", types(property).collect::<Vec<_>>().join(" or ")),
        };
        arguments.insert(name.to_owned(), value);
    }
    Ok(arguments)
}

/// The types that a schema names, by itself or in the alternatives of its `anyOf`, as that of an optional parameter does.
fn types(property: &Value) -> impl Iterator<Item = &str> {
    let alternatives = property["anyOf"].as_array().into_iter().flatten();
    [property].into_iter().chain(alternatives).flat_map(|schema| {
        let listed = schema["type"].as_array().into_iter().flatten().filter_map(Value::as_str);
        schema["type"].as_str().into_iter().chain(listed)
    })
}

/// `name: string, limit?: integer`.
pub(crate) fn signature(schema: &Value) -> String {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    let parameters = properties.map(|(name, property)| {
        let kinds: Vec<&str> = types(property).filter(|kind| *kind != "null").collect();
        let kind = if kinds.is_empty() { "any".to_owned() } else { kinds.join("|") };
        let mark = if required.contains(&name.as_str()) { "" } else { "?" };
        format!("{name}{mark}: {kind}")
    });
    parameters.collect::<Vec<_>>().join(", ")
}

/// A block for a terminal; what cannot be shown there is saved.
fn shown(block: &Value, tool: &str, folder: &Path) -> anyhow::Result<String> {
    let (data, kind) = match block["type"].as_str() {
        Some("text") => return Ok(text(block["text"].as_str().unwrap_or_default())),
        Some("image" | "audio") => (block["data"].as_str(), block["mimeType"].as_str()),
        Some("resource") => match block["resource"]["text"].as_str() {
            Some(own) => return Ok(text(own)),
            None => (block["resource"]["blob"].as_str(), block["resource"]["mimeType"].as_str()),
        },
        Some("resource_link") => {
            let (name, uri) = (block["name"].as_str().unwrap_or_default(), block["uri"].as_str().unwrap_or_default());
            return Ok(printable_line(&format!("{name}: {uri}")));
        }
        _ => return Ok(output::of_json(block)),
    };
    let bytes = BASE64_STANDARD.decode(data.unwrap_or_default()).context("a block is not Base64")?;
    let subtype = kind.and_then(|kind| kind.split_once('/')).map_or("bin", |(_, subtype)| subtype);
    let file = files::save(folder, tool, subtype, &bytes).context("could not save a file")?;
    let kind = printable_line(kind.unwrap_or("something"));
    Ok(format!("{kind} ({} bytes) saved to {}", bytes.len(), file.display()))
}

pub(crate) fn text(text: &str) -> String {
    match received::read(text) {
        Ok(value @ (Value::Array(_) | Value::Object(_))) => output::of_json(&value),
        _ => printable(text),
    }
}

fn one_paragraph(text: &str) -> String {
    printable(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_by_the_types_of_the_schema() {
        let schema = json!({ "properties": {
            "name": { "type": "string" }, "limit": { "type": "integer" }, "list": { "type": "array" },
            "maybe": { "type": ["boolean", "null"] }, "any": {},
            "most": { "anyOf": [{ "type": "integer" }, { "type": "null" }] },
            "note": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
        }, "required": ["name"] });
        let read =
            |words: &[&str]| arguments(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), &schema);

        let read_all =
            read(&["name=5", "limit=5", "list=[1,\"a\"]", "maybe=true", "any=x=y", "most=5", "note=5"]).unwrap();

        let expected = json!({ "name": "5", "limit": 5, "list": [1, "a"], "maybe": true, "any": "x=y", "most": 5,
            "note": "5" });
        assert_eq!(Value::Object(read_all), expected);
        assert_eq!(
            signature(&schema),
            "any?: any, limit?: integer, list?: array, maybe?: boolean, most?: integer, name: string, note?: string"
        );
        for (word, expected) in [
            ("limit=many", "of type integer"),
            ("most=many", "of type integer"),
            ("other=1", "no parameter `other`"),
            ("x", "NAME=VALUE"),
        ] {
            assert!(read(&[word]).unwrap_err().to_string().contains(expected), "{word}");
        }
    }
}
