//! The commands that use a server: `mcpl tools`, `call`, `resources`, `read`, `prompts` and `prompt`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::Args;
use mcp_protocol::{json, jsonrpc, method};
use serde_json::{Value, json, value::RawValue};

use crate::{
    arguments::{self, Arguments, Taker, schema::signature},
    command_line::UsageError,
    described, files,
    json_text::{items, member},
    output::{self, BOLD, note, print, printable, printable_line},
    received,
    server_error::ServerError,
    session::{Reply, Session},
    task::Task,
};

/// The options of `mcpl call`.
#[derive(Debug, Args)]
pub(crate) struct ToolCall {
    /// The tool's name.
    #[arg(help_heading = None)]
    tool: String,
    /// Its arguments, of the types of its schema: NAME=VALUE, where VALUE may be JSON, a list such as a,b, or @FILE
    /// (@- for standard input, @@x for the text @x); NAME.MEMBER=VALUE for a member of an object, NAME.0=VALUE for an item of
    /// a list; or a whole object: {…}, @FILE, or - for standard input.
    #[arg(value_name = "NAME=VALUE", help_heading = None)]
    arguments: Vec<String>,
    /// The folder in which images and other files are saved. It must exist.
    #[arg(long, value_name = "FOLDER", default_value = ".", help_heading = None)]
    save_to: PathBuf,
    /// If the call becomes a task, print the task's id and end: `mcpl task wait` waits for the result.
    #[arg(long, help_heading = None)]
    detach: bool,
}

impl ToolCall {
    /// Checks the call before the server is contacted.
    ///
    /// # Errors
    ///
    /// As [`check`].
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        check(&self.arguments, Some(&self.save_to))
    }
}

/// Prints the tools, one a line with its parameters; or everything about the named tool.
pub(crate) async fn tools(session: &mut Session, name: Option<&str>, as_json: bool) -> anyhow::Result<()> {
    let tools = session.list(method::TOOLS_LIST, "tools").await?;
    if let Some(name) = name {
        let read = values(&tools)?;
        let Some((tool, written)) = read.iter().zip(&tools).find(|(tool, _)| tool["name"] == name) else {
            bail!("there is no tool `{name}`; {}", those(&read, "tools"));
        };
        match as_json {
            true => print(&output::json_as_written(written.get())),
            false => print(&printable(&described::tool(tool))),
        }
        return Ok(());
    }
    if as_json {
        print(&output::json_as_written(&array(&tools)));
        return Ok(());
    }
    for tool in values(&tools)? {
        let name = tool["name"].as_str().unwrap_or_default();
        print_item(name, &format!("({})", signature(&tool["inputSchema"])), &tool);
    }
    if tools.is_empty() {
        note("the server has no tools");
    }
    Ok(())
}

