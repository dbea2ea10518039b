//! The supported programs: their files, and the members of their entries.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use anyhow::{Context, bail};
use clap::Args;

use super::{entry::Value, places::Places};
use crate::{command_line::UsageError, output::print};

/// The programs to configure.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Apps {
    /// Claude Desktop.
    #[arg(long, visible_alias = "claude-desktop")]
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
    /// Only print the change.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// The programs to configure, and the kind of their entries.
#[derive(Debug, Clone, Args)]
pub(crate) struct Installation {
    #[command(flatten)]
    pub(crate) apps: Apps,
    /// Let programs that can connect by the URL start `mcpl proxy` instead, which keeps tokens and requests missing scopes.
    #[arg(long)]
    pub(super) via_proxy: bool,
}

/// A program, and how it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum App {
    Claude,
    ClaudeCode,
    Cursor,
    VsCode,
    Codex,
    Gemini,
    Windsurf,
}

impl App {
    pub(super) const ALL: [Self; 7] =
        [Self::Claude, Self::ClaudeCode, Self::Cursor, Self::VsCode, Self::Codex, Self::Gemini, Self::Windsurf];

    /// The programs of a line such as `3,5` or `3 5`; `None` if it is no list of their numbers.
    fn of_numbers(line: &str) -> Option<Vec<Self>> {
        let words = line.split([',', ' ', '\t', '\r', '\n']).filter(|word| !word.is_empty());
        let apps: Option<Vec<Self>> =
            words.map(|word| Self::ALL.get(word.parse::<usize>().ok()?.checked_sub(1)?).copied()).collect();
        apps.filter(|apps| !apps.is_empty())
    }

    /// Whether the file is part of a project, which others share.
    pub(super) fn is_of_project(self) -> bool {
        matches!(self, Self::ClaudeCode | Self::VsCode)
    }

    pub(super) fn title(self) -> &'static str {
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
    pub(super) fn file(self, places: &Places) -> PathBuf {
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

    /// The step that the program requires before it uses a new server.
    pub(super) fn advice(self) -> Option<&'static str> {
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
    pub(super) fn map(self) -> &'static str {
        match self {
            Self::VsCode => "servers",
            Self::Codex => "mcp_servers",
            Self::Claude | Self::ClaudeCode | Self::Cursor | Self::Gemini | Self::Windsurf => "mcpServers",
        }
    }

    /// The members of an entry by which the program uses a URL itself; `None` if it cannot.
    pub(super) fn direct(self, url: &str) -> Option<Vec<(&'static str, Value)>> {
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

    pub(super) fn entry(self, server: &Server<'_>, via_proxy: bool) -> Vec<(&'static str, Value)> {
        if let Some(direct) = self.direct(server.url).filter(|_| !via_proxy) {
            return direct;
        }
        let mut args = ["proxy", server.name, server.url].map(str::to_owned).to_vec();
        args.extend_from_slice(server.options);
        vec![("command", Value::Text(server.command.to_owned())), ("args", Value::List(args))]
    }
}

/// A server and the `mcpl proxy` command for it.
pub(super) struct Server<'a> {
    pub(super) name: &'a str,
    pub(super) url: &'a str,
    pub(super) command: &'a str,
    /// For `mcpl proxy`.
    pub(super) options: &'a [String],
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

    /// The programs of the options, or of the menu at the terminal if there are none.
    pub(super) fn chosen_or_prompted(&self) -> anyhow::Result<Vec<App>> {
        let chosen = self.chosen();
        if !chosen.is_empty() {
            return Ok(chosen);
        }
        if !io::stdin().is_terminal() {
            bail!(UsageError::new("say which programs, such as `--claude` or `--cursor`; `--help` lists them"));
        }
        for (number, app) in App::ALL.iter().enumerate() {
            print(&format!("  {}  {}", number + 1, app.title()));
        }
        print("Which ones? Numbers, such as 3 or 3,5:");
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        App::of_numbers(&line).context("that is no list of numbers from 1 to 7")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_by_numbers_with_commas_or_spaces() {
        for line in ["3,5\n", "3 5", " 3, 5 ,\r\n", "3\t5"] {
            assert_eq!(App::of_numbers(line), Some(vec![App::Cursor, App::Codex]), "{line:?}");
        }
        for line in ["", "\n", "0", "8", "3,x", "-1", "3.5", ","] {
            assert_eq!(App::of_numbers(line), None, "{line:?}");
        }
    }
}
