"""Fixtures: the functions as `make dev` runs them and behind the emulator, with a recorder that checks every message; and how the
tests are distributed over the workers of pytest-xdist."""

import functools
import http.server
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid

import pytest

PROJECT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "scripts"))

import dev  # noqa: E402
import postgres  # noqa: E402
import signing_person  # noqa: E402
import tools  # noqa: E402
from emulated import Emulated  # noqa: E402
from recorder import Recorder  # noqa: E402

# The servers of these tests, and moto, write head and body of a response apart: with Nagle's algorithm the body would wait for the
# client's delayed acknowledgement of the head, 40 ms for each request.
http.server.BaseHTTPRequestHandler.disable_nagle_algorithm = True

PROGRAMS = [*tools.SHIPPED_FUNCTIONS, "conformance", "function-url-emulator"]


class Dev:
    """`scripts/dev.py`, running."""

    def __init__(self, *options, **variables):
        # Data of its own: a developer may have `make dev` running.
        self.data = pathlib.Path(tempfile.mkdtemp(prefix="dev-")) / "postgres"
        self.data.parent.chmod(0o755)
        command = [sys.executable, PROJECT / "scripts" / "dev.py", "--no-reload", "--port", postgres.free_port()]
        self.process = subprocess.Popen(
            [str(word) for word in [*command, "--data", self.data, *options]],
            env={**os.environ, **variables, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
            # A group of its own, so that a signal to it is not one to the tests.
            start_new_session=True,
        )
        self.output = ""
        for line in self.process.stdout:
            self.output += line
            if line.startswith("Ctrl-C"):
                break
        else:
            raise AssertionError(f"dev.py ended with {self.process.wait()}:\n{self.output}")
        # Everything that the functions log from now on is read, so that they never wait for a full pipe.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def url(self, function):
        return re.search(rf"^{function} is running at (\S+)$", self.output, re.MULTILINE)[1]

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=30)
        shutil.rmtree(self.data.parent)
        return code


class Watched:
    """A built function on the Lambda APIs of `cargo lambda watch`, which builds nothing itself here."""

    def __init__(self, binary, mode):
        # It knows only the workspace's own functions by name, and runs no discovery.
        port, name = postgres.free_port(), "greeter"
        command = ["cargo", "lambda", "watch", "--only-lambda-apis", "--invoke-address", "127.0.0.1"]
        command += ["--invoke-port", str(port), "--disable-cors"]
        self.processes = [subprocess.Popen(command, cwd=PROJECT, env=tools.environment(), stdin=subprocess.DEVNULL)]
        self.url = f"http://127.0.0.1:{port}/lambda-url/{name}/mcp"
        try:
            dev.wait_until_listening(self.processes[0], port)
        except SystemExit:
            self.stop()
            raise
        variables = {
            "AWS_LAMBDA_RUNTIME_API": f"http://127.0.0.1:{port}/.rt/{name}",
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "MCP_INVOKE_MODE": mode,
        }
        build()
        command = [tools.target_folder() / "debug" / binary]
        self.processes.append(subprocess.Popen(command, env={**os.environ, **variables}))

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait(timeout=30)


# Shared by the workers of one run.
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(uuid.uuid4())


def once(make):
    """Calls a function once in a run: in one worker, for which the others wait."""

    @functools.cache
    def made():
        with tools.locked(tools.target_folder() / f"{make.__name__}.lock") as file:
            file.seek(0)
            if file.read() != RUN:
                make()
                file.truncate(0)
                file.write(RUN)

    return made


@once
def build():
    """Builds what the fixtures run."""
    tools.build(*PROGRAMS)
    example = ["cargo", "build", "--quiet", "--locked", "--package", "mcp-lambda", "--example", "countdown"]
    subprocess.run(example, cwd=PROJECT, check=True)


@once
def build_mcpl():
    tools.build("mcpl")


@once
def build_dsql():
    tools.build("dsql-emulator")


ALL_FEATURES = tools.target_folder() / "all-features"


@once
def build_traced():
    """Builds the same with every feature, as it is compiled for the Rust tests already, into a folder of its own."""
    tests = ["cargo", "test", "--workspace", "--all-features", "--no-run", "--quiet", "--locked"]
    subprocess.run(tests, cwd=PROJECT, check=True, env=tools.building_into(ALL_FEATURES))


def emulated(binary, mode, environments, *options, **variables):
    build()
    return Emulated(binary, mode, environments, *options, **variables)


