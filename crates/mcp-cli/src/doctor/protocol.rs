//! Checks of the protocol: eras, revisions, `ping`, notifications and lists.

use std::collections::BTreeSet;

use anyhow::bail;
use mcp_protocol::{ProtocolVersion, jsonrpc, method};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{
    report::{Level, Report},
    schemas,
    server::{Access, Answer, EVENT_STREAM, SESSION_ID, Server},
};
use crate::{network, received::Pages};

/// The revision that many clients request: Codex, Gemini CLI and those of older SDKs.
const OLDER_REVISION: &str = "2025-06-18";
/// A revision that does not exist.
const UNKNOWN_REVISION: &str = "1999-12-31";
/// Maximum text of all tools, which a model reads with each request.
const LARGE_LIST_BYTES: usize = 100 * 1024;
const LISTS: [(&str, &str, &str, &str); 4] = [
    (method::TOOLS_LIST, "tools", "tools", "name"),
    (method::PROMPTS_LIST, "prompts", "prompts", "name"),
    (method::RESOURCES_LIST, "resources", "resources", "uri"),
    (method::RESOURCES_TEMPLATES_LIST, "resources", "resourceTemplates", "uriTemplate"),
];

/// The revisions of the server.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    pub(super) is_modern: bool,
    pub(super) is_legacy: bool,
    capabilities: Value,
}

impl Spoken {
    pub(super) fn is_mcp(&self) -> bool {
        self.is_modern || self.is_legacy
    }
}

/// Detects the revisions of the server; `discovered` is its response to `server/discover`.
pub(super) async fn eras(server: &mut Server, discovered: &Answer, report: &mut Report) -> Spoken {
    let versions: Vec<String> = discovered.result().map(|own| texts(&own["supportedVersions"])).unwrap_or_default();
    let is_modern = versions.iter().any(|own| own == ProtocolVersion::LATEST.as_str());
    let initialized = server.initialize(ProtocolVersion::LATEST_LEGACY.as_str(), Access::Usual).await;
    let agreed = initialized.as_ref().ok().and_then(Answer::result).and_then(|own| own["protocolVersion"].as_str());
    let is_legacy = agreed.is_some();
    match (is_modern, agreed) {
        (true, Some(agreed)) => {
            report.ok("protocol", format!("both eras: {}; `initialize` agrees on {agreed}", versions.join(", ")));
        }
        (true, None) => {
            let clients = "Codex, Gemini CLI, opencode, Cline and all others that begin with `initialize`";
            report.note(
                "protocol",
                "2026-07-28 alone",
                clients,
                "serve 2025-11-25 too, or let them start `mcpl proxy`",
            );
        }
        (false, Some(agreed)) => {
            let fix = "nothing to do: clients of 2026-07-28 fall back to it";
            report.note("protocol", format!("legacy alone, {agreed}"), "clients of 2026-07-28 alone", fix);
        }
        (false, None) => {
            let fix =
                "it answers neither `server/discover` nor `initialize`: is it an MCP server, and is the path right?";
            report.problem("protocol", "this does not speak MCP", "all clients", fix);
            return Spoken::default();
        }
    }
    if !is_modern && !versions.is_empty() {
        let found = format!("`server/discover` lists {} without 2026-07-28, which it takes", versions.join(", "));
        report.note("protocol", found, "clients of 2026-07-28", "list all that the server speaks");
    }
    probe(discovered, is_modern, report);
    let described = if is_modern { discovered.result() } else { initialized.as_ref().ok().and_then(Answer::result) };
    if let Ok(initialized) = &initialized
        && is_legacy
    {
        welcome(initialized, report);
    }
    let described = described.cloned().unwrap_or_default();
    if described["instructions"].as_str().is_none_or(|text| text.trim().is_empty()) {
        let clients = "Codex, which shows them as the description of the tools; Claude Code, Gemini CLI, opencode and Qwen Code, which show \
                       them to the model";
        report.note("protocol", "it has no `instructions`", clients, "say in two sentences what the server is for");
    }
    let spoken = Spoken { is_modern, is_legacy, capabilities: described["capabilities"].clone() };
    if is_legacy {
        session(server, report).await;
    }
    spoken
}

/// Examines how a server without 2026-07-28 rejects `server/discover`.
fn probe(discovered: &Answer, is_modern: bool, report: &mut Report) {
    let is_rejected = discovered.error_code().is_some() || discovered.status.is_client_error();
    if is_modern || is_rejected || discovered.result().is_some() {
        return;
    }
    report.problem(
        "protocol",
        format!("`server/discover`, which it does not know, is answered with {}", discovered.in_words()),
        "clients of 2026-07-28 (Claude Code, Copilot CLI), which begin with it and fall back after an error of JSON-RPC or 4xx",
        "answer unknown methods with the error -32601",
    );
}

