//! `mcpl install` and `mcpl uninstall`: a server's entry in the configuration of the programs that use it.
//!
//! A file is changed where the entry is and nowhere else: comments, order and spacing stay. What it was before is kept
//! beside it, and comes back when the entry is taken out again and nothing else has changed.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use etcetera::BaseStrategy;
use jsonc_parser::{
    ParseOptions,
    cst::{CstInputValue, CstRootNode},
};
use similar::TextDiff;
use toml_edit::{DocumentMut, Item, Table};

use crate::output::print;

/// Which programs.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Apps {
    /// Claude Desktop.
    #[arg(long)]
    claude: bool,
    /// Claude Code, in this folder (.mcp.json).
    #[arg(long)]
    claude_code: bool,
    /// Cursor.
    #[arg(long)]
    cursor: bool,
    /// VS Code, in this folder (.vscode/mcp.json).
    #[arg(long)]
    vscode: bool,
    /// Codex.
    #[arg(long)]
    codex: bool,
    /// Gemini CLI.
    #[arg(long)]
    gemini: bool,
    /// Windsurf.
    #[arg(long)]
    windsurf: bool,
    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Let programs that could use the URL themselves start `mcpl proxy` instead: it keeps tokens and asks for scopes.
    #[arg(long)]
    via_proxy: bool,
}

/// A program, and how it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum App {
    Claude,
    ClaudeCode,
    Cursor,
    VsCode,
    Codex,
    Gemini,
    Windsurf,
}

impl App {
    const ALL: [Self; 7] =
        [Self::Claude, Self::ClaudeCode, Self::Cursor, Self::VsCode, Self::Codex, Self::Gemini, Self::Windsurf];

    fn title(self) -> &'static str {
        match self {
            Self::Claude => "Claude Desktop",
            Self::ClaudeCode => "Claude Code",
            Self::Cursor => "Cursor",
            Self::VsCode => "VS Code",
            Self::Codex => "Codex",
            Self::Gemini => "Gemini CLI",
            Self::Windsurf => "Windsurf",
        }
    }

    /// The file that the program reads.
    fn file(self, places: &Places) -> PathBuf {
        match self {
            Self::Claude => places.config.join("Claude").join("claude_desktop_config.json"),
            Self::ClaudeCode => places.project.join(".mcp.json"),
            Self::Cursor => places.home.join(".cursor").join("mcp.json"),
            Self::VsCode => places.project.join(".vscode").join("mcp.json"),
            Self::Codex => places.home.join(".codex").join("config.toml"),
            Self::Gemini => places.home.join(".gemini").join("settings.json"),
            Self::Windsurf => places.home.join(".codeium").join("windsurf").join("mcp_config.json"),
        }
    }

    /// The member that holds the servers.
    fn map(self) -> &'static str {
        match self {
            Self::VsCode => "servers",
            Self::Codex => "mcp_servers",
            Self::Claude | Self::ClaudeCode | Self::Cursor | Self::Gemini | Self::Windsurf => "mcpServers",
        }
    }

    /// The members of an entry by which the program uses a URL itself; `None` if it cannot.
    fn direct(self, url: &str) -> Option<Vec<(&'static str, Value)>> {
        let url = Value::Text(url.to_owned());
        let http = || ("type", Value::Text("http".to_owned()));
        match self {
            // Its file takes commands alone.
            Self::Claude => None,
            Self::ClaudeCode | Self::VsCode => Some(vec![http(), ("url", url)]),
            Self::Cursor | Self::Codex => Some(vec![("url", url)]),
            Self::Gemini => Some(vec![("httpUrl", url)]),
            Self::Windsurf => Some(vec![("serverUrl", url)]),
        }
    }

    fn entry(self, server: &Server<'_>, via_proxy: bool) -> Vec<(&'static str, Value)> {
        if let Some(direct) = self.direct(server.url).filter(|_| !via_proxy) {
            return direct;
        }
        let mut args = ["proxy", server.name, server.url].map(str::to_owned).to_vec();
        args.extend_from_slice(server.options);
        vec![("command", Value::Text(server.command.to_owned())), ("args", Value::List(args))]
    }
}

/// A value in an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    List(Vec<String>),
}

/// The members of an entry that are written here, for one program or another.
const OWN_MEMBERS: [&str; 6] = ["type", "url", "httpUrl", "serverUrl", "command", "args"];

/// A server, and the command that stands in for it.
struct Server<'a> {
    name: &'a str,
    url: &'a str,
    command: &'a str,
    /// For `mcpl proxy`.
    options: &'a [String],
}

