"""The README's jobs: each block is taken out of it and run, in its order, in a copy of the workspace, as if a reader pasted it.

Two things are not as there: ports are free ones, and `cargo` uses what is built already where it would build for a release.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error

import copied
import postgres
import pytest
from aws_account import STAND_INS, account, archive, register
from conftest import PROJECT, emulated
from oauth import PATIENCE_SECONDS, browser, fetch

register()

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "127.0.0.1:9000"
# What each of the pasted commands would take minutes for: the zip and mcpl are those of the tests.
CARGO = """#!{python}
import os, shutil, sys
words = sys.argv[1:]
if words[:2] == ["lambda", "build"]:
    function = words[words.index("--package") + 1]
    shutil.copytree("{zips}/" + function, words[words.index("--lambda-dir") + 1] + "/" + function, dirs_exist_ok=True)
    sys.exit()
if words[0] == "install":
    words.insert(1, "--debug")
if words[0] == "run" and "--release" in words:
    words.remove("--release")
os.execv("{cargo}", ["cargo", *words])
"""
# What the migration guide's code leaves out, as every function has it.
AROUND = """
use garde::Validate;
use mcp_lambda::{{Env, FromEnv, HttpConfig, McpService}};
use mcp_lambda::postgres::{{Database, DatabaseConfig}};
use mcp_lambda::{{HandlerError, InitError, NoArguments, Principal, Server, Tool, ToolContext}};
use schemars::JsonSchema;
use serde::Deserialize;
use sqlx::migrate::Migrator;

static MIGRATOR: Migrator = sqlx::migrate!();

pub struct State {{
    database: Database,
}}

pub struct Config {{
    http: HttpConfig,
    database: DatabaseConfig,
}}

impl FromEnv for Config {{
    fn from_env(env: &Env) -> Result<Self, InitError> {{
        let database = DatabaseConfig::from_env(|name| env.get(name))?;
        Ok(Self {{ http: HttpConfig::from_env(env)?, database }})
    }}
}}

pub mod greeting {{
    use super::*;
    {tool}
}}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct LogEventArgs {{
    #[garde(length(chars, min = 1, max = 100))]
    event_name: String,
}}

async fn get_latest_events(_: ToolContext<State>, _: NoArguments) -> Result<String, HandlerError> {{
    Ok(String::new())
}}