/// Examines the response to `initialize`.
fn welcome(initialized: &Answer, report: &mut Report) {
    let Some(result) = initialized.result() else { return };
    let version = result["protocolVersion"].as_str().unwrap_or_default();
    if ProtocolVersion::parse(version).is_none_or(ProtocolVersion::is_modern) {
        let found =
            format!("`initialize` is answered with the revision `{version}`, which has no `initialize`, or is none");
        report.problem(
            "protocol",
            found,
            "all clients that check it: the official SDKs end the connection",
            "answer with a revision that the server speaks",
        );
    }
    let missing: Vec<&str> = [
        ("capabilities", result["capabilities"].is_object()),
        ("serverInfo.name", result["serverInfo"]["name"].is_string()),
        ("serverInfo.version", result["serverInfo"]["version"].is_string()),
    ]
    .into_iter()
    .filter_map(|(name, is_there)| (!is_there).then_some(name))
    .collect();
    if !missing.is_empty() {
        let found = format!("the result of `initialize` lacks {}", missing.join(", "));
        report.problem("protocol", found, "clients of the official SDKs, which validate it", "send it");
    }
    if initialized.message["jsonrpc"] != "2.0" {
        report.problem(
            "protocol",
            "responses lack `\"jsonrpc\": \"2.0\"`",
            "clients of the official SDKs, which validate it",
            "send it",
        );
    }
}

/// Examines the messages after `initialize`.
async fn session(server: &mut Server, report: &mut Report) {
    let message = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let mut notification = server.post(&message);
    for (name, value) in &server.session {
        notification = notification.header(*name, value);
    }
    match server.send(notification, Access::Usual, None).await {
        Ok(answer) if answer.status == StatusCode::ACCEPTED => {}
        Ok(answer) if answer.status.is_success() && answer.error_code().is_none() => report.note(
            "protocol",
            format!("a notification is answered with {}", answer.status),
            "clients that wait for a stream, or read the body as a message",
            "answer notifications with 202 and no body",
        ),
        Ok(answer) => report.problem(
            "protocol",
            format!("`notifications/initialized` is answered with {}", answer.in_words()),
            "clients of the TypeScript SDK, which end the connection",
            "answer notifications with 202 and no body",
        ),
        Err(error) => report.problem(
            "protocol",
            format!("`notifications/initialized`: {}", network::cause(&error)),
            "all clients that initialize",
            "answer notifications with 202 and no body",
        ),
    }
    match server.legacy(method::PING, json!({}), Access::Usual).await {
        Ok(answer) if answer.result().is_some() => {}
        Ok(answer) => {
            let found = format!("`ping` is answered with {}", answer.in_words());
            report.problem(
                "protocol",
                found,
                "clients that look whether the server is there, and connect anew",
                "answer with an empty result",
            );
        }
        Err(error) => report.problem(
            "protocol",
            format!("`ping`: {}", network::cause(&error)),
            "clients that look whether the server is there",
            "answer with an empty result",
        ),
    }
    if let Ok(answer) = server.legacy("mcpl/unknown", json!({}), Access::Usual).await
        && answer.error_code() != Some(jsonrpc::METHOD_NOT_FOUND)
    {
        let found = format!("an unknown method is answered with {}", answer.in_words());
        let clients = "clients that try what an extension has, and fall back";
        report.note("protocol", found, clients, "answer with the error -32601");
    }
}

/// Examines other revisions than the newest. Replaces the session.
pub(super) async fn revisions(server: &mut Server, report: &mut Report) {
    _ = server.end_session().await;
    for (asked, clients) in [
        (OLDER_REVISION, "Codex, Gemini CLI and others that ask for 2025-06-18"),
        (UNKNOWN_REVISION, "clients of revisions that the server does not know: later ones, too"),
    ] {
        let Ok(answer) = server.initialize(asked, Access::Usual).await else { continue };
        let agreed = answer.result().and_then(|own| own["protocolVersion"].as_str()).map(str::to_owned);
        _ = server.end_session().await;
        let fix = "answer with the revision of the request if the server speaks it, and with its newest one otherwise";
        match agreed {
            None => {
                let found = format!("`initialize` with {asked} is answered with {}", answer.in_words());
                report.problem("protocol", found, clients, fix);
            }
            Some(agreed) if asked == UNKNOWN_REVISION && agreed == asked => {
                let found = format!("`initialize` agrees on the revision {agreed}, which does not exist");
                report.problem("protocol", found, clients, fix);
            }
            Some(_) => {}
        }
    }
}

