"""What clients show when a caller is over a rate limit."""

import json
import re
import subprocess

import anyio
import pytest
import tools
from conftest import build_mcpl, emulated, once
from hostile import Busy, Hostile
from mcp import Client, MCPError

CALLS = re.compile(r"rate limit reached: at most 2 calls of `render` in 60 seconds for each caller; try again in \d+ seconds?")
REQUESTS = re.compile(r"rate limit reached: at most 20 requests in 60 seconds for each caller; try again in \d+ seconds?")


@once
def build_limited():
    command = ["cargo", "build", "--quiet", "--locked", "--package", "mcp-lambda", "--features", "limits", "--example", "rate_limits"]
    subprocess.run(command, cwd=tools.PROJECT, check=True)


@pytest.fixture(params=["buffered", "stream"])
def limited(request):
    """The URL of an example with limits, of which every caller is the same person. One environment counts."""
    build_limited()
    with emulated("examples/rate_limits", request.param, 1, EXAMPLE_CALLER="ada") as url:
        yield url


@pytest.fixture
def anonymous():
    build_limited()
    with emulated("examples/rate_limits", "buffered", 1) as url:
        yield url


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_python_client_gets_the_text(limited, mode):
    async def use():
        async with Client(limited, mode=mode) as client:
            results = [await client.call_tool("render", {}) for _ in range(3)]
            assert [result.is_error for result in results] == [False, False, True]
            assert CALLS.fullmatch(results[2].content[0].text)
            others = [await client.call_tool("status", {}) for _ in range(20)]
            assert not others[0].is_error and others[-1].is_error
            assert REQUESTS.fullmatch(others[-1].content[0].text)

    anyio.run(use)


def first_python(*arguments):
    """What a client with the first generation of the official Python SDK printed."""
    installed = sorted((tools.FOLDER / "clients").glob("*/lib/python3*/site-packages/mcp-1.*.dist-info"))
    if not installed:
        pytest.skip("no client with the first Python SDK is installed: `make test` installs some")
    command = [installed[0].parents[3] / "bin" / "python", tools.INTEROP / "python_limited.py", *arguments]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def test_the_first_python_client_gets_the_text(limited):
    ran = first_python(limited)

    assert ran.returncode == 0, ran.stderr
    saw = json.loads(ran.stdout)
    assert [own["isError"] for own in saw["called"]] == [False, False, True]
    assert CALLS.fullmatch(saw["called"][2]["text"])
    assert not saw["requested"][0]["isError"] and saw["requested"][-1]["isError"]
    assert REQUESTS.fullmatch(saw["requested"][-1]["text"])


def test_the_first_python_client_shows_no_status_to_an_anonymous_caller(anonymous):
    ran = first_python(anonymous)

    assert ran.returncode != 0 and "429" in ran.stderr, ran


@pytest.mark.parametrize("generation", ["first", "auto", "legacy"])
def test_the_typescript_clients_get_the_text(limited, node, generation):
    saw = json.loads(node("typescript_limited.mjs", limited, generation).stdout)

    assert saw["connecting"] == {}
    assert CALLS.fullmatch(saw["called"]["text"])
    assert REQUESTS.fullmatch(saw["requested"]["text"]), saw


def test_mcpl_shows_the_text(limited, mcpl, tmp_path):
    build_mcpl()

    def run(*words):
        command = [mcpl, *words, "--state-dir", tmp_path]
        return subprocess.run([str(word) for word in command], capture_output=True, text=True, stdin=subprocess.DEVNULL)

    shown = [run("call", limited, "render") for _ in range(3)]

    assert [own.returncode for own in shown] == [0, 0, 1]
    assert CALLS.search(shown[2].stdout + shown[2].stderr), shown[2]


@pytest.mark.parametrize("generation", ["first", "auto", "legacy"])
def test_an_anonymous_client_gets_status_429(anonymous, node, generation):
    saw = json.loads(node("typescript_limited.mjs", anonymous, generation).stdout)

    # Of the tool and of the server. Neither reaches a model as a result.
    assert "429" in saw["called"]["message"] and "text" not in saw["called"], saw
    assert "429" in saw["requested"]["message"], saw


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_anonymous_python_client_gets_an_error(anonymous, mode):
    async def use():
        async with Client(anonymous, mode=mode) as client:
            with pytest.raises(MCPError) as raised:
                for _ in range(40):
                    await client.call_tool("status", {})
            assert raised.value.error.code == 429 and "rate limit reached" in str(raised.value)

    anyio.run(use)


def test_mcpl_shows_status_429_and_does_not_repeat_a_call(mcpl, tmp_path):
    build_mcpl()
    busy = Busy("rate limit reached: try again in 37 seconds", 37)
    with Hostile({"tools/call": busy}) as server:
        command = [mcpl, "call", server.url, "t", "--state-dir", tmp_path]
        called = subprocess.run([str(word) for word in command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        calls = server.count("tools/call")

    assert (called.returncode, calls) == (1, 1) and busy.message in called.stderr, called
