"""`mcpl tools` and `mcpl call`."""

import contextlib
import json
import os
import pty
import subprocess
import termios
import time

import postgres
import pytest
from conftest import emulated
from oauth import Issuer, fetch
from proxied import BROWSER, LOGGED_LINE


@pytest.fixture(scope="module")
def run(mcpl, tmp_path_factory):
    """Runs the command; what it printed."""
    state = tmp_path_factory.mktemp("state")

    def own(*words):
        command = [mcpl, *words, "--state-dir", state, "--open", BROWSER]
        return subprocess.run([str(word) for word in command], capture_output=True, text=True, stdin=subprocess.DEVNULL)

    own.state = state
    return own


@pytest.fixture(scope="module")
def greeter():
    with emulated("greeter", "buffered", 1) as url:
        yield url


def test_tools_are_listed_with_their_parameters(run, greeter):
    shown = run("tools", greeter)
    as_json = run("tools", greeter, "--json")

    assert shown.returncode == 0 and shown.stdout.startswith("personalized_greeting(name: string)\n")
    assert [tool["name"] for tool in json.loads(as_json.stdout)] == ["personalized_greeting"]


def test_a_tool_is_called_and_a_mistake_ends_with_one(run, greeter):
    greeted = run("call", greeter, "personalized_greeting", "name=Ada")
    refused = run("call", greeter, "personalized_greeting", "name=")
    unknown = run("call", greeter, "greet", "name=Ada")
    misspelt = run("call", greeter, "personalized_greeting", "nam=Ada")
    away = run("tools", "http://127.0.0.1:1/mcp")

    assert (greeted.returncode, greeted.stdout) == (0, "Hello, Ada! Welcome to the serverless MCP world.\n")
    assert refused.returncode == 1 and "`name`" in refused.stdout
    assert unknown.returncode == 1 and "there are personalized_greeting" in unknown.stderr
    assert misspelt.returncode == 1 and "(name: string)" in misspelt.stderr
    assert away.returncode == 1 and "could not reach" in away.stderr


def test_a_caller_is_signed_in(run):
    with postgres.Postgres() as server, Issuer() as issuer:
        variables = {"DATABASE_URL": server.url(), "OIDC_ISSUER": issuer.url}
        with emulated("event-logger", "buffered", 1, **variables) as url:
            logged = run("call", url, "log_event", "event_name=login")

    assert (logged.returncode, logged.stdout) == (0, LOGGED_LINE), logged.stderr


def test_what_no_terminal_shows_is_saved(run, tmp_path):
    key = "aW50ZXJvcCB0ZXN0cyBhbmQgbm90aGluZyBlbHNlIDE="
    with emulated("conformance", "buffered", 1, MCP_STATE_KEY=key) as url:
        saved = run("call", url, "test_image_content", "--save-to", tmp_path)

    (file,) = tmp_path.iterdir()
    assert saved.returncode == 0 and str(file) in saved.stdout
    assert file.read_bytes().startswith(b"\x89PNG")


def test_a_client_registered_by_hand_is_asked_for_its_secret_once(mcpl, run, tmp_path):
    with postgres.Postgres() as server, Issuer() as issuer:
        port = postgres.free_port()
        metadata = fetch(f"{issuer.url}/.well-known/openid-configuration")
        registration = {"redirect_uris": [f"http://127.0.0.1:{port}/callback"]}
        registration["grant_types"] = ["authorization_code", "refresh_token"]
        client = fetch(metadata["registration_endpoint"], json.dumps(registration), "application/json")
        own = ["--client-id", client["client_id"], "--callback-port", str(port)]
        variables = {"DATABASE_URL": server.url(), "OIDC_ISSUER": issuer.url}
        with emulated("event-logger", "buffered", 1, **variables) as url:
            unknown = run("call", url, "log_event", "event_name=login", *own)
            install = [mcpl, "install", "events", url, "--claude", "--state-dir", run.state, *own, "--ask-client-secret"]
            on_a_terminal(install, client["client_secret"], tmp_path)
            logged = run("call", url, "log_event", "event_name=login", *own)
            # As if an hour had passed: the refresh takes the secret too.
            [file] = [kept for kept in run.state.glob("*.json") if url in kept.read_text()]
            kept = json.loads(file.read_text())
            kept["credentials"]["token_received_at"] = 0
            kept["credentials"]["token_response"]["access_token"] = "expired"
            file.write_text(json.dumps(kept))
            again = run("call", url, "log_event", "event_name=login", *own)

    assert unknown.returncode == 1 and "the issuer gave no token" in unknown.stderr
    assert (logged.returncode, logged.stdout) == (0, LOGGED_LINE), logged.stderr
    assert (again.returncode, again.stdout) == (0, LOGGED_LINE), again.stderr
    assert "sign in at" in logged.stderr and "sign in at" not in again.stderr


def on_a_terminal(command, answer, home):
    """Runs a command with a terminal, on which it asks one question."""
    process, terminal = pty.fork()
    if process == 0:
        os.execve(command[0], [str(word) for word in command], {**os.environ, "HOME": str(home)})
    shown = b""
    while b"secret:" not in shown:
        shown += os.read(terminal, 1024)
    # It asks first, and then hides what is typed: no person types as fast.
    while termios.tcgetattr(terminal)[3] & termios.ECHO:
        time.sleep(0.01)
    os.write(terminal, answer.encode() + b"\n")
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 1024):
            shown += part
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, shown
    assert answer.encode() not in shown
    os.close(terminal)


def test_there_are_completions_and_manual_pages(run, mcpl, tmp_path):
    for shell in ("bash", "zsh", "fish", "powershell", "elvish"):
        script = subprocess.run([mcpl, "completions", shell], capture_output=True, text=True, check=True).stdout
        assert "uninstall" in script
    bash = subprocess.run([mcpl, "completions", "bash"], capture_output=True, check=True).stdout
    subprocess.run(["bash", "-n"], input=bash, check=True)
    subprocess.run([mcpl, "man", tmp_path], check=True)

    pages = {page.name: page.read_text() for page in tmp_path.glob("*.1")}
    assert {"mcpl.1", "mcpl-proxy.1", "mcpl-install.1"} <= set(pages)
    assert "mcpl call URL personalized_greeting name=Ada" in pages["mcpl.1"]
