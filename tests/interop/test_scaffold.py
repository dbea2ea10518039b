"""`make new` and `cargo lambda new --template`: what they make builds, passes its test, answers a client and deploys, unchanged.

The workspace is copied first, and the checkout is left as it is.
"""

import json
import os
import shutil
import subprocess

import anyio
import boto3
import pytest
import tools
from aws_account import account, archive, register
from conftest import PROJECT, build
from emulated import Emulated
from mcp import Client

register()

# No crate has it, so that nothing in the shared target folder is replaced.
NAME = "scaffolded-function"
LEFT_OUT = shutil.ignore_patterns(".git", ".tools", ".dev", "target", "node_modules", "__pycache__", "artifacts")


@pytest.fixture
def target():
    """Cargo's folder, where everything else is built already. What was made of the function is taken out again."""
    folder = tools.target_folder()
    yield folder
    for built in ("debug", "debug/deps", "debug/.fingerprint"):
        for path in [*folder.glob(f"{built}/*{NAME}*"), *folder.glob(f"{built}/*{NAME.replace('-', '_')}*")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def workspace(target):
    """A copy of the workspace; always in the same place, so that Cargo knows its crates again the next time."""
    copy = target / "scaffold"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(PROJECT, copy, ignore=LEFT_OUT)
    yield copy
    shutil.rmtree(copy)


def test_a_new_function_of_the_workspace_works_as_it_is(workspace, target, tmp_path):
    made = run(workspace, target, "make", "--silent", "new", f"FUNCTION={NAME}")
    assert f"functions/{NAME}" in made and f"infra/{NAME}.yaml" in made

    # `--locked`: the lock file is up to date.
    run(workspace, target, "cargo", "test", "--quiet", "--locked", "--package", NAME)
    run(workspace, target, "cargo", "build", "--quiet", "--locked", "--package", NAME)
    assert count_words() == "6"

    run(workspace, target, "cargo", "fmt", "--all", "--check")
    stack = workspace / "infra" / f"{NAME}.yaml"
    assert NAME in stack.read_text()
    assert "greet" not in stack.read_text()
    run(workspace, target, tools.BIN / "cfn-lint", "--regions", "eu-central-1", "--template", stack)
    # What `make dev` and `make build` go through.
    listed = run(workspace / "scripts", target, tools.BIN / "python", "-c", "import tools; print(*tools.FUNCTIONS)")
    assert NAME in listed.split()

    archive(NAME, tmp_path)
    with account():
        command = [tools.BIN / "python", "scripts/deploy.py", "up", NAME, "--lambda-dir", tmp_path, "--yes", "--no-doctor"]
        assert "/mcp" in run(workspace, target, *command)
        (deployed,) = boto3.client("lambda").list_functions()["Functions"]
        assert deployed["FunctionName"].startswith(f"{NAME}-Function-")
        # A public URL with both of its permissions.
        policy = json.loads(boto3.client("lambda").get_policy(FunctionName=deployed["FunctionName"])["Policy"])
        actions = [statement["Action"] for statement in policy["Statement"]]
        assert actions == ["lambda:InvokeFunctionUrl", "lambda:InvokeFunction"]

    refused = new(workspace, target, NAME)
    assert refused.returncode != 0
    assert f"functions/{NAME} exists" in refused.stderr


def test_a_function_outside_the_workspace_works_as_it_is(tmp_path, target):
    template = PROJECT / "templates" / "function"
    # Cargo would read one, and complain, wherever the crates come from a repository.
    assert not list(template.rglob("Cargo.toml"))
    command = ["cargo", "lambda", "new", "--no-interactive", "--template", template, "--render-var", f"crates={PROJECT}"]
    run(tmp_path, target, *command, NAME)
    crate = tmp_path / NAME

    # The versions that everything else is tested with, and nothing to download.
    shutil.copy(PROJECT / "Cargo.lock", crate)
    run(crate, target, "cargo", "test", "--quiet", "--offline")
    run(crate, target, "cargo", "build", "--quiet", "--offline")

    assert count_words() == "6"
    run(crate, target, "cargo", "fmt", "--check")
    assert "cargo lambda deploy" in (crate / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "usage"),
        ("Weather", "lower-case"),
        ("my_weather", "lower-case"),
        ("../weather", "lower-case"),
        ("w", "characters"),
        ("w" * 65, "characters"),
        ("greeter", "functions/greeter exists"),
        ("mcp-server", "a crate that is used here"),
        ("serde-json", "a crate that is used here"),
        ("match", "keyword"),
        ("test", "built-in test library"),
        ("core", "standard library"),
        ("con", "Windows"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_and_nothing_is_written(name, reason, target):
    listed = [sorted((PROJECT / folder).iterdir()) for folder in ("functions", "infra")]

    refused = new(PROJECT, target, name)

    assert refused.returncode != 0
    assert reason in refused.stderr
    assert [sorted((PROJECT / folder).iterdir()) for folder in ("functions", "infra")] == listed


def count_words():
    """What the built function answers the official client, behind a Function URL."""

    async def call(url):
        async with Client(url) as client:
            assert client.server_info.name == NAME
            result = await client.call_tool("count_words", {"text": "to be, or not to be"})
            return result.content[0].text

    build()
    with Emulated(NAME, "buffered", 2) as url:
        return anyio.run(call, url)


def new(workspace, target, name):
    command = ["make", "--silent", "new", f"FUNCTION={name}"]
    return subprocess.run(command, cwd=workspace, env=environment(target), capture_output=True, text=True)


def run(folder, target, *command):
    ran = subprocess.run(
        [str(word) for word in command], cwd=folder, env=environment(target), capture_output=True, text=True,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def environment(target):
    own = {"TOOLS_DIR": str(tools.FOLDER), "CARGO_TARGET_DIR": str(target), "MAKEFLAGS": ""}
    # As in this workspace, so that nothing is built twice.
    return tools.environment({**os.environ, **own, "CARGO_PROFILE_DEV_DEBUG": "line-tables-only"})