/// Calls a tool, and waits for its result if the call becomes a task. Returns whether it succeeded.
pub(crate) async fn call(session: &mut Session, call: &ToolCall, url: &str, as_json: bool) -> anyhow::Result<bool> {
    let (name, words) = (call.tool.as_str(), call.arguments.as_slice());
    let tools = values(&session.list(method::TOOLS_LIST, "tools").await?)?;
    let Some(tool) = tools.iter().find(|tool| tool["name"] == name) else {
        bail!("there is no tool `{name}`; {}", those(&tools, "tools"));
    };
    let arguments = read_arguments(words, tool["inputSchema"].clone(), Taker::Tool).await?;
    let params = format!(r#"{{"name":{},"arguments":{arguments}}}"#, json!(name));
    let mut result = session.ask(method::TOOLS_CALL, &params).await?;
    if result.value["resultType"] == "task" {
        let task = Task::of(result, None)?;
        if call.detach {
            task.show_id(url, as_json);
            return Ok(true);
        }
        result = task.finish(session, url).await?;
    } else if call.detach {
        note("the call has ended: there is no task");
    }
    show_result(&result, name, &call.save_to, as_json)
}

/// Prints the result of a tool. Returns whether it succeeded.
pub(crate) fn show_result(result: &Reply, name: &str, folder: &Path, as_json: bool) -> anyhow::Result<bool> {
    if as_json {
        print(&output::json_as_written(result.text.get()));
    } else {
        let blocks = member(&result.text, "content").and_then(|content| items(content.get())).unwrap_or_default();
        for block in &blocks {
            print(&shown(block, name, folder)?);
        }
        if let Some(structured) = member(&result.text, "structuredContent").filter(|_| blocks.is_empty()) {
            print(&text(structured.get()));
        }
    }
    Ok(result.value["isError"] != true)
}

/// Prints the resources and the templates of resources.
pub(crate) async fn resources(session: &mut Session, as_json: bool) -> anyhow::Result<()> {
    let resources = list_if_any(session, method::RESOURCES_LIST, "resources").await?;
    let templates = list_if_any(session, method::RESOURCES_TEMPLATES_LIST, "resourceTemplates").await?;
    if as_json {
        let (resources, templates) = (array(&resources), array(&templates));
        print(&output::json_as_written(&format!(r#"{{"resources":{resources},"resourceTemplates":{templates}}}"#)));
        return Ok(());
    }
    for resource in values(&resources)?.into_iter().chain(values(&templates)?) {
        let uri = resource["uri"].as_str().or_else(|| resource["uriTemplate"].as_str()).unwrap_or_default();
        let of = |name: &str| resource[name].as_str().map(|text| format!("  {text}")).unwrap_or_default();
        print_item(uri, &format!("{}{}", of("name"), of("mimeType")), &resource);
    }
    if resources.is_empty() && templates.is_empty() {
        note("the server has no resources");
    }
    Ok(())
}

/// Reads a resource. For a pipe or a file it is written as it is, unless `folder` says where to save it.
pub(crate) async fn read(session: &mut Session, uri: &str, folder: Option<&Path>, as_json: bool) -> anyhow::Result<()> {
    let result = session.ask(method::RESOURCES_READ, &json!({ "uri": uri }).to_string()).await?;
    if as_json {
        print(&output::json_as_written(result.text.get()));
        return Ok(());
    }
    let contents = member(&result.text, "contents").and_then(|contents| items(contents.get()));
    let name = uri.rsplit(['/', ':']).find(|part| !part.is_empty()).unwrap_or_default();
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    for content in contents.context("the server's answer has no contents")? {
        let content: Value = received::read(content.get())?;
        match folder {
            None if !output::is_for_people() => {
                output::write(&bytes_of(&content)?).context("could not write the resource")?
            }
            _ => print(&resource(&content, stem, folder.unwrap_or(Path::new(".")))?),
        }
    }
    Ok(())
}

/// Prints the prompts: one a line, with its arguments.
pub(crate) async fn prompts(session: &mut Session, as_json: bool) -> anyhow::Result<()> {
    let prompts = list_if_any(session, method::PROMPTS_LIST, "prompts").await?;
    if as_json {
        print(&output::json_as_written(&array(&prompts)));
        return Ok(());
    }
    for prompt in values(&prompts)? {
        let name = prompt["name"].as_str().unwrap_or_default();
        print_item(name, &format!("({})", signature(&schema_of(&prompt))), &prompt);
    }
    if prompts.is_empty() {
        note("the server has no prompts");
    }
    Ok(())
}

/// Prints the messages of a prompt.
pub(crate) async fn prompt(
    session: &mut Session,
    name: &str,
    words: &[String],
    folder: &Path,
    as_json: bool,
) -> anyhow::Result<()> {
    let prompts = values(&list_if_any(session, method::PROMPTS_LIST, "prompts").await?)?;
    let Some(prompt) = prompts.iter().find(|prompt| prompt["name"] == name) else {
        bail!("there is no prompt `{name}`; {}", those(&prompts, "prompts"));
    };
    let arguments = read_arguments(words, schema_of(prompt), Taker::Prompt).await?;
    let params = format!(r#"{{"name":{},"arguments":{arguments}}}"#, json!(name));
    let result = session.ask(method::PROMPTS_GET, &params).await?;
    if as_json {
        print(&output::json_as_written(result.text.get()));
        return Ok(());
    }
    let messages = member(&result.text, "messages").and_then(|messages| items(messages.get()));
    for message in messages.context("the server's answer has no messages")? {
        let role = member(message, "role").and_then(|role| json::borrow::<String>(role.get()).ok());
        let content = member(message, "content").context("a message has no content")?;
        let role = printable_line(&role.unwrap_or_default());
        print(&format!("{BOLD}{role}:{BOLD:#} {}", shown(content, name, folder)?));
    }
    Ok(())
}

/// Lists items; empty if the server does not have the method.
pub(crate) async fn list_if_any(session: &mut Session, method: &str, name: &str) -> anyhow::Result<Vec<Box<RawValue>>> {
    match session.list(method, name).await {
        Err(error) if error.downcast_ref().is_some_and(|own: &ServerError| own.code() == jsonrpc::METHOD_NOT_FOUND) => {
            Ok(Vec::new())
        }
        listed => listed,
    }
}

pub(crate) fn values(listed: &[Box<RawValue>]) -> anyhow::Result<Vec<Value>> {
    Ok(listed.iter().map(|item| received::read(item.get())).collect::<Result<_, _>>()?)
}

fn array(listed: &[Box<RawValue>]) -> String {
    format!("[{}]", listed.iter().map(|item| item.get()).collect::<Vec<_>>().join(","))
}

/// `there are a, b`, of what has names.
fn those(listed: &[Value], what: &str) -> String {
    let names: Vec<&str> = listed.iter().filter_map(|own| own["name"].as_str()).collect();
    if names.is_empty() { format!("the server has no {what}") } else { format!("there are {}", names.join(", ")) }
}

/// The parameters of a prompt as a schema: all of them are text.
fn schema_of(prompt: &Value) -> Value {
    let arguments = || prompt["arguments"].as_array().into_iter().flatten();
    let names = arguments().filter_map(|own| own["name"].as_str());
    let properties: serde_json::Map<String, Value> =
        names.map(|name| (name.to_owned(), json!({ "type": "string" }))).collect();
    let required: Vec<&Value> = arguments().filter(|own| own["required"] == true).map(|own| &own["name"]).collect();
    json!({ "properties": properties, "required": required })
}

/// Checks a call before the server is contacted: its words, and the folder for saved files.
///
/// # Errors
///
/// A [`UsageError`].
pub(crate) fn check(words: &[String], folder: Option<&Path>) -> anyhow::Result<()> {
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        bail!(UsageError::new(format!("`--save-to`: {} is no folder", folder.display())));
    }
    Ok(arguments::check(words)?)
}

/// Parses words on a blocking thread, since standard input may block; Ctrl-C still works.
async fn read_arguments(words: &[String], schema: Value, taker: Taker) -> anyhow::Result<String> {
    let words = words.to_vec();
    let read = tokio::task::spawn_blocking(move || arguments::read(&words, &schema, taker)).await;
    let read: Arguments = read.context("could not read the arguments")??;
    Ok(serde_json::to_string(&read)?)
}

fn print_item(name: &str, more: &str, item: &Value) {
    let (name, more) = (printable_line(name), printable_line(more));
    print(&format!("{BOLD}{name}{BOLD:#}{more}"));
    if let Some(description) = item["description"].as_str() {
        print(&format!("    {}", one_paragraph(description)));
    }
}

/// Prints a content block; images, audio and blobs are saved.
fn shown(block: &RawValue, name: &str, folder: &Path) -> anyhow::Result<String> {
    let value: Value = received::read(block.get())?;
    match value["type"].as_str() {
        Some("text") => Ok(text(value["text"].as_str().unwrap_or_default())),
        Some("image" | "audio") => saved(&value["data"], &value["mimeType"], name, folder),
        Some("resource") => resource(&value["resource"], name, folder),
        Some("resource_link") => {
            let (name, uri) = (value["name"].as_str().unwrap_or_default(), value["uri"].as_str().unwrap_or_default());
            Ok(printable_line(&format!("{name}: {uri}")))
        }
        _ => Ok(output::of_json(block.get())),
    }
}

/// The contents of a resource.
fn resource(contents: &Value, stem: &str, folder: &Path) -> anyhow::Result<String> {
    match contents["text"].as_str() {
        Some(own) => Ok(text(own)),
        None => saved(&contents["blob"], &contents["mimeType"], stem, folder),
    }
}

/// The contents of a resource, as they are.
fn bytes_of(contents: &Value) -> anyhow::Result<Vec<u8>> {
    match contents["text"].as_str() {
        Some(own) => Ok(own.as_bytes().to_vec()),
        None => decoded(&contents["blob"]),
    }
}

fn decoded(data: &Value) -> anyhow::Result<Vec<u8>> {
    // Several encoders end lines after 76 characters.
    let data: String = data.as_str().unwrap_or_default().split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(data).context("a block is not Base64")
}

/// Saves Base64 under a new name.
fn saved(data: &Value, kind: &Value, stem: &str, folder: &Path) -> anyhow::Result<String> {
    let (bytes, kind) = (decoded(data)?, kind.as_str());
    let subtype = kind.and_then(|kind| kind.split_once('/')).map_or("bin", |(_, subtype)| subtype);
    let file = files::save(folder, stem, subtype, &bytes).context("could not save a file")?;
    let kind = printable_line(kind.unwrap_or("something"));
    Ok(format!("{kind} ({} bytes) saved to {}", bytes.len(), file.display()))
}

/// Formats a server's text; at a terminal JSON is indented.
pub(crate) fn text(text: &str) -> String {
    let is_json = || text.trim_start().starts_with(['{', '[']) && received::read::<Value>(text).is_ok();
    if output::is_for_people() && is_json() { output::of_json(text) } else { printable(text) }
}

fn one_paragraph(text: &str) -> String {
    printable(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 9, "Base64 with line ends"
    #[test]
    fn base64_may_have_line_ends() {
        let folder = tempfile::tempdir().unwrap();

        let said = saved(&json!("iVBO\r\nRw==\n"), &json!("image/png"), "chart", folder.path()).unwrap();

        assert!(said.starts_with("image/png (4 bytes) saved to "), "{said}");
        assert_eq!(std::fs::read(folder.path().join("chart-1.png")).unwrap(), b"\x89PNG");
        assert!(saved(&json!("?"), &Value::Null, "chart", folder.path()).is_err());
    }

    #[test]
    fn the_arguments_of_a_prompt_are_text() {
        let prompt = json!({ "arguments": [{ "name": "b", "required": true }, { "name": "a" }, 1] });

        assert_eq!(signature(&schema_of(&prompt)), "a?: string, b: string");
        assert_eq!(signature(&schema_of(&json!({}))), "");
    }
}
