//! `mcpl contract`: compares the contracts of two versions of a server, and prints one.

use std::{fs::File, io::Read as _, path::Path};

use anyhow::{Context, bail};
use clap::Subcommand;
use mcp_contract::{Change, Class, Contract, MAX_BYTES, compare};
use mcp_protocol::{JsonObject, method};
use serde_json::{Value, json};

use crate::{
    ServerArgs, call,
    command_line::UsageError,
    connection::Connection,
    output::{self, note, print, printable, printable_line},
    session::Session,
};

const LISTS: [(&str, &str); 4] = [
    (method::TOOLS_LIST, "tools"),
    (method::PROMPTS_LIST, "prompts"),
    (method::RESOURCES_LIST, "resources"),
    (method::RESOURCES_TEMPLATES_LIST, "resourceTemplates"),
];

/// The commands of `mcpl contract`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContractCommand {
    /// Compare two contracts, and classify each change as breaking, compatible or wording.
    ///
    /// One of the two is the URL of a server, the other one a file: `diff URL FILE` shows what a deployment of the file's version
    /// would change, `diff FILE URL` what a server has changed. Two files are compared as well. A file is the output of
    /// `mcpl contract print`, or a function's contract.json or contract.lock.json. Ends with 1 if a change is breaking.
    Diff {
        /// The contract that clients hold: a URL or a file.
        old: String,
        /// The contract that they get: a URL or a file.
        new: String,
        #[command(flatten)]
        connection: Box<Connection>,
    },
    /// Print the contract of a server, as JSON.
    Print {
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Runs a command. Whether there is no breaking change.
pub(crate) async fn run(command: ContractCommand, as_json: bool) -> anyhow::Result<bool> {
    match command {
        ContractCommand::Print { server } => {
            let members = server.with_session(async |own| fetch(own).await).await?;
            print(&output::json_as_written(&Value::Object(members).to_string()));
            Ok(true)
        }
        ContractCommand::Diff { old, new, connection } => {
            let (old, new) = match (is_url(&old), is_url(&new)) {
                (true, true) => {
                    bail!(UsageError::new(
                        "one of the two contracts must be a file: write it by `mcpl contract print URL`"
                    ))
                }
                (false, false) => (read(&old)?, read(&new)?),
                (true, false) => {
                    let new = read(&new)?;
                    (fetched(old, connection).await?, new)
                }
                (false, true) => {
                    let old = read(&old)?;
                    (old, fetched(new, connection).await?)
                }
            };
            let changes = compare(&old, &new);
            show(&changes, as_json);
            Ok(changes.iter().all(|own| own.class != Class::Breaking))
        }
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

fn show(changes: &[Change], as_json: bool) {
    if as_json {
        let changes: Vec<Value> = changes
            .iter()
            .map(|own| {
                json!({ "class": own.class.as_str(), "name": own.name(), "kind": own.kind, "detail": own.detail,
                    "oneWay": !own.is_reversible })
            })
            .collect();
        print(&output::json_as_written(&Value::Array(changes).to_string()));
        return;
    }
    for change in changes {
        let is_one_way = change.class == Class::Compatible && !change.is_reversible;
        let note = if is_one_way { "  (one-way)" } else { "" };
        print(&printable(&format!("{}{note}", printable_line(&change.to_string()))));
    }
    if changes.is_empty() {
        note("the contracts are equal");
    }
}

async fn fetched(url: String, connection: Box<Connection>) -> anyhow::Result<Contract> {
    let server = ServerArgs { url, connection };
    let members = server.with_session(async |own| fetch(own).await).await?;
    Contract::new(members).context("the server's lists are no contract")
}

/// Lists everything that a server has.
async fn fetch(session: &mut Session) -> anyhow::Result<JsonObject> {
    let mut members = JsonObject::new();
    for name in ["capabilities", "instructions"] {
        if let Some(value) = session.introduction().get(name) {
            // As in the files that tests of functions write.
            let value = value.as_str().map_or_else(|| value.clone(), |text| json!(text.trim()));
            members.insert(name.to_owned(), value);
        }
    }
    for (method, name) in LISTS {
        let capability = if name == "resourceTemplates" { "resources" } else { name };
        if members.get("capabilities").is_some_and(|own| own.get(capability).is_some()) {
            let listed = call::list_if_any(session, method, name).await?;
            members.insert(name.to_owned(), Value::Array(call::values(&listed)?));
        }
    }
    Ok(members)
}

fn read(path: &str) -> anyhow::Result<Contract> {
    let mut text = String::new();
    let reading = || format!("could not read the contract {}", Path::new(path).display());
    let file = File::open(path).with_context(reading)?;
    file.take(MAX_BYTES as u64 + 1).read_to_string(&mut text).with_context(reading)?;
    Contract::parse(&text).with_context(reading)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_are_compared_and_a_second_url_is_a_usage_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let two = file("two.json", r#"{"tools":[{"name":"a"},{"name":"b"}]}"#);
        let one = file("one.json", r#"{"accepted":[],"contract":{"tools":[{"name":"a"}]}}"#);
        let large = file("large.json", &format!(r#"{{"tools":"{}"}}"#, "x".repeat(MAX_BYTES)));
        let diff = |old: &str, new: &str| {
            let command = crate::Cli::try_parse_from(["mcpl", "contract", "diff", old, new]).unwrap().command;
            let crate::Command::Contract { command } = command else { panic!("another command") };
            run(command, false)
        };
        use clap::Parser as _;

        assert!(!diff(&two, &one).await.unwrap());
        assert!(diff(&one, &two).await.unwrap());
        let urls = diff("https://a.example/mcp", "https://b.example/mcp").await.unwrap_err();
        assert!(urls.is::<UsageError>(), "{urls}");
        let error = format!("{:#}", diff(&one, &large).await.unwrap_err());
        assert!(error.contains("at most"), "{error}");
    }
}
