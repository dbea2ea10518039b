//! `mcpl install` and `mcpl uninstall`: a server's entry in the configuration of the programs that use it.
//!
//! A file is changed where the entry is and nowhere else: comments, order and spacing stay. What it was before is kept
//! beside it (beside the real file, where a link leads to it), and comes back when the entry is taken out again and nothing
//! else has changed.

mod entry;
mod places;

use std::{
    ffi::OsStr,
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use similar::TextDiff;

use self::{
    entry::{Value, has_entry, with_entry, without_entry},
    places::Places,
};
use crate::{
    command_line,
    files::{self, Readers},
    output::{print, printable},
    store,
};

/// Some editors write it at the beginning of a file, and want it there.
const BYTE_ORDER_MARK: char = '\u{feff}';

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
}

/// Which programs get an entry, and which kind of entry.
#[derive(Debug, Clone, Args)]
pub(crate) struct Installation {
    #[command(flatten)]
    pub(crate) apps: Apps,
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

    /// The file that the program reads: docs/mcpl.md has the paths of every system, and their sources.
    fn file(self, places: &Places) -> PathBuf {
        match self {
            Self::Claude => places.claude().join("claude_desktop_config.json"),
            Self::ClaudeCode => places.project.join(".mcp.json"),
            Self::Cursor => places.home.join(".cursor").join("mcp.json"),
            Self::VsCode => places.project.join(".vscode").join("mcp.json"),
            Self::Codex => places.codex.clone().unwrap_or_else(|| places.home.join(".codex")).join("config.toml"),
            Self::Gemini => places.home.join(".gemini").join("settings.json"),
            Self::Windsurf => places.home.join(".codeium").join("windsurf").join("mcp_config.json"),
        }
    }