# What compiles or measures by itself: side by side it would only wait for Cargo's lock. It takes longest and comes first.
HEAVY = ["test_bench", "test_many_functions", "test_readme", "test_scaffold"]
# They share what this file starts, of which each variant runs once.
CLIENTS = ["test_python_client", "test_typescript_clients"]
VARIANT = re.compile(r"\[((?:watch|emulator)-\w+(?:-\d\d?\b)?|buffered|stream)\b")
# One at a time unpacks the browser.
CHROMIUM = ["test_browser", "test_page", "test_signing_person"]
# Their tests share nothing but files that are made once: they fill the gaps that the groups leave.
ALONE = [
    "test_dsql_stack", "test_infra", "test_replaced_resources", "test_rollout", "test_rollout_changes", "test_rollout_many", "test_rollout_repair",
    "test_rollout_stages", "test_shared_infra",
]


def group_of(nodeid):
    """The tests of a group are run by one worker, one after another: those of a module, unless it says otherwise above."""
    module = pathlib.Path(nodeid.partition("::")[0]).stem
    if module in ALONE:
        return nodeid
    if module in CLIENTS:
        return f"clients of {VARIANT.search(nodeid)[1]}"
    return "heavy" if module in HEAVY else "chromium" if module in CHROMIUM else module


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    config.addinivalue_line("markers", "slow: part of `make soak`, not of `make test`")


def pytest_collection_modifyitems(items):
    # All others are between the two.
    place = {name: -1 for name in HEAVY} | {name: 1 for name in ALONE}
    items.sort(key=lambda item: place.get(item.module.__name__, 0))


def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid)

    # In their own order, not those with the most tests first.
    config.option.loadscopereorder = False
    return Groups(config, log)


@pytest.fixture(scope="session", params=["watch-buffered", "emulator-buffered-10", "emulator-stream-1"])
def greeter(request):
    """The URL of greeter: as `make dev` runs it, and as Lambda would, with ten frozen environments and with one. At the end every
    message is checked against its schema."""
    behind, mode, *environments = request.param.split("-")
    if behind == "watch":
        functions = [name for name in tools.SHIPPED_FUNCTIONS if name in tools.MCP_FUNCTIONS]
        running = Dev("--functions", ",".join(functions), MCP_INVOKE_MODE=mode)
        url = running.url("greeter")
    else:
        running = emulated("greeter", mode, *environments)
        url = running.url
    try:
        with Recorder(url) as recorder:
            yield recorder.url
        recorder.check(least=20)
    finally:
        running.stop()


@pytest.fixture(scope="session", params=["watch-buffered", "watch-stream", "emulator-buffered", "emulator-stream"])
def countdown(request):
    """The URL of the example whose tool waits and reports progress."""
    behind, mode = request.param.split("-")
    binary = "examples/countdown"
    running = Watched(binary, mode) if behind == "watch" else emulated(binary, mode, 3)
    try:
        with Recorder(running.url) as recorder:
            yield recorder.url
        recorder.check(least=6)
    finally:
        running.stop()


@pytest.fixture(scope="session", params=["buffered", "stream"])
def asking(request):
    """The URL of a function that asks its client, in three frozen environments."""
    running = emulated("conformance", request.param, 3, MCP_STATE_KEY="aW50ZXJvcCB0ZXN0cyBhbmQgbm90aGluZyBlbHNlIDE=")
    try:
        with Recorder(running.url) as recorder:
            yield recorder.url
        recorder.check(least=6)
    finally:
        running.stop()


@pytest.fixture(scope="session")
def node():
    """Runs a script of this folder, or a file of an installed package, on Node; returns what it prints."""

    def run(*words, check=True, timeout=120, **variables):
        script = pathlib.Path(words[0])
        if not script.is_absolute():
            script = tools.beside_packages(tools.INTEROP / script)
        command = [str(tools.node()), str(script), *words[1:]]
        environment = {**os.environ, **variables}
        finished = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, env=environment)
        if check:
            assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished

    return run


@pytest.fixture(scope="session")
def chromium():
    return signing_person.chromium()


@pytest.fixture(scope="session")
def mcpl():
    """The path of the command."""
    build_mcpl()
    return str(tools.target_folder() / "debug" / "mcpl")


RUST_SDK = tools.target_folder() / "rmcp"


@once
def build_rust_sdk():
    manifest = tools.INTEROP / "rmcp" / "Cargo.toml"
    command = ["cargo", "build", "--quiet", "--locked", "--manifest-path", manifest, "--target-dir", RUST_SDK]
    subprocess.run([str(word) for word in command], check=True)


@pytest.fixture(scope="session")
def rust_sdk():
    """The folder of the programs with the official Rust SDK."""
    build_rust_sdk()
    return RUST_SDK / "debug"
