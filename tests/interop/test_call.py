"""`mcpl tools` and `mcpl call`."""

import json
import subprocess

import postgres
import pytest
from conftest import emulated
from oauth import Issuer
from proxied import BROWSER, LOGGED


@pytest.fixture(scope="module")
def run(mcpl, tmp_path_factory):
    """Runs the command; what it printed."""
    state = tmp_path_factory.mktemp("state")

    def own(*words):
        command = [mcpl, *words, "--state-dir", state, "--open", BROWSER]
        return subprocess.run([str(word) for word in command], capture_output=True, text=True, stdin=subprocess.DEVNULL)

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

    assert (logged.returncode, logged.stdout) == (0, f"{LOGGED}\n"), logged.stderr


def test_what_no_terminal_shows_is_saved(run, tmp_path):
    key = "aW50ZXJvcCB0ZXN0cyBhbmQgbm90aGluZyBlbHNlIDE="
    with emulated("conformance", "buffered", 1, MCP_STATE_KEY=key) as url:
        saved = run("call", url, "test_image_content", "--save-to", tmp_path)

    (file,) = tmp_path.iterdir()
    assert saved.returncode == 0 and str(file) in saved.stdout
    assert file.read_bytes().startswith(b"\x89PNG")
