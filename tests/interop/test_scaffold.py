"""`make new` and `cargo lambda new --template`: what they make builds, passes its test, answers a client and deploys, unchanged.

The workspace is copied first, and the checkout is left as it is.
"""

import json
import pathlib
import shutil
import subprocess
import sys

import anyio
import boto3
import copied
import pytest
import tools
from aws_account import account, archive, register
from conftest import PROJECT, build
from emulated import Emulated
from mcp import Client

register()

NAME = "scaffolded-function"


@pytest.fixture
def workspace():
    with copied.workspace(NAME) as copy:
        yield copy


@pytest.fixture
def forgotten():
    yield
    copied.forget(NAME)


def test_a_new_function_of_the_workspace_works_as_it_is(workspace, tmp_path):
    made = run(workspace, "make", "--silent", "new", f"NAME={NAME}")
    assert f"functions/{NAME}" in made and "stack.yaml" in made

    # `--locked`: the lock file is up to date.
    run(workspace, "cargo", "test", "--quiet", "--locked", "--package", NAME)
    run(workspace, "cargo", "build", "--quiet", "--locked", "--package", NAME)
    assert count_words() == "6"

    run(workspace, "cargo", "fmt", "--all", "--check")
    stack = workspace / "functions" / NAME / "stack.yaml"
    assert NAME in stack.read_text()
    assert "greet" not in stack.read_text()
    assert "# + the parameters of infra/function.yaml" in stack.read_text()
    run(workspace, sys.executable, "scripts/check.py", "--functions", NAME, "templates")
    # What `make dev` and `make build` go through.
    listed = run(workspace / "scripts", tools.BIN / "python", "-c", "import tools; print(*tools.FUNCTIONS)")
    assert NAME in listed.split()

    archive(NAME, tmp_path, target=copied.TARGET)
    with account():
        command = [tools.BIN / "python", "scripts/deploy.py", "up", NAME, "--lambda-dir", tmp_path, "--yes", "--no-doctor"]
        assert "/mcp" in run(workspace, *command)
        (deployed,) = boto3.client("lambda").list_functions()["Functions"]
        assert deployed["FunctionName"] == NAME
        # A public URL with both of its permissions.
        policy = json.loads(boto3.client("lambda").get_policy(FunctionName=NAME, Qualifier="live")["Policy"])
        actions = [statement["Action"] for statement in policy["Statement"]]
        assert actions == ["lambda:InvokeFunctionUrl", "lambda:InvokeFunction"]

    # With a database, by the lines of the documentation.
    lines = [own for own in (PROJECT / "docs" / "deployment.md").read_text().splitlines() if own.startswith("sed ")]
    for line, database in zip(lines, ["infra/parts/stateful.yaml", "database.yaml"], strict=True):
        run(workspace, "sh", "-c", line.replace("notes", NAME))
        assert database in stack.read_text() and "event-logger" not in stack.read_text()
        run(workspace, sys.executable, "scripts/check.py", "--functions", NAME, "templates")

    refused = new(workspace, NAME)
    assert refused.returncode != 0
    assert f"functions/{NAME} exists" in refused.stderr


def test_a_function_outside_the_workspace_works_as_it_is(tmp_path, forgotten):
    template = PROJECT / "templates" / "function"
    # Cargo would read one, and complain, wherever the crates come from a repository.
    assert not list(template.rglob("Cargo.toml"))
    command = ["cargo", "lambda", "new", "--no-interactive", "--template", template, "--render-var", f"crates={PROJECT}"]
    run(tmp_path, *command, NAME)
    crate = tmp_path / NAME

    # How libraries in C are built. With another configuration, what the workspace has built would be built again, too.
    configuration = pathlib.Path(".cargo", "config.toml")
    assert (crate / configuration).read_text() == (PROJECT / configuration).read_text()
    # The versions that everything else is tested with, and nothing to download.
    shutil.copy(PROJECT / "Cargo.lock", crate)
    run(crate, "cargo", "test", "--quiet", "--offline")
    run(crate, "cargo", "build", "--quiet", "--offline")

    assert count_words() == "6"
    run(crate, "cargo", "fmt", "--check")
    assert "cargo lambda deploy" in (crate / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "usage"),
        ("Weather", "lower-case"),
        ("my_weather", "lower-case"),
        ("../weather", "lower-case"),
        ("w", "characters"),
        ("w" * 41, "characters"),
        ("greeter", "functions/greeter exists"),
        ("mcp-server", "a crate that is used here"),
        ("serde-json", "a crate that is used here"),
        ("match", "keyword"),
        ("test", "built-in test library"),
        ("core", "standard library"),
        ("con", "Windows"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_and_nothing_is_written(name, reason):
    listed = [sorted((PROJECT / folder).iterdir()) for folder in ("functions", "infra")]

    refused = new(PROJECT, name)

    assert refused.returncode != 0
    assert reason in refused.stderr
    assert [sorted((PROJECT / folder).iterdir()) for folder in ("functions", "infra")] == listed


def test_an_unknown_kind_is_refused_and_nothing_is_written():
    command = ["make", "--silent", "new", f"NAME={NAME}", "KIND=stateles"]
    refused = subprocess.run(command, cwd=PROJECT, env=copied.environment(), capture_output=True, text=True)

    assert refused.returncode != 0
    assert "stateful" in refused.stderr and "stateless" in refused.stderr
    assert not (PROJECT / "functions" / NAME).exists()


def count_words():
    """What the built function answers the official client, behind a Function URL."""

    async def call(url):
        async with Client(url) as client:
            assert client.server_info.name == NAME
            result = await client.call_tool("count_words", {"text": "to be, or not to be"})
            return result.content[0].text

    build()
    with Emulated(copied.TARGET / "debug" / NAME, "buffered", 2) as url:
        return anyio.run(call, url)


def new(workspace, name):
    command = ["make", "--silent", "new", f"NAME={name}"]
    return subprocess.run(command, cwd=workspace, env=copied.environment(), capture_output=True, text=True)


def run(folder, *command):
    ran = subprocess.run(
        [str(word) for word in command], cwd=folder, env=copied.environment(), capture_output=True, text=True,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode == 0 and "warning:" not in ran.stderr, ran.stdout + ran.stderr
    return ran.stdout