{service}
"""
PING = '{"jsonrpc":"2.0","id":1,"method":"ping"}'


def blocks(job):
    """The fenced blocks below a heading: language and text."""
    text = (PROJECT / "README.md").read_text()
    (section,) = re.findall(rf"^## {job}$(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    return BLOCK.findall(section)


class Terminal:
    """A shell in the copy, in which blocks are pasted."""

    def __init__(self, workspace, home):
        self.workspace, self.home = workspace, home
        self.address = ADDRESS
        (home / "bin").mkdir()
        (home / "zips").mkdir()
        self.program("cargo", CARGO.format(python=sys.executable, zips=home / "zips", cargo=shutil.which("cargo")))
        # The target for arm64 need not be there.
        self.program("rustup", "#!/bin/sh\necho aarch64-unknown-linux-gnu\n")
        self.browser = browser(home / "bin" / "browser", "ada")

    def program(self, name, text):
        path = self.home / "bin" / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def paste(self, block, answer=""):
        """Runs a block; what it printed."""
        language, text = block
        assert language == "sh"
        ran = subprocess.run(
            self.command(text), cwd=self.workspace, env=self.environment(), input=answer, capture_output=True, text=True,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    @contextlib.contextmanager
    def running(self, block):
        """Runs a block that goes on until Ctrl-C, from when it is ready; what it printed by then."""
        language, text = block
        assert language == "sh"
        process = subprocess.Popen(
            self.command(text), cwd=self.workspace, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            text=True, start_new_session=True,
        )
        printed = ""
        try:
            for line in process.stdout:
                printed += line
                if line.startswith("Ctrl-C"):
                    break
            else:
                raise AssertionError(f"it ended:\n{printed}")
            # 9000, unless it was taken.
            self.address = re.search(r"^\w[\w-]* is running at http://([^/]+)/", printed, re.MULTILINE)[1]
            yield printed
        finally:
            # As a terminal does: to all in the foreground.
            os.killpg(process.pid, signal.SIGINT)
            process.stdout.read()
            process.wait(timeout=PATIENCE_SECONDS)
            self.address = ADDRESS

    def command(self, text):
        return ["sh", "-ec", text.replace(ADDRESS, self.address)]

    def environment(self):
        own = copied.environment()
        kept = {"CARGO_HOME": ".cargo", "RUSTUP_HOME": ".rustup"}
        kept = {name: own.get(name, os.path.expanduser(f"~/{folder}")) for name, folder in kept.items()}
        path = os.pathsep.join([str(self.home / "bin"), own["PATH"]])
        # `cargo install` and `mcpl` write below these.
        return {
            **own, **kept, "PATH": path, "HOME": str(self.home), "CARGO_INSTALL_ROOT": str(self.home),
            "BROWSER": str(self.browser),
        }


@pytest.fixture(scope="module")
def terminal(tmp_path_factory):
    with copied.workspace("notes") as workspace:
        # That of an earlier run may be of another version of Postgres.
        shutil.rmtree(postgres.reachable(workspace / ".dev" / "postgres"), ignore_errors=True)
        yield Terminal(workspace, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def installed(terminal):
    """`mcpl`, by the line that installs it."""
    _, (language, text) = blocks("Run it")
    install, _, call = text.partition("\n")
    terminal.paste((language, install))
    return language, call


def test_run_it(terminal, installed):
    dev, _ = blocks("Run it")

    with terminal.running(dev) as printed:
        assert ADDRESS in (PROJECT / "README.md").read_text()
        greeting = terminal.paste(installed)

    assert "Postgres is running" in printed and "event-logger is running" in printed
    assert greeting == "Hello, Ada! Welcome to the serverless MCP world.\n"


def test_write_a_tool_add_state_add_authorization(terminal, installed):
    new, (_, tool) = blocks("Write a tool")
    change, (_, whole), dev, call = blocks("Add state")
    (_, line), closed, call_signed_in = blocks("Add authorization")
    function = terminal.workspace / "functions" / "notes"

    # The tool that is shown is the one that is there, and has passed its tests.
    terminal.paste(new)
    assert tool in (function / "src" / "count_words.rs").read_text()

    terminal.paste(change)
    source = function / "src" / "lib.rs"
    source.write_text(whole)
    with terminal.running(dev):
        saved = terminal.paste(call)
    assert saved == "Saved.\n"

    (open_line,) = [own for own in whole.splitlines(keepends=True) if own.startswith(line.partition(",")[0])]
    source.write_text(whole.replace(open_line, line))
    with terminal.running(closed) as printed:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            fetch(f"http://{terminal.address}/lambda-url/notes/mcp", PING, "application/json")
        saved = terminal.paste(call_signed_in)
    assert "signs in anyone" in printed
    assert saved == "Saved.\n"


def test_deploy_and_connect(terminal, installed, monkeypatch):
    deploy, connect = blocks("Deploy and connect")

    with emulated("greeter", "buffered", 1) as url, account():
        archive("greeter", terminal.home / "zips")
        # The stack's URL leads to the function, which `mcpl doctor` tries at the end.
        monkeypatch.setitem(STAND_INS["AWS::Lambda::Url"], "FunctionUrl", url.removesuffix("mcp"))
        deployed = terminal.paste(deploy, answer="y\ny\n")
        connected = terminal.paste(connect)

    assert f"Url: {url}\n" in deployed
    (configuration,) = terminal.home.rglob("claude_desktop_config.json")
    assert url in configuration.read_text() and "greeter" in connected


def test_the_code_of_the_migration_guide_compiles(terminal):
    guide = BLOCK.findall((PROJECT / "docs" / "migration.md").read_text())
    tool, service = [text for language, text in guide if language == "rust"]
    function = terminal.workspace / "functions" / "migrated"

    terminal.paste(("sh", "make new FUNCTION=migrated && cargo add --quiet --package migrated mcp-lambda --features postgres && cargo add --quiet --package migrated sqlx"))
    (function / "migrations").mkdir()
    (function / "src" / "lib.rs").write_text(AROUND.format(tool=tool, service=service))

    terminal.paste(("sh", "cargo build --quiet --bin migrated"))
    copied.forget("migrated")