/// Where files are.
struct Places {
    home: PathBuf,
    /// Where the platform keeps the configuration of programs with windows.
    config: PathBuf,
    project: PathBuf,
}

impl Places {
    fn usual() -> anyhow::Result<Self> {
        let home = etcetera::home_dir().context("the home folder is not known")?;
        let config = match cfg!(target_os = "macos") {
            true => home.join("Library").join("Application Support"),
            false => etcetera::choose_base_strategy().context("the home folder is not known")?.config_dir(),
        };
        Ok(Self { home, config, project: std::env::current_dir().context("this folder is not known")? })
    }
}

impl Apps {
    /// Whether any was named.
    pub(crate) fn is_some(&self) -> bool {
        !self.chosen().is_empty()
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    fn chosen(&self) -> Vec<App> {
        let flags = [self.claude, self.claude_code, self.cursor, self.vscode, self.codex, self.gemini, self.windsurf];
        App::ALL.into_iter().zip(flags).filter(|(_, is_chosen)| *is_chosen).map(|(app, _)| app).collect()
    }

    fn chosen_or_asked(&self) -> anyhow::Result<Vec<App>> {
        let chosen = self.chosen();
        if !chosen.is_empty() {
            return Ok(chosen);
        }
        if !io::stdin().is_terminal() {
            bail!("say which programs, such as `--claude` or `--cursor`; `--help` lists them");
        }
        for (number, app) in App::ALL.iter().enumerate() {
            print(&format!("  {}  {}", number + 1, app.title()));
        }
        print("Which ones? Numbers, separated by spaces:");
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        let asked: Option<Vec<App>> = line
            .split_whitespace()
            .map(|word| App::ALL.get(word.parse::<usize>().ok()?.checked_sub(1)?).copied())
            .collect();
        asked.filter(|asked| !asked.is_empty()).context("that is no list of numbers from 1 to 7")
    }
}

/// Writes the entries of a server. `options` are for `mcpl proxy`, which with `via_proxy` every program starts.
pub(crate) fn install(name: &str, url: &str, apps: &Apps, options: &[String], via_proxy: bool) -> anyhow::Result<()> {
    check_name(name)?;
    check_url(url)?;
    let command = std::env::current_exe().context("the path of this command is not known")?;
    let command = command.to_str().context("the path of this command is not Unicode")?;
    let server = Server { name, url, command, options };
    let places = Places::usual()?;
    for app in apps.chosen_or_asked()? {
        let entry = app.entry(&server, apps.via_proxy || via_proxy);
        change(app, &places, apps.dry_run, name, |text| with_entry(app, text, name, &entry))?;
    }
    Ok(())
}

/// Takes the entries of a server out.
pub(crate) fn uninstall(name: &str, apps: &Apps) -> anyhow::Result<()> {
    check_name(name)?;
    let places = Places::usual()?;
    for app in apps.chosen_or_asked()? {
        let file = app.file(&places);
        let before = fs::read_to_string(backup_of(&file)).ok();
        change(app, &places, apps.dry_run, name, |text| {
            let without = without_entry(app, text, name)?;
            // Spacing that came with the entry goes with it, if an entry that comes and goes leaves just this behind.
            let is_all = |before: &String| {
                let plain = [("url", Value::Text(String::new()))];
                let came = with_entry(app, before, name, &plain).and_then(|came| without_entry(app, &came, name));
                came.is_ok_and(|gone| gone == without) && !has_entry(app, before, name)
            };
            Ok(before.filter(is_all).unwrap_or(without))
        })?;
    }
    Ok(())
}

fn change(
    app: App,
    places: &Places,
    dry_run: bool,
    name: &str,
    edit: impl FnOnce(&str) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let file = app.file(places);
    let shown = file.display();
    let before = match fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("could not read {shown}")),
    };
    let old = before.as_deref().unwrap_or_default();
    let new = edit(old).with_context(|| format!("{shown} is left as it is"))?;
    if new == old {
        print(&format!("{}: {shown} needs no change", app.title()));
        return Ok(());
    }
    let diff = TextDiff::from_lines(old, &new);
    print(diff.unified_diff().header(&shown.to_string(), &shown.to_string()).to_string().trim_end());
    if dry_run {
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    }
    // What was there before the entry came, and not what was there while it was.
    if let Some(before) = before.as_ref().filter(|before| !has_entry(app, before, name)) {
        write(&backup_of(&file), before, &file)?;
    }
    // What is linked to stays linked to.
    write(&fs::canonicalize(&file).unwrap_or_else(|_| file.clone()), &new, &file)?;
    print(&format!("{}: {shown} is changed; restart the program if it is running", app.title()));
    Ok(())
}