/// Examines all lists. Returns the tools.
pub(super) async fn lists(server: &mut Server, spoken: &Spoken, report: &mut Report) -> Vec<Value> {
    let mut tools = Vec::new();
    for (method, capability, name, key) in LISTS {
        let is_declared = spoken.capabilities.get(capability).is_some_and(|own| !own.is_null());
        match list(server, spoken, method, name).await {
            Ok(Listed::Items(items)) => {
                namesakes(&items, name, key, report);
                if name == "tools" {
                    tools = items;
                }
            }
            Ok(Listed::Rejected(answer)) if is_declared => {
                let found = format!("`{method}` is answered with {}", answer.in_words());
                report.problem(
                    "lists",
                    found,
                    "all clients",
                    format!("list the {name}, or do not declare `{capability}`"),
                );
            }
            Ok(Listed::Rejected(answer)) => {
                let found =
                    format!("`{method}` is answered with {}, as `{capability}` is not declared", answer.in_words());
                let clients = "`fastmcp list --prompts`, mcpc, CrewAI, Cline: they fail, or show the server in red";
                report.note("lists", found, clients, "answer with an empty list");
            }
            Err(error) => report.problem(
                "lists",
                format!("`{method}`: {}", network::cause(&error)),
                "all clients",
                "answer with a list that ends",
            ),
        }
    }
    if !tools.is_empty() {
        let bytes = json!(tools).to_string().len();
        match bytes > LARGE_LIST_BYTES {
            true => {
                let found = format!("the list of {} tools has {bytes} bytes", tools.len());
                report.note(
                    "tools",
                    found,
                    "all models, which read it with each request",
                    "offer fewer tools, with shorter descriptions and schemas",
                );
            }
            false => report.ok("tools", format!("{} are listed, in {bytes} bytes", tools.len())),
        }
        schemas::examine(&tools, report);
    }
    if spoken.is_legacy {
        without_version(server, spoken, report).await;
    }
    tools
}

enum Listed {
    Items(Vec<Value>),
    Rejected(Box<Answer>),
}

async fn list(server: &mut Server, spoken: &Spoken, method: &str, name: &str) -> anyhow::Result<Listed> {
    let (mut items, mut pages, mut params) = (Vec::new(), Pages::default(), json!({}));
    loop {
        let answer = match spoken.is_modern {
            true => server.modern(method, params, Access::Usual).await?,
            false => server.legacy(method, params, Access::Usual).await?,
        };
        let Some(result) = answer.result() else { return Ok(Listed::Rejected(Box::new(answer))) };
        let Some(page) = result[name].as_array() else { bail!("the result has no list `{name}`") };
        pages.count(&answer.body)?;
        items.extend(page.iter().cloned());
        match &result["nextCursor"] {
            Value::Null => return Ok(Listed::Items(items)),
            Value::String(cursor) => {
                pages.next(cursor)?;
                params = json!({ "cursor": cursor });
            }
            _ => bail!("`nextCursor` is no string"),
        }
    }
}

fn namesakes(items: &[Value], name: &str, key: &str, report: &mut Report) {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&str> =
        items.iter().filter_map(|own| own[key].as_str()).filter(|own| !seen.insert(*own)).collect();
    // Those of tools are among the faults of tools.
    if !twice.is_empty() && name != "tools" {
        let twice: Vec<&str> = twice.into_iter().take(5).collect();
        let found = format!("`{name}` lists {} twice", twice.join(", "));
        report.add(
            "lists",
            Level::Problem,
            found,
            "all clients: one of two is found".to_owned(),
            "list each once".to_owned(),
        );
    }
}

/// 2.7: clients that initialize with a newer revision, and leave the header out.
async fn without_version(server: &mut Server, spoken: &Spoken, report: &mut Report) {
    const MEMBERS: [&str; 3] = ["outputSchema", "title", "icons"];
    _ = server.end_session().await;
    let initialized = server.initialize(ProtocolVersion::LATEST_LEGACY.as_str(), Access::Usual).await;
    if !initialized.is_ok_and(|own| own.result().is_some()) || spoken.capabilities["tools"].is_null() {
        return;
    }
    let with = server.legacy(method::TOOLS_LIST, json!({}), Access::Usual).await;
    server.session.retain(|(name, _)| *name == SESSION_ID);
    let without = server.legacy(method::TOOLS_LIST, json!({}), Access::Usual).await;
    let (Ok(with), Ok(without)) = (with, without) else { return };
    let Some(with) = with.result() else { return };
    let Some(without_list) = without.result() else {
        let found =
            format!("`tools/list` without the header `MCP-Protocol-Version` is answered with {}", without.in_words());
        let fix = "take such a request for one of 2025-03-26";
        return report.problem("lists", found, "pmcp, chuk-mcp and others that leave the header out", fix);
    };
    let has = |result: &Value, member: &str| {
        result["tools"].as_array().into_iter().flatten().any(|tool| tool.get(member).is_some())
    };
    let lost: Vec<&str> =
        MEMBERS.into_iter().filter(|member| has(with, member) && !has(without_list, member)).collect();
    if !lost.is_empty() {
        let found = format!("without the header `MCP-Protocol-Version` tools have no {}", lost.join(", "));
        let fix = "leave them in: older schemas allow further members";
        report.note("lists", found, "pmcp, chuk-mcp and others that leave the header out", fix);
    }
}

/// The media type of a response.
pub(super) fn media_type(answer: &Answer, report: &mut Report) {
    if answer.message.is_null() || answer.media_type == "application/json" || answer.media_type == EVENT_STREAM {
        return;
    }
    let is_error = answer.result().is_none();
    let found = match answer.media_type.as_str() {
        "" => "responses have no `Content-Type`".to_owned(),
        other => format!("responses have the `Content-Type` {other}"),
    };
    let level = if is_error { Level::Note } else { Level::Problem };
    let clients = "clients of the official SDKs, which take application/json and text/event-stream alone";
    report.add("http", level, found, clients.to_owned(), "send `Content-Type: application/json`".to_owned());
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|own| own.as_str().map(str::to_owned)).collect()
}
