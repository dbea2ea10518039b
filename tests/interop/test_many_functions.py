"""Many functions in one workspace, as `make new` makes them: each passes its checks and tests, is built alone after a change, and
deploys with a stack of its own."""

import re
import subprocess
import sys
import time
import urllib.request

import boto3
import copied
import postgres
import pytest
import tools
from aws_account import account, register

register()

# Of the names of all of them, so that what was built is found and removed.
PREFIX = "scaffolded"
KINDS = ["stateless", "stateful"]
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
# A variable and a log message of a function itself, in the place of its settings.
OWN = '''
/// Settings of the HTTP endpoint, of the database, and of the function itself.
pub type Config = (Settings, DatabaseConfig);

/// Settings of the HTTP endpoint, and a variable of the function itself.
#[derive(Debug)]
pub struct Settings {
    http: HttpConfig,
    shelf: Option<String>,
}

/// Name of the shelf.
const SHELF: &str = "SCAFFOLDED_SHELF";

impl mcp_lambda::FromEnv for Settings {
    fn from_env(env: &mcp_lambda::Env) -> Result<Self, InitError> {
        Ok(Self { http: HttpConfig::from_env(env)?, shelf: env.get(SHELF).map(str::to_owned) })
    }
}
'''
LOGGED = '''(settings, database): Config) -> Result<McpService, InitError> {
    tracing::warn!(shelf = settings.shelf, "the scaffolded shelf is open");
'''


@pytest.fixture
def workspace():
    with copied.workspace(PREFIX) as copy:
        yield copy


def test_new_functions_pass_their_tests_and_a_change_of_one_rebuilds_one(workspace):
    names = make_new(workspace, ["stateless", "stateless", "stateless", "stateful", "stateful"])

    run(workspace, "make", "test", f"FUNCTION={','.join(names)}")

    (workspace / "functions" / names[-1] / "src" / "lib.rs").touch()
    assert compiled(workspace, names) == [names[-1]]


@pytest.mark.slow
def test_a_function_with_a_variable_and_a_log_message_of_its_own_passes_the_checks_without_docs(workspace):
    names = make_new(workspace, KINDS)
    source = workspace / "functions" / names[-1] / "src" / "lib.rs"
    text = source.read_text()
    text = re.sub(r"\n/// Settings of the HTTP.*\npub type Config = .*\n", OWN, text)
    text = re.sub(r"\(http, database\): Config\).*\{\n", LOGGED, text).replace("McpService::new(server, http)", "McpService::new(server, settings.http)")
    source.write_text(text)
    run(workspace, "cargo", "add", "--quiet", "--offline", "--package", names[-1], "tracing")

    run(workspace, "make", "check", f"FUNCTION={','.join(names)}")
    run(workspace, "make", "test", f"FUNCTION={','.join(names)}")
    # The checks of the framework that read the code and the pages of functions.
    checks = ["variables", "log lines", "JSON of others", "links", "tables"]
    run(workspace, sys.executable, "scripts/check.py", *checks)


@pytest.mark.slow
def test_thirty_functions_are_checked_and_deployed_and_the_next_one_costs_what_the_first_did(workspace, tmp_path, capsys):
    names = make_new(workspace, [*["stateless"] * 20, *["stateful"] * 10])

    run(workspace, "cargo", "check", "--quiet", "--locked", *packages(names))
    with account():
        for name in names:
            deploy(workspace, name, tmp_path)
        deployed = {own["FunctionName"] for own in boto3.client("lambda").list_functions()["Functions"]}
    # The stateful ones have a second function, which changes the schema.
    assert deployed == {*names, *(f"{name}-migrate" for name in names[20:])}

    (last,) = make_new(workspace, ["stateless"], first=len(names))
    figures = {
        "make check": timed(workspace, "make", "check", f"FUNCTION={last}"),
        "make test, first": timed(workspace, "make", "test", f"FUNCTION={last}"),
        "make test, warm": timed(workspace, "make", "test", f"FUNCTION={last}"),
        "make dev to the first response": first_response(workspace, last, tmp_path),
    }
    with capsys.disabled():
        print(f"\nfunction {len(names) + 1}:", ", ".join(f"{what} {seconds:.0f} s" for what, seconds in figures.items()))

    compiled(workspace, [*names[-2:], last])
    (workspace / "functions" / last / "src" / "lib.rs").touch()
    assert compiled(workspace, [*names[-2:], last]) == [last]


def make_new(workspace, kinds, first=0):
    """Makes a function of each of these kinds; their names."""
    names = [f"{PREFIX}-{number}" for number in range(first + 1, first + 1 + len(kinds))]
    for name, kind in zip(names, kinds):
        made = run(workspace, "make", "--silent", "new", f"NAME={name}", f"KIND={kind}")
        assert f"functions/{name}" in made
        folder = workspace / "functions" / name
        assert all((folder / file).exists() for file in ("README.md", "contract.lock.json", "stack.yaml"))
        assert len([*folder.rglob("*.rs")]) <= 6
        stack = (folder / "stack.yaml").read_text()
        assert name in stack and "greet" not in stack and "logs events" not in stack and "event-logger" not in stack
    return names


def packages(names):
    return [word for name in names for word in ("--package", name)]


def compiled(workspace, names):
    """The crates that are compiled for the tests of these functions."""
    cargo = ["cargo", "test", "--no-run", "--locked", "--all-features", *packages(names)]
    ran = subprocess.run(cargo, cwd=workspace, env=copied.environment(), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return re.findall(r"^ *Compiling (\S+)", ran.stderr, re.MULTILINE)


def deploy(workspace, name, zips):
    """Deploys a function with the same zip as the others: its content is not looked at."""
    record = (
        f"import build, pathlib; path = build.archive_in(pathlib.Path({str(zips)!r}), {name!r}, []); path.parent.mkdir(parents=True);"
        f"path.write_bytes(b'one for all'); build.record(path, 'arm64', {name!r}, [])"
    )
    run(workspace / "scripts", tools.BIN / "python", "-c", record)
    is_stateful = "infra/parts/stateful.yaml" in (workspace / "functions" / name / "stack.yaml").read_text()
    issuer = ["--parameter", "Issuer=https://id.example.com"] if is_stateful else []
    command = [tools.BIN / "python", "scripts/deploy.py", "up", name, "--lambda-dir", zips, "--yes", "--no-doctor", *issuer]
    assert "/mcp" in run(workspace, *command)


def first_response(workspace, name, folder):
    """Seconds from the start of `make dev` to the response of the function."""
    begin = time.monotonic()
    command = [sys.executable, "scripts/dev.py", "--functions", name, "--no-reload", "--port", postgres.free_port(), "--data", folder / "dev" / "postgres"]
    (folder / "dev").mkdir(mode=0o755)
    process = subprocess.Popen(
        [str(word) for word in command], cwd=workspace, env={**copied.environment(), "PYTHONUNBUFFERED": "1", "MCP_AUTH": "dangerously-off"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )
    try:
        for line in process.stdout:
            if found := re.search(r" is running at (http://\S+/mcp)$", line):
                request = urllib.request.Request(found[1], PING, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=60) as response:
                    assert b'"result"' in response.read()
                return time.monotonic() - begin
        raise AssertionError(f"dev.py ended with {process.wait()}")
    finally:
        process.terminate()
        process.stdout.read()
        process.wait(timeout=60)


def timed(workspace, *command):
    begin = time.monotonic()
    run(workspace, *command)
    return time.monotonic() - begin


def run(folder, *command):
    ran = subprocess.run(
        [str(word) for word in command], cwd=folder, env=copied.environment(), capture_output=True, text=True,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
