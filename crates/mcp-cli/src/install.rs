//! `mcpl install` and `mcpl uninstall`: a server's entry in the configuration of the programs that use it.
//!
//! A file is changed where the entry is and nowhere else: comments, order and spacing stay. What it was before is kept
//! beside it (beside the real file, where a link leads to it), and comes back when the entry is taken out again and nothing
//! else has changed.

mod entry;

use std::{
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use etcetera::BaseStrategy;
use similar::TextDiff;

use self::entry::{Value, has_entry, with_entry, without_entry};
use crate::{
    files::{self, Readers},
    output::{print, printable},
};

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
        let before = files::linked(&file).and_then(|target| files::read_text(&backup_of(&target))).ok();
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
    // What is linked to stays linked to.
    let target = files::linked(&file).with_context(|| format!("could not follow {shown}"))?;
    let before = match files::read_text(&target) {
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
    let diff = diff.unified_diff().header(&shown.to_string(), &shown.to_string()).to_string();
    print(printable(&diff).trim_end());
    if dry_run {
        return Ok(());
    }
    for folder in [file.parent(), target.parent()].into_iter().flatten() {
        fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    }
    let write = |path: &Path, text: &str, readers: &Readers| {
        let written = files::replace(path, text.as_bytes(), readers);
        written.with_context(|| format!("could not write {}", path.display()))
    };
    // What was there before the entry came, and not what was there while it was.
    if let Some(before) = before.as_ref().filter(|before| !has_entry(app, before, name)) {
        write(&backup_of(&target), before, &Readers::Owner)?;
    }
    write(&target, &new, &Readers::SameAsBefore)?;
    print(&format!("{}: {shown} is changed; restart the program if it is running", app.title()));
    Ok(())
}

/// Beside a file that is no link: what is private elsewhere is copied into no project.
fn backup_of(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".before-mcpl");
    file.with_file_name(name)
}

fn check_name(name: &str) -> anyhow::Result<()> {
    // What begins with `-` would be an option of the command in the entry.
    let is_plain = !name.is_empty() && name.chars().all(|own| own.is_ascii_alphanumeric() || "-_".contains(own));
    if !is_plain || name.starts_with('-') {
        bail!("the name `{name}` must be letters, digits, `-` and `_`, and not begin with `-`");
    }
    Ok(())
}

fn check_url(url: &str) -> anyhow::Result<()> {
    if !crate::oauth::is_secure(url) {
        bail!("`{url}` must be an https URL (http on this machine), without a user name");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const SERVER: Server<'_> = Server {
        name: "greeter",
        url: "https://abc.lambda-url.eu-west-1.on.aws/mcp",
        command: "/usr/local/bin/mcpl",
        options: &[],
    };

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
        for name in ["", "a b", "a.b", "\"", "é", "-v", "--sigv4", "-"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for url in ["abc", "http://mcp.example.com/mcp", "file:///etc/passwd", "https://a@b.example", ""] {
            assert!(check_url(url).is_err(), "{url}");
        }
        check_name("a-b_1").unwrap();
        check_url("http://127.0.0.1:9000/mcp").unwrap();
    }
}