    /// What the program asks for before it uses a new server.
    fn advice(self) -> Option<&'static str> {
        match self {
            Self::ClaudeCode => {
                Some("Claude Code asks for approval of a project's servers: approve it at the next start, or by `/mcp`")
            }
            Self::Gemini => {
                Some("Gemini CLI connects in trusted folders alone: trust the folder in which you start it")
            }
            Self::Claude | Self::Cursor | Self::VsCode | Self::Codex | Self::Windsurf => None,
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
///
/// # Errors
///
/// The last one, when the others have been written and their errors are logged.
pub(crate) fn install(
    name: &str,
    url: &str,
    installation: &Installation,
    options: &[String],
    via_proxy: bool,
) -> anyhow::Result<()> {
    let (apps, via_proxy) = (&installation.apps, via_proxy || installation.via_proxy);
    check_name(name)?;
    let current = std::env::current_exe().context("the path of this command is not known")?;
    let command = lasting(&current, &std::env::var_os("PATH").unwrap_or_default());
    let command = command.to_str().context("the path of this command is not Unicode")?;
    let server = Server { name, url, command, options };
    let places = Places::usual()?;
    let chosen = apps.chosen_or_asked()?;
    let is_proxied = |app: App| via_proxy || app.direct(url).is_none();
    let installed = change_all(&chosen, &places, apps.dry_run, name, |app, text| {
        with_entry(app, text, name, &app.entry(&server, is_proxied(app)))
    });
    if !apps.dry_run {
        chosen.iter().filter_map(|app| app.advice()).for_each(print);
        if chosen.iter().any(|app| !is_proxied(*app)) && options.iter().any(|own| own == "--timeout") {
            print("`--timeout` is for `mcpl proxy`: with `--via-proxy` all of them start it");
        }
        if chosen.iter().any(|app| is_proxied(*app)) {
            let words = ["mcpl", "tools", url].into_iter().chain(options.iter().map(String::as_str));
            print(&format!("If the server wants a sign-in, sign in first: {}", command_line::join(words)));
        }
    }
    installed
}

/// Takes the entries of a server out.
///
/// # Errors
///
/// As [`install`].
pub(crate) fn uninstall(name: &str, apps: &Apps) -> anyhow::Result<()> {
    check_name(name)?;
    let places = Places::usual()?;
    change_all(&apps.chosen_or_asked()?, &places, apps.dry_run, name, |app, text| {
        let target = files::linked(&app.file(&places));
        let before = target.and_then(|target| files::read_text(&backup_of(&target))).ok();
        let before = before.map(|before| without_mark(&before).1.to_owned());
        let without = without_entry(app, text, name)?;
        // Spacing that came with the entry goes with it, if an entry that comes and goes leaves just this behind.
        let is_all = |before: &String| {
            let plain = [("url", Value::Text(String::new()))];
            let came = with_entry(app, before, name, &plain).and_then(|came| without_entry(app, &came, name));
            came.is_ok_and(|gone| gone == without) && !has_entry(app, before, name)
        };
        Ok(before.filter(is_all).unwrap_or(without))
    })
}

/// Changes the files of all programs, one installation after the other. A file that cannot be changed stops no other.
fn change_all(
    chosen: &[App],
    places: &Places,
    dry_run: bool,
    name: &str,
    edit: impl Fn(App, &str) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let _lock = if dry_run { None } else { lock() };
    let mut failed = None;
    for app in chosen {
        if let Err(error) = change(*app, places, dry_run, name, |text| edit(*app, text))
            && let Some(before) = failed.replace(error)
        {
            tracing::error!("{before:#}");
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Waits for other installations: each reads a file, and replaces it. Where nothing can be locked, there is no waiting.
fn lock() -> Option<fs::File> {
    let lock = || {
        let folder = store::usual_folder()?;
        files::secret_folder(&folder, true)?;
        files::lock(&folder.join("install.lock"))
    };
    lock().inspect_err(|error| tracing::info!(%error, "other installations are not waited for")).ok()
}

/// The path of a command that outlives an update: package managers put a link into a folder of PATH, and the program of each
/// version into a folder of its own.
pub(crate) fn lasting(current: &Path, path: &OsStr) -> PathBuf {
    let (Ok(real), Some(name)) = (current.canonicalize(), current.file_name()) else { return current.to_owned() };
    let found = std::env::split_paths(path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name));
    let mut own = found.filter(|found| found.canonicalize().is_ok_and(|found| found == real));
    own.next().unwrap_or_else(|| current.to_owned())
}

/// The byte order mark that a text begins with, or nothing, and the rest.
fn without_mark(text: &str) -> (&str, &str) {
    text.split_at(if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 })
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
    let (mark, old) = without_mark(before.as_deref().unwrap_or_default());
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
    if let Some(before) = before.as_ref().filter(|_| !has_entry(app, old, name)) {
        write(&backup_of(&target), before, &Readers::Owner)?;
    }
    write(&target, &format!("{mark}{new}"), &Readers::SameAsBefore)?;
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
    fn a_name_that_would_not_work_is_refused() {
        for name in ["", "a b", "a.b", "\"", "é", "-v", "--sigv4", "-"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        check_name("a-b_1").unwrap();
    }

    /// i05
    #[test]
    #[cfg(unix)]
    fn a_command_is_named_as_path_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let [real, linked, other] = ["1.0/bin", "bin", "other"].map(|name| folder.path().join(name));
        for folder in [&real, &linked, &other] {
            fs::create_dir_all(folder).unwrap();
        }
        for folder in [&real, &other] {
            fs::write(folder.join("mcpl"), "").unwrap();
        }
        std::os::unix::fs::symlink("../1.0/bin/mcpl", linked.join("mcpl")).unwrap();
        let path = |folders: &[&Path]| std::env::join_paths(folders).unwrap();
        let current = real.join("mcpl");

        assert_eq!(lasting(&current, &path(&[&other, &linked, &real])), linked.join("mcpl"));
        assert_eq!(
            lasting(&current, &path(&[&other, Path::new("bin")])),
            current,
            "no other program, no relative folder"
        );
        assert_eq!(lasting(&current, OsStr::new("")), current);
    }
}