/// A new file takes the place of the old one, with its permissions, and is readable by nobody else before.
fn write(file: &Path, text: &str, like: &Path) -> anyhow::Result<()> {
    let new = file.with_extension(format!("mcpl-{}", std::process::id()));
    let write = || {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&new)?.write_all(text.as_bytes())?;
        if let Ok(metadata) = fs::metadata(like) {
            fs::set_permissions(&new, metadata.permissions())?;
        }
        fs::rename(&new, file)
    };
    write().with_context(|| format!("could not write {}", file.display()))
}

fn has_entry(app: App, text: &str, name: &str) -> bool {
    without_entry(app, text, name).is_ok_and(|without| without != text)
}

fn backup_of(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".before-mcpl");
    file.with_file_name(name)
}

fn with_entry(app: App, text: &str, name: &str, entry: &[(&'static str, Value)]) -> anyhow::Result<String> {
    match app {
        App::Codex => with_toml_entry(app, text, name, entry),
        _ => with_json_entry(app, text, name, entry),
    }
}

fn without_entry(app: App, text: &str, name: &str) -> anyhow::Result<String> {
    match app {
        App::Codex => {
            let mut document = parse_toml(text)?;
            if let Some(servers) = document.get_mut(app.map()).and_then(Item::as_table_like_mut) {
                servers.remove(name);
            }
            Ok(with_line_ends_of(text, &document))
        }
        _ => {
            let root = parse_json(text)?;
            let servers = root.object_value().and_then(|object| object.object_value(app.map()));
            match servers.and_then(|servers| servers.get(name)) {
                Some(entry) => entry.remove(),
                None => return Ok(text.to_owned()),
            }
            Ok(root.to_string())
        }
    }
}

fn with_json_entry(app: App, text: &str, name: &str, entry: &[(&'static str, Value)]) -> anyhow::Result<String> {
    let root = parse_json(if text.trim().is_empty() { "{}\n" } else { text })?;
    let object = root.object_value().context("it is no JSON object")?;
    let servers = object.object_value_or_create(app.map()).with_context(|| format!("`{}` is no object", app.map()))?;
    if servers.properties().iter().filter(|own| own.decoded_name().as_deref() == Some(name)).count() > 1 {
        bail!("it has `{name}` twice");
    }
    match servers.get(name) {
        Some(own) => {
            // What somebody has added to the entry stays.
            let own = own.object_value().with_context(|| format!("`{name}` is no object"))?;
            for stale in OWN_MEMBERS.into_iter().filter(|member| entry.iter().all(|(name, _)| name != member)) {
                if let Some(stale) = own.get(stale) {
                    stale.remove();
                }
            }
            for (member, value) in entry {
                match own.get(member) {
                    Some(old) if old.value().is_some_and(|old| value.is(&old.to_string())) => {}
                    Some(old) => old.set_value(value.to_json()),
                    None => _ = own.append(member, value.to_json()),
                }
            }
        }
        None => {
            let members = entry.iter().map(|(name, value)| ((*name).to_owned(), value.to_json()));
            _ = servers.append(name, CstInputValue::Object(members.collect()));
        }
    }
    Ok(root.to_string())
}

fn with_toml_entry(app: App, text: &str, name: &str, entry: &[(&'static str, Value)]) -> anyhow::Result<String> {
    let mut document = parse_toml(text)?;
    let servers = document.entry(app.map()).or_insert_with(|| {
        let mut servers = Table::new();
        // `[mcp_servers.name]` says it already.
        servers.set_implicit(true);
        Item::Table(servers)
    });
    let servers = servers.as_table_like_mut().with_context(|| format!("`{}` is no table", app.map()))?;
    if let Some(own) = servers.get_mut(name) {
        // What somebody has added to the entry stays.
        let own = own.as_table_like_mut().with_context(|| format!("`{name}` is no table"))?;
        for stale in OWN_MEMBERS.into_iter().filter(|member| entry.iter().all(|(name, _)| name != member)) {
            own.remove(stale);
        }
        for (member, value) in entry {
            let new = Item::Value(value.to_toml());
            if own.get(member).is_none_or(|old| plain(old) != plain(&new)) {
                own.insert(member, new);
            }
        }
    } else {
        let mut own = Table::new();
        for (member, value) in entry {
            own.insert(member, Item::Value(value.to_toml()));
        }
        servers.insert(name, Item::Table(own));
    }
    Ok(with_line_ends_of(text, &document))
}

/// A document as it is written with the line ends of its first version, which the parser makes those of Unix.
fn with_line_ends_of(text: &str, document: &DocumentMut) -> String {
    let mut written = document.to_string();
    if !text.is_empty() && !text.ends_with('\n') && written.ends_with('\n') {
        written.pop();
    }
    let is_windows = text.contains("\r\n") && !text.replace("\r\n", "").contains('\n');
    if is_windows { written.replace("\r\n", "\n").replace('\n', "\r\n") } else { written }
}

/// A value without the spacing around it.
fn plain(item: &Item) -> String {
    item.to_string().trim().to_owned()
}

impl Value {
    fn to_json(&self) -> CstInputValue {
        match self {
            Self::Text(text) => CstInputValue::String(text.clone()),
            Self::List(list) => CstInputValue::Array(list.iter().cloned().map(CstInputValue::String).collect()),
        }
    }

    /// Whether JSON text says the same.
    fn is(&self, text: &str) -> bool {
        match self {
            Self::Text(own) => serde_json::from_str::<String>(text).is_ok_and(|text| text == *own),
            Self::List(own) => serde_json::from_str::<Vec<String>>(text).is_ok_and(|list| list == *own),
        }
    }

    fn to_toml(&self) -> toml_edit::Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::List(list) => list.iter().map(String::as_str).collect(),
        }
    }
}

/// JSON with comments and trailing commas, as several of these programs take it.
fn parse_json(text: &str) -> anyhow::Result<CstRootNode> {
    let options = ParseOptions { allow_comments: true, allow_trailing_commas: true, ..ParseOptions::default() };
    CstRootNode::parse(text, &options).context("it is not JSON")
}

fn parse_toml(text: &str) -> anyhow::Result<DocumentMut> {
    text.parse().context("it is not TOML")
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let is_plain = !name.is_empty() && name.chars().all(|own| own.is_ascii_alphanumeric() || "-_".contains(own));
    if !is_plain {
        bail!("the name `{name}` must be letters, digits, `-` and `_`");
    }
    Ok(())
}

fn check_url(url: &str) -> anyhow::Result<()> {
    let parsed = url::Url::parse(url).with_context(|| format!("`{url}` is no URL"))?;
    let is_loopback = matches!(parsed.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if parsed.scheme() != "https" && !(parsed.scheme() == "http" && is_loopback) {
        bail!("`{url}` must be https (http on this machine)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Server<'_> = Server {
        name: "greeter",
        url: "https://abc.lambda-url.eu-west-1.on.aws/mcp",
        command: "/usr/local/bin/mcpl",
        options: &[],
    };

    /// Files as people have them.
    fn samples(app: App) -> Vec<String> {
        let map = app.map();
        if app == App::Codex {
            return vec![
                String::new(),
                "model = \"o9\"  # the best\n\n[profiles.x]\nmodel='y'\n".to_owned(),
                format!("# servers\n[{map}.other]\ncommand = \"npx\"\nargs = [\"-y\", 'x'] # odd\n\n[tail]\nz = 1"),
                format!("[{map}]\n\n[{map}.other]\nurl=\"https://x.example\"\r\n"),
                format!("{map} = {{ other = {{ command = \"a\" }} }}\n"),
            ];
        }
        vec![
            String::new(),
            "{}".to_owned(),
            "{\n}\n".to_owned(),
            format!("{{\"{map}\":{{}}}}"),
            format!(
                "{{\n\t\"theme\" : \"dark\",\n\t// what I use\n\t\"{map}\": {{\n\t\t\"other\": {{\"command\":\"npx\", \"args\":[\"-y\",\"x\"]}}, // keep\n\t}},\n\t\"z\": [1,  2,\n3]\n}}\n"
            ),
            format!(
                "{{\r\n    \"{map}\": {{\r\n        \"other\": {{ \"url\": \"https://x.example\" }}\r\n    }}\r\n}}\r\n"
            ),
            format!("/* mine */ {{ \"a\": 1e400, \"{map}\": {{ \"b\": {{}} }}, \"c\": \"\\u00e9\" }} // end"),
        ]
    }

    #[test]
    fn an_entry_comes_and_goes_and_nothing_else_changes() {
        for app in App::ALL {
            for original in samples(app) {
                for via_proxy in [false, true] {
                    let entry = app.entry(&SERVER, via_proxy);

                    let installed = with_entry(app, &original, SERVER.name, &entry).unwrap();
                    let again = with_entry(app, &installed, SERVER.name, &entry).unwrap();
                    let removed = without_entry(app, &installed, SERVER.name).unwrap();

                    assert_ne!(installed, original, "{app:?}");
                    assert_eq!(again, installed, "{app:?}: twice is as good as once");
                    assert!(installed.contains(SERVER.url), "{installed}");
                    // Each line that was there is there still, in its order.
                    let mut rest = installed.lines();
                    for line in
                        original.lines().map(str::trim).filter(|line| line.len() > 2 && !line.contains(app.map()))
                    {
                        let line = line.trim_end_matches(',');
                        assert!(rest.any(|own| own.contains(line)), "{app:?}: `{line}` is missing in\n{installed}");
                    }
                    assert!(
                        !removed.contains(SERVER.name) && !has_entry(app, &removed, SERVER.name),
                        "{app:?}: {removed}"
                    );
                    let twice = with_entry(app, &removed, SERVER.name, &entry).unwrap();
                    assert_eq!(without_entry(app, &twice, SERVER.name).unwrap(), removed, "{app:?}");
                }
            }
        }
    }

    #[test]
    fn an_entry_that_is_there_is_replaced() {
        for app in App::ALL {
            let old = app.entry(&Server { url: "https://old.example/mcp", ..SERVER }, false);
            let text = with_entry(app, "", SERVER.name, &old).unwrap();

            let new = with_entry(app, &text, SERVER.name, &app.entry(&SERVER, false)).unwrap();

            assert!(new.contains(SERVER.url) && !new.contains("old.example"), "{new}");
        }
    }

    #[test]
    fn what_somebody_has_added_to_an_entry_stays() {
        for app in App::ALL {
            let text = with_entry(app, "", SERVER.name, &app.entry(&SERVER, true)).unwrap();
            let added = match app {
                App::Codex => format!("{text}env = {{ MCPL_CLIENT_SECRET = \"s\" }}\n"),
                _ => text.replace("\"command\"", "\"env\": {\"MCPL_CLIENT_SECRET\": \"s\"}, \"command\""),
            };
            assert_ne!(added, text);

            let again = with_entry(app, &added, SERVER.name, &app.entry(&SERVER, true)).unwrap();
            let direct = with_entry(app, &added, SERVER.name, &app.entry(&SERVER, false)).unwrap();

            assert_eq!(again, added, "{app:?}");
            assert!(direct.contains("MCPL_CLIENT_SECRET"), "{direct}");
            assert_eq!(direct.contains("\"command\"") || direct.contains("command ="), app == App::Claude, "{direct}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        for app in App::ALL {
            let broken = if app == App::Codex { "[mcp_servers" } else { "{ \"mcpServers\": {" };
            let odd =
                if app == App::Codex { "mcp_servers = 1".to_owned() } else { format!("{{\"{}\": 1}}", app.map()) };
            for text in [broken, &odd] {
                assert!(with_entry(app, text, "x", &app.entry(&SERVER, false)).is_err(), "{app:?} {text}");
            }
        }
        assert!(with_entry(App::Cursor, "[]", "x", &[]).is_err());
    }

    #[test]
    fn each_program_gets_what_it_can_use() {
        let text = |app: App| with_entry(app, "", "greeter", &app.entry(&SERVER, false)).unwrap();
        let json = |app: App| serde_json::from_str::<serde_json::Value>(&text(app)).unwrap();
        let url = SERVER.url;

        assert_eq!(
            json(App::Claude)["mcpServers"]["greeter"],
            serde_json::json!({ "command": SERVER.command, "args": ["proxy", "greeter", url] })
        );
        assert_eq!(json(App::VsCode)["servers"]["greeter"], serde_json::json!({ "type": "http", "url": url }));
        assert_eq!(json(App::Gemini)["mcpServers"]["greeter"], serde_json::json!({ "httpUrl": url }));
        assert_eq!(text(App::Codex), format!("[mcp_servers.greeter]\nurl = \"{url}\"\n"));
    }

    #[test]
    fn a_name_or_url_that_would_not_work_is_refused() {
        for name in ["", "a b", "a.b", "\"", "é"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for url in ["abc", "http://mcp.example.com/mcp", "file:///etc/passwd", ""] {
            assert!(check_url(url).is_err(), "{url}");
        }
        check_url("http://127.0.0.1:9000/mcp").unwrap();
    }
}
