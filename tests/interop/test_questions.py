"""Clients of 2025-11-25 are asked: by functions in three frozen environments that share a store. None runs while a person thinks."""

import json
import re
import subprocess
import time

import pytest

import postgres
import tools
from conftest import emulated
from proxied import session

KEY = "aW50ZXJvcCB0ZXN0cyBhbmQgbm90aGluZyBlbHNlIDE="
# A person answers after so many seconds. Several clients give up after a minute.
SECONDS = [0, 5, pytest.param(45, marks=pytest.mark.slow)]
# The most polls of a question, which is answered after so many seconds: their interval grows to two seconds.
POLLS = {0: 6, 5: 12, 45: 36}
ASKED = ["What is your name?", "Step 1: what is your name?", "Step 2: continue?"]


@pytest.fixture(scope="module")
def database():
    with postgres.Supervised(fsync="off") as server:
        yield server.url


@pytest.fixture(params=["buffered", "stream"])
def running(request, database):
    """The emulator of a function that asks."""
    own = emulated("conformance", request.param, 3, MCP_STATE_KEY=KEY, DATABASE_URL=database)
    own.report = None
    yield own
    if own.report is None:
        own.stop()


def invocations(own):
    """Ends the emulator; how many invocations there were, and the median time of a warm one in milliseconds."""
    own.report = own.stop()
    median = re.search(r"median warm invocation ([\d.]+)(µs|ms|s)\b", own.report)
    factor = {"µs": 0.001, "ms": 1, "s": 1000}[median[2]]
    return int(re.match(r"(\d+) invocations", own.report)[1]), float(median[1]) * factor


def check_invocations(own, questions, seconds):
    """No invocation runs while a person thinks: there are a few for each poll, and each is short."""
    count, median = invocations(own)
    # Each call and each question has a request and an answer.
    assert count <= 20 + questions * POLLS[seconds], count
    assert median < 1000, "a poll does not wait"


def check(saw):
    assert saw["asked"] == ASKED
    assert saw["greeted"] == "Hello, Ada!"
    assert "Ada" in saw["twice"] and "Hi." in saw["sampled"]


@pytest.mark.parametrize("seconds", SECONDS)
def test_the_first_typescript_sdk_answers(running, node, seconds):
    check(json.loads(node("typescript_questions.mjs", running.url, str(seconds), timeout=120 + 4 * seconds).stdout))

    check_invocations(running, 4, seconds)


@pytest.mark.parametrize("seconds", SECONDS)
def test_the_first_python_sdk_answers(running, seconds):
    installed = sorted((tools.FOLDER / "clients").glob("*/lib/python3*/site-packages/mcp-1.*.dist-info"))
    if not installed:
        pytest.skip("no client with the first Python SDK is installed: `make test` installs some")
    python = installed[0].parents[3] / "bin" / "python"
    command = [python, tools.INTEROP / "python_questions.py", running.url, str(seconds)]
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120 + 4 * seconds, stdin=subprocess.DEVNULL)

    assert ran.returncode == 0, ran.stderr
    check(json.loads(ran.stdout))
    check_invocations(running, 4, seconds)


@pytest.mark.parametrize("seconds", SECONDS)
def test_the_rust_sdk_answers(running, rust_sdk, seconds):
    command = [rust_sdk / "rmcp-client", running.url, str(seconds)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120 + 3 * seconds, stdin=subprocess.DEVNULL)

    assert ran.returncode == 0, ran.stderr
    saw = json.loads(ran.stdout)
    assert saw["asked"] == ASKED
    assert saw["texts"][0] == "Hello, Ada!" and "Ada" in saw["texts"][1]
    check_invocations(running, 3, seconds)


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_client_behind_the_proxy_answers(running, mcpl, tmp_path, seconds):
    capabilities = {"elicitation": {"form": {}}}
    client = {"name": "interop", "version": "1.0.0"}
    with session(mcpl, running.url, tmp_path) as proxy:
        proxy.send("initialize", {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": client})
        assert proxy.read()["result"]["protocolVersion"] == "2025-11-25"
        proxy.write({"jsonrpc": "2.0", "method": "notifications/initialized"})
        own = proxy.send("tools/call", {"name": "test_input_required_result_elicitation", "arguments": {}})
        asked = proxy.read()
        assert (asked["method"], asked["params"]["message"]) == ("elicitation/create", ASKED[0])
        time.sleep(seconds)
        answer = {"action": "accept", "content": {"name": "Ada"}}
        proxy.write({"jsonrpc": "2.0", "id": asked["id"], "result": answer})
        done = proxy.read()

    assert (done["id"], done["result"]["content"][0]["text"]) == (own, "Hello, Ada!")
    check_invocations(running, 1, seconds)
